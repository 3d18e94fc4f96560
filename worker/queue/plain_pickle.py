"""The reader of pickles: a small interpreter that builds plain data itself and never asks `pickle` to.

Owns the order of things: scan every opcode, then obey them one by one, with nesting and shared references paid for
before they are built. Refuses classes other than those of `plain_types`, values that refer to themselves, and
containers that change after they were used, since their measured size would no longer hold.
"""

import pickle
from collections.abc import Callable
from typing import Final, Never

from worker.core.errors import PayloadError
from worker.queue.bounds import DEFAULT_BOUNDS, Bounds
from worker.queue.pickle_opcodes import ADMITTED, instructions, scan
from worker.queue.plain_types import CONSTRUCTORS, SCALARS, BlankUUID, Constructor, decode_text, fill_uuid

_MAX_EXPANSION: Final = 4
"""How many times `max_bytes` the texts may take once each shared one is counted wherever it is referred to."""
_MAX_NUMERIC_KEYS: Final = 4_096
"""Keys that are not text. Text is hashed with a secret; numbers are not, and can be chosen to collide, which costs
the square of their count."""
_SCALAR_TEXT: Final = 8
"""Bytes that a value other than text, bytes or an integer is counted as."""
_TEXTS: Final = (str, bytes)
_SHOWN: Final = 120
"""Characters of a stranger's name that an error message repeats."""


class _Node:
    """A value on the stack that is not a bare scalar, with its size if written out in full."""

    __slots__ = ("depth", "nodes", "open", "text", "value")

    def __init__(self, value: object, *, text: int = 0, depth: int = 1, is_open: bool = False) -> None:
        self.value = value
        self.nodes = 1
        self.text = text
        self.depth = depth
        self.open = is_open


