"""The command line as a person or a script meets it: a process of its own, against real servers."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from worker.cli.progress import NO_WORKER, follow_with_bar
from worker.client import open_client
from worker.core.settings import Settings
from worker.database.migrate import newest
from worker.main import load_declared

COMMAND = [sys.executable, "-m", "worker.cli"]
CLOSED_PORT = "127.0.0.1:1"
RECORD_KEYS = [
    *("id", "job", "status", "params", "cursor", "done", "total", "counters", "result", "error", "attempts"),
    *("interruptions", "crashes", "fence", "worker", "enqueued_at", "started_at", "finished_at", "waiting_for"),
    *("enqueued_by", "chunk_rows", "notes"),
]
ROWS = [{"sku": sku, "name": sku.upper(), "quantity": 1, "price": "1.50"} for sku in ("a", "b", "c")]

Finished = subprocess.CompletedProcess[str]
Heavylift = Callable[..., Finished]


@pytest.fixture
def heavylift(environment: dict[str, str], tmp_path: Path) -> Heavylift:
    """Runs one command to its end; `changed` are other settings, with None for unset ones."""

    def run(*words: str, stdin: str | None = None, **changed: str | None) -> Finished:
        env = {name: value for name, value in {**environment, **changed}.items() if value is not None}
        return subprocess.run(
            [*COMMAND, *words],
            env=env,
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def worker_process(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is running, or about to."""
    with (tmp_path / "worker.log").open("wb") as log:
        started = subprocess.Popen([*COMMAND, "run"], env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            yield started
        finally:
            started.terminate()
            started.wait(timeout=30)


@pytest.fixture
async def empty_database_url(database_url: str) -> AsyncIterator[str]:
    """A database without a ledger."""
    name = f"empty_{uuid4().hex[:12]}"
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    yield make_url(database_url).set(database=name).render_as_string(hide_password=False)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


def upsert(**changed: object) -> str:
    """Parameters of an upsert of three good rows."""
    return json.dumps({"table": "item", "source": {"rows": ROWS}, **changed})


def assert_one_error(ended: Finished, says: str, code: int = 1) -> None:
    """The command said what is wrong in one line, and nothing else."""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert says in ended.stderr
    assert ended.returncode == code
    assert ended.stdout == ""


BAD_ORDERS: dict[str, tuple[list[str], str, int]] = {
    "unknown job": (["bulk_upset", "{}"], "Did you mean 'bulk_upsert'?", 1),
    "unknown parameter": (["bulk_upsert", upsert(kye=["sku"])], "unknown parameter 'kye'. Did you mean 'key'?", 1),
    "missing parameter": (["bulk_upsert"], "parameter 'table' is missing", 1),
    "unknown table": (["bulk_upsert", upsert(table="itme")], "Did you mean 'item'?", 1),
    "unknown column": (["bulk_upsert", upsert(key=["skuu"])], "Did you mean 'sku'?", 1),
    "malformed JSON": (["bulk_upsert", '{"table": "item",}'], "at character", 2),
    "parameters twice": (["bulk_upsert", upsert(), "--param", "table=item"], "'table' is given twice", 2),
    "bad duration": (["bulk_upsert", upsert(), "--delay", "5"], "for example --delay 5m", 2),
    "bad id": (["bulk_upsert", upsert(), "--id", "a~1"], "--id import-2026-11-21", 1),
}


@pytest.mark.parametrize("case", BAD_ORDERS)
def test_a_bad_order_gets_one_line(heavylift: Heavylift, case: str) -> None:
    """Whatever is wrong with an order, one line names it, and no run is made of it."""
    words, says, code = BAD_ORDERS[case]
    assert_one_error(heavylift("enqueue", *words), says, code)


ENQUEUE = ["enqueue", "bulk_upsert", upsert()]
BURST = ["run", "--burst"]
BAD_PLACES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "redis down": (ENQUEUE, {"REDIS_URL": f"redis://{CLOSED_PORT}/0"}, "is REDIS_URL right?"),
    "redis down, worker": (BURST, {"REDIS_URL": f"redis://{CLOSED_PORT}/0"}, "is REDIS_URL right?"),
    "no redis url": (ENQUEUE, {"REDIS_URL": "nonsense"}, "For example REDIS_URL="),
    "database down": (ENQUEUE, {"DATABASE_URL": f"postgresql://me:hush@{CLOSED_PORT}/a"}, "is DATABASE_URL right?"),
    "database down, worker": (BURST, {"DATABASE_URL": f"postgresql://me:hush@{CLOSED_PORT}/a"}, "DATABASE_URL right?"),
    "database down, look": (["runs"], {"DATABASE_URL": f"postgresql://me:hush@{CLOSED_PORT}/a"}, "DATABASE_URL right?"),
    "no database url": (ENQUEUE, {"DATABASE_URL": "nonsense"}, "For example DATABASE_URL="),
    "no such models": (BURST, {"WORKER_MODELS": "no.such.module"}, "WORKER_MODELS names 'no.such.module'"),
    "bad number": (ENQUEUE, {"WORKER_CONCURRENCY": "many"}, "For example WORKER_CONCURRENCY=10"),
}


