"""The harness of `make arqtests`: what is listed must differ, what is not must pass, and only our class is tested."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arq_suite.differences import Difference, read_differences

ROOT = Path(__file__).parents[2]
OURS, ARQS = "worker.queue.queue_worker.QueueWorker", "arq.worker.Worker"
HEADING = "| test of arq | what ours does instead | why |\n|---|---|---|\n"
LISTED = ("test_listed", "test_listed_that_passes", "test_cases[2]", "test_all_cases", "test_hanging", "test_broken")
SUITE = """
import asyncio
import time

import pytest
from arq import Worker
from arq.worker import create_worker, run_worker

def tested():
    return f"{Worker.__module__}.{Worker.__name__}"

def test_class():
    assert tested() == WANTED
    assert run_worker.__globals__["create_worker"] is create_worker
    assert create_worker.__globals__["Worker"] is Worker

def test_listed():
    assert tested() == "another"

def test_unlisted():
    assert tested() == "another"

def test_listed_that_passes():
    pass

@pytest.mark.parametrize("case", [1, 2])
def test_cases(case):
    assert case == 1

@pytest.mark.parametrize("case", [1, 2])
def test_all_cases(case):
    assert case == 1

@pytest.mark.timeout(0.1)
def test_hanging():
    time.sleep(30)

def test_broken():
    raise RuntimeError("nothing that a test says")

async def test_loop(event_loop):
    assert event_loop is asyncio.get_running_loop()
"""


def run(folder: Path, *listed: str, suite: str = SUITE, worker: str = OURS) -> tuple[int, str]:
    """Run a suite as arq's is run; the exit code and what was printed.

    Args:
        folder: where to.
        listed: the tests that the page lists, each in a row.
        suite: the tests.
        worker: the class to test.
    """
    page, file = folder / "page.md", folder / "test_worker.py"
    page.write_text(HEADING + "".join(f"| `test_worker.py::{name}` | less | it is better |\n" for name in listed))
    file.write_text(f"WANTED = {worker!r}\n{suite}")
    options = ["-c", str(ROOT / "tests/arq_suite/pytest.ini"), "--rootdir", str(folder), f"--differences={page}", "-rA"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        env={"PYTHONPATH": str(ROOT), "HEAVYLIFT_QUEUE_WORKER": worker},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def outcomes(output: str) -> dict[str, str]:
    """How each test ended, by name."""
    lines = re.findall(r"^(PASSED|FAILED|XFAIL|ERROR) test_worker\.py::(\S+)", output, re.MULTILINE)
    return {name: outcome for outcome, name in lines}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How the suite's tests end on our class."""
    code, output = run(tmp_path_factory.mktemp("ours"), *LISTED)
    assert code == 1, output
    return outcomes(output)


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        pytest.param("test_class", "PASSED", id="our class is in arq's place"),
        pytest.param("test_loop", "PASSED", id="there is a fixture event_loop"),
        pytest.param("test_unlisted", "FAILED", id="a difference must be listed"),
        pytest.param("test_listed", "XFAIL", id="a listed difference may be"),
        pytest.param("test_listed_that_passes", "FAILED", id="a listed difference must be"),
        pytest.param("test_cases[1]", "PASSED", id="a case that is not listed must pass"),
        pytest.param("test_cases[2]", "XFAIL", id="a case may be listed alone"),
        pytest.param("test_all_cases[1]", "FAILED", id="a test without a case is all its cases"),
        pytest.param("test_hanging", "FAILED", id="a hang is no difference"),
        pytest.param("test_broken", "FAILED", id="an error that the test did not look for is no difference"),
    ],
)
def test_what_the_page_lists_decides(test: str, outcome: str, ours: dict[str, str]) -> None:
    """A test must pass unless the page lists it; then its assertions must fail."""
    assert ours[test] == outcome


def test_arqs_own_class_differs_in_nothing(tmp_path: Path) -> None:
    """With arq's class in the place of ours the page does not count: what fails, fails."""
    found = outcomes(run(tmp_path, *LISTED, worker=ARQS)[1])
    assert (found["test_class"], found["test_listed"], found["test_listed_that_passes"]) == (
        "PASSED",
        "FAILED",
        "PASSED",
    )


def test_a_listed_test_must_exist(tmp_path: Path) -> None:
    """A row about a test that arq does not have ends the run."""
    code, output = run(tmp_path, "test_gone", suite="def test_it(): pass")
    assert code == 4, output
    assert "test_worker.py::test_gone, which arq" in output


def test_a_test_that_escaped_is_refused(tmp_path: Path) -> None:
    """A test that got hold of arq's own class ends the run: it would show nothing of ours."""
    escaped = "import arq\nTheirs = arq.worker.Worker.__mro__[-2]\ndef test_it(): pass\n"
    code, output = run(tmp_path, suite=escaped)
    assert code == 4, output
    assert "has got hold of arq's own Worker" in output


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An import path that leads nowhere is refused with an example."""
    code, output = run(tmp_path, worker="worker.queue.nothing.Worker")
    assert code == 4, output
    assert f"for example HEAVYLIFT_QUEUE_WORKER={ARQS}" in output


def test_the_page_can_be_read() -> None:
    """Every row of the page names tests, what is done instead and why, and none twice."""
    differences = read_differences(ROOT / "docs" / "arq-differences.md")
    assert differences
    assert all(len(difference.reason.split()) >= 5 for difference in differences)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("| `test_worker.py::test_old` | later |", "cannot be read"),
        ("| `test_worker.py::test_old` | later | |", "cannot be read"),
        ("| test_old | later | no hurry |", "cannot be read"),
        ("| `test_a.py::test_b` `test_a.py::test_b` | later | no hurry |", "more than once"),
    ],
)
def test_a_row_that_says_too_little_is_refused(row: str, said: str, tmp_path: Path) -> None:
    """A row without tests, or with an empty cell, or a test listed twice, cannot pass for a reason."""
    page = tmp_path / "page.md"
    page.write_text(HEADING + row + "\n")
    with pytest.raises(ValueError, match=said):
        read_differences(page)


def test_a_row_may_list_several_tests(tmp_path: Path) -> None:
    """Tests that differ for one reason share a row."""
    page = tmp_path / "page.md"
    page.write_text(
        f"# Page\n\n{HEADING}| `test_a.py::test_b`, `test_c.py::test_d[1-x]` | later | no hurry |\n\nText.\n"
    )
    assert read_differences(page) == [Difference(("test_a.py::test_b", "test_c.py::test_d[1-x]"), "later", "no hurry")]
