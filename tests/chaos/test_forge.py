"""Forked workers: they do what started ones do, die where they are told to, and outlive nobody."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.chaos.conftest import TALLIES, Values
from tests.conftest import JOBS, MODELS, ROOT
from tests.support.forge import Forge
from tests.support.kill_points import COMMIT, KILL, TRACE, KillPoint, Moment, read_trace
from worker import REGISTRY, Client, open_client
from worker.core.settings import Settings
from worker.main import load_declared

pytestmark = [pytest.mark.chaos, pytest.mark.only_on("postgresql", why="a fork knows nothing of its database")]

RUN = "forked"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal comes with a parent's death")
CHUNK = "WORKER_CHUNK_START_ROWS", "WORKER_CHUNK_MIN_ROWS", "WORKER_CHUNK_MAX_ROWS"


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of this test's servers, whose run of ten rows a chunk is enqueued."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as opened:
        await opened.enqueue("add_one", run_id=RUN)
        yield opened


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that writes its steps down."""
    return {**environment, **dict.fromkeys(CHUNK, "10"), TRACE: str(tmp_path / "steps")}


async def test_a_forked_worker_works(
    forge: Forge, environment: dict[str, str], client: Client, values: Values, tmp_path: Path
) -> None:
    """A worker with --burst does what is queued and ends well."""
    async with forge.worker(environment, tmp_path / "log", "--burst") as worker:
        assert await worker.ended() == 0
    assert (await client.get(RUN)).status == "succeeded"
    assert await values() == [1] * TALLIES


async def test_each_has_an_environment_of_its_own(
    forge: Forge, environment: dict[str, str], client: Client, values: Values, tmp_path: Path
) -> None:
    """A setting that cannot work ends one worker, as it would one that was started, and not the next."""
    async with forge.worker({**environment, "WORKER_LEASE_S": "never"}, tmp_path / "bad", "--burst") as worker:
        assert await worker.ended() == 1
        assert "WORKER_LEASE_S" in worker.tail()
    async with forge.worker(environment, tmp_path / "good", "--burst") as worker:
        assert await worker.ended() == 0
    assert (await client.get(RUN)).result == len(await values())


async def test_a_signal_reaches_it(forge: Forge, environment: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM ends a worker without --burst in good order."""
    log = tmp_path / "log"
    async with forge.worker(environment, log) as worker:
        while b"worker_started" not in log.read_bytes():
            await asyncio.sleep(0.01)
        worker.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert b"worker_stopped" in log.read_bytes()


async def test_a_signal_at_any_moment_of_a_start(forge: Forge, environment: dict[str, str], tmp_path: Path) -> None:
    """However soon after its start SIGTERM comes, and whatever library is at work just then, a worker ends."""

    async def start_and_stop(number: int) -> int:
        log = tmp_path / f"{number}"
        async with forge.worker(environment, log) as worker:
            while b"worker_started" not in log.read_bytes():
                await asyncio.sleep(0.001)
            await asyncio.sleep(number % 8 * 0.001)
            worker.send_signal(signal.SIGTERM)
            return await worker.ended(20)

    for first in (0, 8, 16):
        codes = await asyncio.gather(*(start_and_stop(number) for number in range(first, first + 8)))
        assert codes == [0] * 8


@pytest.mark.parametrize(
    ("moment", "steps", "added"), [(Moment.BEFORE, 3, 0), (Moment.AFTER, 3, 1), (Moment.DURING, 3, None)]
)
async def test_it_kills_itself_at_a_step(
    forge: Forge,
    environment: dict[str, str],
    client: Client,
    values: Values,
    tmp_path: Path,
    moment: Moment,
    steps: int,
    added: int | None,
) -> None:
    """Killed before its first chunk's COMMIT, a worker has added nothing; killed after it, the first ten ones."""
    environment[KILL] = str(KillPoint(steps, moment, since="UPDATE tally"))
    async with forge.worker(environment, tmp_path / "log", "--burst") as worker:
        assert await worker.ended() == -signal.SIGKILL
    found = await values()
    if added is None:
        # whether the server got the COMMIT is chance: what it has done, it has done whole
        assert found in ([0] * TALLIES, [1] * 10 + [0] * (TALLIES - 10))
    else:
        assert found == [added] * 10 + [0] * (TALLIES - 10)
        assert read_trace(tmp_path / "steps")[-1] == COMMIT
    assert not (await client.get(RUN)).status.finished


async def test_a_step_that_fails_has_an_end(
    forge: Forge, environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    """A worker to be killed after a statement that the database refuses dies before the next one is sent."""
    load_declared(settings)
    async with open_client(settings, REGISTRY) as opened:
        await opened.enqueue("scripted", {"value": 2**40}, run_id=RUN)
    environment[KILL] = str(KillPoint(1, Moment.AFTER, since="INSERT INTO tally"))
    async with forge.worker(environment, tmp_path / "log", "--burst") as worker:
        assert await worker.ended() == -signal.SIGKILL
    assert read_trace(tmp_path / "steps")[-2].startswith("INSERT INTO tally")


def test_a_file_made_to_last_is_a_step(environment: dict[str, str], tmp_path: Path) -> None:
    """Killed before its second file step, a process has taken the first one and not the second."""
    environment[KILL] = str(KillPoint(2, Moment.BEFORE, since="os.fsync"))
    program = (
        "import os\nfrom tests.support import kill_points\nkill_points.install(os.environ)\n"
        "with open('part', 'w') as file:\n    file.write('all')\n    file.flush()\n    os.fsync(file.fileno())\n"
        "os.replace('part', 'whole')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "part").read_text() == "all"
    assert [step.split()[0] for step in read_trace(tmp_path / "steps")] == ["os.fsync", "os.replace"]


async def test_no_worker_outlives_its_block(forge: Forge, environment: dict[str, str], tmp_path: Path) -> None:
    """A worker is gone when its block has ended, in good order or not."""
    pids = []

    async def leave(*, early: bool) -> None:
        async with forge.worker(environment, tmp_path / "log") as worker:
            pids.append(worker.pid)
            if early:
                raise LookupError

    await leave(early=False)
    with pytest.raises(LookupError):
        await leave(early=True)
    await gone(*pids)


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=ON_LINUX)])
async def test_no_worker_outlives_its_forge(environment: dict[str, str], tmp_path: Path, *, killed: bool) -> None:
    """A forge that ends takes its workers along, even when it is killed."""
    forge = Forge(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}, (*MODELS.split(","), *JOBS.split(",")))

    async def end_it() -> None:
        async with forge.worker(environment, tmp_path / "log") as worker:
            if killed:
                os.kill(forge.pid, signal.SIGKILL)
            else:
                forge.stop()
            await gone(worker.pid)

    with forge, pytest.raises(AssertionError, match="forge of worker"):
        await end_it()


async def gone(*pids: int) -> None:
    """Wait until processes have ended, reaped or not."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.01)