@pytest.mark.parametrize("case", BAD_PLACES)
def test_a_place_that_cannot_work_gets_one_line(heavylift: Heavylift, case: str) -> None:
    """A server that does not answer, or a setting that cannot work, is named with what to change; no password is."""
    words, changed, says = BAD_PLACES[case]
    ended = heavylift(*words, **changed)
    assert_one_error(ended, says)
    assert "hush" not in ended.stderr


def test_inline_rows_beyond_the_limit(heavylift: Heavylift) -> None:
    """Too many inline rows are refused with the advice to use a file."""
    ended = heavylift("enqueue", "bulk_upsert", "-", stdin=upsert(), WORKER_MAX_INLINE_BYTES="100")
    assert_one_error(ended, "WORKER_MAX_INLINE_BYTES")


def test_a_payload_beyond_the_limit(heavylift: Heavylift) -> None:
    """A payload that is too large never reaches Redis, nor the ledger."""
    rows = [{**ROWS[0], "sku": f"sku-{number}"} for number in range(100)]
    ended = heavylift("enqueue", "bulk_upsert", upsert(source={"rows": rows}), WORKER_MAX_PAYLOAD_BYTES="1024")
    assert_one_error(ended, "WORKER_MAX_PAYLOAD_BYTES")
    assert heavylift("runs").stdout == ""


def test_migrate_makes_the_ledger_that_others_miss(heavylift: Heavylift, empty_database_url: str) -> None:
    """Without a ledger every command names the one to run; that one makes it, and the second time says so."""
    for words in (["runs"], ["run", "--burst"]):
        assert_one_error(heavylift(*words, DATABASE_URL=empty_database_url), "Run: heavylift migrate")
    assert heavylift("migrate", DATABASE_URL=empty_database_url).stdout == f"ledger: none -> {newest()}\n"
    assert heavylift("migrate", DATABASE_URL=empty_database_url).stdout == f"ledger: already at {newest()}\n"
    assert heavylift("runs", DATABASE_URL=empty_database_url).returncode == 0


