"""Captions from a bundle, with numpy, Pillow and one inference engine; no torch.

>>> from edgecap.runtime import load
>>> load().caption("photo.jpg", beam=5).text  # doctest: +SKIP
'A dog runs through the grass.'
"""

from edgecap.runtime.caption import Caption, Prepared, Timings
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.deadline import Deadline
from edgecap.runtime.loading import load

__all__ = ["Caption", "Captioner", "Deadline", "Prepared", "Timings", "load"]
