"""Captions and labels from a bundle, with numpy, Pillow and one inference engine; no torch.

>>> from edgecap.runtime import load
>>> load().caption("photo.jpg", beam=5).text  # doctest: +SKIP
'A dog runs through the grass.'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecap.runtime.caption import Alternative, Caption, Prepared, Timings
    from edgecap.runtime.captioner import Captioner
    from edgecap.runtime.labeller import Labeller
    from edgecap.runtime.labels.label import Label, Labels
    from edgecap.runtime.loading import load, load_labeller
    from edgecap.runtime.search.deadline import Deadline

_HOMES = {
    "Alternative": "caption",
    "Caption": "caption",
    "Captioner": "captioner",
    "Deadline": "search.deadline",
    "Label": "labels.label",
    "Labeller": "labeller",
    "Labels": "labels.label",
    "Prepared": "caption",
    "Timings": "caption",
    "load": "loading",
    "load_labeller": "loading",
}
__all__ = [
    "Alternative", "Caption", "Captioner", "Deadline", "Label", "Labeller", "Labels", "Prepared", "Timings", "load",
    "load_labeller",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for: modules of this package that need no numpy work where numpy is broken."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What there is to be imported, imported or not."""
    return sorted({*globals(), *_HOMES})
