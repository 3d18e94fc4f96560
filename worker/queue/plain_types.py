"""The values in a pickle of plain data: scalars by their opcode, and classes by their name.

Owns what each admitted opcode and name builds. Refuses, by not listing it, every other name; nothing is ever imported
from what a payload says, and no class is called with arguments that were not checked here.
"""

import asyncio
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Final
from uuid import UUID, SafeUUID

from worker.core.errors import PayloadError
from worker.queue.wire_exceptions import BUILTIN_EXCEPTIONS

_DATE_BYTES: Final = 4
_MAX_DECIMAL_TEXT: Final = 4_300
_FOLD: Final = 0x80
"""The bit of a pickled month or hour that says the second of two equal wall-clock times."""


def decode_text(argument: bytes) -> str:
    """The text that an argument holds. Lone surrogates, which no database or JSON reader takes, are refused.

    Args:
        argument: UTF-8.

    Returns:
        The text.

    Raises:
        PayloadError: it is not UTF-8.
    """
    try:
        return argument.decode()
    except UnicodeDecodeError as error:
        raise PayloadError("The pickle holds text that is not valid UTF-8; send it as bytes") from error


def _signed(argument: bytes) -> int:
    return int.from_bytes(argument, "little", signed=True)


def _unsigned(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


def _float(argument: bytes) -> float:
    value: float = struct.unpack(">d", argument)[0]
    return value


SCALARS: Final[Mapping[int, Callable[[bytes], object]]] = {
    pickle.NONE[0]: lambda _: None,
    pickle.NEWTRUE[0]: lambda _: True,
    pickle.NEWFALSE[0]: lambda _: False,
    pickle.BINFLOAT[0]: _float,
    **{code[0]: _unsigned for code in (pickle.BININT1, pickle.BININT2)},
    **{code[0]: _signed for code in (pickle.BININT, pickle.LONG1, pickle.LONG4)},
    **{code[0]: decode_text for code in (pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8)},
    **{code[0]: bytes for code in (pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8)},
}
"""What each opcode that carries its value reads it as."""


class BlankUUID:
    """A UUID that was named but not filled in yet: pickles write its number afterwards."""


@dataclass(frozen=True, slots=True)
class Constructor:
    """One admitted class.

    Args:
        name: as the pickle calls it, such as `datetime.date`.
        build: makes the value. Raises TypeError, ValueError or ArithmeticError for arguments it does not admit.
    """

    name: str
    build: Callable[..., object]


def fill_uuid(state: object) -> UUID:
    """The UUID that a pickled state describes.

    Args:
        state: `{"int": ...}`, with `"is_safe"` beside it where the generator told.

    Returns:
        The UUID.

    Raises:
        TypeError: it has another shape.
        ValueError: the number is out of range.
    """
    if not isinstance(state, dict) or not {"int"} <= state.keys() <= {"int", "is_safe"}:
        raise TypeError("a UUID's state is {'int': ...}")
    return UUID(int=_integer(state["int"]), is_safe=SafeUUID(state.get("is_safe")))


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"an integer is needed, not {type(value).__name__}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is needed, not {type(value).__name__}")
    return value


def _zone(value: object) -> timezone | None:
    if value is not None and not isinstance(value, timezone):
        raise TypeError(f"a timezone is needed, not {type(value).__name__}")
    return value


def _packed(value: object, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise TypeError(f"{length} packed bytes are needed")
    return value


# The standard constructors take packed bytes unchecked and would build a 31 February, so the fields are unpacked here.
def _date(packed: object) -> date:
    state = _packed(packed, _DATE_BYTES)
    return date(int.from_bytes(state[:2], "big"), state[2], state[3])


def _time(packed: object, zone: object = None) -> time:
    state = _packed(packed, 6)
    hour, fold = state[0] & ~_FOLD, state[0] // _FOLD
    return time(hour, state[1], state[2], int.from_bytes(state[3:], "big"), _zone(zone), fold=fold)


def _datetime(packed: object, zone: object = None) -> datetime:
    state = _packed(packed, 10)
    day = date(int.from_bytes(state[:2], "big"), state[2] & ~_FOLD, state[3])
    clock = time(state[4], state[5], state[6], int.from_bytes(state[7:], "big"), _zone(zone), fold=state[2] // _FOLD)
    return datetime.combine(day, clock)


def _timedelta(days: object, seconds: object, microseconds: object) -> timedelta:
    return timedelta(_integer(days), _integer(seconds), _integer(microseconds))


def _timezone(offset: object, *name: object) -> timezone:
    if not isinstance(offset, timedelta):
        raise TypeError(f"an offset is needed, not {type(offset).__name__}")
    return timezone(offset, *map(_text, name))


def _decimal(text: object) -> Decimal:
    digits = _text(text)
    if len(digits) > _MAX_DECIMAL_TEXT:
        raise ValueError(f"a Decimal of {len(digits):,} characters, more than {_MAX_DECIMAL_TEXT:,}")
    return Decimal(digits)


def _encoded(text: object, encoding: object) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes are pickled as latin1, not {encoding!r}")
    return _text(text).encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _failure(kind: type[BaseException]) -> Callable[..., BaseException]:
    def build(*message: object) -> BaseException:
        if len(message) > 1:
            raise TypeError("an exception is built from one text")
        return kind(*map(_text, message))

    return build


def _admit() -> dict[str, Constructor]:
    builders: dict[str, Callable[..., object]] = {
        "datetime.date": _date,
        "datetime.time": _time,
        "datetime.datetime": _datetime,
        "datetime.timedelta": _timedelta,
        "datetime.timezone": _timezone,
        "decimal.Decimal": _decimal,
        "uuid.UUID": BlankUUID,
        # Protocol 2 has no opcode for bytes, and calls builtins and exceptions by their Python 2 modules.
        "_codecs.encode": _encoded,
        "__builtin__.bytes": _empty_bytes,
        "asyncio.exceptions.CancelledError": _failure(asyncio.CancelledError),
    }
    for name, kind in BUILTIN_EXCEPTIONS.items():
        builders[f"builtins.{name}"] = builders[f"exceptions.{name}"] = _failure(kind)
    return {name: Constructor(name, build) for name, build in builders.items()}


CONSTRUCTORS: Final[Mapping[str, Constructor]] = _admit()
"""Every name that a pickle may use, and what it builds. Exceptions are for the place of a failed result alone."""
