"""Pressure on a real PostgreSQL, made on purpose: each is there while its context lasts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
from sqlalchemy import make_url


def plain_url(url: str) -> str:
    """A database's URL as asyncpg and libpq's programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until something is so; the test's timeout is the limit."""
    while not await condition():
        await asyncio.sleep(0.02)


@asynccontextmanager
async def session(url: str, name: str = "a neighbour") -> AsyncIterator[asyncpg.Connection]:
    """A session of somebody else's, or one that bears a worker's name."""
    connection = await asyncpg.connect(plain_url(url), server_settings={"application_name": name})
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def lock_waiters(url: str, *, holder: str, waiter: str = "a neighbour", sessions: int = 1) -> AsyncIterator[None]:
    """Sessions that wait for a lock, by the names of who holds it and who waits; no table is touched."""
    async with session(url, holder) as holding:
        await holding.execute("SELECT pg_advisory_lock(42)")
        waiting = [asyncio.create_task(_wait_for_lock(url, waiter)) for _ in range(sessions)]
        try:
            blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            await until(lambda: _reaches(holding, blocked, sessions))
            yield
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _wait_for_lock(url: str, name: str) -> None:
    async with session(url, name) as connection:
        await connection.execute("SELECT pg_advisory_lock(42)")


@asynccontextmanager
async def vacuum(url: str, table: str) -> AsyncIterator[None]:
    """A vacuum of a table that takes as long as the context; it needs some pages to work on."""
    async with session(url) as working, session(url) as watching:
        await working.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        running = asyncio.create_task(working.execute(f"VACUUM {table}"))
        try:
            await until(lambda: _reaches(watching, "SELECT count(*) FROM pg_stat_progress_vacuum", 1))
            yield
        finally:
            await watching.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")
            with suppress(asyncpg.QueryCanceledError):
                await running


async def _reaches(connection: asyncpg.Connection, count: str, enough: int) -> bool:
    return bool(await connection.fetchval(count) >= enough)
