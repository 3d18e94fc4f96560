"""The raw values of a refused row as JSON, and back: a row that is tried again must be the one that was refused.

What JSON can say stands as it is. What it cannot is an object with one member, whose name says the type:
`{"$bytes": "00ff"}`, `{"$decimal": "1.50"}`. An object of the row's own that looks like that is wrapped as `$object`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Final
from uuid import UUID

from pydantic_core import to_jsonable_python

from worker.core.cursor import read_key, write_key
from worker.source.batch import ABSENT

# orjson refuses to write what is nested deeper than 254 levels; the rest is for whoever wraps the value.
_DEPTH: Final = 200
_LEAST_INTEGER: Final = -(2**63)
_GREATEST_INTEGER: Final = 2**64 - 1
# Python refuses to write an integer of thousands of digits as decimal.
_DECIMAL_BITS: Final = 14_000
_KEYED: Final = (datetime, date, time, timedelta, UUID, bytes)


@dataclass(frozen=True, slots=True)
class Lost:
    """What is left of a value that could not be kept: no column takes it.

    Attributes:
        why: for a person.
    """

    why: str


def write_raw(value: object, depth: int = 0) -> object:
    """A raw value as JSON that orjson writes and any database stores; `ABSENT` as null."""
    if value is None or value is ABSENT:
        return None
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _container(value, depth + 1)
    # a member of a str or int enumeration is one, too
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, Enum):
        return _text(value) if isinstance(value, str) else _number(value)
    return _other(value, depth)


def read_raw(written: object) -> object:
    """The value that `write_raw` was given."""
    match written:
        case {"$object": dict(members), **rest} if not rest:
            return {name: read_raw(item) for name, item in members.items()}
        case dict():
            marked = next(iter(written)) if len(written) == 1 else ""
            if marked in _READERS:
                return _READERS[marked](str(written[marked]))
            return {name: read_raw(item) for name, item in written.items()}
        case list():
            return [read_raw(item) for item in written]
    return written


def _text(value: str) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$text": json.dumps(value)}
    return value


def _number(value: float | Decimal) -> object:
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if not isinstance(value, int):
        return value if isfinite(value) else {"$float": str(value)}
    if _LEAST_INTEGER <= value <= _GREATEST_INTEGER:
        return value
    return {"$int": str(value) if value.bit_length() < _DECIMAL_BITS else hex(value)}


def _container(value: Iterable[object], depth: int) -> object:
    if depth > _DEPTH:
        return {"$lost": f"nested deeper than {_DEPTH} levels"}
    if not isinstance(value, Mapping):
        return [write_raw(item, depth) for item in value]
    if not all(isinstance(key, str) and _text(key) is key for key in value):
        return {"$lost": "has a member whose name is no text"}
    alike = len(value) == 1 and next(iter(value)).startswith("$")
    written = {key: write_raw(item, depth + alike) for key, item in value.items()}
    return {"$object": written} if alike else written


def _other(value: object, depth: int) -> object:
    match value:
        case Enum():
            return write_raw(value.value, depth)
        case Lost():
            return {"$lost": value.why}
        case _ if isinstance(value, _KEYED):
            ((name, written),) = write_key([value])
            return {f"${name}": written}
    # as a person would write it, for the column to judge
    return write_raw(to_jsonable_python(value, fallback=repr), depth + 1)


def _keyed(name: str) -> Callable[[str], object]:
    return lambda text: read_key([[name, text]])[0]


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "$text": json.loads,
    "$float": float,
    "$decimal": Decimal,
    "$int": lambda text: int(text, 0),
    "$lost": Lost,
    **{f"${name}": _keyed(name) for name in ("datetime", "date", "time", "timedelta", "uuid", "bytes")},
}
