"""A PgBouncer of the tests' own, in transaction mode, before a PostgreSQL of theirs."""

import os
import pwd
import shutil
import signal
import socket
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import make_url

from worker.embedded import PostgresProcess
from worker.embedded.folder import LOOPBACK, write_private
from worker.embedded.launch import Account, Ties
from worker.embedded.process import ServerProcess

INSTALL = "apt-get update && apt-get install --yes pgbouncer"


def pgbouncer_program() -> Path:
    """Where the program is; without it the test is skipped, and fails where everything has to be there."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        missing = f"pgbouncer is not installed: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return Path(found)


class PgBouncerProcess(ServerProcess):
    """Clients log in with the server's own user and password; each gets a server connection for a transaction only.

    Args:
        data_dir: a folder of its own.
        server: the PostgreSQL behind it, running.
        program: pgbouncer.
        server_connections: how many it opens to a database at most.
    """

    title: ClassVar[str] = "PgBouncer"
    setting: ClassVar[str] = "DATABASE_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    drain_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, data_dir: Path, server: PostgresProcess, program: Path, *, server_connections: int) -> None:
        super().__init__(data_dir)
        self._server = make_url(server.url)
        self._binary = program
        self._server_connections = server_connections
        self._settings = self.folder.path / "pgbouncer.ini"
        self._users = self.folder.path / "users.txt"

    @property
    def url(self) -> str:
        """Where it is, with the server's password: never to be printed."""
        return self._server.set(port=self.port).render_as_string(hide_password=False)

    def _home(self) -> Path:
        return Path("/")

    def _prepare(self, lock: int) -> Ties:
        del lock
        self._write(self._users, f'"{self._server.username}" "{self._server.password}"\n')
        # it refuses to be root
        account = _nobody() if os.geteuid() == 0 else None
        return Ties(death_signal=signal.SIGTERM, account=account, reach=(str(self._users), str(self._binary)))

    def _program(self) -> list[str]:
        lines = {
            "listen_addr": LOOPBACK,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self._users,
            "pool_mode": "transaction",
            "default_pool_size": self._server_connections,
            "max_client_conn": 200,
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        target = f"* = host={self._server.host} port={self._server.port}"
        self._write(self._settings, f"[databases]\n{target}\n[pgbouncer]\n{text}")
        return [str(self._binary), str(self._settings)]

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((LOOPBACK, self.port)) == 0

    def _write(self, path: Path, text: str) -> None:
        write_private(path, text)
        if os.geteuid() == 0:
            os.chown(path, _nobody().uid, _nobody().gid)


def _nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)
