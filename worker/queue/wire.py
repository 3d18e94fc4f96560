"""The codecs of the wire: bytes in Redis to and from arq's job and result dictionaries.

Owns which codec a payload is in, which one a message is written in (a result in its request's), and the functions that
arq takes as `job_serializer` and `job_deserializer`. Refuses payloads that are too much, before anything is built, and
everything but plain data: nothing in a payload can run code. A vanilla arq client that wants JSON enqueues with
`create_pool(settings, job_serializer=json_serializer, job_deserializer=json_deserializer)`.
"""

import pickle
from collections.abc import Callable, Mapping
from enum import StrEnum
from io import BytesIO
from typing import Any, Final

import orjson

from worker.core.errors import PayloadError
from worker.queue import plain_pickle
from worker.queue.bounds import DEFAULT_BOUNDS, Bounds
from worker.queue.json_bounds import check_json
from worker.queue.plain_data import JSON_SPELLING, PICKLE_SPELLING, plain
from worker.queue.wire_exceptions import as_builtin, from_wire, to_wire

__all__ = [
    "DEFAULT_BOUNDS",
    "Bounds",
    "Codec",
    "PickledKwargs",
    "decode",
    "encode",
    "is_pickle",
    "json_deserializer",
    "json_serializer",
    "make_deserializer",
    "make_serializer",
]

_PICKLE_PROTOCOL: Final = 4
"""The default of every Python from 3.8 to 3.13, so any client's Python can read it."""
_LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, where datetime ends."""
_FIRST_BYTE_OF_PICKLE: Final = b"\x80"
_FIRST_BYTE_OF_JSON: Final = b"{"
_SHOWN: Final = 8


class Codec(StrEnum):
    """How a message is written: the values of `WORKER_WIRE`."""

    JSON = "json"
    """Ours, readable in redis-cli."""
    PICKLE = "pickle"
    """arq's default, restricted to plain data."""


class PickledKwargs(dict[str, object]):
    """A job's keyword arguments that came as a pickle, so that its result can be written as one."""

    __slots__ = ()


def is_pickle(payload: bytes) -> bool:
    """Whether a payload claims to be a pickle.

    Args:
        payload: what Redis holds.

    Returns:
        True where it begins with 0x80, whatever follows.
    """
    return payload.startswith(_FIRST_BYTE_OF_PICKLE)


