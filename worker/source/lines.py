r"""Bytes cut into lines, with the offset and number of each, in bounded memory.

Owns where a line begins and ends (`\n` alone ends one) and what happens to one that is too long. Refuses to interpret
a line. Of a damaged stream every whole line before the damage is handed out, and no part of a line.
"""

import io
from dataclasses import dataclass
from typing import Final

from worker.core.errors import SourceError
from worker.source.streams import ByteStream

KEPT_BYTES: Final = 10_000
"""How much of an unusable row is kept for a person to see."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line above the bound, of which only the beginning is kept.

    Attributes:
        head: its first bytes.
        length: how many it has, its line end included.
    """

    head: bytes
    length: int


class LineReader:
    """Lines of a stream, of which the next ones can be seen before they are taken.

    Attributes:
        offset: of the next line, in unpacked bytes.
        line: the next line's number; the first of the file is 1.
        damage: why nothing can be read after the last line that is held; None while all is well.
    """

    def __init__(self, stream: ByteStream, *, offset: int, line: int, max_line_bytes: int) -> None:
        self.offset = offset
        self.line = line
        self.damage: SourceError | None = None
        self._stream = stream
        self._max = max_line_bytes
        self._held: list[bytes] = []
        self._at = 0
        self._long: LongLine | None = None
        self._start_of_line: list[bytes] = []
        self._unsplit = b""
        self._received = offset
        self._ended = False

    @property
    def received(self) -> int:
        """How many unpacked bytes have come out of the stream, counted from the file's start."""
        return self._received

    def peek(self, count: int) -> list[bytes]:
        """The next lines, each with its line end: at most `count`, at least one.

        None at all means that the next line is too long (`long_line`), or that nothing more comes.
        """
        while self._at == len(self._held) and self._fill():
            pass
        return self._held[self._at : self._at + count]

    def peek_more(self, count: int) -> list[bytes]:
        """As `peek`, after reading on where fewer than `count` lines are held.

        It reads at least as much again as was held, so that asking for a longer and longer piece stays linear work.
        The same lines as before mean that no more can follow them.
        """
        wanted = 0 if len(self._held) - self._at >= count else sum(map(len, self._held[self._at :]))
        while wanted > 0:
            before = len(self._held) - self._at
            if not self._fill():
                break
            wanted -= sum(map(len, self._held[self._at + before :]))
        return self.peek(count)

    @property
    def long_line(self) -> LongLine | None:
        """The next line, where it is too long to be held."""
        return self._long if self._at == len(self._held) else None

    @property
    def exhausted(self) -> bool:
        """Whether all that will ever come is held already."""
        return self._ended

    def ended(self) -> bool:
        """Whether the stream has nothing after the lines taken so far. False where a damage comes next."""
        return not self.peek(1) and self._long is None and self.damage is None

    def advance(self, count: int) -> None:
        """Take the next `count` of the lines seen."""
        self.offset += sum(map(len, self._held[self._at : self._at + count]))
        self.line += count
        self._at += count

    def skip_long_line(self) -> None:
        """Take the next line, which is too long."""
        if self._long is not None:
            self.offset += self._long.length
            self.line += 1
            self._long = None

    def _fill(self) -> bool:
        """Hold more lines, if there are any; whether calling again can bring more."""
        if self._ended or self._long is not None:
            return False
        block = self._next_block()
        lines, newline, rest = block.rpartition(b"\n")
        if newline:
            whole = b"".join((*self._start_of_line, lines, newline))
            self._start_of_line = [rest]
            self._hold(whole)
        elif block:
            self._start_of_line.append(block)
        else:
            self._end()
        if sum(map(len, self._start_of_line)) > self._max:
            self._pass_over_long_line()
        return True

    def _next_block(self) -> bytes:
        block, self._unsplit = self._unsplit, b""
        if block:
            return block
        try:
            block = self._stream.read()
        except SourceError as damage:
            self.damage = damage
        self._received += len(block)
        return block

    def _end(self) -> None:
        self._ended = True
        last, self._start_of_line = b"".join(self._start_of_line), []
        if last and self.damage is None:
            self._hold(last)

    def _hold(self, whole: bytes) -> None:
        lines = io.BytesIO(whole).readlines()
        if len(whole) > self._max and max(map(len, lines)) > self._max:
            at = next(at for at, line in enumerate(lines) if len(line) > self._max)
            self._unsplit = b"".join((*lines[at + 1 :], *self._start_of_line))
            self._start_of_line = []
            self._long = LongLine(lines[at][:KEPT_BYTES], len(lines[at]))
            lines = lines[:at]
        self._held = self._held[self._at :] + lines
        self._at = 0

    def _pass_over_long_line(self) -> None:
        head = b"".join(self._start_of_line)
        self._start_of_line = []
        length = len(head)
        while block := self._next_block():
            end = block.find(b"\n") + 1
            length += end or len(block)
            if end:
                self._unsplit = block[end:]
                break
        if self.damage is None:
            self._long = LongLine(head[:KEPT_BYTES], length)
