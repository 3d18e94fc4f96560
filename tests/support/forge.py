"""Worker processes in some milliseconds: forked by a process that has imported everything, instead of started afresh.

Owns the forge's process and its workers' lives: none outlives its block, its test or the session. Each worker is a
process of its own that does what `heavylift run` does, in the environment that it is given.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from tests.support.forge_process import READY, Order

LONGEST_S = 60.0
"""After so many seconds a worker that should end by itself is said to hang."""

_TAIL_BYTES = 4_000


@dataclass(slots=True)
class ForgedWorker:
    """A worker that was forked.

    Attributes:
        pid: its process id.
        log: the file for its output.
        code: how it ended, as `subprocess` has it: -9 where it was killed. None until `ended` returned.
    """

    pid: int
    log: Path
    _told: asyncio.StreamReader
    _asked: asyncio.StreamWriter
    code: int | None = None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.code is None:
            self._asked.write(b"%d\n" % number)

    async def ended(self, within_s: float = LONGEST_S) -> int:
        """Wait for its end, and return its exit code.

        Args:
            within_s: how long it may take, in seconds.

        Raises:
            AssertionError: it goes on for too long, and the message has the end of its log; or its forge has ended.
        """
        if self.code is None:
            try:
                async with asyncio.timeout(within_s):
                    said = await self._told.readline()
            except TimeoutError:
                raise AssertionError(f"worker {self.pid} has not ended in {within_s:g} s; {self.tail()}") from None
            except ConnectionError:
                said = b""
            assert said, f"the forge of worker {self.pid} has ended before it"
            self.code = int(said)
        return self.code

    def tail(self) -> str:
        """The end of its log, for messages."""
        return f"its log ends with:\n{self.log.read_bytes()[-_TAIL_BYTES:].decode(errors='replace') or '(nothing)'}"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended.

    Attributes:
        code: its exit code.
        output: what it wrote to standard output.
        errors: what it wrote to standard error.
    """

    code: int
    output: str
    errors: str


class Forge:
    """Forks workers; use it as a context manager, of which a whole test session needs only one.

    Args:
        folder: for its socket. It may be empty.
        environment: of the forge itself: where modules are found. A worker gets one of its own.
        modules: to import before any fork: those that declare jobs and tables.
    """

    def __init__(self, folder: Path, environment: dict[str, str], modules: tuple[str, ...]) -> None:
        self._socket = folder / "forge.socket"
        self._environment = environment
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.forge_process", str(self._socket), *self._modules]
        # its standard input ends with this process, killed or not, and it ends with that; Ctrl-C is not its business
        self._process = subprocess.Popen(
            command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().decode().strip()
        assert said == READY, "the forge did not start; it says why on standard error"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the forge, and with it its workers. Does nothing where it has ended."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def worker(
        self, environment: dict[str, str], log: Path, *flags: str, folder: Path | None = None
    ) -> AbstractAsyncContextManager[ForgedWorker]:
        """A worker for as long as the block lasts; it is killed at its end.

        Args:
            environment: all of its environment.
            log: the file that its output is added to.
            flags: of `heavylift run`.
            folder: the one that it is started in; the forge's unless given.
        """
        # there from the beginning: whoever waits for a line of it need not wait for the file
        log.touch()
        arguments = ["heavylift", "run", *flags]
        return self._process_of(Order(environment, os.fspath(log), arguments, folder=os.fspath(folder or "")))

    async def call(self, environment: dict[str, str], folder: Path, arguments: Sequence[str]) -> Done:
        """Run a command to its end, in a process of its own.

        Args:
            environment: all of its environment.
            folder: the one that it is started in.
            arguments: `heavylift` or `pytest` with its arguments, or `python` with a program's path and that one's.
        """
        with TemporaryDirectory() as place:
            output, errors = Path(place, "output"), Path(place, "errors")
            order = Order(environment, os.fspath(output), list(arguments), os.fspath(errors), os.fspath(folder))
            async with self._process_of(order) as process:
                code = await process.ended()
            return Done(code, output.read_text(), errors.read_text())

    @asynccontextmanager
    async def _process_of(self, order: Order) -> AsyncIterator[ForgedWorker]:
        told, asked = await asyncio.open_unix_connection(self._socket)
        try:
            asked.write(json.dumps(asdict(order)).encode() + b"\n")
            worker = ForgedWorker(int(await told.readline()), Path(order.log), told, asked)
            yield worker
            worker.send_signal(signal.SIGKILL)
            await worker.ended()
        finally:
            asked.close()
            with suppress(ConnectionError):
                await asked.wait_closed()
