"""The pages under docs/ say what the code does: the chart of statuses and the table of errors are compared with it."""

import re

import pytest

from tests.conftest import ROOT
from worker.core.errors import ErrorKind
from worker.core.outcomes import TRANSITIONS
from worker.database.postgres.errors import kind_of_sqlstate

LIFE = (ROOT / "docs" / "life-of-a-run.md").read_text()
ERRORS = (ROOT / "docs" / "errors.md").read_text()
EXAMPLES = [
    (kind, code)
    for kind, codes in re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", ERRORS, re.MULTILINE)
    for code in re.findall(r"`([0-9A-Z]{5})`", codes)
]


def test_the_chart_is_the_table_of_transitions() -> None:
    """Each arrow of the page is in the code, and each of the code's is on the page."""
    drawn = set(re.findall(r"^    (\w+) --> (\w+): ", LIFE, re.MULTILINE))
    assert drawn == {(before.value, after.value) for before, afters in TRANSITIONS.items() for after in afters}


def test_every_kind_of_error_is_explained() -> None:
    """No kind is missing from the page."""
    assert {kind for kind, _ in EXAMPLES} == {kind.value for kind in ErrorKind}


@pytest.mark.parametrize(("kind", "code"), EXAMPLES)
def test_each_example_is_of_its_kind(kind: str, code: str) -> None:
    """A code that the page names is classified as the page says."""
    assert kind_of_sqlstate(code) is ErrorKind(kind)
