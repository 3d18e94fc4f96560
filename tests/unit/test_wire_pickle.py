"""The restricted pickle reader: what it reads equals what was written, within exact bounds."""

import pickle
import tracemalloc
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any
from uuid import UUID, uuid1

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.core.errors import PayloadError
from worker.queue import plain_pickle
from worker.queue.bounds import Bounds

PROTO = b"\x80\x04"
PROTOCOLS = (2, 3, 4, 5)

_zones = st.none() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
_keys = (
    st.text() | st.binary() | st.integers() | st.booleans() | st.none() | st.dates() | st.uuids()
    | st.floats(allow_nan=False) | st.decimals(allow_nan=False)
)  # fmt: skip
_scalars = (
    _keys
    | st.datetimes(timezones=_zones)
    | st.times(timezones=_zones)
    | st.timedeltas()
    | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=5))
)
_plain = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(_keys, inner) | inner.map(lambda one: [one, one])
    ),
    max_leaves=20,
)


@given(value=_plain, protocol=st.sampled_from(PROTOCOLS))
@example(value=datetime(2020, 1, 1, 1, fold=1, tzinfo=UTC), protocol=4)
@example(value=uuid1(), protocol=4)
@example(value=[2**2000, -(2**14_000)], protocol=2)
def test_reads_what_pickle_wrote(value: object, protocol: int) -> None:
    """Plain data comes back equal and of the same types, from every protocol that Python's clients write."""
    payload = pickle.dumps(value, protocol)
    read = plain_pickle.loads(payload)
    assert read == value
    assert repr(read) == repr(pickle.loads(payload))  # noqa: S301 - what Python itself reads is what is meant


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reads_containers_longer_than_a_batch(protocol: int) -> None:
    """Pickle fills containers a thousand at a time, and all the batches arrive."""
    value = {"list": list(range(2_500)), "dict": {str(n): n for n in range(2_500)}, "tuple": tuple(range(2_500))}
    assert plain_pickle.loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("fold", [0, 1])
def test_keeps_the_fold_of_a_time(fold: int) -> None:
    """Equality ignores which of two equal wall-clock times is meant; the reader does not."""
    read = plain_pickle.loads(pickle.dumps([datetime(2020, 10, 25, 2, tzinfo=UTC, fold=fold), time(2, fold=fold)]))
    assert isinstance(read, list)
    assert [moment.fold for moment in read] == [fold, fold]


def test_shared_values_stay_cheap_to_refer_to() -> None:
    """Rows that share keys, texts and lists are ordinary and are admitted."""
    shared = ["a", "b"]
    value = [{"status": "open", "tags": shared} for _ in range(1_000)]
    assert plain_pickle.loads(pickle.dumps(value)) == value


def test_memory_of_an_admitted_pickle_is_bounded() -> None:
    """The densest pickle there is, empty lists, costs what its values weigh and no more."""
    payload = PROTO + b"](" + b"]" * 40_000 + b"e."
    tracemalloc.start()
    plain_pickle.loads(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000 * 200


def test_shared_texts_are_counted_where_they_are_used() -> None:
    """A long text referred to often is refused, since writing the value out would take it that many times."""
    payload = pickle.dumps(["a" * 100_000] * 400)
    with pytest.raises(PayloadError, match="bytes of text"):
        plain_pickle.loads(payload, Bounds(max_bytes=2**20))


@given(levels=st.integers(1, 8))
def test_the_expanded_size_is_exact(levels: int) -> None:
    """The bound on values meets the size of the value written out, however it was shared."""
    shared: list[object] = []
    for _ in range(levels):
        shared = [shared, shared]
    size = 2 ** (levels + 1) - 1
    payload = pickle.dumps(shared)
    assert plain_pickle.loads(payload, Bounds(max_nodes=size)) == shared
    with pytest.raises(PayloadError):
        plain_pickle.loads(payload, Bounds(max_nodes=size - 1))


@pytest.mark.parametrize("shape", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}])
def test_the_depth_bound_is_exact(shape: Any) -> None:
    """A value as deep as the bound is read, and one level more is refused."""
    value: object = 1
    for _ in range(10):
        value = shape(value)
    payload = pickle.dumps(value)
    assert plain_pickle.loads(payload, Bounds(max_depth=10)) == value
    with pytest.raises(PayloadError, match="deeper than 9"):
        plain_pickle.loads(payload, Bounds(max_depth=9))


@given(payload=st.binary(max_size=60), protocol=st.sampled_from(PROTOCOLS))
def test_random_bytes_are_refused_or_read(payload: bytes, protocol: int) -> None:
    """Nothing but PayloadError comes out of noise, and what is read can be written."""
    try:
        read = plain_pickle.loads(bytes([0x80, protocol]) + payload + b".")
    except PayloadError:
        return
    assert repr(plain_pickle.loads(pickle.dumps(read, protocol))) == repr(read)


@given(value=_plain, protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_mutated_pickles_are_refused_or_read(value: object, protocol: int, data: st.DataObject) -> None:
    """Nothing but PayloadError comes out of a pickle with bytes changed, left out or cut off."""
    payload = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not payload:
            break
    try:
        plain_pickle.loads(bytes(payload))
    except PayloadError as error:
        assert str(error)  # noqa: PT017 - either ending is right; the other kinds of exception are what must not be


def test_reads_a_uuid_of_an_older_python() -> None:
    """Protocol 2 spells a UUID with GLOBAL and NEWOBJ."""
    assert plain_pickle.loads(pickle.dumps(UUID(int=7), 2)) == UUID(int=7)
