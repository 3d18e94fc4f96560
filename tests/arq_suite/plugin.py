"""A pytest plugin that runs arq's own tests on our worker: `make arqtests`.

Owns the worker's replacement, the fixtures that arq's tests expect of older tools, and the marks of deliberate
differences. Refuses to change a test: a test passes as arq wrote it, or is listed in docs/arq-differences.md.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

import arq
import arq.worker
import pytest

from tests.arq_suite import redis_container
from tests.arq_suite.differences import Difference, not_collected, read_differences

OURS: Final = "worker.queue.queue_worker.QueueWorker"
ARQ: Final = "arq.worker.Worker"
CLASS: Final = os.environ.get("HEAVYLIFT_QUEUE_WORKER", OURS)
"""The import path of the worker class to test."""

_VANILLA: Final = arq.worker.Worker
_PAGE: Final = Path(__file__).parents[2] / "docs" / "arq-differences.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--differences`."""
    parser.addoption("--differences", type=Path, default=_PAGE, help="the page that lists deliberate differences")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Put our worker and our Redis in their places, before any of arq's tests or its conftest is imported."""
    sys.modules["testcontainers.redis"] = redis_container
    # create_worker and run_worker look the name up in arq.worker whenever they are called
    arq.Worker = arq.worker.Worker = _find(CLASS)  # type: ignore[misc]


def pytest_report_header() -> str:
    """Which class is tested."""
    return f"worker: {CLASS} (HEAVYLIFT_QUEUE_WORKER), on arq {arq.__version__}"


@pytest.hookimpl(tryfirst=True)  # before -k leaves any out
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Mark the deliberate differences: each must fail, and for what it asserts."""
    page: Path = config.getoption("--differences")
    # arq does not differ from itself
    differences = [] if CLASS == ARQ else read_differences(page)
    names = [_name(item) for item in items]
    for item, name in zip(items, names, strict=True):
        _refuse_vanilla(item)
        for difference in differences:
            if difference.covers(name):
                item.add_marker(_mark(difference))
    if unknown := not_collected(differences, names):
        raise pytest.UsageError(f"{page} lists {', '.join(unknown)}, which arq {arq.__version__} does not have")


@pytest.fixture
async def event_loop() -> asyncio.AbstractEventLoop:
    """The test's loop, as pytest-asyncio had it until its version 1."""
    return asyncio.get_running_loop()


def _find(path: str) -> type[arq.worker.Worker]:
    module, _, name = path.rpartition(".")
    try:
        found: type[arq.worker.Worker] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(
            f"HEAVYLIFT_QUEUE_WORKER is {path!r}, and that cannot be imported: {error}. "
            f"Give a class by its import path, for example HEAVYLIFT_QUEUE_WORKER={ARQ}"
        ) from error
    assert issubclass(found, _VANILLA)
    return found


def _name(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def _mark(difference: Difference) -> pytest.MarkDecorator:
    # a test that hangs, or cannot even start, differs by accident and not on purpose
    said = pytest.RaisesExc((AssertionError, pytest.fail.Exception), check=lambda error: "Timeout" not in str(error))
    return pytest.mark.xfail(strict=True, raises=said, reason=f"{difference.instead} Why: {difference.reason}")


def _refuse_vanilla(item: pytest.Item) -> None:
    module = sys.modules[item.obj.__module__] if isinstance(item, pytest.Function) else None
    if module is not None and arq.worker.Worker is not _VANILLA and _VANILLA in vars(module).values():
        raise pytest.UsageError(f"{item.nodeid} has got hold of arq's own Worker, so it would not test {CLASS}")
