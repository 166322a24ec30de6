"""edgecap: train, export and run tiny image captioners on edge CPUs.

Standard library only: every ``import edgecap.runtime`` on a device runs this file.
"""

__version__ = "0.1.0"
