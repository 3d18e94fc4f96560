"""A forge of the processes that pages start, and readers that follow them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.forge import Forge
from tests.support.pages import Page
from tests.support.reader import Reader

MakeReader = Callable[[Page], Reader]


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forks processes that know the shipped jobs, and no tables."""
    modules = ("jobs", "pytest", "worker.client")
    with Forge(tmp_path_factory.mktemp("forge"), {**os.environ, "PYTHONPATH": str(ROOT)}, modules) as started:
        yield started


@pytest.fixture
def reader_of(forge: Forge, environment: dict[str, str], tmp_path: Path) -> MakeReader:
    """Makes somebody who follows a page, in this test's database and folder, configured as by default."""
    # files are read where the worker was started, and nothing but what the page says is configured
    kept = {name: value for name, value in environment.items() if name != "WORKER_DATA_DIRS"}
    folder = tmp_path / "place"
    folder.mkdir()

    def make(page: Page) -> Reader:
        return Reader(forge, kept, folder, page)

    return make
