"""Every test of this folder runs on each database that Heavylift keeps its promises on."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import SHOP, Servers
from tests.support.databases import QUICK, VERSIONS, fresh_database, make_template, older_bin_dir
from worker.embedded import PostgresProcess


@pytest.fixture(scope="session", params=VERSIONS)
def server_url(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with a template of the shop, each kind started once a session."""
    if request.param == "18":
        yield servers.postgres.url
        return
    folder = tmp_path_factory.mktemp("older") / "server"
    with PostgresProcess(folder, options=QUICK, bin_dir=older_bin_dir()) as server:
        make_template(server.url, SHOP)
        yield server.url


@pytest.fixture
async def database_url(server_url: str) -> AsyncIterator[str]:
    """A fresh database with ledger and shop tables, on the server in question."""
    async with fresh_database(server_url) as url:
        yield url
