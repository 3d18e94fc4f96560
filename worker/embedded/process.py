"""One server process: what PostgreSQL and Redis have in common.

Owns its start, stop and end. Refuses to know either server's options or what lies in its folder.
"""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from worker.core.errors import UnreachableError
from worker.embedded.folder import ServerFolder, works_in
from worker.embedded.launch import Ties, command
from worker.embedded.locks import poll_until

_STARTS = 3
_PAUSE_BETWEEN_STARTS_S = 0.2
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


class ServerProcess(ABC):
    """A server of one's own on a loopback port, which ends with the thread that started it.

    It is synchronous, and a context manager that starts and stops it. Start it from a thread that lives as long as the
    server should: on Linux the kernel ends the server with that thread, even when the process is killed.

    Args:
        data_dir: a folder of this server's own, made if missing. Data, password, port and log stay in it.
        port: the loopback port; None for the one used last time, if it is free, or any free one.
        options: server settings by name, over the defaults.
    """

    title: ClassVar[str]
    setting: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    drain_signal: ClassVar[signal.Signals]

    def __init__(self, data_dir: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        self.folder = ServerFolder(data_dir)
        self.options = dict(options or {})
        self._wanted_port = port
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self, lock: int) -> Ties:
        """Make what a start needs, and say how the server is to be tied. A program that helps inherits the lock."""

    @abstractmethod
    def _program(self) -> list[str]:
        """The server's command, once the port is known."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the running server takes requests."""

    @abstractmethod
    def _home(self) -> Path:
        """The working directory of the running server."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, with its password: never to be printed."""

    @property
    def running(self) -> bool:
        """Whether the process that this object started is alive."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the server that was started last.

        Raises:
            RuntimeError: it was stopped, or never started.
        """
        if self._child is None:
            raise RuntimeError(f"{self.title} in {self.folder.path} is not running; call start() first")
        return self._child.pid

    @property
    def port(self) -> int:
        """The loopback port; known from the first start on.

        Raises:
            RuntimeError: none was given and it was never started.
        """
        if self._port is None:
            raise RuntimeError(f"{self.title} in {self.folder.path} has no port yet; call start() first")
        return self._port

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and wait until it takes requests. Does nothing where it runs already.

        Args:
            timeout_s: how long that may take.

        Raises:
            UnreachableError: it did not come up. The message ends with the tail of its own log.
        """
        if self.running:
            return
        deadline = time.monotonic() + timeout_s
        try:
            self.folder.make()
            lock = self._take_folder(timeout_s)
            try:
                started = self._start_with(lock, self._prepare(lock), deadline)
            finally:
                os.close(lock)
        except OSError as error:
            raise UnreachableError(
                f"{self.title} cannot use the folder {self.folder.path}: {error}. Run where this user may write, "
                f"or set {self.setting} to a server of your own"
            ) from error
        if not started:
            raise UnreachableError(
                f"{self.title} in {self.folder.path} did not start. Mend what its log says, or set {self.setting} to "
                f"a server of your own. The log ({self.folder.log_path}) ends with:\n{self.folder.log_tail()}"
            )

    def stop(self, *, fast: bool = True, timeout_s: float = 30) -> None:
        """Stop the server in good order and wait for its end; killed where that takes too long.

        Args:
            fast: end clients' connections; otherwise wait for PostgreSQL's clients to leave by themselves.
            timeout_s: how long it may take before it is killed.
        """
        if self._child is None:
            return
        self._child.send_signal(self.stop_signal if fast else self.drain_signal)
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._reap()

    def kill(self) -> None:
        """Kill the server as `kill -9` does, and wait for its end."""
        if self._child is not None:
            self._child.kill()
            self._reap()

    def restart(self) -> None:
        """Stop in good order, then start again on the same data, and the same port where that is free or was given."""
        self.stop()
        self.start()

    def stop_leftover(self, timeout_s: float = 30) -> None:
        """Stop a server that still runs in this folder after its owner's end. Call only when its owner is known dead.

        Args:
            timeout_s: how long to wait for its end; `start` fails where it outlasts that, and says so.
        """
        pid = self.folder.holder()
        if pid is not None and works_in(pid, self._home()):
            os.kill(pid, self.stop_signal)
        poll_until(lambda: self.folder.holder() is None, timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _take_folder(self, timeout_s: float) -> int:
        lock = self.folder.take(timeout_s)
        if lock is None:
            raise UnreachableError(
                f"{self.title} in {self.folder.path} is still used by process {self.folder.holder()}. "
                f"Stop that process, or set {self.setting} to a server of your own"
            )
        return lock

    def _start_with(self, lock: int, ties: Ties, deadline: float) -> bool:
        for attempt in range(_STARTS):
            if attempt:
                time.sleep(_PAUSE_BETWEEN_STARTS_S)  # somebody else may have taken the port that was free
            if self._wanted_port is None:
                self._port = self.folder.choose_port()
            self._child = self._spawn(ties, lock)
            self.folder.sign(lock, self._child.pid)
            poll_until(lambda: not self.running or self._answers(), deadline - time.monotonic())
            if self.running and self._answers():
                return True
            self.kill()
        return False

    def _spawn(self, ties: Ties, lock: int) -> subprocess.Popen[bytes]:
        with self.folder.open_log() as log:
            return subprocess.Popen(  # noqa: S603  (the command is ours)
                command(self._program(), ties),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # the present directory may be closed to the server's account
                env=environment(),
                pass_fds=(lock,),  # so that the folder stays taken until the last of the server's processes is gone
                start_new_session=True,  # so that Ctrl-C reaches only those who can stop it in good order
            )


def environment() -> dict[str, str]:
    """The environment of a server: without the caller's secrets and without `PG*` variables that would steer it."""
    return {"LC_ALL": "C", **{name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}}
