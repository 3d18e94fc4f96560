"""Hostile pickles: whatever they would run, claim or grow into is refused by name, and refusing is cheap."""

import builtins
import os
import pickle
import struct
import time as clock
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.core.errors import PayloadError
from worker.queue import plain_pickle
from worker.queue.bounds import Bounds

PROTO = b"\x80\x04"
PROTOCOLS = (2, 3, 4, 5)


class Reducing:
    """Pickles as a call of any function, which is how a pickle runs code."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Thing:
    """Neither plain data nor a call."""

    def __init__(self) -> None:
        self.state = 1


class Persistent(pickle.Pickler):
    """Writes everything as a persistent id."""

    def persistent_id(self, obj: object) -> object:
        """An id for one class only."""
        return "an id" if isinstance(obj, Thing) else None


def _laughs(levels: int) -> bytes:
    value: list[object] = ["ha"]
    for _ in range(levels):
        value = [value] * 10
    return pickle.dumps(value)


def _circle() -> bytes:
    value: list[object] = []
    value.append(value)
    return pickle.dumps(value)


def _circular_dict() -> bytes:
    value: dict[str, object] = {}
    value["self"] = [value]
    return pickle.dumps(value)


def _circular_tuple() -> bytes:
    inner: list[object] = []
    value = (inner,)
    inner.append(value)
    return pickle.dumps(value)


def _number(opcode: bytes, length: int) -> bytes:
    return PROTO + opcode + struct.pack("<i", length)


HOSTILE = {
    "os.system": (pickle.dumps(Reducing(os.system, "true")), r"system.*not plain data"),
    "eval": (pickle.dumps(Reducing(builtins.eval, "1")), r"builtins\.eval"),
    "getattr": (pickle.dumps(Reducing(getattr, "", "format")), r"builtins\.getattr"),
    "posix.system by STACK_GLOBAL": (PROTO + b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", r"posix\.system"),
    "posix.system by GLOBAL": (b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", r"posix\.system"),
    "a dotted name": (PROTO + b"\x8c\x08datetime\x8c\x0asys.modules\x93.", "not plain data|malformed|opcode"),
    "a class that never ends": (b"\x80\x02c" + b"a" * 1_000, "names a class"),
    "INST": (PROTO + b"(\x8c\x04trueiposix\nsystem\n.", "INST"),
    "OBJ": (PROTO + b"(cposix\nsystem\no.", "OBJ"),
    "OBJ of an admitted class": (PROTO + b"(cdatetime\ndate\no.", "OBJ"),
    "NEWOBJ_EX": (PROTO + b"cdatetime\ndate\n)}\x92.", "NEWOBJ_EX"),
    "BUILD on a list": (PROTO + b"]}b.", "inner state of a list"),
    "BUILD on a date": (pickle.dumps(date(2020, 1, 1))[:-1] + b"}b.", "inner state of a date"),
    "a UUID with another state": (PROTO + b"cuuid\nUUID\n)\x81}\x8c\x01aK\x01sb.", "UUID"),
    "a UUID out of range": (PROTO + b"cuuid\nUUID\n)\x81}\x8c\x03intJ\xff\xff\xff\xffsb.", "UUID"),
    "a UUID of text": (PROTO + b"cuuid\nUUID\n)\x81}\x8c\x03int\x8c\x01asb.", "UUID"),
    "a UUID left blank": (PROTO + b"cuuid\nUUID\n)\x81.", "malformed"),
    "an object": (pickle.dumps(Thing()), "Thing"),
    "a set": (pickle.dumps({1}, 4), "EMPTY_SET"),
    "a set by name": (pickle.dumps({1}, 3), r"builtins\.set"),
    "a bytearray": (pickle.dumps(bytearray(b"a"), 5), "BYTEARRAY8"),
    "EXT1": (PROTO + b"\x82\x01.", "EXT1"),
    "EXT2": (PROTO + b"\x83\x01\x00.", "EXT2"),
    "EXT4": (PROTO + b"\x84\x01\x00\x00\x00.", "EXT4"),
    "PERSID": (PROTO + b"Pid\n.", "PERSID"),
    "BINPERSID": (PROTO + b"K\x01Q.", "BINPERSID"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "READONLY_BUFFER": (b"\x80\x05C\x01a\x98.", "READONLY_BUFFER"),
    "DUP": (PROTO + b"]2e.", "DUP"),
    "an opcode that is none": (PROTO + b"\xff.", "0xff"),
    "PROTO again": (PROTO + PROTO + b"N.", "PROTO"),
    "protocol 0": (b"\x80\x00N.", "protocol"),
    "protocol 9": (b"\x80\x09N.", "protocol"),
    "only a first byte": (b"\x80", "protocol"),
    "LONG_BINPUT 2**31": (PROTO + b"Nr" + struct.pack("<I", 2**31) + b".", r"2,147,483,648"),
    "LONG_BINGET 2**31": (PROTO + b"N\x94j" + struct.pack("<I", 2**31) + b".", r"2,147,483,648"),
    "BINGET of nothing": (PROTO + b"h\x00.", "memo"),
    "billion laughs": (_laughs(9), "refers to the same values"),
    "a list in itself": (_circle(), "refers to itself"),
    "a dict in itself": (_circular_dict(), "refers to itself"),
    "a tuple in itself": (_circular_tuple(), "POP|itself"),
    "a list that grows after use": (PROTO + b"](]\x94h\x00eh\x00K\x01a\x86.", "changes after it was used"),
    "MARK bomb": (PROTO + b"(" * 10_000 + b".", "nested deeper"),
    "list in list": (PROTO + b"]" * 1_000 + b"a" * 999 + b".", "nested deeper"),
    "tuple in tuple": (PROTO + b")" + b"\x85" * 1_000 + b".", "nested deeper"),
    "dict in dict": (PROTO + b"}\x8c\x01a" * 1_000 + b"N" + b"s" * 1_000 + b".", "nested deeper"),
    "LONG4 of 2 GiB": (_number(b"\x8b", 2**31 - 1), "LONG4 claims"),
    "LONG4 of minus one": (_number(b"\x8b", -1), "LONG4 claims"),
    "LONG4 too long for its text": (_number(b"\x8b", 5_000) + b"\x01" * 5_000 + b".", "integer of 5,000 bytes"),
    "BINUNICODE8 of 1 TiB": (PROTO + b"\x8d" + struct.pack("<Q", 2**40) + b"a.", "1,099,511,627,776"),
    "BINBYTES8 of 2**63": (PROTO + b"\x8e" + struct.pack("<Q", 2**63) + b"a.", "BINBYTES8 claims"),
    "a frame beyond the end": (PROTO + b"\x95" + struct.pack("<Q", 2**40) + b"N.", "FRAME"),
    "truncated": (pickle.dumps(["a" * 100])[:-10], "claims|truncated"),
    "no STOP": (PROTO + b"N", "truncated"),
    "more after STOP": (PROTO + b"N.N.", "ends 2 bytes before"),
    "an empty stack": (PROTO + b".", "malformed"),
    "two values": (PROTO + b"NN.", "malformed"),
    "a mark left": (PROTO + b"(N.", "malformed"),
    "APPEND to a dict": (PROTO + b"}K\x01a.", "malformed"),
    "SETITEM on a list": (PROTO + b"]K\x01K\x01s.", "malformed"),
    "SETITEMS of an odd number": (PROTO + b"}(K\x01u.", "malformed"),
    "TUPLE2 below a mark": (PROTO + b"K\x01K\x01(\x86.", "malformed"),
    "APPENDS without a mark": (PROTO + b"]e.", "malformed"),
    "a call of text": (PROTO + b"K\x01)R.", "malformed"),
    "a call without a tuple": (PROTO + b"cdatetime\ndate\nNR.", "malformed"),
    "STACK_GLOBAL of numbers": (PROTO + b"K\x01K\x01\x93.", "malformed"),
    "a class as a value": (PROTO + b"cdatetime\ndate\n.", r"class datetime\.date itself"),
    "a list as a key": (PROTO + b"}]K\x01s.", "list as a dictionary key"),
    "a tuple as a key": (pickle.dumps({(1, 2): 3}), "tuple as a dictionary key"),
    "a signalling NaN as a key": (PROTO + b"}cdecimal\nDecimal\n\x8c\x04sNaN\x85RK\x01s.", "key that cannot be one"),
    "numbers as keys": (pickle.dumps({n * (2**61 - 1): 0 for n in range(5_000)}), "4,096 keys"),
    "a month of 200": (PROTO + b"cdatetime\ndatetime\nC\x0a\x07\xe4\x48\x01\0\0\0\0\0\0\x85R.", "datetime that cannot"),
    "31 February": (PROTO + b"cdatetime\ndate\nC\x04\x07\xe4\x02\x1f\x85R.", r"datetime\.date that cannot be"),
    "a date of text": (PROTO + b"cdatetime\ndate\n\x8c\x04abcd\x85R.", "packed bytes"),
    "a time in a text's zone": (PROTO + b"cdatetime\ntime\nC\x06\0\0\0\0\0\0\x8c\x01a\x86R.", "timezone is needed"),
    "a zone of text": (PROTO + b"cdatetime\ntimezone\n\x8c\x01a\x85R.", "offset is needed"),
    "an endless timedelta": (
        PROTO + b"cdatetime\ntimedelta\n\x8a\x05\0\0\0\0\x01K\0K\0\x87R.",
        "timedelta that cannot",
    ),
    "a timedelta of truth": (PROTO + b"cdatetime\ntimedelta\n\x88K\0K\0\x87R.", "integer is needed"),
    "a Decimal of words": (PROTO + b"cdecimal\nDecimal\n\x8c\x04four\x85R.", r"decimal\.Decimal that cannot be"),
    "a Decimal of a number": (PROTO + b"cdecimal\nDecimal\nK\x01\x85R.", "text is needed"),
    "a Decimal too long": (pickle.dumps(Reducing(Decimal, "1" * 5_000)), "5,000 characters"),
    "bytes by another codec": (pickle.dumps(Reducing(__import__("_codecs").encode, "a", "bz2")), "latin1"),
    "text that is not UTF-8": (PROTO + b"\x8c\x01\xff.", "UTF-8"),
    "a class's name not UTF-8": (PROTO + b"c\xff\n\xff\n.", "UTF-8"),
    "a lone surrogate": (pickle.dumps("\ud800"), "UTF-8"),
    "too many values": (PROTO + b"(" + b"N" * 600_000 + b"t.", "500,000"),
    "too many opcodes": (PROTO + b"N" + b"\x94" * 1_600_000 + b".", "500,000"),
    "too many lists": (PROTO + b"]" * 4_000_000 + b".", "500,000"),
}


@pytest.mark.parametrize(("payload", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_a_hostile_pickle(payload: bytes, reason: str) -> None:
    """Each way to run code, to grow or to break is refused, saying which it was."""
    with pytest.raises(PayloadError, match=reason):
        plain_pickle.loads(payload)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_runs_nothing(tmp_path: Path, protocol: int) -> None:
    """The file that a pickle's code would make is not made, though `pickle.loads` makes it."""
    made = tmp_path / "made"
    payload = pickle.dumps(Reducing(os.mkdir, str(made)), protocol)
    with pytest.raises(PayloadError, match="mkdir"):
        plain_pickle.loads(payload)
    assert not made.exists()
    pickle.loads(payload)  # noqa: S301 - the proof that this payload would have run
    assert made.exists()


