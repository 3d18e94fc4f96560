"""Where Redis is and how to log in there: one description for every kind of connection. Opens nothing."""

from dataclasses import dataclass, field
from typing import Final

CONNECT_TIMEOUT_S: Final = 5.0
"""For a connection to stand, with its TLS; a server that takes longer is as good as gone."""

READ_TIMEOUT_S: Final = 10.0
"""For one answer: longer than any script of ours may hold the server, shorter than a lease by default, so that a
connection that died silently is given up while the runs are still this worker's."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked, and what is shown to the server.

    Attributes:
        ca_certs: a file of authorities to trust beside the system's; None for the system's alone.
        certfile: this client's certificate; None for none.
        keyfile: its key.
        cert_reqs: `required`, `optional` or `none`, as redis-py has it.
        check_hostname: whether the certificate must be made out to the host that was connected to.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is and how to log in there.

    Attributes:
        hosts: names and ports: the server's, or each Sentinel's; none for a Unix socket.
        socket_path: of a Unix socket; None for TCP.
        master: what the Sentinels call the master; None where there are no Sentinels.
        db: the database's number.
        username: of Redis; None for its default user.
        password: of Redis; None for none.
        sentinel_username: of the Sentinels, who do not share Redis's.
        sentinel_password: likewise.
        tls: of Redis and the Sentinels alike; None for plain connections.
        connect_timeout_s: for a connection to stand, in seconds.
        read_timeout_s: for one answer, in seconds.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    socket_path: str | None = None
    master: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S

    @property
    def place(self) -> str:
        """Where it is, for messages: without user or password."""
        listed = self.socket_path or ", ".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{listed} (Sentinels of {self.master!r})" if self.master else listed
