"""arq on the wire: clients, workers and payloads that know nothing of Heavylift."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import create_worker

import worker.main
from worker import json_deserializer, json_serializer
from worker.core.settings import Settings
from worker.main import run_worker

ROWS = [
    {"sku": "A", "name": "nut", "quantity": 1, "price": "0.10"},
    {"sku": "B", "name": "bolt", "quantity": 2, "price": "0.20"},
    {"sku": "A", "name": "nut, again", "quantity": 3, "price": "0.30"},
    {"sku": "C", "name": "washer", "quantity": "many", "price": "0.40"},
]
COUNTS = {"read": 4, "inserted": 2, "updated": 0, "unchanged": 0, "duplicates": 1, "quarantined": 1}


@asynccontextmanager
async def vanilla(redis_url: str, **codec: Any) -> AsyncIterator[ArqRedis]:
    """A client of arq's own."""
    pool = await create_pool(RedisSettings.from_dsn(redis_url), **codec)
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


@pytest.mark.parametrize(
    "codec",
    [{}, {"job_serializer": json_serializer, "job_deserializer": json_deserializer}],
    ids=["unconfigured", "json"],
)
async def test_a_vanilla_client_gets_the_counts(settings: Settings, redis_url: str, codec: dict[str, Any]) -> None:
    """`enqueue_job` of an unconfigured client, and of one with our codec, runs, and `Job.result()` has the counts."""
    async with vanilla(redis_url, **codec) as client:
        job = await client.enqueue_job("bulk_upsert", table="item", source={"rows": ROWS})
        await run_worker(settings, burst=True)
        assert job is not None
        assert await job.result(timeout=5) == COUNTS
        info = await job.result_info()
        assert info is not None
        assert (info.success, info.function) == (True, "bulk_upsert")


async def test_parameters_by_position(settings: Settings, redis_url: str) -> None:
    """Positional arguments of a vanilla client are the job's parameters in order."""
    async with vanilla(redis_url) as client:
        job = await client.enqueue_job("bulk_upsert", "item", {"rows": ROWS})
        await run_worker(settings, burst=True)
        assert job is not None
        assert await job.result(timeout=5) == COUNTS


async def test_a_failure_is_a_builtin_exception(settings: Settings, redis_url: str) -> None:
    """A vanilla client's `Job.result()` raises something that it can unpickle, saying what happened."""
    async with vanilla(redis_url) as client:
        job = await client.enqueue_job("bulk_upsert", table="itme", source={"rows": ROWS})
        await run_worker(settings, burst=True)
        assert job is not None
        with pytest.raises(RuntimeError, match="Did you mean 'item'"):
            await job.result(timeout=5)


class Bomb:
    """What a hostile client pickles."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


async def test_hostile_payloads_run_nothing_and_end_nothing(settings: Settings, redis_url: str, tmp_path: Path) -> None:
    """Code, garbage and depth in the queue are put aside, and the next run is done."""
    mark = tmp_path / "it-ran"
    hostile = [
        pickle.dumps({"t": None, "f": "scripted", "a": (Bomb(mark),), "k": {}, "et": 1}),
        b"garbage",
        b'{"t":' + b"[" * 100_000,
        b"\x80\x04" + b"(" * 100_000,
    ]
    async with vanilla(redis_url) as client:
        for number, payload in enumerate(hostile):
            await client.set(f"arq:job:hostile-{number}", payload)
            await client.zadd("arq:queue", {f"hostile-{number}": 1})
        job = await client.enqueue_job("scripted", value=7)
        await run_worker(settings, burst=True)
        assert job is not None
        assert await job.result(timeout=5) == 7
        # put aside, payload and all: a newer worker may be able to read what this one cannot
        assert await client.get("arq:job:hostile-0") == hostile[0]
        assert await client.zcard("arq:queue") == len(hostile)
    assert not mark.exists()


def in_this_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Set what a user would set."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


# arq 0.28 closes its pool by a name that redis-py 5 deprecates
@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
async def test_arqs_own_worker_runs_the_same_jobs(
    redis_url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`arq worker.main.WorkerSettings` does the run, fence and all."""
    in_this_environment(monkeypatch, environment)
    async with vanilla(redis_url) as client:
        job = await client.enqueue_job("bulk_upsert", table="item", source={"rows": ROWS})
        made: Any = worker.main.WorkerSettings
        arqs = create_worker(made, burst=True, handle_signals=False)
        await arqs.async_run()
        await arqs.close()
        assert job is not None
        assert await job.result(timeout=5) == COUNTS


def test_worker_settings_are_all_known_to_arq(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Arq drops settings that it does not know without a word: there are none."""
    from inspect import signature  # noqa: PLC0415 - only here

    from arq.worker import Worker  # noqa: PLC0415 - only here

    in_this_environment(monkeypatch, environment)
    named = {name for name in vars(worker.main.WorkerSettings) if not name.startswith("__")}
    assert named <= set(signature(Worker).parameters)


async def test_arq_check_sees_a_living_worker(environment: dict[str, str], tmp_path: Path) -> None:
    """`arq --check` fails without a worker and succeeds while `heavylift run` lives."""
    check = [sys.executable, "-m", "arq", "--check", "worker.main.WorkerSettings"]
    assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 1
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "worker.cli", "run"], env=environment, stdout=log, stderr=log)
        try:
            while subprocess.run(check, env=environment, capture_output=True, check=False).returncode != 0:
                assert process.poll() is None
                await asyncio.sleep(0.1)
        finally:
            process.terminate()
            assert process.wait(20) == 0