def test_refuses_persistent_ids(tmp_path: Path) -> None:
    """References to objects kept elsewhere are refused, as a real pickler writes them."""
    with (tmp_path / "pickle").open("w+b") as file:
        Persistent(file, 4).dump([Thing()])
        file.seek(0)
        payload = file.read()
    with pytest.raises(PayloadError, match="BINPERSID"):
        plain_pickle.loads(payload)


BOMBS = {
    "laughs, nine levels": _laughs(9),
    "laughs, sixty levels": _laughs(60),
    "lists": PROTO + b"]" * 8_000_000,
    "marks": PROTO + b"(" * 8_000_000,
    "memo entries": PROTO + b"N" + b"\x94" * 8_000_000,
    **{
        name: HOSTILE[name][0]
        for name in ("LONG4 of 2 GiB", "BINUNICODE8 of 1 TiB", "LONG_BINPUT 2**31", "list in list")
    },
}


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_refusing_a_bomb_takes_little_memory(payload: bytes) -> None:
    """Whatever a bomb claims or would become, refusing it allocates less than it weighs and a megabyte."""
    tracemalloc.start()
    with pytest.raises(PayloadError):
        plain_pickle.loads(payload, Bounds(max_nodes=20_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(payload) + 2**20


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_refusing_a_bomb_takes_little_time(payload: bytes) -> None:
    """A bomb is refused in seconds of processor time, with room for a slow machine."""
    began = clock.process_time()
    with pytest.raises(PayloadError):
        plain_pickle.loads(payload)
    assert clock.process_time() - began < 5
