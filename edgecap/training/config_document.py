"""A frozen dataclass of options from a document of JSON or TOML: names and types are checked, and wrong ones named."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from edgecap.errors import ConfigError

T = TypeVar("T")
MAX_WHOLE_NUMBER = 2**64


def build(cls: type[T], document: Mapping[str, Any], prefix: str = "") -> T:
    """``cls`` with the options of ``document``, its tables as the dataclasses that its fields are.

    Raises ``ConfigError`` naming the option.
    """
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in document.items():
        option = prefix + name
        if name not in hints:
            raise ConfigError(f"training configuration: unknown option {option!r:.60} ({_known(name, hints)})")
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"training configuration: {option} must be a table")
            values[name] = build(hints[name], {**_defaults(cls, name), **value}, prefix=f"{option}.")
        else:
            values[name] = _typed(option, value, hints[name])
    return cls(**values)


def _defaults(cls: type[Any], table: str) -> dict[str, Any]:
    """A table's options where none are given: those of the whole, which may be others than its class has."""
    (factory,) = (item.default_factory for item in dataclasses.fields(cls) if item.name == table)
    return dataclasses.asdict(factory())  # type: ignore[operator]


def _typed(option: str, value: Any, wanted: type[Any]) -> Any:
    if wanted is float and type(value) is int and abs(value) < MAX_WHOLE_NUMBER:
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(f"training configuration: {option} must be {wanted.__name__}, not {_shown(value)}")
    if type(value) is int and abs(value) > MAX_WHOLE_NUMBER:
        raise ConfigError(f"training configuration: {option} must have fewer digits")
    return value


def _known(name: str, options: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}known: {', '.join(options)}"


def _shown(value: Any) -> str:
    """A wrong value, of bearable length; a whole number of more digits than Python prints has no other text."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of so many digits"
