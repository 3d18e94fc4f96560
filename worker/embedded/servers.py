"""The servers under `.heavylift/`: found where they run, started where they do not.

Owns how a process joins the users of an embedded server. Nobody decides by looking: whoever gets the keeper's lock
starts a keeper and hands it that lock; everybody else waits for the record that the keeper writes.
"""

import json
import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.core.errors import UnreachableError
from worker.embedded import detach
from worker.embedded.folder import open_private_log, tail
from worker.embedded.keeper import KeptFiles
from worker.embedded.locks import try_lock
from worker.embedded.programs import postgres_bin_dir, redis_program

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the embedded servers are. The URLs carry passwords: never to be printed.

    Attributes:
        database_url: PostgreSQL; None where it was not asked for.
        redis_url: Redis; None where it was not asked for.
    """

    database_url: str | None
    redis_url: str | None


class EmbeddedServers:
    """A process's stay with the embedded servers, from `ensure_servers`.

    The servers run at least until `close`, or until this process ends in whatever way.

    Attributes:
        urls: where the servers are.
    """

    def __init__(self, urls: ServerUrls, locks: ExitStack) -> None:
        self.urls = urls
        self._locks = locks

    def close(self) -> None:
        """Leave the servers. They stop when their last user has left."""
        self._locks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Seat:
    """One process's way to one server: first among its users, then, where there is none, starting its keeper."""

    def __init__(self, files: KeptFiles, program: Path, locks: ExitStack) -> None:
        self.files = files
        self._program = program
        self._locks = locks
        self._joined = False
        self._started = False

    def url(self) -> str | None:
        """Try once, without waiting; None where the server is not ready yet."""
        if not self._joined:
            if (users := try_lock(self.files.users_lock, shared=True)) is None:
                return None  # a keeper that found no users is stopping the server
            self._locks.callback(os.close, users)
            self._joined = True
        if (lock := try_lock(self.files.keeper_lock)) is None:
            return self._recorded_url()
        try:
            self._start_keeper(lock)
        finally:
            os.close(lock)
        return None

    def _recorded_url(self) -> str | None:
        try:
            record = json.loads(self.files.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        # A keeper that was killed leaves its record, which its successor is about to remove.
        return str(record["url"]) if _alive(int(record["keeper_pid"])) else None

    def _start_keeper(self, lock: int) -> None:
        if self._started:
            raise UnreachableError(f"No embedded {self.files.kind} could be started. {tail(self.files.keeper_log)}")
        self._started = True
        self.files.record.unlink(missing_ok=True)
        with open_private_log(self.files.keeper_log, max_bytes=0) as log:
            subprocess.run(  # noqa: S603  (the command is ours)
                detach.command([str(self.files.directory), self.files.kind, str(self._program)]),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(lock,),
                start_new_session=True,
            )


def ensure_servers(directory: Path, *, postgres: bool, redis: bool, timeout_s: float = 60) -> EmbeddedServers:
    """Join the users of the embedded servers in a folder, starting those that do not run.

    Args:
        directory: the folder that holds them, such as `Path(".heavylift")`; made if missing.
        postgres: whether a PostgreSQL is wanted.
        redis: whether a Redis is wanted.
        timeout_s: how long it may take until both are ready.

    Returns:
        The stay with them. They run until its `close`, or the end of the last process that has one.

    Raises:
        SettingsError: a wanted server's program is not installed. The message says what to install or set.
        UnreachableError: a server did not come up. The message has the tail of its log and says what to do.
    """
    programs = {
        **({"postgres": postgres_bin_dir()} if postgres else {}),
        **({"redis": redis_program()} if redis else {}),
    }
    with ExitStack() as locks:
        try:
            _make(directory)
            urls = _settle(
                {
                    kind: _Seat(KeptFiles(directory.resolve(), kind), program, locks)
                    for kind, program in programs.items()
                },
                timeout_s,
            )
        except OSError as error:
            raise UnreachableError(
                f"The embedded servers cannot use the folder {directory}: {error}. Run in a directory of your own, "
                "or set DATABASE_URL and REDIS_URL to servers of your own"
            ) from error
        return EmbeddedServers(ServerUrls(urls.get("postgres"), urls.get("redis")), locks.pop_all())


def _settle(seats: dict[str, _Seat], timeout_s: float) -> dict[str, str]:
    deadline = time.monotonic() + timeout_s
    urls: dict[str, str] = {}
    while True:
        for kind in seats.keys() - urls.keys():
            if (url := seats[kind].url()) is not None:
                urls[kind] = url
        if len(urls) == len(seats):
            return urls
        if time.monotonic() > deadline:
            late = sorted(seats.keys() - urls.keys())
            raise UnreachableError(
                f"After {timeout_s:g} s the embedded {' and '.join(late)} were not ready. What they said last:\n"
                + "\n".join(tail(seats[kind].files.data / "server.log") for kind in late)
                + "\nTry again, or set DATABASE_URL and REDIS_URL to servers of your own"
            )
        time.sleep(_POLL_S)


def _make(directory: Path) -> None:
    # Others may pass through, not list: root's PostgreSQL runs as another account. What is inside is closed to them.
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
