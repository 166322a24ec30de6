"""JSON objects that no dataclass is made of, read field by field, with errors that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from edgecap.runtime.bundle.typed import value_of

T = TypeVar("T", str, int, float, bool)


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
        found: T = value_of(kind, self._value(key), f"{self._where}.{key}")
        return found

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
        found: tuple[T, ...] = value_of(tuple[kind, ...], self._value(key), f"{self._where}.{key}")  # type: ignore[valid-type]
        return found

    def object(self, key: str) -> Fields:
        """The object in the field ``key``."""
        return Fields(self._value(key), f"{self._where}.{key}")

    def objects(self, key: str) -> list[Fields]:
        """The objects of the list in the field ``key``."""
        return [Fields(item, f"{self._where}.{key}[{i}]") for i, item in enumerate(self.items(key))]
