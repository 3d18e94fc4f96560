"""An embedded PostgreSQL: its cluster, the account it runs as, and how to tell that it is ready.

Owns making the cluster once and the options it runs with: loopback only, a random password. Root never runs
PostgreSQL; for root it runs as the owner of the cluster, which is `nobody` where root made it.
"""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from worker.core.errors import UnreachableError
from worker.embedded.folder import LOOPBACK, write_private
from worker.embedded.launch import Account, Ties, command
from worker.embedded.process import ServerProcess, environment
from worker.embedded.programs import postgres_bin_dir

_USER = "postgres"
_FIRST_VERSION_WITH_BUILTIN_LOCALES = 17
_DEFAULTS = {"max_connections": "100"}
_PID_LINE, _STATUS_LINE = 0, 7


class PostgresProcess(ServerProcess):
    """A PostgreSQL of one's own; see `ServerProcess`.

    Where root starts it below a folder that only root may enter, the server keeps the capability to pass read and
    search checks (CAP_DAC_READ_SEARCH; where that is missing or not enough, CAP_DAC_OVERRIDE); nothing is chmodded,
    copied or moved. Its superuser can then reach what root can, so its password, in `password` in `data_dir`, is worth
    as much as root's files.

    Args:
        data_dir: a folder of this server's own, made if missing. The cluster is `cluster` in it.
        port: the loopback port; None for the one used last time, if it is free, or any free one.
        options: `postgresql.conf` settings, over the defaults; `{"fsync": "off"}` suits tests.
        bin_dir: the folder with `postgres` and `initdb`; by default the wheel's PostgreSQL 18.

    Raises:
        SettingsError: the wheel is not installed and no `bin_dir` was given.
    """

    title: ClassVar[str] = "PostgreSQL"
    setting: ClassVar[str] = "DATABASE_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    drain_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        bin_dir: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, options={**_DEFAULTS, **(options or {})})
        self._bin_dir = bin_dir or postgres_bin_dir()

    @property
    def url(self) -> str:
        """Where it is, with its password: never to be printed."""
        return f"postgresql://{_USER}:{self.folder.password}@{LOOPBACK}:{self.port}/postgres"

    def _home(self) -> Path:
        return self.folder.path / "cluster"

    def _prepare(self, lock: int) -> Ties:
        if not self._home().exists():
            self._make_cluster(lock)
        return self._ties(self._home())

    def _program(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.options,
        }
        arguments = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        return [str(self._bin_dir / "postgres"), "-D", str(self._home()), *arguments]

    def _answers(self) -> bool:
        status = self._home() / "postmaster.pid"
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines() if status.exists() else []
        if len(lines) <= _STATUS_LINE or lines[_PID_LINE].strip() != str(self.pid):
            return False
        return lines[_STATUS_LINE].strip() == "ready"

    def _make_cluster(self, lock: int) -> None:
        # Made aside and renamed, so that a start that was killed half-way leaves no half a cluster.
        draft, password = self.folder.path / "cluster.new", self.folder.path / "initdb.password"
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        write_private(password, self.folder.password)
        if os.geteuid() == 0:
            nobody = _nobody()
            os.chown(draft, nobody.uid, nobody.gid)
            os.chown(password, nobody.uid, nobody.gid)
        try:
            self._run_initdb(draft, password, lock)
        finally:
            password.unlink()
        draft.rename(self._home())

    def _run_initdb(self, cluster: Path, password: Path, lock: int) -> None:
        arguments = [
            *("--pgdata", str(cluster), "--username", _USER, "--pwfile", str(password)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
            *(self._builtin_locale()),
            *(["--no-sync"] if self.options.get("fsync") == "off" else []),
        ]
        initdb = [str(self._bin_dir / "initdb"), *arguments]
        with self.folder.open_log() as log:
            made = subprocess.run(  # noqa: S603  (the command is ours)
                command(initdb, self._ties(cluster)),
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=(lock,),
            )
        if made.returncode != 0:
            raise UnreachableError(
                f"PostgreSQL's initdb could not make a cluster in {self.folder.path}. Mend what its log says, or set "
                f"DATABASE_URL to a server of your own. The log ({self.folder.log_path}) ends with:\n"
                f"{self.folder.log_tail()}"
            )

    def _ties(self, cluster: Path) -> Ties:
        if os.geteuid() == 0:
            owner = cluster.stat()
            reach = (str(cluster), str(self._bin_dir / "postgres"))
            return Ties(death_signal=signal.SIGINT, account=Account(owner.st_uid, owner.st_gid), reach=reach)
        # Only initdb insists on a user name, and it names the cluster's files by number.
        making = cluster != self._home()
        return Ties(death_signal=signal.SIGINT, named_as=_nobody() if making and not _has_name() else None)

    def _builtin_locale(self) -> list[str]:
        asked = [str(self._bin_dir / "postgres"), "--version"]
        version = subprocess.run(asked, check=True, capture_output=True, text=True, env=environment())  # noqa: S603  (the command is ours)
        major = int(version.stdout.split()[2].split(".")[0])
        if major < _FIRST_VERSION_WITH_BUILTIN_LOCALES:
            return []
        return ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise UnreachableError(
            "PostgreSQL refuses to run as root or as a user without a name, and this system has no user `nobody`. "
            "Add that user, run Heavylift as an ordinary one, or set DATABASE_URL to a server of your own"
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)
