"""Exceptions on the wire: failures as builtin exceptions that any Python client can read and raise.

Owns which exception classes cross it and how. Refuses to name, import or build any other class: those cross as a
RuntimeError whose text begins with the class's name.
"""

import asyncio
import builtins
from collections.abc import Mapping
from typing import Final

_MARK: Final = "__exception__"
_CANCELLED: Final = "CancelledError"


def _from_one_text() -> dict[str, type[Exception]]:
    # Raising StopIteration in arq's `async def result()` would turn it into a RuntimeError with another text.
    unraisable = (StopIteration, StopAsyncIteration)
    found: dict[str, type[Exception]] = {}
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, unraisable):
            try:
                value("text")
            except TypeError:  # ExceptionGroup, UnicodeDecodeError and their like need more than a text
                continue
            found[name] = value
    return found


BUILTIN_EXCEPTIONS: Final[Mapping[str, type[Exception]]] = _from_one_text()
"""Builtin subclasses of Exception that can be built from one text, by name."""


def to_wire(error: BaseException) -> dict[str, object]:
    """An exception's JSON form.

    Args:
        error: what a run failed with.

    Returns:
        `{"__exception__": {"type": "ValueError", "message": "..."}}`. The type is a bare name, with its module in
        front where the bare name would be taken for another class.
    """
    return {_MARK: {"type": _wire_name(error), "message": _message(error)}}


def from_wire(value: object) -> object:
    """The exception that a JSON form stands for.

    Args:
        value: the `r` member of a failed result.

    Returns:
        An `asyncio.CancelledError`, a builtin exception, a `RuntimeError("TypeName: message")` for any other class,
        or the value itself where it has not the shape that `to_wire` writes.
    """
    form = value.get(_MARK) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(form, dict):
        return value
    name, message = form.get("type"), form.get("message")
    if not isinstance(name, str) or not isinstance(message, str):
        return value
    return _build(name, message)


def as_builtin(error: BaseException) -> BaseException:
    """The exception as a client without Heavylift can unpickle it.

    Args:
        error: what a run failed with.

    Returns:
        A new exception with one text at most, of the class that `from_wire(to_wire(error))` would have, without
        notes, cause or traceback.
    """
    return _build(_wire_name(error), _message(error))


def _wire_name(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return _CANCELLED
    kind, name = type(error), type(error).__name__
    taken = name == _CANCELLED or BUILTIN_EXCEPTIONS.get(name, kind) is not kind
    return f"{kind.__module__}.{name}" if taken else name


def _build(name: str, message: str) -> BaseException:
    arguments = (message,) if message else ()
    if name == _CANCELLED:
        return asyncio.CancelledError(*arguments)
    known = BUILTIN_EXCEPTIONS.get(name)
    return RuntimeError(f"{name}: {message}") if known is None else known(*arguments)


def _message(error: BaseException) -> str:
    # str(KeyError("x")) is "'x'": each crossing would add a pair of quotation marks.
    only = error.args[0] if len(error.args) == 1 else None
    return only if isinstance(only, str) and isinstance(error, KeyError) else str(error)
