"""Which databases a test is made for: what HEAVYLIFT_DATABASES may say, and the mark `only_on`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chosen import chosen, databases_of

TOP = Path(__file__).parents[2]

CONFTEST = """
import pytest
from tests.support.generated import deselect_nowhere, generate

def pytest_generate_tests(metafunc):
    generate(metafunc)

def pytest_collection_modifyitems(config, items):
    deselect_nowhere(config, items)

@pytest.fixture(scope="session")
def server_name(request):
    return request.param

@pytest.fixture
def database_url(server_name):
    return server_name
"""

TESTS = """
import pytest

def test_everywhere(database_url):
    pass

@pytest.mark.only_on("postgresql", why="nobody else has it")
def test_some(database_url):
    pass

@pytest.mark.only_on("mariadb", why="nobody else has it")
class TestClass:
    def test_inside(self, database_url):
        pass

    @pytest.mark.only_on("sqlite", why="the two together are nowhere")
    def test_nowhere(self, database_url):
        pass

@pytest.mark.chaos
def test_breaking(database_url):
    pass

@pytest.mark.parametrize("value", [1, 2])
def test_without_a_database(value):
    pass
"""


def mark(*args: object, **kwargs: object) -> pytest.Mark:
    """A mark `only_on` as a test carries it."""
    return pytest.mark.only_on(*args, **kwargs).mark


def test_names_are_taken_once_in_their_order() -> None:
    """Blanks and repetitions do no harm."""
    assert chosen("sqlite, 18,sqlite,") == ("sqlite", "18")


@pytest.mark.parametrize("written", ["", " , ", "postgres", "18,17"])
def test_other_names_are_refused(written: str) -> None:
    """What is not a database here is said with those that are."""
    with pytest.raises(pytest.UsageError, match="18, older, sqlite, mariadb"):
        chosen(written)


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        ([], ["18", "older", "sqlite", "mariadb"]),
        ([mark("postgresql", why="x")], ["18", "older"]),
        ([mark("sqlite", "mariadb", why="x")], ["sqlite", "mariadb"]),
        ([mark("sqlite", "mariadb", why="x"), mark("mariadb", why="y")], ["mariadb"]),
        ([mark("sqlite", why="x"), mark("mariadb", why="y")], []),
    ],
)
def test_marks_leave_some(marks: list[pytest.Mark], kept: list[str]) -> None:
    """A test runs where each of its marks lets it: its own, its class's and its module's."""
    assert databases_of(marks, ("18", "older", "sqlite", "mariadb")) == kept


@pytest.mark.parametrize("wrong", [mark(why="x"), mark("postgres", why="x"), mark("sqlite"), mark("sqlite", why=" ")])
def test_a_mark_names_databases_and_says_why(wrong: pytest.Mark) -> None:
    """A mark with a misspelt name would leave a test out unseen."""
    with pytest.raises(pytest.UsageError, match="is not of the form"):
        databases_of([wrong])


def test_tests_are_made_for_their_databases_only(tmp_path: Path) -> None:
    """What is not for a database is not made for it, rather than skipped; what is for none here is deselected."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_made.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    only_on: of this test\n    chaos: likewise\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--import-mode=importlib", "-v", "-n0", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(TOP), "HEAVYLIFT_DATABASES": "18,older,mariadb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split(" ")[0].partition("::")[2] for line in done.stdout.splitlines() if " PASSED" in line]
    assert sorted(ran) == [
        "TestClass::test_inside[mariadb]",
        "test_breaking[18]",
        "test_breaking[mariadb]",
        "test_everywhere[18]",
        "test_everywhere[mariadb]",
        "test_everywhere[older]",
        "test_some[18]",
        "test_some[older]",
        "test_without_a_database[1]",
        "test_without_a_database[2]",
    ]
    assert "10 passed, 1 deselected" in done.stdout