def loads(payload: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> object:
    """Read a pickle of plain data.

    Args:
        payload: what `pickle.dumps` wrote, protocol 2 to 5.
        bounds: the limits.

    Returns:
        The value. It holds an exception only as the `r` of a dictionary whose `s` is False: a failed result.

    Raises:
        PayloadError: the pickle is too much, malformed, or holds something else than plain data, which is named.
    """
    builder = _Builder(bounds, nodes=scan(payload, bounds), text=len(payload))
    obey = builder.obey
    for op, start, end in instructions(payload):
        obey(op, payload[start:end])
    return builder.finish()


def _text_of(scalar: object) -> int:
    if isinstance(scalar, _TEXTS):
        return len(scalar)
    return scalar.bit_length() // 3 + 1 if isinstance(scalar, int) else _SCALAR_TEXT


def _malformed() -> Never:
    raise PayloadError("The pickle is malformed: an opcode does not find what it needs; write it with pickle.dumps")


class _Builder:
    """The stack, the marks and the memo of one pickle under way."""

    def __init__(self, bounds: Bounds, *, nodes: int, text: int) -> None:
        self._bounds = bounds
        self._nodes = nodes
        self._text = text
        self._numeric_keys = 0
        self._failures = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: list[object] = []
        self._actions: dict[int, Callable[[bytes], None]] = {
            pickle.FRAME[0]: lambda _: None,
            pickle.STOP[0]: lambda _: None,
            pickle.MARK[0]: lambda _: self._mark(),
            pickle.EMPTY_LIST[0]: lambda _: self._stack.append(_Node([], is_open=True)),
            pickle.EMPTY_DICT[0]: lambda _: self._stack.append(_Node({}, is_open=True)),
            pickle.EMPTY_TUPLE[0]: lambda _: self._tuple([]),
            pickle.TUPLE1[0]: lambda _: self._tuple(self._pop(1)),
            pickle.TUPLE2[0]: lambda _: self._tuple(self._pop(2)),
            pickle.TUPLE3[0]: lambda _: self._tuple(self._pop(3)),
            pickle.TUPLE[0]: lambda _: self._tuple(self._pop_to_mark()),
            pickle.APPEND[0]: lambda _: self._append(self._pop(1)),
            pickle.APPENDS[0]: lambda _: self._append(self._pop_to_mark()),
            pickle.SETITEM[0]: lambda _: self._set_items(self._pop(2)),
            pickle.SETITEMS[0]: lambda _: self._set_items(self._pop_to_mark()),
            pickle.REDUCE[0]: lambda _: self._construct(),
            pickle.NEWOBJ[0]: lambda _: self._construct(),
            pickle.BUILD[0]: lambda _: self._build(),
            pickle.STACK_GLOBAL[0]: lambda _: self._name(*self._pop(2)),
            pickle.GLOBAL[0]: lambda name: self._name(*decode_text(name).split("\n")[:2]),
            **{code[0]: lambda _: self._remember() for code in (pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT)},
            **{code[0]: self._recall for code in (pickle.BINGET, pickle.LONG_BINGET)},
        }

    def obey(self, op: int, argument: bytes) -> None:
        read = SCALARS.get(op)
        if read is not None:
            self._stack.append(read(argument))
        else:
            self._actions[op](argument)

    def finish(self) -> object:
        if len(self._stack) != 1 or self._marks:
            _malformed()
        (value,) = self._absorb(_Node(None, depth=0), self._stack)
        if self._failures:
            # One placing in all, and it is this one: no other value can hold an exception.
            placed = isinstance(value, dict) and value.get("s") is False and isinstance(value.get("r"), BaseException)
            if not placed or self._failures > 1:
                raise PayloadError(f"The pickle holds an exception where plain data belongs: {ADMITTED}")
        return value

    def _floor(self) -> int:
        return self._marks[-1] if self._marks else 0

    def _pop(self, count: int) -> list[object]:
        if len(self._stack) - self._floor() < count:
            _malformed()
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _mark(self) -> None:
        if len(self._marks) >= self._bounds.max_depth:
            self._too_deep()
        self._marks.append(len(self._stack))

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            _malformed()
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _absorb(self, into: _Node, items: list[object]) -> list[object]:
        """Count items towards the container that takes them, and give their bare values."""
        values: list[object] = []
        into.nodes += len(items)
        for item in items:
            if isinstance(item, _Node):
                self._enter(item, into)
                values.append(item.value)
            elif isinstance(item, Constructor):
                raise PayloadError(f"The pickle holds the class {item.name} itself; only values of {ADMITTED} are data")
            else:
                into.text += len(item) if isinstance(item, _TEXTS) else _text_of(item)
                values.append(item)
        return values

    def _enter(self, node: _Node, into: _Node) -> None:
        if node.depth > self._bounds.max_depth:
            self._too_deep()
        if isinstance(node.value, BlankUUID):
            _malformed()
        if isinstance(node.value, BaseException):
            self._failures += 1
        node.open = False
        into.nodes += node.nodes - 1
        into.text += node.text
        into.depth = max(into.depth, node.depth + 1)

    def _tuple(self, items: list[object]) -> None:
        node = _Node(())
        node.value = tuple(self._absorb(node, items))
        self._stack.append(node)

    def _open_node(self) -> _Node:
        node = self._stack[-1] if len(self._stack) > self._floor() else None
        if not isinstance(node, _Node):
            _malformed()
        if not node.open:
            raise PayloadError("The pickle holds a value that refers to itself, or that changes after it was used")
        return node

    def _append(self, items: list[object]) -> None:
        node = self._open_node()
        if not isinstance(node.value, list):
            _malformed()
        node.value.extend(self._absorb(node, items))

    def _set_items(self, items: list[object]) -> None:
        node = self._open_node()
        if not isinstance(node.value, dict) or len(items) % 2:
            _malformed()
        for key in items[::2]:
            if not isinstance(key, _TEXTS):
                self._check_key(key)
        values = self._absorb(node, items)
        try:
            node.value.update(zip(values[::2], values[1::2], strict=True))
        except TypeError as error:
            raise PayloadError(f"The pickle holds a dictionary key that cannot be one: {error}") from error

    def _check_key(self, key: object) -> None:
        if isinstance(key, _Node) and isinstance(key.value, dict | list | tuple):
            kind = type(key.value).__name__
            raise PayloadError(f"The pickle holds a {kind} as a dictionary key; use text, a number, a date or a UUID")
        self._numeric_keys += 1
        if self._numeric_keys > _MAX_NUMERIC_KEYS:
            raise PayloadError(f"The pickle holds more than {_MAX_NUMERIC_KEYS:,} keys that are not text; use text")

    def _remember(self) -> None:
        if len(self._stack) <= self._floor():
            _malformed()
        self._memo.append(self._stack[-1])

    def _recall(self, argument: bytes) -> None:
        item = self._memo[int.from_bytes(argument, "little")]
        if isinstance(item, _Node):
            item.open = False
            self._nodes += item.nodes - 1
            self._text += item.text
        else:
            self._text += _text_of(item)
        if self._nodes > self._bounds.max_nodes or self._text > self._bounds.max_bytes * _MAX_EXPANSION:
            raise PayloadError(
                f"The pickle refers to the same values so often that it stands for more than "
                f"{self._bounds.max_nodes:,} values or {self._bounds.max_bytes * _MAX_EXPANSION:,} bytes of text"
            )
        self._stack.append(item)

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            _malformed()
        known = CONSTRUCTORS.get(f"{module}.{name}")
        if known is None:
            full = f"{module}.{name}"[:_SHOWN]
            raise PayloadError(
                f"The pickle names {full!r}, which is not plain data. Send plain data only ({ADMITTED}), or JSON"
            )
        self._stack.append(known)

    def _construct(self) -> None:
        callee, node = self._pop(2)
        if not isinstance(callee, Constructor) or not isinstance(node, _Node) or not isinstance(node.value, tuple):
            _malformed()
        try:
            value = callee.build(*node.value)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise PayloadError(f"The pickle holds a {callee.name} that cannot be: {error}") from error
        self._stack.append(_Node(value, text=node.text + _SCALAR_TEXT, depth=0))

    def _build(self) -> None:
        (state,) = self._pop(1)
        node = self._stack[-1] if len(self._stack) > self._floor() else None
        if not isinstance(node, _Node) or not isinstance(node.value, BlankUUID) or not isinstance(state, _Node):
            kind = type(node.value if isinstance(node, _Node) else node).__name__
            raise PayloadError(f"The pickle sets the inner state of a {kind}, which plain data does not need")
        try:
            node.value = fill_uuid(state.value)
        except (TypeError, ValueError) as error:
            raise PayloadError(f"The pickle holds a uuid.UUID that cannot be: {error}") from error

    def _too_deep(self) -> Never:
        raise PayloadError(f"The pickle is nested deeper than {self._bounds.max_depth} levels; send a flatter message")
