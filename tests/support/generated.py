"""How pytest makes one test for each database: those that use the fixture `server_name`, by `only_on` and `samples`.

Owns the ids and what is left out. A test that is not for a database is not made for it, so nothing of it is skipped.
"""

from typing import Final

import pytest

from tests.support.chosen import BACKENDS, CHOSEN, databases_of, one_of_each

NOWHERE: Final = "nowhere"
"""The id of a test that is for none of the databases that are chosen; it is deselected."""


BREAKING: Final = ("chaos", "storm")
"""Marks of tests that take long and break things, which no version of a database does another way."""


def generate(metafunc: pytest.Metafunc) -> None:
    """Make a test once for each database that it is for, where it uses one."""
    if "server_name" not in metafunc.fixturenames:
        return
    names = databases_of(metafunc.definition.iter_markers("only_on"))
    if any(metafunc.definition.get_closest_marker(name) for name in BREAKING):
        names = one_of_each(names)
    names = names or [NOWHERE]
    samples = metafunc.definition.get_closest_marker("samples")
    if samples is None:
        metafunc.parametrize("server_name", names, ids=names, indirect=True, scope="session")
        return
    # each database has samples of its own, by name
    argument, by_backend = samples.args
    pairs = [(name, sample) for name in names for sample in by_backend.get(BACKENDS.get(name), ())] or [(NOWHERE, "")]
    ids = [f"{name}-{sample}" for name, sample in pairs]
    metafunc.parametrize(("server_name", argument), pairs, ids=ids, indirect=["server_name"], scope="session")


def deselect_nowhere(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests out that are for none of the databases that are chosen."""
    nowhere = [item for item in items if _is_nowhere(item)]
    if nowhere:
        config.hook.pytest_deselected(items=nowhere)
        left_out = set(nowhere)
        items[:] = [item for item in items if item not in left_out]


def _is_nowhere(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    server = None if callspec is None else callspec.params.get("server_name")
    # the mark of a parameter is known only once the test is made with it; some tests start servers of their own
    return server == NOWHERE or not databases_of(item.iter_markers("only_on"), CHOSEN if server is None else [server])
