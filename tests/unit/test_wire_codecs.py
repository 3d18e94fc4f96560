"""Which codec a message is written in, seen from arq's own functions with and without configuration."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from arq.jobs import DeserializationError, deserialize_job_raw, deserialize_result, serialize_job, serialize_result

from worker.core.errors import PayloadError
from worker.queue.wire import (
    Bounds,
    Codec,
    PickledKwargs,
    decode,
    encode,
    is_pickle,
    json_deserializer,
    json_serializer,
    make_deserializer,
    make_serializer,
)

JOB: dict[str, object] = {"t": None, "f": "job", "a": [], "k": {}, "et": 1}


class Mode(StrEnum):
    """A text of a class that a client does not have."""

    FAST = "fast"


def as_worker(request: bytes, *, default: Codec, success: bool, value: object) -> bytes:
    """A result as arq's worker makes it from a request, with our codecs."""
    function, args, kwargs, job_try, enqueued = deserialize_job_raw(request, deserializer=make_deserializer())
    payload = serialize_result(
        function,
        args,
        kwargs,
        job_try or 1,
        enqueued,
        success,
        value,
        1,
        2,
        "ref",
        "arq:queue",
        "id",
        serializer=make_serializer(default),
    )
    assert payload is not None
    return payload


def request(serializer: Callable[[dict[str, Any]], bytes] | None) -> bytes:
    """A job as arq's client writes it."""
    return serialize_job("job", (1,), {"a": [1]}, None, 5, serializer=serializer)


@pytest.mark.parametrize("default", Codec)
@pytest.mark.parametrize("success", [True, False])
def test_a_vanilla_client_reads_its_result(default: Codec, *, success: bool) -> None:
    """A request in arq's default codec is answered in it, whatever our own default is."""
    value: object = {"inserted": 1} if success else PayloadError("no")
    read = deserialize_result(as_worker(request(None), default=default, success=success, value=value))
    assert (read.args, read.kwargs, read.success) == ((1,), {"a": [1]}, success)
    assert repr(read.result) == ("{'inserted': 1}" if success else "RuntimeError('PayloadError: no')")


@pytest.mark.parametrize("default", Codec)
def test_a_json_client_reads_its_result(default: Codec) -> None:
    """A request in JSON is answered in JSON, whatever our own default is."""
    payload = as_worker(request(json_serializer), default=default, success=True, value={"inserted": 1})
    assert not is_pickle(payload)
    assert deserialize_result(payload, deserializer=json_deserializer).result == {"inserted": 1}


@pytest.mark.parametrize("default", Codec)
def test_jobs_are_written_in_the_default_codec(default: Codec) -> None:
    """The setting chooses for jobs, even for parameters that came as a pickle."""
    payload = serialize_job("job", (), PickledKwargs(a=1), None, 5, serializer=make_serializer(default))
    assert is_pickle(payload) is (default is Codec.PICKLE)


def test_only_pickled_jobs_are_marked() -> None:
    """The mark is a dictionary that equals any other."""
    marked, unmarked = decode(request(None)), decode(request(json_serializer))
    assert type(marked["k"]) is PickledKwargs
    assert type(unmarked["k"]) is dict
    assert marked["k"] == unmarked["k"] == {"a": [1]}


def test_a_pickle_needs_nothing_of_ours(tmp_path: Path) -> None:
    """A Python without Heavylift, and without a time zone database of ours, reads what we pickle."""
    moment = datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Paris"))
    message = {
        "t": 1,
        "f": "job",
        "a": (Mode.FAST,),
        "k": PickledKwargs(mode=Mode.FAST),
        "et": 1,
        "s": False,
        "r": PayloadError("no"),
        "moments": (moment, {moment: {1}}),
    }
    payload = tmp_path / "payload"
    payload.write_bytes(encode(message, Codec.PICKLE))
    program = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')), sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(payload)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'a': ('fast',), 'k': {'mode': 'fast'}" in ran.stdout
    assert "RuntimeError('PayloadError: no')" in ran.stdout
    assert not {"'worker'", "'zoneinfo'", "'enum.Mode'"} & set(ran.stdout.strip("]").split(", "))
    assert decode(payload.read_bytes())["moments"] == (moment, {moment.astimezone(UTC): [1]})


def test_what_we_pickle_we_read() -> None:
    """A message that we wrote as a pickle passes our own reader, unchanged."""
    message = decode(request(None))
    assert decode(encode(message, Codec.PICKLE)) == message


@pytest.mark.parametrize("key", [(1, 2), frozenset({1})])
def test_a_container_as_a_key_is_not_pickled(key: object) -> None:
    """Our own reader would refuse it, and so does the writer."""
    with pytest.raises(PayloadError, match="dictionary key"):
        encode({"k": {"a": {key: 1}}}, Codec.PICKLE)


def test_a_result_that_cannot_be_written_is_reported_by_arq() -> None:
    """Arq falls back to a text that says so, in the request's codec."""
    payload = as_worker(request(None), default=Codec.JSON, success=True, value=object())
    read = deserialize_result(payload)
    assert (read.success, read.result) == (False, "unable to serialize result")


def test_a_refused_payload_reaches_arq_as_its_own_error() -> None:
    """Arq wraps our refusal, whose reason stays as the cause."""
    with pytest.raises(DeserializationError) as caught:
        deserialize_job_raw(pickle.dumps({"f": print}), deserializer=make_deserializer())
    assert isinstance(caught.value.__cause__, PayloadError)


@pytest.mark.parametrize("codec", Codec)
def test_the_bounds_of_a_deserializer_are_kept(codec: Codec) -> None:
    """A pool can be given tighter bounds than the default."""
    payload = encode(JOB, codec)
    assert make_deserializer(Bounds(max_bytes=len(payload)))(payload)["f"] == "job"
    with pytest.raises(PayloadError, match="bytes"):
        make_deserializer(Bounds(max_bytes=len(payload) - 1))(payload)


@pytest.mark.parametrize(("payload", "expected"), [(b"\x80\x04N.", True), (b"{}", False), (b"", False), (b"N.", False)])
def test_a_pickle_is_told_by_its_first_byte(payload: bytes, *, expected: bool) -> None:
    """Nothing else is looked at."""
    assert is_pickle(payload) is expected


@pytest.mark.parametrize("payload", [pickle.dumps([1]), pickle.dumps(None), pickle.dumps({"k": 1})])
def test_a_pickle_that_is_no_message_is_refused(payload: bytes) -> None:
    """Plain data of another shape than arq's is not handed on."""
    with pytest.raises(PayloadError, match=r"dictionary|member"):
        decode(payload)


@pytest.mark.parametrize(
    ("member", "unfit"),
    [
        ("t", "1"),
        ("t", 1.5),
        ("f", None),
        ("f", ["job"]),
        ("a", None),
        ("a", "ab"),
        ("a", {}),
        ("k", None),
        ("k", []),
        ("et", None),
        ("et", "1"),
        ("et", 1.5),
        ("et", -1),
        ("et", 10**15),
    ],
)
def test_a_message_that_is_not_arqs_is_refused(member: str, unfit: object) -> None:
    """Members that arq indexes without looking must be of its types."""
    with pytest.raises(PayloadError, match=f"member '{member}'"):
        decode(json_serializer({**JOB, member: unfit}))


@pytest.mark.parametrize("member", ["t", "f", "a", "k", "et"])
def test_a_message_without_a_member_is_refused(member: str) -> None:
    """A missing member is named."""
    with pytest.raises(PayloadError, match=f"member '{member}'"):
        decode(json_serializer({name: value for name, value in JOB.items() if name != member}))