def test_wait_prints_the_record_of_a_success(
    heavylift: Heavylift, worker_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """`--wait --json` prints one record, with the contract's keys and counts that reconcile, and nothing else."""
    (tmp_path / "items.csv").write_text("sku,name,quantity,price\na,A,1,1.50\nb,B,many,2\nc,C,3,2\n")
    source = json.dumps({"uri": (tmp_path / "items.csv").as_uri()})
    ended = heavylift(
        "enqueue", "bulk_upsert", "--param", "table=item", "--param", f"source={source}", "--wait", "--json"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    record = json.loads(ended.stdout)
    assert list(record) == RECORD_KEYS
    assert record["status"] == "succeeded"
    counts = {"read": 3, "inserted": 2, "updated": 0, "unchanged": 0, "duplicates": 0, "quarantined": 1}
    assert record["counters"] == record["result"] == counts
    assert worker_process.poll() is None


def test_wait_fails_with_the_run(heavylift: Heavylift, worker_process: subprocess.Popen[bytes]) -> None:
    """A run that fails is one line on standard error and a non-zero exit; its id is on standard output all the same."""
    missing = upsert(source={"uri": "file:///no/such.csv"})
    ended = heavylift("enqueue", "bulk_upsert", missing, "--id", "r1", "--wait")
    assert (ended.returncode, ended.stdout) == (1, "r1\n")
    assert ended.stderr.startswith("error: run r1 failed: SourceError: ")
    assert ended.stderr.count("\n") == 1
    watched = heavylift("watch", "r1")
    assert (watched.returncode, watched.stdout, watched.stderr) == (1, "", ended.stderr)
    assert worker_process.poll() is None


def test_wait_ends_with_a_cancelled_run(heavylift: Heavylift, worker_process: subprocess.Popen[bytes]) -> None:
    """A cancelled run did not do what was asked for: non-zero, with the reason."""
    ended = heavylift("enqueue", "scripted", "--param", "ending=cancel", "--wait", "--json")
    assert ended.returncode == 1
    assert ended.stderr.endswith("was cancelled: scripted to cancel\n")
    assert json.loads(ended.stdout)["status"] == "cancelled"
    assert worker_process.poll() is None


def test_enqueue_prints_the_id_and_a_burst_does_the_run(heavylift: Heavylift) -> None:
    """The id alone is on standard output; a worker in a burst warns of a misspelt setting and ends with the queue."""
    ended = heavylift("enqueue", "bulk_upsert", upsert())
    run_id = ended.stdout.strip()
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{run_id}\n", "")
    burst = heavylift("run", "--burst", WORKER_CONCURENCY="3")
    assert burst.returncode == 0
    assert "warning: WORKER_CONCURENCY is not a setting; did you mean WORKER_CONCURRENCY?\n" in burst.stderr
    shown = json.loads(heavylift("show", run_id, "--json").stdout)
    assert (shown["id"], shown["status"], shown["result"]["inserted"]) == (run_id, "succeeded", 3)


def test_a_missing_file_is_told_without_a_traceback(heavylift: Heavylift, tmp_path: Path) -> None:
    """A worker that meets a missing file logs one line and goes on; `show` has the whole story."""
    missing = (tmp_path / "missing.csv").as_uri()
    heavylift("enqueue", "bulk_upsert", upsert(source={"uri": missing}), "--id", "r1")
    burst = heavylift("run", "--burst")
    assert burst.returncode == 0
    assert "Traceback" not in burst.stderr
    shown = heavylift("show", "r1")
    assert f"error         SourceError: There is no file {missing!r}." in shown.stdout
    assert "next          what its chunks committed stays" in shown.stdout


def test_the_same_id_is_the_same_run(heavylift: Heavylift) -> None:
    """Enqueued again under its id, a run is found; with other parameters, the id is refused."""
    first = heavylift("enqueue", "bulk_upsert", upsert(), "--id", "r1")
    again = heavylift("enqueue", "bulk_upsert", upsert(), "--id", "r1")
    assert first.stdout == again.stdout == "r1\n"
    other = heavylift("enqueue", "bulk_upsert", upsert(on_invalid="fail"), "--id", "r1")
    assert_one_error(other, "Run 'r1' exists with other parameters")


def test_a_delayed_run_waits_and_says_until_when(heavylift: Heavylift) -> None:
    """`--json` without `--wait` prints the record as it stands."""
    record = json.loads(heavylift("enqueue", "bulk_upsert", upsert(), "--delay", "1h", "--json").stdout)
    assert record["status"] == "waiting"
    assert record["waiting_for"].startswith("deferred until ")


def test_runs_are_listed_newest_first(heavylift: Heavylift) -> None:
    """A pipe gets a line a run; JSON the page; filters and pages choose."""
    for run_id in ("r1", "r2", "r3"):
        heavylift("enqueue", "scripted", "--id", run_id, *(["--delay", "1h"] if run_id == "r2" else []))
    listed = heavylift("runs")
    assert [line.split("\t")[:3] for line in listed.stdout.splitlines()] == [
        ["r3", "scripted", "queued"],
        ["r2", "scripted", "waiting"],
        ["r1", "scripted", "queued"],
    ]
    page = json.loads(heavylift("runs", "--status", "queued", "--size", "1", "--page", "2", "--json").stdout)
    assert (page["total"], page["page"], page["size"], page["pages"]) == (2, 2, 1, 2)
    assert [list(item) for item in page["items"]] == [RECORD_KEYS]
    assert page["items"][0]["id"] == "r1"
    assert heavylift("runs", "--job", "other").stdout == ""
    assert heavylift("watch").stdout.splitlines()[0].startswith("r3\t")


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["show", "r9"], "No run 'r9' is in the ledger", 1),
        (["watch", "r9"], "No run 'r9' is in the ledger", 1),
        (["quarantine", "r9"], "No run 'r9' is in the ledger", 1),
        (["show", "\x1b[2J"], r"'\x1b[2J' cannot be one", 2),
        (["runs", "--status", "done"], "'succeeded'", 2),
        (["runs", "--size", "0"], "'--size'", 2),
        (["rnus"], "No such command 'rnus'", 2),
    ],
)
def test_a_bad_look_gets_one_line(heavylift: Heavylift, words: list[str], says: str, code: int) -> None:
    """What is not there, or cannot be, is named in one line."""
    assert_one_error(heavylift(*words), says, code)


def test_refused_rows_are_listed_with_their_reason(heavylift: Heavylift) -> None:
    """A line a row for people, one JSON array for scripts, an empty one where no row was refused."""
    rows = [*ROWS, {**ROWS[0], "quantity": "many"}, {**ROWS[0], "price": None}]
    heavylift("enqueue", "bulk_upsert", upsert(source={"rows": rows}), "--id", "r1")
    heavylift("enqueue", "bulk_upsert", upsert(), "--id", "r2")
    heavylift("run", "--burst")
    lines = heavylift("quarantine", "r1")
    assert [line.split()[0] for line in lines.stdout.splitlines()] == ["4", "5"]
    assert lines.stderr == "2 refused rows\n"
    refused = json.loads(heavylift("quarantine", "r1", "--json").stdout)
    assert [row["position"] for row in refused] == [4, 5]
    assert "quantity" in refused[0]["reason"]
    assert refused[0]["payload"]["quantity"] == "many"
    assert json.loads(heavylift("quarantine", "r2", "--json").stdout) == []


