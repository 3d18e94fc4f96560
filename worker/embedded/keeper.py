"""The process that keeps one embedded server while anybody uses it, and stops it when nobody does.

Owns a server's life under `.heavylift/`. Its users hold a shared lock, which the kernel releases when they end, killed
or not; the keeper stops the server once it gets that lock for itself. It holds the keeper's lock, inherited from
whoever started it, for as long as it lives, so there is never a second keeper. Killed itself, it takes the server
with it (the server's ties see to that).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from worker.core.errors import HeavyliftError
from worker.embedded.folder import write_private
from worker.embedded.locks import try_lock
from worker.embedded.postgres import PostgresProcess
from worker.embedded.process import ServerProcess
from worker.embedded.redis import RedisProcess

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The files of one kept server under the folder of them all.

    Attributes:
        directory: the folder, such as `.heavylift`.
        kind: `postgres` or `redis`.
    """

    directory: Path
    kind: str

    @property
    def data(self) -> Path:
        """The server's own folder."""
        return self.directory / self.kind

    @property
    def record(self) -> Path:
        """Where the running server is: its URL and process ids, as JSON. Absent while it is not ready."""
        return self.directory / f"{self.kind}.json"

    @property
    def users_lock(self) -> Path:
        """Locked, shared, by each process that uses the server."""
        return self.directory / f"{self.kind}.users.lock"

    @property
    def keeper_lock(self) -> Path:
        """Locked by the keeper for as long as it lives."""
        return self.directory / f"{self.kind}.keeper.lock"

    @property
    def keeper_log(self) -> Path:
        """What the last keeper had to say."""
        return self.directory / f"{self.kind}.keeper.log"


def keep(files: KeptFiles, process: ServerProcess) -> None:
    """Start the server, say where it is, start it again where it ends, and stop it when the last user is gone.

    Raises:
        UnreachableError: the server did not come up.
    """
    process.stop_leftover()
    try:
        process.start()
        _write_record(files, process)
        # Once taken it is held until this process ends: a newcomer waits for that, then starts a keeper of its own.
        while try_lock(files.users_lock) is None:
            if not process.running:
                process.start()
                _write_record(files, process)
            time.sleep(_POLL_S)
    finally:
        files.record.unlink(missing_ok=True)
        process.stop()


def _write_record(files: KeptFiles, process: ServerProcess) -> None:
    record = {"url": process.url, "keeper_pid": os.getpid(), "server_pid": process.pid}
    write_private(files.record, json.dumps(record))


def _end(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)


def main(arguments: Sequence[str]) -> None:
    """Run a keeper.

    Args:
        arguments: the folder, the kind of server, and its program (PostgreSQL: the folder of its programs).
    """
    directory, kind, program = arguments
    files = KeptFiles(Path(directory), kind)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    process: ServerProcess = (
        PostgresProcess(files.data, bin_dir=Path(program))
        if kind == "postgres"
        else RedisProcess(files.data, program=Path(program))
    )
    try:
        keep(files, process)
    except (HeavyliftError, OSError) as error:
        sys.exit(str(error))
