"""edgecap: train, export and run tiny image captioners on edge CPUs.

Standard library only: every ``import edgecap.runtime`` on a device runs this file.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime from 1.29 on reports its use to Microsoft, from a thread that also keeps forked processes from ending.
# It asks once, when it is first imported; who wants the reports sets another value.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
