"""Exceptions on the wire: any client can read and raise them, and none is made of what is only data."""

import asyncio
import builtins
import concurrent.futures
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import PayloadError, UnknownRunError
from worker.queue.wire import Codec, decode, encode
from worker.queue.wire_exceptions import BUILTIN_EXCEPTIONS, as_builtin, from_wire, to_wire

ENVELOPE = {"t": 1, "f": "job", "a": (), "et": 1, "st": 2, "ft": 3, "q": "arq:queue", "id": "1"}


def result(value: object, *, success: bool, **kwargs: object) -> dict[str, object]:
    """Arq's dictionary of a result."""
    return {**ENVELOPE, "k": kwargs, "s": success, "r": value}


def crossed(error: BaseException, codec: Codec) -> Any:
    """What a reader of ours finds as a failed result."""
    return decode(encode(result(error, success=False), codec))["r"]


def unpickled(error: BaseException) -> Any:
    """What a vanilla client finds as a failed result."""
    return pickle.loads(encode(result(error, success=False), Codec.PICKLE))["r"]  # noqa: S301 - what a client does


READERS = [lambda error: crossed(error, Codec.JSON), lambda error: crossed(error, Codec.PICKLE), unpickled]


class Imposter(Exception):  # noqa: N818 - it takes a builtin's name below
    """A user's exception that has the name of a builtin one."""


Imposter.__name__ = "ValueError"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", BUILTIN_EXCEPTIONS.values(), ids=BUILTIN_EXCEPTIONS.keys())
def test_a_builtin_exception_comes_back_as_itself(kind: type[Exception], read: Any) -> None:
    """Class and text survive, in either codec and for any client."""
    error = read(kind("it broke"))
    assert type(error) is kind
    assert error.args == ("it broke",)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("args", [(), ("aborted",)])
def test_cancellation_comes_back_as_cancellation(args: tuple[str, ...], read: Any) -> None:
    """Arq's `Job.abort()` tells success by a real CancelledError."""
    error = read(asyncio.CancelledError(*args))
    assert type(error) is asyncio.CancelledError
    assert error.args == args


def _undecodable() -> BaseException:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


OTHERS = [
    (UnknownRunError("7"), "UnknownRunError: No run '7' is in the ledger. `heavylift runs` lists those that are"),
    (_undecodable(), "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    (ExceptionGroup("two", [ValueError()]), "ExceptionGroup: two (1 sub-exception)"),
    (StopIteration("end"), "StopIteration: end"),
    (KeyboardInterrupt("ctrl-c"), "KeyboardInterrupt: ctrl-c"),
    (SystemExit("bye"), "SystemExit: bye"),
    (Imposter("mine"), f"{Imposter.__module__}.ValueError: mine"),
    (concurrent.futures.CancelledError("a"), "concurrent.futures._base.CancelledError: a"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("error", "text"), OTHERS, ids=lambda value: type(value).__name__)
def test_other_exceptions_come_back_as_runtime_errors(error: BaseException, text: str, read: Any) -> None:
    """A class that a client may not have, or must not raise, becomes a RuntimeError that names it."""
    read_error = read(error)
    assert type(read_error) is RuntimeError
    assert str(read_error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(2, "No such file"), "[Errno 2] No such file"),
        (ValueError("a", 1), "('a', 1)"),
        (ValueError(), ""),
        (KeyError("name"), "'name'"),
        (KeyError(7), "'7'"),
    ],
)
def test_arguments_become_one_text(error: Exception, text: str) -> None:
    """What a person reads stays the same, quotation marks included."""
    assert str(as_builtin(error)) == text
    assert type(as_builtin(error)) is type(as_builtin(as_builtin(error)))


def test_notes_and_state_stay_behind() -> None:
    """Attributes of an exception may hold anything, so none crosses."""
    error = AttributeError("a", name="b", obj=object())
    error.add_note("c")
    assert not hasattr(unpickled(error), "__notes__")
    assert crossed(error, Codec.PICKLE).args == ("a",)


def test_the_json_form_is_readable() -> None:
    """A person in redis-cli sees the class and the text."""
    assert to_wire(ValueError("no")) == {"__exception__": {"type": "ValueError", "message": "no"}}


@pytest.mark.parametrize("codec", Codec)
def test_a_successful_result_is_never_an_exception(codec: Codec) -> None:
    """A job may return what looks like an exception's JSON form, and gets it back."""
    lookalike = to_wire(ValueError("no"))
    assert decode(encode(result(lookalike, success=True), codec))["r"] == lookalike


@pytest.mark.parametrize("codec", Codec)
def test_arqs_own_fallback_passes(codec: Codec) -> None:
    """Arq writes a text as a failed result where the real one could not be written."""
    assert (
        decode(encode(result("unable to serialize result", success=False), codec))["r"] == "unable to serialize result"
    )


@pytest.mark.parametrize(
    "form",
    [
        {"__exception__": "ValueError"},
        {"__exception__": {"type": "ValueError"}},
        {"__exception__": {"type": 1, "message": "a"}},
        {"__exception__": {"type": "ValueError", "message": None}},
        {"__exception__": {"type": "ValueError", "message": "a"}, "more": 1},
        {},
        [],
        "ValueError",
        None,
    ],
)
def test_another_shape_is_left_as_it_is(form: object) -> None:
    """Only the exact shape that `to_wire` writes stands for an exception."""
    assert from_wire(form) == form


@given(name=st.sampled_from(sorted(vars(builtins))) | st.text(), message=st.text())
def test_only_listed_classes_are_ever_built(name: str, message: str) -> None:
    """No name in a payload can build anything but a listed exception or a RuntimeError."""
    error = from_wire({"__exception__": {"type": name, "message": message}})
    if name != "CancelledError":
        assert type(error) is BUILTIN_EXCEPTIONS.get(name, RuntimeError)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("success", [True, False])
def test_an_exception_elsewhere_is_not_written(codec: Codec, *, success: bool) -> None:
    """Only a failed result is an exception; in parameters, or in a successful result, one is a mistake."""
    with pytest.raises(PayloadError, match="ValueError is not plain data"):
        encode(result([ValueError()], success=success), codec)
    with pytest.raises(PayloadError, match="ValueError is not plain data"):
        encode(result(None, success=success, error=ValueError()), codec)


_ERROR = ValueError("a")


@pytest.mark.parametrize(
    "message",
    [
        result(_ERROR, success=True),
        result([_ERROR], success=False),
        result(_ERROR, success=False, again=_ERROR),
        result(None, success=False, error=_ERROR),
        result(None, success=False, nested=result(_ERROR, success=False)),
        _ERROR,
        [_ERROR],
    ],
    ids=repr,
)
def test_an_exception_elsewhere_is_not_read(message: object) -> None:
    """A pickle may hold an exception as a failed result and nowhere else."""
    with pytest.raises(PayloadError, match="exception where plain data belongs"):
        decode(pickle.dumps(message))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arqs_own_failed_result_is_read(protocol: int) -> None:
    """A failed result that a vanilla worker pickled is read where its exception is a builtin one of one text."""
    error = decode(pickle.dumps(result(LookupError("a"), success=False), protocol))["r"]
    assert type(error) is LookupError


@pytest.mark.parametrize("error", [ValueError("a", 1), ValueError(1), SystemExit("a"), ExceptionGroup("a", [_ERROR])])
def test_other_pickled_exceptions_are_not_read(error: BaseException) -> None:
    """Exceptions of other shapes are refused like any other object."""
    with pytest.raises(PayloadError):
        decode(pickle.dumps(result(error, success=False)))
