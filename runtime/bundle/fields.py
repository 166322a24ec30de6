"""Typed reading of JSON objects, with errors that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T", str, int, float, bool)

_KINDS: dict[type, str] = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


class Fields:
    """The fields of one JSON object. ``where`` names the object in errors; fields that nobody asks for are ignored."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, Mapping):
            raise ValueError(f"{where} must be a JSON object, not {type(document).__name__}")
        self._document: Mapping[str, Any] = document
        self._where = where

    def _value(self, key: str) -> Any:
        if key not in self._document:
            raise ValueError(f"{self._where} lacks {key!r}")
        return self._document[key]

    def has(self, key: str) -> bool:
        """Whether the field ``key`` is there."""
        return key in self._document

    def names(self) -> list[str]:
        """The names of all fields."""
        return list(self._document)

    def get(self, key: str, kind: type[T]) -> T:
        """The field ``key`` as ``kind``. Raises ``ValueError`` when it is absent or of another type."""
        return _typed(self._value(key), kind, f"{self._where}.{key}")

    def optional(self, key: str, kind: type[T]) -> T | None:
        """As :meth:`get`, and ``None`` when the field is absent or null."""
        return None if self._document.get(key) is None else self.get(key, kind)

    def items(self, key: str) -> list[Any]:
        """The list in the field ``key``."""
        value = self._value(key)
        if not isinstance(value, list):
            raise ValueError(f"{self._where}.{key} must be a list, not {type(value).__name__}")
        return value

    def values(self, key: str, kind: type[T]) -> tuple[T, ...]:
        """The list in the field ``key``, each item of it a ``kind``."""
        return tuple(_typed(item, kind, f"{self._where}.{key}[{i}]") for i, item in enumerate(self.items(key)))

    def object(self, key: str) -> Fields:
        """The object in the field ``key``."""
        return Fields(self._value(key), f"{self._where}.{key}")

    def objects(self, key: str) -> list[Fields]:
        """The objects of the list in the field ``key``."""
        return [Fields(item, f"{self._where}.{key}[{i}]") for i, item in enumerate(self.items(key))]


def _typed(value: Any, kind: type[T], where: str) -> T:
    # In Python a bool is an int, in JSON it is not; JSON writes the float 1.0 as 1 as it likes.
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {value!r:.40}")
    return kind(value)
