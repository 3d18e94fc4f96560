"""Every test of this folder runs on each database that Heavylift keeps its promises on.

A test that only some of them can run says so: `@pytest.mark.only_on("sqlite", "mariadb", why="...")`.
"""

from collections.abc import AsyncIterator

import pytest

from tests.support.databases import DatabaseServer


@pytest.fixture
async def database_url(server: DatabaseServer) -> AsyncIterator[str]:
    """A fresh database with ledger and shop tables, on the server in question."""
    async with server.fresh() as url:
        yield url
