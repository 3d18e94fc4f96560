"""`heavylift verify transfers` as a person or a script meets it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeRunner
from tests.support.bank import BANK, banker, batch, open_bank, row
from tests.support.own_session import execute
from worker.database.engine import Database

Finished = subprocess.CompletedProcess[str]
Verify = Callable[..., Finished]


@pytest.fixture
def verify(environment: dict[str, str], tmp_path: Path) -> Verify:
    """Runs the command to its end; `changed` are other settings."""

    def run(*words: str, **changed: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", "verify", *words],
            env={**environment, "WORKER_MODELS": BANK, **changed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
async def books(make_runner: MakeRunner, database: Database) -> Database:
    """Books of two transfers between two accounts."""
    await open_bank(database, {"a": 100, "b": 0})
    await banker(make_runner()).run(batch(row("1", "a", "b", 10), row("2", "b", "a", 5)))
    return database


@pytest.mark.usefixtures("books")
def test_sound_books_are_said_to_be_sound(verify: Verify) -> None:
    """A line a rule, with how much was looked at; the exit code is 0."""
    finished = verify("transfers")
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = finished.stdout.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("ok      ") for line in lines)
    assert "ok      each account holds in account.balance what its books end at (2 accounts)" in lines


async def test_broken_books_are_told_rule_by_rule(verify: Verify, books: Database) -> None:
    """What is wrong has its rule, its number and its rows on standard output, and one line on standard error."""
    await execute(books, "UPDATE account SET balance = 1")
    finished = verify("transfers")
    assert finished.returncode == 1
    assert "BROKEN  each account holds in account.balance what its books end at (2 do not, of 2 accounts)\n" in (
        finished.stdout
    )
    assert "        account 'a': account.balance has 1.00, and its books end at 95.00\n" in finished.stdout
    assert finished.stderr.startswith("error: the books are not in order: balances of account.balance.")
    assert finished.stderr.count("\n") == 1


async def test_a_script_reads_json(verify: Verify, books: Database) -> None:
    """The same as one JSON object, with the same exit code."""
    await execute(books, "ALTER TABLE heavylift_entries DISABLE TRIGGER heavylift_entries_cancel_out")
    finished = verify("transfers", "--json")
    assert finished.returncode == 1
    told = json.loads(finished.stdout)
    assert told["sound"] is False
    assert [rule["name"] for rule in told["rules"] if rule["broken"]] == ["guarded"]
    (guarded,) = [rule for rule in told["rules"] if rule["name"] == "guarded"]
    assert (guarded["looked_at"], guarded["broken"]) == (3, 1)
    assert "heavylift_entries_cancel_out" in guarded["findings"][0]


@pytest.mark.usefixtures("books")
def test_accounts_that_are_not_registered_are_no_success(verify: Verify) -> None:
    """Without the accounts' model the balances cannot be compared, and the command says which setting to change."""
    finished = verify("transfers", WORKER_MODELS="")
    assert finished.returncode == 1
    assert "WORKER_MODELS" in finished.stdout


def test_help_names_what_can_be_verified(verify: Verify) -> None:
    """Without more, the command says what there is."""
    finished = verify()
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "transfers" in finished.stdout
