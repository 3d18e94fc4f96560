"""What a message may be made of when it is written: plain data, as the chosen codec spells it.

Owns the spelling of each type that JSON lacks, chosen so that pydantic reads it back: dates, times and durations in
ISO 8601; Decimal, UUID, integers beyond 64 bits and the floats NaN and Infinity as text; bytes as UTF-8 text; tuples
and sets as lists. In a pickle only sets change (to lists) and named time zones (to their offset at that moment), so
that it holds nothing but builtin classes. Refuses any other type by name, and to guess from `repr`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Final
from uuid import UUID

from worker.core.errors import PayloadError
from worker.queue.bounds import DEFAULT_BOUNDS, MAX_INTEGER_BITS

_SMALLEST_64_BIT: Final = -(2**63)
_LARGEST_64_BIT: Final = 2**64 - 1
_EXACT: Final[Mapping[type, Callable[..., object]]] = {str: str.__str__, int: int.__int__, float: float.__float__}
"""How a subclass, such as a StrEnum's, is turned into the builtin itself."""
_SHOWN: Final = 60
"""Characters of a value that an error message repeats."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a codec writes plain data.

    Args:
        scalars: by exact type, everything that is not a container.
        sequence: what a tuple becomes.
        key: what a dictionary key becomes, once it is written as a value.
    """

    scalars: Mapping[type, Callable[..., object]]
    sequence: Callable[[list[object]], object]
    key: Callable[[object], object]


def plain(value: object, spelling: Spelling, depth: int = 0) -> object:
    """A copy of a value made of what a codec writes.

    Args:
        value: parameters, or a result.
        spelling: `JSON_SPELLING` or `PICKLE_SPELLING`.
        depth: how many containers are around it.

    Returns:
        Exact builtin or standard classes only. Subclasses of dict, list, str and their like become those.

    Raises:
        PayloadError: a type that is not plain data, which is named; too deep, or holding itself; bytes or a key that
            JSON cannot spell.
    """
    spell = spelling.scalars.get(type(value))
    if spell is not None:
        return spell(value)
    if depth > DEFAULT_BOUNDS.max_depth:
        raise PayloadError(f"A value is nested deeper than {depth - 1} levels, or holds itself; make it flatter")
    if isinstance(value, dict):
        return _plain_dict(value, spelling, depth + 1)
    if isinstance(value, list | set | frozenset):
        return [plain(item, spelling, depth + 1) for item in value]
    if isinstance(value, tuple):
        return spelling.sequence([plain(item, spelling, depth + 1) for item in value])
    for base, exact in _EXACT.items():
        if isinstance(value, base):
            return plain(exact(value), spelling, depth)
    kind = type(value)
    raise PayloadError(
        f"A {kind.__module__}.{kind.__qualname__} is not plain data and cannot be sent; "
        "send what it holds, for example model.model_dump() or dataclasses.asdict(value)"
    )


def _plain_dict(value: Mapping[object, object], spelling: Spelling, depth: int) -> dict[object, object]:
    spelled = {spelling.key(plain(key, spelling)): plain(item, spelling, depth) for key, item in value.items()}
    if len(spelled) < len(value):
        raise PayloadError("Two keys of a dictionary are written alike in JSON, such as 1 and '1'; use text as keys")
    return spelled


def _pickle_key(spelled: object) -> object:
    if isinstance(spelled, list | tuple | dict):
        raise PayloadError(f"A {type(spelled).__name__} is a dictionary key, which is not plain data; use text as keys")
    return spelled


def _json_key(spelled: object) -> str:
    if isinstance(spelled, bool | list | dict) or spelled is None:
        kind = type(spelled).__name__
        raise PayloadError(f"A {kind} is a dictionary key, which JSON cannot spell; use text as keys")
    return str(spelled)


def _same(value: object) -> object:
    return value


def _offset(value: datetime | time) -> timezone | None:
    if value.tzinfo is None or type(value.tzinfo) is timezone:
        return value.tzinfo
    offset = value.utcoffset()
    if offset is None:
        raise PayloadError(f"The time {value} in the zone {value.tzinfo} has no offset without a date; send a datetime")
    return timezone(offset)


def _fixed(value: datetime | time) -> datetime | time:
    return value.replace(tzinfo=_offset(value))


def _checked_int(value: int) -> int:
    if value.bit_length() > MAX_INTEGER_BITS:
        raise PayloadError(f"An integer of {value.bit_length():,} bits is too long to send")
    return value


def _json_int(value: int) -> int | str:
    return value if _SMALLEST_64_BIT <= value <= _LARGEST_64_BIT else str(_checked_int(value))


def _json_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise PayloadError(
            f"The bytes {value[:_SHOWN]!r} are not UTF-8 text, which JSON needs; send base64.b64encode(value).decode()"
        ) from error


def _json_timedelta(value: timedelta) -> str:
    sign, size = ("-", -value) if value < timedelta(0) else ("", value)
    return f"{sign}P{size.days}DT{size.seconds}.{size.microseconds:06d}S"


def _json_instant(value: datetime | time) -> str:
    return _fixed(value).isoformat()


PICKLE_SPELLING: Final = Spelling(
    scalars={
        **dict.fromkeys((str, float, bool, bytes, type(None), date, timedelta, timezone, Decimal, UUID), _same),
        **dict.fromkeys((datetime, time), _fixed),
        int: _checked_int,
    },
    sequence=tuple,
    key=_pickle_key,
)
JSON_SPELLING: Final = Spelling(
    scalars={
        **dict.fromkeys((str, bool, type(None)), _same),
        **dict.fromkeys((timezone, Decimal, UUID), str),
        **dict.fromkeys((datetime, time), _json_instant),
        int: _json_int,
        float: _json_float,
        bytes: _json_bytes,
        date: date.isoformat,
        timedelta: _json_timedelta,
    },
    sequence=_same,
    key=_json_key,
)


def json_safe(values: Mapping[str, object]) -> dict[str, object]:
    """Parameters as the ledger keeps them: what a pickle may carry beyond JSON, spelt as JSON messages spell it.

    Raises:
        PayloadError: a type that is not plain data.
    """
    return {name: plain(value, JSON_SPELLING) for name, value in values.items()}
