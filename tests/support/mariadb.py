"""A MariaDB of the tests' own, of the system's program: one that may be killed."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from worker.core.errors import UnreachableError
from worker.embedded.folder import LOOPBACK, write_private
from worker.embedded.launch import Ties
from worker.embedded.process import ServerProcess, environment

INSTALL: Final = "apt-get update && apt-get install --yes mariadb-server"
"""What to do where `find_mariadbd` finds none."""

QUICK: Final = {
    "innodb-flush-log-at-trx-commit": "0",
    "skip-log-bin": "",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "16M",
    "innodb-doublewrite": "0",
    "max-connections": "200",
    # in tests a transaction that waits for another is met often, and what is left of a killed client, too
    "innodb-print-all-deadlocks": "1",
}
"""Settings of a server on which what a crash of the machine would lose is not tested."""

_USER: Final = "heavylift"
_PLACES: Final = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
_GREETING: Final = 10
"""The version of the protocol, which a server that takes requests says first."""


def find_mariadbd() -> Path | None:
    """The server's program; None where this system has none."""
    return _find("mariadbd")


def _find(program: str) -> Path | None:
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))
    return None if found is None else Path(found)


class MariaDbProcess(ServerProcess):
    """A server on a loopback port with data of its own; see `ServerProcess`. Call it only where it is installed.

    Args:
        folder: of this server's own, made if missing.
        options: server options by name, without dashes, over `QUICK`; an empty value for a switch.
        port: the loopback port; None for any.
    """

    title: ClassVar[str] = "MariaDB"
    setting: ClassVar[str] = "DATABASE_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    drain_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None, *, port: int | None = None) -> None:
        super().__init__(folder, port=port, options={**QUICK, **(options or {})})

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `heavylift`, with the password: never to be printed."""
        return f"mysql+aiomysql://{_USER}:{self.folder.password}@{LOOPBACK}:{self.port}/heavylift"

    def _home(self) -> Path:
        return self.folder.path / "data"

    def _prepare(self, lock: int) -> Ties:
        if not self._home().exists():
            self._make_data(lock)
        write_private(self.folder.path / "init.sql", self._accounts())
        return Ties(death_signal=signal.SIGTERM)

    def _program(self) -> list[str]:
        switches = [f"--{name}={value}" if value else f"--{name}" for name, value in self.options.items()]
        return [
            str(_program("mariadbd")),
            "--no-defaults",
            f"--datadir={self._home()}",
            f"--bind-address={LOOPBACK}",
            f"--port={self.port}",
            f"--socket={self._home() / 'socket'}",
            # a server that starts deletes what others have of temporary tables in a folder that they share
            f"--tmpdir={self._home()}",
            f"--pid-file={self._home() / 'pid'}",
            f"--init-file={self.folder.path / 'init.sql'}",
            "--skip-name-resolve",
            *_as_present_user(),
            *switches,
        ]

    def _answers(self) -> bool:
        # the port is open before the accounts are there, but nobody is greeted
        with socket.socket() as client:
            client.settimeout(1)
            try:
                client.connect((LOOPBACK, self.port))
                greeting = client.recv(5)
            except OSError:
                return False
        return len(greeting) > 4 and greeting[4] == _GREETING

    def _accounts(self) -> str:
        # one statement a line
        return (
            f"CREATE USER IF NOT EXISTS '{_USER}'@'%' IDENTIFIED BY '{self.folder.password}';\n"
            f"GRANT ALL ON *.* TO '{_USER}'@'%' WITH GRANT OPTION;\n"
            f"ALTER USER IF EXISTS 'root'@'{LOOPBACK}' ACCOUNT LOCK;\n"
            "CREATE DATABASE IF NOT EXISTS heavylift CHARACTER SET utf8mb4;\n"
        )

    def _make_data(self, lock: int) -> None:
        # Made aside and renamed, so that a start that was killed half-way leaves no half of it.
        draft = self.folder.path / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        asked = [
            str(_program("mariadb-install-db")),
            "--no-defaults",
            f"--datadir={draft}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=16M",
            *_as_present_user(),
        ]
        with self.folder.open_log() as log:
            made = subprocess.run(
                asked,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=(lock,),
            )
        if made.returncode != 0:
            raise UnreachableError(f"mariadb-install-db failed; its log ends with:\n{self.folder.log_tail()}")
        draft.rename(self._home())


def _program(name: str) -> Path:
    found = _find(name)
    if found is None:
        raise UnreachableError(f"{name} is not installed: {INSTALL}")
    return found


def _as_present_user() -> list[str]:
    # as root it insists on being told so
    return ["--user=root"] if os.geteuid() == 0 else []
