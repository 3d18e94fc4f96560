"""A server's folder: its password, its port, its log, and the lock that says whether it is in use.

Owns what stands beside a server's data and who may read it. Refuses to start or stop anything.
"""

import os
import secrets
import socket
import subprocess
from pathlib import Path
from typing import BinaryIO

from worker.core.errors import UnreachableError
from worker.embedded.locks import poll_until, try_lock

LOOPBACK = "127.0.0.1"
_MAX_LOG_BYTES = 1 << 20
_TAIL_BYTES = 8192
_TAIL_LINES = 15


class ServerFolder:
    """The folder of one server. It belongs to whoever starts the server, whichever account the server runs as.

    Args:
        path: where it is; made by `make`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log_path = self.path / "server.log"
        self._lock_path = self.path / "server.lock"

    def make(self) -> None:
        """Make the folder and the password, where they are missing."""
        # Others may pass through, not list: PostgreSQL may run as another account. What is inside is closed to them.
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        password = self.path / "password"
        if not password.exists():
            write_private(password, secrets.token_urlsafe(24))

    @property
    def password(self) -> str:
        """The server's password: random, made once, in a file that only its owner reads."""
        return (self.path / "password").read_text(encoding="ascii")

    def choose_port(self) -> int:
        """The loopback port that was chosen last time where it is free, so that the URL stays; or any free one."""
        remembered = self.path / "port"
        text = remembered.read_text(encoding="ascii") if remembered.exists() else ""
        port = _free_port(int(text) if text.isdecimal() else 0)
        write_private(remembered, str(port))
        return port

    def open_log(self) -> BinaryIO:
        """The server's log, to append to; begun anew where it has grown beyond a mebibyte."""
        return open_private_log(self.log_path, _MAX_LOG_BYTES)

    def log_tail(self) -> str:
        """The last lines of the server's log, or of what stopped it from starting."""
        return tail(self.log_path)

    def take(self, timeout_s: float) -> int | None:
        """Lock the folder for one server, waiting for the last process of an earlier one to end.

        Returns:
            The descriptor that holds the lock, for the server to inherit; None when the time was up.
        """
        taken: list[int] = []

        def try_once() -> bool:
            lock = try_lock(self._lock_path)
            taken.extend([] if lock is None else [lock])
            return lock is not None

        poll_until(try_once, timeout_s)
        return taken[0] if taken else None

    @staticmethod
    def sign(lock: int, pid: int) -> None:
        """Write the server's process id into the lock that it holds."""
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(pid).encode("ascii"), 0)

    def holder(self) -> int | None:
        """The process id of the server that holds the folder; None where nobody does."""
        if not self._lock_path.exists() or (lock := try_lock(self._lock_path)) is None:
            text = self._lock_path.read_text(encoding="ascii") if self._lock_path.exists() else ""
            return int(text) if text.isdecimal() else None
        os.close(lock)
        return None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: a reader sees the old text or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def open_private_log(path: Path, max_bytes: int) -> BinaryIO:
    """A log that only its owner can read (errors quote statements), to append to; begun anew beyond a size."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_size > max_bytes:
        os.ftruncate(descriptor, 0)
    return os.fdopen(descriptor, "ab")


def tail(log_path: Path) -> str:
    """The last lines of a log."""
    if not log_path.exists():
        return "(nothing)"
    with log_path.open("rb") as log:
        log.seek(max(0, log_path.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def works_in(pid: int, folder: Path) -> bool:
    """Whether a process has the folder as its working directory; where that cannot be seen, whether it names it."""
    process = Path(f"/proc/{pid}")
    if process.exists():
        return folder.exists() and (process / "cwd").samefile(folder)
    listed = subprocess.run(  # noqa: S603  (the command is ours)
        ["/bin/ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return str(folder.parent) in listed.stdout


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue  # somebody else has it by now: any other will do
            return int(probe.getsockname()[1])
    raise UnreachableError(f"No port of {LOOPBACK} is free; end some programs that listen there")