def decode(payload: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> dict[str, object]:
    """Read a job or a result.

    Args:
        payload: what Redis holds: JSON where it begins with `{`, a pickle of plain data where with 0x80.
        bounds: the limits.

    Returns:
        arq's dictionary. Members that arq does not know are kept. A pickled one's `k` is a `PickledKwargs`; a failed
        result's `r` is an exception.

    Raises:
        PayloadError: it is too much, malformed, in another codec, not plain data, or not arq's dictionary.
    """
    if len(payload) > bounds.max_bytes:
        raise PayloadError(
            f"The payload has {len(payload):,} bytes, more than the {bounds.max_bytes:,} allowed; "
            'send the rows as a file or table, for example {"uri": "file:///data/rows.ndjson"}'
        )
    if is_pickle(payload):
        message = _checked(plain_pickle.loads(payload, bounds))
        message["k"] = PickledKwargs(message["k"])
        return message
    if payload.startswith(_FIRST_BYTE_OF_JSON):
        message = _checked(_parse(payload, bounds))
        if message.get("s") is False and "r" in message:
            message["r"] = from_wire(message["r"])
        return message
    raise PayloadError(
        f"The payload begins with {payload[:_SHOWN]!r}: neither JSON, which begins with {_FIRST_BYTE_OF_JSON!r}, "
        f"nor a pickle, which begins with {_FIRST_BYTE_OF_PICKLE!r}. Use arq's default, or json_serializer of "
        "worker.queue.wire"
    )


def encode(message: Mapping[str, object], codec: Codec) -> bytes:
    """Write a job or a result.

    Args:
        message: arq's dictionary, of plain data. A failed result's `r` may be any exception: classes that are not
            builtin become `RuntimeError("TypeName: message")`.
        codec: how.

    Returns:
        The payload. A pickle holds builtin and standard classes only, so that any Python reads it.

    Raises:
        PayloadError: the message holds something that is not plain data, which is named.
    """
    error = message.get("r") if message.get("s") is False else None
    if codec is Codec.JSON:
        failure = {"r": to_wire(error)} if isinstance(error, BaseException) else {}
        return _json(plain({**message, **failure}, JSON_SPELLING))
    if not isinstance(error, BaseException):
        return _pickle(plain(message, PICKLE_SPELLING))
    data = plain({**message, "r": None}, PICKLE_SPELLING)
    return _pickle({**data, "r": as_builtin(error)} if isinstance(data, dict) else data)


# arq types its codecs with dict[str, Any]; below this line Any is arq's.
def make_serializer(default: Codec) -> Callable[[dict[str, Any]], bytes]:
    """The `job_serializer` of a pool or worker.

    Args:
        default: the codec of jobs.

    Returns:
        A function that writes a job (it has no `r`) in the default codec, and a result as a pickle where its
        request's keyword arguments came as one, else as JSON. It raises PayloadError as `encode` does.
    """

    def serialize(message: dict[str, Any]) -> bytes:
        if "r" not in message:
            return encode(message, default)
        return encode(message, Codec.PICKLE if isinstance(message.get("k"), PickledKwargs) else Codec.JSON)

    return serialize


def make_deserializer(bounds: Bounds = DEFAULT_BOUNDS) -> Callable[[bytes], dict[str, Any]]:
    """The `job_deserializer` of a pool or worker, for both codecs.

    Args:
        bounds: the limits.

    Returns:
        A function that reads a payload, raising PayloadError as `decode` does.
    """

    def deserialize(payload: bytes) -> dict[str, Any]:
        return decode(payload, bounds)

    return deserialize


def json_serializer(message: dict[str, Any]) -> bytes:
    """Write any message as JSON: for clients and tools that name a function rather than make one.

    Args:
        message: arq's dictionary.

    Returns:
        The payload.

    Raises:
        PayloadError: as `encode`.
    """
    return encode(message, Codec.JSON)


def json_deserializer(payload: bytes) -> dict[str, Any]:
    """Read a message in either codec, with the default bounds.

    Args:
        payload: what Redis holds.

    Returns:
        arq's dictionary.

    Raises:
        PayloadError: as `decode`.
    """
    return decode(payload)


def _parse(payload: bytes, bounds: Bounds) -> object:
    check_json(payload, bounds)
    try:
        parsed: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise PayloadError(f"The payload begins like JSON but is not: {error}") from error
    return parsed


def _checked(message: object) -> dict[str, Any]:
    """Refuse what arq would trip over: its readers index these members without looking."""
    if not isinstance(message, dict):
        raise PayloadError(f"The payload holds a {type(message).__name__} where arq writes a dictionary")
    kwargs, enqueued = message.get("k"), message.get("et")
    fits = {
        "f": isinstance(message.get("f"), str),
        "a": isinstance(message.get("a"), list | tuple),
        "k": isinstance(kwargs, dict) and all(isinstance(name, str) for name in kwargs),
        "t": "t" in message and isinstance(message["t"], int | None),
        "et": isinstance(enqueued, int) and 0 <= enqueued <= _LATEST_MS,
    }
    wrong = [name for name, right in fits.items() if not right]
    if wrong:
        raise PayloadError(
            f"The payload's member {wrong[0]!r} is missing or unfit; an arq job is, for example, "
            '{"t": null, "f": "cleanup", "a": [], "k": {}, "et": 1767225600000}'
        )
    return message


def _json(data: object) -> bytes:
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError as error:
        raise PayloadError(f"The message cannot be written as JSON: {error}") from error


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> tuple[type[BaseException], tuple[object, ...]]:
        # AttributeError pickles its inner state too, which readers of plain data do not admit.
        return (type(value), value.args) if isinstance(value, BaseException) else NotImplemented


def _pickle(data: object) -> bytes:
    buffer = BytesIO()
    _Pickler(buffer, _PICKLE_PROTOCOL).dump(data)
    return buffer.getvalue()
