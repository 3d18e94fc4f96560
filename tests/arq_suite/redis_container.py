"""What arq's conftest wants of `testcontainers.redis`, with an embedded Redis in the place of a container.

Owns the server that arq's tests use: without a password, since they give none, and on loopback alone.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from redis import Redis

from worker.embedded import RedisProcess


class RedisContainer:
    """A Redis that lives as long as the `with` block.

    Args:
        image: the container image that arq's tests would start; whichever Redis there is, is started.
    """

    port = 6379
    """The port inside the container, by which the one outside is asked for."""

    def __init__(self, image: str) -> None:
        self.image = image
        self._folder = TemporaryDirectory(prefix="arq-tests-")
        self._server = RedisProcess(Path(self._folder.name), options={"appendonly": "no"})

    def __enter__(self) -> Self:
        """Start the server and take its password away."""
        self._server.__enter__()
        with Redis.from_url(self._server.url) as redis:
            redis.config_set("requirepass", "")
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop the server and remove what it kept."""
        self._server.__exit__(*raised)
        self._folder.cleanup()

    def get_container_host_ip(self) -> str:
        """Where it listens."""
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        """The port that it listens on, for the one inside a container."""
        assert port == self.port
        return self._server.port