def test_refused_rows_are_tried_again(heavylift: Heavylift) -> None:
    """A replay prints the new run's id, or its record; where nothing is left it says so, and is no error."""
    rows = [*ROWS, {**ROWS[0], "quantity": "many"}]
    heavylift("enqueue", "bulk_upsert", upsert(source={"rows": rows}), "--id", "r1")
    heavylift("run", "--burst")
    record = json.loads(heavylift("quarantine", "r1", "--replay", "--json").stdout)
    assert record["params"]["source"] == {"quarantine": "r1"}
    heavylift("run", "--burst")
    assert json.loads(heavylift("show", record["id"], "--json").stdout)["counters"]["quarantined"] == 1
    assert "replayed" in heavylift("quarantine", "r1").stdout
    nothing = heavylift("quarantine", "r1", "--replay")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "nothing to replay: run r1 has no refused rows left\n"
    assert heavylift("quarantine", "r1", "--replay", "--json").stdout == "null\n"
    again = heavylift("quarantine", record["id"], "--replay")
    assert (again.returncode, again.stderr, again.stdout.count("\n")) == (0, "", 1)
    assert_one_error(heavylift("quarantine", "r9", "--replay"), "No run 'r9' is in the ledger", 1)


def test_embedded_servers_need_no_migration(heavylift: Heavylift, tmp_path: Path) -> None:
    """Without addresses the folder's own servers are used, and their ledger is made without being asked for."""
    places: dict[str, str | None] = {"DATABASE_URL": None, "REDIS_URL": None}
    enqueued = heavylift("enqueue", "bulk_upsert", upsert(), "--id", "r1", **places)
    assert (enqueued.returncode, enqueued.stdout) == (0, "r1\n")
    assert enqueued.stderr == "note: without DATABASE_URL and REDIS_URL, embedded servers in .heavylift/ are used\n"
    assert (tmp_path / ".heavylift").is_dir()
    shown = heavylift("show", "r1", "--json", **places)
    assert json.loads(shown.stdout)["status"] == "queued"


def test_an_interrupted_wait_leaves_the_run(heavylift: Heavylift, environment: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C ends the waiting with 130 and no traceback; the run is as it was."""
    words = [*COMMAND, "enqueue", "scripted", "--id", "r1", "--wait"]
    with subprocess.Popen(
        words, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "r1\n"
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert said == "the run goes on; follow it with: heavylift watch r1\n"
    assert json.loads(heavylift("show", "r1", "--json").stdout)["status"] == "queued"


def test_a_reader_that_leaves_is_no_error(heavylift: Heavylift, environment: dict[str, str], tmp_path: Path) -> None:
    """`heavylift runs | head -0` complains of nothing."""
    heavylift("enqueue", "scripted")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        ended = subprocess.run(
            [*COMMAND, "runs"], env=environment, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert ended.stderr == b""


async def test_a_terminal_sees_a_bar(settings: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    """The bar ends full, with the rows, the time and the counters of the run."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    declared = load_declared(settings)
    async with open_client(settings, declared.registry, declared.tables) as client:
        record = await client.enqueue("bulk_upsert", json.loads(upsert()), run_id="r1")
        worker = await asyncio.create_subprocess_exec(
            *COMMAND, "run", "--burst", env=environment, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL
        )
        record = await follow_with_bar(client, record.id, screen)
        await worker.wait()
    assert isinstance(screen.file, io.StringIO)
    seen = screen.file.getvalue()
    for part in ("bulk_upsert r1", "100%", "succeeded · 3 of 3 rows", "inserted 3"):
        assert part in seen
    assert record.done == 3


class _Listening(io.StringIO):
    """A screen that knows when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()

    def write(self, said: str) -> int:
        if NO_WORKER in said:
            self.heard.set()
        return super().write(said)


async def test_waiting_without_a_worker_is_told(settings: Settings) -> None:
    """Whoever waits while no worker lives is told once how to start one."""
    declared, screen = load_declared(settings), _Listening()
    async with open_client(settings, declared.registry, declared.tables) as client:
        await client.enqueue("scripted", run_id="r1")
        following = asyncio.ensure_future(follow_with_bar(client, "r1", Console(file=screen), patience_s=0))
        await screen.heard.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
    assert screen.getvalue() == f"note: {NO_WORKER}\n"
