"""A Sentinel of the tests' own, and a master with a replica for it to watch."""

import signal
from pathlib import Path
from typing import ClassVar

from redis import Redis
from redis.exceptions import RedisError

from worker.embedded import RedisProcess
from worker.embedded.folder import LOOPBACK, write_private
from worker.embedded.launch import Ties
from worker.embedded.locks import poll_until
from worker.embedded.process import ServerProcess
from worker.embedded.programs import redis_program

MASTER = "hall"
"""What the Sentinel calls its master."""

PASSWORD = "of-both-redis-servers"
"""Of a master and its replica: clients log in to either with the same."""


class SentinelProcess(ServerProcess):
    """One Sentinel, which decides alone.

    Args:
        data_dir: a folder of its own.
        watched: the port of the master.
        down_after_ms: how long the master may be silent before it is taken for dead, in ms.
        closed: whether it has a password of its own.
    """

    title: ClassVar[str] = "Sentinel"
    setting: ClassVar[str] = "REDIS_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    drain_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, data_dir: Path, watched: int, *, down_after_ms: int = 60_000, closed: bool = True) -> None:
        super().__init__(data_dir)
        self._closed = closed
        self._lines = (
            f"sentinel monitor {MASTER} {LOOPBACK} {watched} 1",
            f"sentinel auth-pass {MASTER} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} {down_after_ms}",
            f"sentinel failover-timeout {MASTER} 3000",
        )

    @property
    def url(self) -> str:
        """Where the Sentinel itself is, with its password: never to be printed."""
        login = f":{self.folder.password}@" if self._closed else ""
        return f"redis://{login}{LOOPBACK}:{self.port}"

    def _home(self) -> Path:
        return self.folder.path

    def _prepare(self, lock: int) -> Ties:
        del lock
        return Ties(death_signal=signal.SIGTERM)

    def _program(self) -> list[str]:
        # it keeps what it learns in the file
        configuration = self.folder.path / "sentinel.conf"
        own = (f"bind {LOOPBACK}", f"port {self.port}", f"dir {self._home()}")
        password = (f"requirepass {self.folder.password}",) if self._closed else ()
        write_private(configuration, "".join(f"{line}\n" for line in (*own, *password, *self._lines)))
        return [str(redis_program()), str(configuration), "--sentinel"]

    def _answers(self) -> bool:
        return answers(self.url)


def answers(url: str) -> bool:
    """Whether a server takes requests."""
    with Redis.from_url(url, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def redis_with(folder: Path) -> RedisProcess:
    """A Redis whose password is `PASSWORD`, for a master or a replica."""
    folder.mkdir()
    write_private(folder / "password", PASSWORD)
    # a replica is sent the data at once, rather than after waiting five seconds for more replicas
    return RedisProcess(folder, options={"masterauth": PASSWORD, "repl-diskless-sync-delay": "0"})


def follow(replica: RedisProcess, master: RedisProcess) -> None:
    """Make one Redis the replica of another, and wait until it has the data."""
    with Redis.from_url(replica.url) as client:
        client.replicaof(LOOPBACK, master.port)
        assert poll_until(lambda: client.info("replication")["master_link_status"] == "up", 20)
