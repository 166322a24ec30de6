"""edgecap: train, export and run tiny image captioners on edge CPUs.

Standard library only: every ``import edgecap.runtime`` on a device runs this file.
"""

import os

_FOLDERS = ("export", "runtime", "benchmarks", "models")  # of a clone, to which links of these names stand here
for _name in _FOLDERS:
    if os.path.isfile(os.path.join(os.path.dirname(__file__), _name)):  # noqa: PTH113, PTH118, PTH120
        raise ImportError(
            f"edgecap/{_name} is a file where git should have made a link: clone again with  "
            "git clone -c core.symlinks=true  or install the wheel"
        )

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime reports its use over the network, on Linux as well, and keeps an identifier of the device,
# unless this is set when it is imported; its thread also keeps forked processes from ending. Who wants the reports sets
# another value.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
