"""The sessions that are open in a database of a server, and their end at somebody else's word."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine


@dataclass(frozen=True, slots=True)
class _Words:
    """A query for all but one's own, and a statement that ends session `{}`."""

    listing: str
    ending: str


_POSTGRES: Final = _Words(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid",
    "SELECT pg_terminate_backend({})",
)
_MARIADB: Final = _Words(
    "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id() ORDER BY id",
    "KILL CONNECTION {}",
)
_WORDS: Final[Mapping[str, _Words]] = {"postgresql": _POSTGRES, "mysql": _MARIADB, "mariadb": _MARIADB}


async def sessions(url: str) -> list[int]:
    """The numbers of a database's sessions."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = list((await connection.execute(text(_words(url).listing))).scalars())
    await engine.dispose()
    return found


async def end_sessions(url: str, chosen: Callable[[int], bool]) -> int:
    """End sessions in a database, chosen by their numbers; returns how many."""
    ended = 0
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        for number in filter(chosen, (await connection.execute(text(_words(url).listing))).scalars().all()):
            try:
                await connection.execute(text(_words(url).ending.format(number)))
            except DBAPIError:
                # it has just ended by itself
                await connection.rollback()
            else:
                ended += 1
    await engine.dispose()
    return ended


def _words(url: str) -> _Words:
    return _WORDS[make_url(url).get_backend_name()]
