"""edgecap: train, export and run tiny image captioners on edge CPUs.

Standard library only: every ``import edgecap.runtime`` on a device runs this file.
"""

import os

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime reports its use over the network, on Linux as well, and keeps an identifier of the device,
# unless this is set when it is imported; its thread also keeps forked processes from ending. Who wants the reports sets
# another value.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
