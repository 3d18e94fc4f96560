"""The page on chaos: it names every test file of it, and tests that exist."""

import re

import pytest

from tests.conftest import ROOT
from tests.support.pages import named_tests

PAGE = (ROOT / "docs" / "chaos.md").read_text()
NAMED = sorted(set(named_tests(PAGE)))
LONG = [path for path in sorted((ROOT / "tests" / "chaos").glob("test_*.py")) if "mark.storm" in path.read_text()]


@pytest.mark.parametrize(("test", "path"), NAMED)
def test_each_named_test_exists(test: str, path: str) -> None:
    """A test that the page names is where the page says."""
    assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_name_was_understood() -> None:
    """No test is named in a way that the test above would not see."""
    assert len(named_tests(PAGE)) == len(re.findall(r"`test_\w+`", PAGE))


def test_nothing_that_takes_minutes_is_hidden() -> None:
    """Each file of tests that `make test` leaves out is told of."""
    assert len(LONG) > 3
    assert {str(path.relative_to(ROOT)) for path in LONG} <= {path for _, path in NAMED}
