"""The demonstration end to end, on a few hundred flights: its acts, how it fails, and that its worker never stays."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sqlalchemy import text

from tests.support.flight_package import FLIGHTS, install, write_packed
from worker.client import Client, open_client
from worker.core.errors import NotAllowedError, UnreachableError
from worker.core.settings import Settings
from worker.database.records import RunRecord
from worker.demo.check import read_table
from worker.demo.run import run_demo
from worker.demo.stage import Stage, demo_settings
from worker.demo.tables import make_tables
from worker.main import load_declared

ROOT = Path(__file__).parents[2]
LYING_DATABASE = """
CREATE FUNCTION lengthen() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.distance := NEW.distance + 1; RETURN NEW; END $$;
CREATE FUNCTION beset() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN
        IF to_regclass('demo_flights') IS NOT NULL THEN
            CREATE OR REPLACE TRIGGER lengthen BEFORE INSERT ON demo_flights
                FOR EACH ROW EXECUTE FUNCTION lengthen();
        END IF;
    END $$;
CREATE EVENT TRIGGER beset ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION beset()
"""
"""Makes every new table `demo_flights` store another distance than it is given."""


async def follow(client: Client, run_id: str, console: Console) -> RunRecord:
    """Wait for the run without showing anything."""
    del console
    return await client.wait(run_id, every_s=0.05)


@pytest.fixture
async def stage(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A stage with its own database and Redis, and a console that keeps what it shows."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("WORKER_POLL_S", "0.05")
    folder = tmp_path / "demo"
    own = demo_settings(settings, folder)
    declared = load_declared(own)
    async with open_client(own, declared.registry, declared.tables) as client:
        packed = write_packed(tmp_path / "flights.csv.zip")
        yield Stage(client, folder, packed, Console(file=StringIO(), width=140), follow)


def shown(stage: Stage) -> str:
    """What the console was given."""
    file = stage.console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


async def start_demo(environment: dict[str, str], folder: Path) -> asyncio.subprocess.Process:
    """`heavylift demo` in a folder, with a package of flights of its own."""
    install(folder / "packages")
    path = f"{folder / 'packages'}{os.pathsep}{environment['PYTHONPATH']}"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker.cli", "demo"),
        env={**environment, "PYTHONPATH": path},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_every_act_agrees_with_plain_sql(stage: Stage) -> None:
    """Every check of each act is right, and counts and refused lines are shown."""
    assert await run_demo(stage), shown(stage)
    out = shown(stage)
    assert "WRONG" not in out
    assert re.search(rf"^1 +{FLIGHTS} +{FLIGHTS} +0 +0 +0 +0 .* {FLIGHTS}$", out, re.MULTILINE)
    assert re.search(rf"^2 +{FLIGHTS + 5} +0 +23 +277 +0 +5 .* {FLIGHTS}$", out, re.MULTILINE)
    assert re.search(r"^ *52 column 'dep_delay': .*'late'", out, re.MULTILINE)
    assert re.search(r"^3 +batch_update +read 100, updated 100, unchanged 0", out, re.MULTILINE)
    assert re.search(rf"^4 +export_rows +rows {FLIGHTS}", out, re.MULTILINE)
    assert re.search(r"^5 +chunked_delete +deleted 150, archived 150", out, re.MULTILINE)
    assert re.search(r"^6 +transfer_funds +transfers [1-9][0-9,]+, refused [1-9][0-9,]*, replayed 0", out, re.MULTILINE)
    assert re.search(r"^7 +transfer_funds +transfers 0, refused 0, replayed 10,000", out, re.MULTILINE)
    assert len(re.findall(r"^[67] +broken rules \(verify transfers\) +0 +0 OK$", out, re.MULTILINE)) == 2


async def test_the_worker_meets_no_other_queue(stage: Stage, settings: Settings) -> None:
    """Two demonstrations, and any other worker, have queues of their own."""
    again = demo_settings(settings, stage.folder)
    assert len({settings.queue, stage.client.settings.queue, again.queue}) == 3


async def test_a_tampered_table_is_wrong(stage: Stage) -> None:
    """A row deleted behind the job's back is found, and the next act is not played."""

    async def tamper(client: Client, run_id: str, console: Console) -> RunRecord:
        record = await follow(client, run_id, console)
        async with client.database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM demo_flights WHERE flight = 7"))
        return record

    tampered = Stage(stage.client, stage.folder, stage.packed, stage.console, tamper)
    assert not await run_demo(tampered)
    assert "WRONG" in shown(stage)
    assert "Act 2" not in shown(stage)


async def test_a_worker_that_ends_is_told_with_its_log(stage: Stage) -> None:
    """A worker that gives up ends the demonstration at once, with its code, its last words and its log's place."""
    command = (sys.executable, "-c", "raise SystemExit('no such luck')")
    hopeless = Stage(stage.client, stage.folder, stage.packed, stage.console, follow, command)
    with pytest.raises(UnreachableError, match=r"ended too soon, with code 1\. (?s:.*)no such luck"):
        await run_demo(hopeless)
    assert "worker.log" in shown(stage)


async def test_a_failing_demonstration_stops_its_worker(stage: Stage) -> None:
    """Whatever breaks the show off, the worker is asked to stop and has stopped when it is told."""

    async def lose(client: Client, run_id: str, console: Console) -> RunRecord:
        await follow(client, run_id, console)
        raise UnreachableError("lost on the way")

    with pytest.raises(UnreachableError, match="lost on the way"):
        await run_demo(Stage(stage.client, stage.folder, stage.packed, stage.console, lose))
    assert "worker_stopped" in stage.log.read_text()


async def test_an_earlier_demonstration_leaves_nothing_behind(stage: Stage) -> None:
    """A table that an earlier demonstration made is replaced by an empty one."""
    engine = stage.client.database.engine
    assert await run_demo(stage), shown(stage)
    await make_tables(engine)
    async with engine.connect() as connection:
        assert (await read_table(connection)).flights == 0


async def test_somebody_elses_table_stays(stage: Stage) -> None:
    """A table of that name that no demonstration made is refused, and keeps its rows."""
    async with stage.client.database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE demo_flights AS SELECT 1 AS mine"))
    with pytest.raises(NotAllowedError, match="'demo_flights' that no demonstration made"):
        await run_demo(stage)
    async with stage.client.database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT mine FROM demo_flights"))).scalars().all() == [1]


async def test_the_command_exits_with_zero(environment: dict[str, str], tmp_path: Path) -> None:
    """`heavylift demo` finds the installed package, plays on the configured servers and says that all is well."""
    process = await start_demo(environment, tmp_path)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert "checks are OK" in out.decode()


async def test_the_command_exits_with_one_when_a_count_disagrees(
    environment: dict[str, str], stage: Stage, tmp_path: Path
) -> None:
    """Against a database that stores something else than it is given, the command says WRONG and fails."""
    async with stage.client.database.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        # several statements at once, which only the driver itself takes
        await raw.driver_connection.execute(LYING_DATABASE)
    process = await start_demo(environment, tmp_path)
    out, _ = await process.communicate()
    assert process.returncode == 1, out.decode()
    assert re.search(r"sum\(distance\).*WRONG", out.decode())


async def test_sigterm_ends_the_command_and_its_worker(environment: dict[str, str], tmp_path: Path) -> None:
    """A demonstration that is told to stop leaves no process behind."""
    process = await start_demo(environment, tmp_path)
    assert process.stdout is not None
    while b"Act 1" not in (line := await process.stdout.readline()):
        assert line, "the demonstration ended before its first act"
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert children
    assert not any(child.is_running() for child in children)
