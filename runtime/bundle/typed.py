"""Values of JSON by Python types: a dataclass from an object, a tuple from a list. Errors name the field.

A document is read as it was written: it has all fields, and those that a later edgecap adds are ignored. Options are
what someone chose: they may lack any that has a default, and a name that is none of them is a slip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Made = TypeVar("Made")

MAX_WHOLE_NUMBER = 2**64  # beyond it no number means anything here, and some have no text
_KINDS: dict[Any, str] = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def read(cls: type[Made], document: object, where: str) -> Made:
    """A document as the dataclass ``cls``; ``where`` names it in errors. Raises ``ValueError``.

    What defaults to nothing, ``None`` or no items, may be absent.
    """
    given = _mapping(document, where)
    values = {}
    for name, (kind, default) in _fields(cls).items():  # type: ignore[arg-type]  # a class is hashable
        if name in given:
            values[name] = value_of(kind, given[name], _within(where, name))
        elif default is not None and default != ():
            raise ValueError(f"{where} lacks {name!r}")
    return cls(**values)


def read_options(cls: type[Made], document: object, where: str = "", defaults: Made | None = None) -> Made:
    """Options as the dataclass ``cls``, those that are absent as ``defaults`` has them. Raises ``ValueError``.

    The tables among them are dataclasses as well.
    """
    given, known = _mapping(document, where), _fields(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {} if defaults is None else {name: getattr(defaults, name) for name in known}
    for name, value in given.items():
        option = _within(where, name)
        if name not in known:
            raise ValueError(f"unknown option {option!r:.60} ({_nearest(name, known)})")
        kind, default = known[name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ValueError(f"{option} must be a table")
            values[name] = read_options(kind, value, option, values.get(name, default))
        else:
            values[name] = value_of(kind, value, option)
    for name, (_, default) in known.items():
        if default is dataclasses.MISSING and name not in values:
            raise ValueError(f"{where} lacks {name!r}".strip())
    return cls(**values)


def value_of(kind: Any, value: Any, where: str) -> Any:
    """A value as ``kind``: a plain type, a dataclass, or a tuple, mapping or choice of such. Raises ``ValueError``."""
    if kind in _KINDS:
        return _plain(kind, value, where)
    if kind is Any:
        return value
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(parts, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, not {type(value).__name__}")
        kinds = [parts[0]] * len(value) if parts[-1] is ... else list(parts)
        if len(value) != len(kinds):
            raise ValueError(f"{where} must be a list of {len(kinds)}, not of {len(value)}")
        if set(kinds) == {str} and all(type(item) is str for item in value):
            return tuple(value)  # the thousands of words of a vocabulary
        places = [f"{where}[{number}]" for number in range(len(value))]
        return tuple(map(value_of, kinds, value, places))
    if origin is not None:  # Mapping[str, kind]
        return {name: value_of(parts[1], item, _within(where, name)) for name, item in _mapping(value, where).items()}
    return read(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    # In Python a bool is an int, in JSON it is not; JSON writes the float 1.0 as 1 as it likes.
    accepted = (int, float) if kind is float else (kind,)
    if type(value) is int and abs(value) > MAX_WHOLE_NUMBER:
        raise ValueError(f"{where} must have fewer digits")
    if type(value) not in accepted:
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {value!r:.40}")
    return kind(value)


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1:
        return value_of(others[0], value, where)
    if type(value) not in others:
        raise ValueError(f"{where} must be {' or '.join(_KINDS[kind] for kind in others)}, not {value!r:.40}")
    return value


@cache
def _fields(cls: Hashable) -> dict[str, tuple[Any, Any]]:
    """The type and the default of each field of a dataclass; ``MISSING`` for none."""
    kinds = get_type_hints(cls)
    return {field.name: (kinds[field.name], _default(field)) for field in dataclasses.fields(cast(Any, cls))}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a JSON object, not {type(value).__name__}")
    return value


def _within(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # a caption has no use for it

    near = difflib.get_close_matches(name, list(known), n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}known: {', '.join(known)}"
