"""So much of each server's protocol as it takes to know a COMMIT among what a client sends."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import make_url


class Messages(Protocol):
    """How a client's messages are cut, and which of them is a COMMIT."""

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of a URL whose connections can be read: they are not encrypted."""
        ...

    async def read(self, client: asyncio.StreamReader, *, first: bool) -> bytes:
        """The next message, whole.

        Raises:
            IncompleteReadError: there is none.
        """
        ...

    def is_commit(self, message: bytes) -> bool:
        """Whether it is a COMMIT."""
        ...


class PostgresMessages:
    """A type, but for the first message, and a length that counts itself. COMMIT is a simple query."""

    query: Mapping[str, str] = {"ssl": "disable"}

    async def read(self, client: asyncio.StreamReader, *, first: bool) -> bytes:
        """The next message."""
        head = await client.readexactly(4 if first else 5)
        return head + await client.readexactly(int.from_bytes(head[-4:]) - 4)

    def is_commit(self, message: bytes) -> bool:
        """Whether it is a COMMIT."""
        return message.startswith(b"Q") and message[5:].upper().startswith(b"COMMIT")


class MariaDbMessages:
    """A length of three bytes, a number, and in the client's a command: 3 is a query."""

    query: Mapping[str, str] = {}

    async def read(self, client: asyncio.StreamReader, *, first: bool) -> bytes:
        """The next packet."""
        del first
        head = await client.readexactly(4)
        return head + await client.readexactly(int.from_bytes(head[:3], "little"))

    def is_commit(self, message: bytes) -> bool:
        """Whether it is a COMMIT."""
        return message[3:5] == b"\x00\x03" and message[5:].upper().startswith(b"COMMIT")


def messages_of(url: str) -> Messages:
    """Those that pass on the way to a database."""
    return PostgresMessages() if make_url(url).get_backend_name() == "postgresql" else MariaDbMessages()
