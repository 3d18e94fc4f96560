"""The opcodes of a pickle of plain data: where each begins and ends, and the scan that comes before any is obeyed.

Owns the short list of opcodes that `pickle.dumps` (protocols 2 to 5) writes for plain data, the bounds on their
number, their lengths and their memo indices. Refuses every other opcode by name, and to build or import anything.
"""

import pickle
import pickletools
from collections.abc import Iterator
from typing import Final

from worker.core.errors import PayloadError
from worker.queue.bounds import MAX_INTEGER_BITS, Bounds

ADMITTED: Final = (
    "dict, list, tuple, str, bytes, int, float, bool, None, datetime, date, time, timedelta, timezone, Decimal, UUID"
)

_FIRST_PROTOCOL: Final = 2
_LAST_PROTOCOL: Final = 5
_MAX_NAME: Final = 100
"""Characters of a name as `module name`; the longest admitted one has 33."""
_MAX_OPCODES_PER_NODE: Final = 3
"""`pickle.dumps` writes at most: the value, its memo entry, and one opcode that closes it."""
_SLACK: Final = 64

_FIXED: Final = {
    code[0]: size
    for size, codes in {
        0: (
            *(pickle.MARK, pickle.STOP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.MEMOIZE),
            *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
            *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
            *(pickle.STACK_GLOBAL, pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD),
        ),
        1: (pickle.BININT1, pickle.BINPUT, pickle.BINGET),
        2: (pickle.BININT2,),
        4: (pickle.BININT, pickle.LONG_BINPUT, pickle.LONG_BINGET),
        8: (pickle.BINFLOAT, pickle.FRAME),
    }.items()
    for code in codes
}
_COUNTED: Final = {
    code[0]: width
    for width, codes in {
        1: (pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES, pickle.LONG1),
        4: (pickle.BINUNICODE, pickle.BINBYTES, pickle.LONG4),
        8: (pickle.BINUNICODE8, pickle.BINBYTES8),
    }.items()
    for code in codes
}
_NAMES: Final = {known.code: known.name for known in pickletools.opcodes}
_GLOBAL: Final = pickle.GLOBAL[0]
_STOP: Final = pickle.STOP[0]
_LONG4: Final = pickle.LONG4[0]
_FRAME: Final = pickle.FRAME[0]
_MEMOIZE: Final = pickle.MEMOIZE[0]
_PUTS: Final = frozenset({pickle.BINPUT[0], pickle.LONG_BINPUT[0]})
_GETS: Final = frozenset({pickle.BINGET[0], pickle.LONG_BINGET[0]})
_NOT_VALUES: Final = frozenset(
    code[0]
    for code in (
        *(pickle.MARK, pickle.STOP, pickle.FRAME, pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT),
        *(pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS),
        *(pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD),
    )
)


def instructions(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk the opcodes of a pickle without reading their arguments.

    Args:
        payload: the pickle, beginning with 0x80 and its protocol number.

    Yields:
        The opcode, and where its argument starts and ends in the payload.

    Raises:
        PayloadError: another protocol, an opcode that plain data does not need, an argument that reaches beyond
            the payload, no end, or bytes after the end.
    """
    if len(payload) <= 1 or not _FIRST_PROTOCOL <= payload[1] <= _LAST_PROTOCOL:
        raise PayloadError(
            f"The pickle begins with {payload[:2]!r}, which is no protocol from {_FIRST_PROTOCOL} to {_LAST_PROTOCOL}; "
            "write it with pickle.dumps(message, protocol=4)"
        )
    end = 2
    while end < len(payload):
        op = payload[end]
        fixed = _FIXED.get(op)
        start, size = (end + 1, fixed) if fixed is not None else _measure(payload, op, end + 1)
        end = start + size
        if end > len(payload):
            raise PayloadError(
                f"The pickle's {_name(op)} claims {size:,} bytes where {max(len(payload) - start, 0):,} are left"
            )
        yield op, start, end
        if op == _STOP:
            if end < len(payload):
                raise PayloadError(f"The pickle ends {len(payload) - end:,} bytes before the payload does")
            return
    raise PayloadError("The pickle breaks off before its STOP opcode; it was truncated")


def scan(payload: bytes, bounds: Bounds) -> int:
    """Read through a pickle once, refusing what is too much or not plain data, before anything is built.

    Args:
        payload: the pickle, already within `bounds.max_bytes`.
        bounds: the limits.

    Returns:
        How many values it makes or refers to, each reference counted as one.

    Raises:
        PayloadError: as `instructions`; or too many values or opcodes, a memo index out of order, or an integer of
            more than about 4,300 digits.
    """
    nodes = memo = 0
    for opcodes, (op, start, end) in enumerate(instructions(payload), start=1):
        nodes += op not in _NOT_VALUES
        if nodes > bounds.max_nodes or opcodes > bounds.max_nodes * _MAX_OPCODES_PER_NODE + _SLACK:
            raise PayloadError(
                f"The pickle makes more than the {bounds.max_nodes:,} values allowed; "
                'send the rows as a file or table, for example {"uri": "file:///data/rows.ndjson"}'
            )
        if op == _MEMOIZE:
            memo += 1
        elif op in _PUTS:
            _check_memo(payload[start:end], memo, exactly=True)
            memo += 1
        elif op in _GETS:
            _check_memo(payload[start:end], memo - 1, exactly=False)
        elif op == _LONG4 and (end - start) * 8 > MAX_INTEGER_BITS:
            raise PayloadError(f"The pickle holds an integer of {end - start:,} bytes; send such a number as text")
        elif op == _FRAME and int.from_bytes(payload[start:end], "little") > len(payload) - end:
            raise PayloadError("The pickle holds a FRAME that reaches beyond its end; it was truncated")
    return nodes


def _measure(payload: bytes, op: int, at: int) -> tuple[int, int]:
    if op == _GLOBAL:
        middle = payload.find(b"\n", at, at + _MAX_NAME)
        last = payload.find(b"\n", middle + 1, at + _MAX_NAME)
        if middle < 0 or last < 0:
            raise PayloadError(f"The pickle names a class in more than {_MAX_NAME} bytes, or breaks off in its name")
        return at, last + 1 - at
    width = _COUNTED.get(op)
    if width is None:
        raise PayloadError(
            f"The pickle uses the opcode {_name(op)} at byte {at - 1}, which plain data does not need. "
            f"Send plain data only ({ADMITTED}), or JSON"
        )
    return at + width, int.from_bytes(payload[at : at + width], "little")


def _check_memo(argument: bytes, expected: int, *, exactly: bool) -> None:
    index = int.from_bytes(argument, "little")
    if index > expected or (exactly and index != expected):
        raise PayloadError(
            f"The pickle uses memo entry {index:,} where {expected:,} is the next or last; pickle.dumps numbers them "
            "in order"
        )


def _name(op: int) -> str:
    return _NAMES.get(chr(op), f"0x{op:02x}")
