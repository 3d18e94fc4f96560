"""The page of deliberate differences as data: which of arq's tests our worker must fail, and why it should.

Owns reading the page's table. Refuses to judge whether a reason is a good one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TEST: Final = re.compile(r"`(test_\w+\.py::test_\w+(?:\[[^`]+\])?)`")
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of the table.

    Attributes:
        tests: of arq's suite, each as `file::function`, or `file::function[case]` where only one case differs.
        instead: what our worker does where arq does what the tests expect.
        reason: why that is better for who uses it.
    """

    tests: tuple[str, ...]
    instead: str
    reason: str

    def covers(self, test: str) -> bool:
        """Whether a collected test, with its case in brackets where it has one, is one of these."""
        return test in self.tests or test.partition("[")[0] in self.tests


def read_differences(page: Path) -> list[Difference]:
    """The rows of the page's table.

    Args:
        page: a Markdown file with one table of three columns, whose first names tests in backticks.

    Raises:
        ValueError: a row names no test, or lacks a cell, or a test is listed twice.
    """
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    found = [_read(row, page) for row in rows[2:]]
    listed = [test for difference in found for test in difference.tests]
    if twice := sorted({test for test in listed if listed.count(test) > 1}):
        raise ValueError(f"{page} lists {', '.join(twice)} more than once. Keep one row a test")
    return found


def _read(row: str, page: Path) -> Difference:
    cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
    tests = tuple(_TEST.findall(cells[0]))
    if len(cells) != _COLUMNS or not all(cells) or not tests:
        raise ValueError(
            f"{page} has a row that cannot be read: {row!r}. Write test, what is done instead, and why, for example "
            "| `test_worker.py::test_job_old` | runs it late | nobody waits for it |"
        )
    return Difference(tests, cells[1], cells[2])


def not_collected(differences: Iterable[Difference], collected: Sequence[str]) -> list[str]:
    """Those listed tests that are none of the collected ones, so that a row about nothing is noticed."""
    known = {*collected, *(test.partition("[")[0] for test in collected)}
    return [test for difference in differences for test in difference.tests if test not in known]
