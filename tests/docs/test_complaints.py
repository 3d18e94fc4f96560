"""The page of complaints: each has a test that exists, a reason or plain words; what no other test shows is here."""

import asyncio
import re

import pytest

from tests.conftest import ROOT
from tests.support.pages import named_tests
from worker import REGISTRY, open_client
from worker.core.retry import RetryPolicy
from worker.core.settings import Settings
from worker.declare.registry import DEFAULT_TIMEOUT_S
from worker.main import load_declared, run_worker

PAGE = (ROOT / "docs" / "complaints.md").read_text()
COMPLAINTS = re.findall(r"^\| (?!complaint |---)(.+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
SYSTEMS = ["arq", "SAQ", "streaq", "taskiq", "Procrastinate", "PgQueuer", "DBOS", "Oban", "River", "Sidekiq"]


def test_no_row_is_overlooked() -> None:
    """Every row of a table was understood as a complaint."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| complaint ")]
    assert len(COMPLAINTS) == len(rows) > 40


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_is_heard(system: str) -> None:
    """No system's users are left out."""
    assert any(system in where for _, where, _ in COMPLAINTS)


@pytest.mark.parametrize("answer", [answer for _, _, answer in COMPLAINTS])
def test_each_has_an_answer(answer: str) -> None:
    """Each names a test, says why it cannot happen, or that there is no answer yet."""
    plain = ("Cannot happen: ", "Cannot be needed: ", "Not there yet", "Left as it is: ", "Security fixes only.")
    assert named_tests(answer) or answer.startswith((*plain, "Heavylift runs on it"))


@pytest.mark.parametrize(("test", "path"), sorted(set(named_tests(PAGE))))
def test_each_named_test_exists(test: str, path: str) -> None:
    """A test that the page names is where the page says."""
    assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_name_was_understood() -> None:
    """No test is named in a way that the test above would not see."""
    assert len(named_tests(PAGE)) == len(re.findall(r"`test_\w+`", PAGE))


def test_each_defect_of_arq_has_a_test() -> None:
    """All eighteen defects are tested, in their order."""
    defects = (ROOT / "tests" / "queue" / "test_arq_defects.py").read_text()
    assert [int(number) for number in re.findall(r"^async def test_e(\d+)_", defects, re.MULTILINE)] == list(
        range(1, 19)
    )


def test_nobody_is_surprised_by_a_short_timeout_or_a_single_try() -> None:
    """An attempt may take a day, and there are five."""
    assert DEFAULT_TIMEOUT_S == 24 * 3600
    assert Settings().max_attempts == RetryPolicy().max_attempts == 5


async def test_an_id_enqueued_by_many_at_once_is_one_run(settings: Settings) -> None:
    """Clients that enqueue one id at the same moment all get its run, and it is run once."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as client:
        records = await asyncio.gather(
            *(client.enqueue("scripted", {"value": 1}, run_id="from-order-1") for _ in range(8))
        )
        assert {record.id for record in records} == {"from-order-1"}
        assert (await client.runs()).total == 1
        await run_worker(settings, burst=True)
        record = await client.get("from-order-1")
        assert (record.status, record.fence) == ("succeeded", 1)
