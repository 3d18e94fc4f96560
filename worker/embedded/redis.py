"""An embedded Redis (or Valkey): its configuration and how to tell that it is ready.

Owns the options it runs with: loopback only, a random password, append-only file, no eviction.
"""

import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from worker.embedded.folder import LOOPBACK, write_private
from worker.embedded.launch import Ties
from worker.embedded.process import ServerProcess
from worker.embedded.programs import redis_program

_DEFAULTS = {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
_ANSWER_TIMEOUT_S = 1.0


class RedisProcess(ServerProcess):
    """A Redis of one's own; see `ServerProcess`.

    Args:
        data_dir: a folder of this server's own, made if missing.
        port: the loopback port; None for the one used last time, if it is free, or any free one.
        options: `redis.conf` directives, over the defaults; `{"appendonly": "no"}` keeps nothing on disk.
        program: the server to run; by default the one on the PATH, else the wheel's.

    Raises:
        SettingsError: there is no server to run.
    """

    title: ClassVar[str] = "Redis"
    setting: ClassVar[str] = "REDIS_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    drain_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, options={**_DEFAULTS, **(options or {})})
        self._server = program or redis_program()

    @property
    def url(self) -> str:
        """Where it is, with its password: never to be printed."""
        return f"redis://:{self.folder.password}@{LOOPBACK}:{self.port}/0"

    def _home(self) -> Path:
        return self.folder.path / "data"

    def _prepare(self, lock: int) -> Ties:  # noqa: ARG002  (Redis makes nothing by a program)
        self._home().mkdir(mode=0o700, exist_ok=True)
        return Ties(death_signal=signal.SIGTERM)

    def _program(self) -> list[str]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.folder.password,
            "dir": str(self._home()),
            **self.options,
        }
        # In a file, since anybody can read a command's arguments, and the password is among them.
        configuration = self.folder.path / "redis.conf"
        write_private(configuration, "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items()))
        return [str(self._server), str(configuration)]

    def _answers(self) -> bool:
        request = f"AUTH {self.folder.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((LOOPBACK, self.port), _ANSWER_TIMEOUT_S) as connection:
                connection.sendall(request)
                with connection.makefile("rb") as answers:
                    return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:  # refused or silent: not yet ready, which is what is being asked
            return False


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
