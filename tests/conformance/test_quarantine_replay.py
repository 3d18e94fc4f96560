"""Refused rows tried again: each once, as it was read the first time, whoever asks and however often."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Column, String, event, select, update

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.column_types import DOCUMENT
from tests.support.items import ITEM, execute, in_chunks_of, inline, item, rows, stored, upsert
from tests.support.lock_waits import until_somebody_waits
from tests.support.outcomes import counts
from tests.support.rebuild import rebuild
from tests.support.triggers import note_writes, noted
from worker.client import Client, open_client
from worker.core.clock import to_ms
from worker.core.errors import RequestError, UnknownRunError
from worker.core.events import ChunkCommitted, Event
from worker.core.outcomes import Failed, Interrupted
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.quarantine import QuarantinedRow
from worker.database.records import RunRecord
from worker.database.tables import QUARANTINE, RUNS
from worker.declare.tables import RegisteredTable, Tables
from worker.main import load_declared


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return in_chunks_of(settings, 4)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client that knows the tables."""
    declared = load_declared(settings)
    async with open_client(settings, declared.registry, declared.tables) as opened:
        yield opened


async def strict(database: Database, less_than: int = 9) -> None:
    """See that the table of items takes small quantities only."""
    await rebuild(database, ITEM, CheckConstraint(f"quantity < {less_than}", name="few"))


async def lenient(database: Database) -> None:
    """See that it takes any quantity again."""
    await rebuild(database, ITEM)


def delivery(record: RunRecord) -> Delivery:
    """The delivery of a run that the client enqueued."""
    return Delivery(record.id, record.job, record.params, {}, "arq:queue", to_ms(record.enqueued_at))


async def replay(client: Client, run_id: str = "u") -> RunRecord:
    """A replay, enqueued."""
    record = await client.replay(run_id)
    assert record is not None
    return record


def positions(rows: list[QuarantinedRow], *, replayed: bool) -> list[int]:
    """Where rows stood that were replayed, or were not."""
    return [row.position for row in rows if (row.replayed_at is not None) is replayed]


async def test_just_the_refused_rows_after_a_fix(make_runner: MakeRunner, client: Client, database: Database) -> None:
    """A new run of the same job takes what was refused, and no row that was stored; then nothing is left."""
    await strict(database)
    runner = make_runner()
    rows = [item(f"S{n}", quantity=n) for n in range(8, 14)]
    assert counts(await runner.run(upsert(inline(*rows), update=["quantity"]))) == {
        "read": 6,
        "inserted": 1,
        "quarantined": 5,
    }
    await lenient(database)
    await execute(database, "UPDATE item SET quantity = 0")
    record = await replay(client)
    assert record.params == {"table": "item", "source": {"quarantine": "u"}, "update": ["quantity"]}
    assert counts(await runner.run(delivery(record))) == {"read": 5, "inserted": 5}
    assert await stored(database) == {"S8": 0, **{f"S{n}": n for n in range(9, 14)}}
    ended = await client.get(record.id)
    assert (ended.done, ended.total) == (5, 5)
    assert positions(await client.quarantine("u"), replayed=True) == [2, 3, 4, 5, 6]
    assert await client.replay("u") is None


async def test_what_is_refused_again_belongs_to_the_new_run(
    make_runner: MakeRunner, client: Client, database: Database
) -> None:
    """With its first position and contents; a replay of the replay goes on from there."""
    await strict(database)
    runner = make_runner()
    rows = [item("A"), item("B", quantity=20), item("C"), item("D", quantity="many"), item("E", quantity=30)]
    await runner.run(upsert(inline(*rows)))
    await strict(database, less_than=25)
    second = await replay(client)
    assert counts(await runner.run(delivery(second))) == {"read": 3, "inserted": 1, "quarantined": 2}
    left = await client.quarantine(second.id)
    assert [(row.position, row.payload) for row in left] == [(4, rows[3]), (5, rows[4])]
    assert await client.replay("u") is None
    await lenient(database)
    third = await replay(client, second.id)
    assert counts(await runner.run(delivery(third))) == {"read": 2, "inserted": 1, "quarantined": 1}
    assert [row.position for row in await client.quarantine(third.id)] == [4]


async def test_cells_are_read_as_cells(
    make_runner: MakeRunner, client: Client, database: Database, tmp_path: Path
) -> None:
    """Rows of a CSV are read again as its text, an empty cell of text as '', though the file is gone."""
    shape = await rebuild(database, ITEM, CheckConstraint("quantity < 9"), types={"note": DOCUMENT})
    path = tmp_path / "items.csv"
    path.write_text('sku,name,quantity,price,note\nA,,9,1.50,"{""a"": [1]}"\nB,b,9,2,\nC,c\n')
    tables = Tables({"item": RegisteredTable("item", shape, None)}, {})
    runner = replace(make_runner(), tables=tables)
    assert counts(await runner.run(upsert({"uri": path.as_uri()}))) == {"read": 3, "quarantined": 3}
    path.unlink()
    await rebuild(database, ITEM, types={"note": DOCUMENT})
    record = await replay(client)
    assert counts(await runner.run(delivery(record))) == {"read": 3, "inserted": 2, "quarantined": 1}
    assert await stored(database, "name") == {"A": "", "B": "b"}
    assert await stored(database, "note", shape) == {"A": {"a": [1]}, "B": None}
    (unread,) = await client.quarantine(record.id)
    assert (unread.position, unread.payload) == (4, {"raw": "C,c\n"})
    assert "could not be read" in unread.reason


async def test_json_is_read_as_json(
    make_runner: MakeRunner, client: Client, database: Database, tmp_path: Path
) -> None:
    """A null, a lacking member, a NUL and huge numbers are refused for the same reasons again, or not at all."""

    def named() -> Column[str]:
        return Column("name", String(40), nullable=False, server_default="none")

    await rebuild(database, ITEM, named(), CheckConstraint("quantity < 9"))
    path = tmp_path / "items.ndjson"
    path.write_text(
        '{"sku": "A", "name": null, "quantity": 1, "price": 1}\n'
        '{"sku": "B", "quantity": 9, "price": 1}\n'
        '{"sku": "C", "name": "\\ud800", "quantity": 1, "price": 1}\n'
        '{"sku": "D", "name": "\\u0000", "quantity": 1, "price": 1}\n'
        '{"sku": "E", "name": "e", "quantity": 12345678901234567890123, "price": 1}\n'
        '{"sku": "F", "name": "f", "quantity": 9, "price": 1234567890.125000000000000000}\n'
        '{"sku": "G", "name": "g", "quantity": 9, "price": 1234567890.120000000000000000}\n'
    )
    runner = make_runner()
    await runner.run(upsert({"uri": path.as_uri()}))
    first = await client.quarantine("u")
    await rebuild(database, ITEM, named())
    record = await replay(client)
    assert counts(await runner.run(delivery(record))) == {"read": 7, "inserted": 2, "quarantined": 5}
    again = await client.quarantine(record.id)
    assert [(row.position, row.payload) for row in again] == [
        (row.position, row.payload) for row in first if row.sqlstate is None
    ]
    reasons = {row.position: row.reason for row in first}
    assert [row.position for row in again if row.reason != reasons[row.position]] == [3]
    assert "could not be read" in again[1].reason
    assert await stored(database, "name") == {"B": "none", "G": "g"}
    assert await stored(database, "price") == {"B": Decimal(1), "G": Decimal("1234567890.12")}


async def test_an_interrupted_replay_goes_on(make_runner: MakeRunner, client: Client, database: Database) -> None:
    """Rows are marked with the chunk that dealt with them, and only those."""
    await strict(database)
    runner = make_runner()
    await runner.run(upsert(inline(*(item(f"S{n}", quantity=9 + n) for n in range(10)))))
    await lenient(database)
    record = await replay(client)

    def stop(event: Event) -> None:
        if isinstance(event, ChunkCommitted):
            runner.stop.set()

    assert isinstance(await replace(runner, emit=stop).run(delivery(record)), Interrupted)
    found = await client.quarantine("u")
    assert (len(positions(found, replayed=True)), len(await stored(database))) == (4, 4)
    assert counts(await make_runner().run(delivery(record))) == {"read": 10, "inserted": 10}
    assert positions(await client.quarantine("u"), replayed=False) == []


async def test_a_replay_that_fails_marks_nothing_of_its_chunk(
    make_runner: MakeRunner, client: Client, database: Database
) -> None:
    """Rows are left to another replay where their chunk was rolled back."""
    await strict(database)
    await make_runner().run(upsert(inline(*(item(f"S{n}", quantity=9 + n) for n in range(3)))))
    record = await replay(client)
    await execute(database, "ALTER TABLE item RENAME COLUMN price TO cost")
    assert isinstance(await make_runner().run(delivery(record)), Failed)
    assert positions(await client.quarantine("u"), replayed=False) == [1, 2, 3]


async def test_two_replays_at_once_share_the_rows(
    make_runner: MakeRunner, client: Client, database: Database, backend: Backend
) -> None:
    """Asked for twice, each row is still tried once."""
    await strict(database)
    await make_runner().run(upsert(inline(*(item(f"S{n}", quantity=9 + n) for n in range(40)))))
    await lenient(database)
    await note_writes(database, backend, "INSERT")
    records = [await replay(client), await replay(client)]
    assert records[0].id != records[1].id
    outcomes = await asyncio.gather(
        *(make_runner(record.id).run(delivery(record)) for record in records),
    )
    assert sum(counts(outcome).get("inserted", 0) for outcome in outcomes) == 40
    assert sum(counts(outcome).get("read", 0) for outcome in outcomes) == 40
    assert sorted(await noted(database)) == sorted(f"S{n}" for n in range(40))


@pytest.mark.only_on(
    "postgresql", "mariadb", why="SQLite has one writer: no chunk of another run is open while this one waits to write"
)
async def test_a_replay_overtaken_while_it_reads_leaves_the_rest(
    make_runner: MakeRunner, client: Client, database: Database, backend: Backend
) -> None:
    """Rows that another run has marked since they were read are not tried, counted or put aside again."""
    await strict(database)
    refused = [*(item(f"S{n}", quantity=9 + n) for n in range(3)), item("X", price="?")]
    await make_runner().run(upsert(inline(*refused)))
    await lenient(database)
    record = await replay(client)
    runner = make_runner()
    async with database.engine.connect() as other:
        # the other run's chunk is open when this one has read all four rows
        marked = update(QUARANTINE).where(QUARANTINE.c.position.in_((2, 4)))
        await other.execute(marked.values(replayed_at=datetime.now(UTC)))
        async with until_somebody_waits(runner.ledger.database, backend):
            waiting = asyncio.create_task(runner.run(delivery(record)))
        await other.commit()
        assert counts(await waiting) == {"read": 2, "inserted": 2}
    assert await stored(database) == {"S0": 9, "S2": 11}
    assert await client.quarantine(record.id) == []


@pytest.mark.only_on("sqlite", why="elsewhere two runs' chunks may be open at once, which is the test before")
async def test_a_replay_overtaken_between_reading_and_writing_leaves_the_rest(
    make_runner: MakeRunner, client: Client, database: Database
) -> None:
    """Rows that another run has marked since they were read are not tried, counted or put aside again."""
    await strict(database)
    refused = [*(item(f"S{n}", quantity=9 + n) for n in range(3)), item("X", price="?")]
    await make_runner().run(upsert(inline(*refused)))
    await lenient(database)
    record = await replay(client)
    runner = make_runner()

    def overtake(_: object, __: object, statement: str, *___: object) -> None:
        if "heavylift_quarantine.payload" in statement:
            with closing(sqlite3.connect(str(database.engine.url.database))) as other, other:
                other.execute("UPDATE heavylift_quarantine SET replayed_at = created_at WHERE position IN (2, 4)")

    event.listen(runner.ledger.database.engine.sync_engine, "after_cursor_execute", overtake)
    assert counts(await runner.run(delivery(record))) == {"read": 2, "inserted": 2}
    assert await stored(database) == {"S0": 9, "S2": 11}
    assert await client.quarantine(record.id) == []


async def test_options_are_kept(make_runner: MakeRunner, client: Client, database: Database) -> None:
    """A replay is allowed what its run was."""
    first = await client.enqueue(
        "bulk_upsert", {"table": "item", "source": {"rows": [item("A", quantity="x")]}}, options={"all": True}
    )
    await make_runner().run(delivery(first))
    record = await replay(client, first.id)
    assert await rows(database, select(RUNS.c.options).where(RUNS.c.id == record.id)) == [({"all": True},)]


async def test_what_came_from_no_source_is_refused(make_runner: MakeRunner, client: Client) -> None:
    """A job's own rows are where they were: the message says to run the job again, and how."""
    await make_runner().run(Delivery("s", "scripted", {"value": 3}, {}, "arq:queue", 1))
    with pytest.raises(RequestError, match=r"""where job 'scripted' found them.*enqueue scripted '\{"value": 3\}'"""):
        await client.replay("s")
    with pytest.raises(UnknownRunError):
        await client.replay("nobody")


@pytest.mark.parametrize(("asked", "said"), [("s", "one of job 'scripted'"), ("gone", "No run 'gone'")])
async def test_a_source_made_by_hand_is_checked(make_runner: MakeRunner, asked: str, said: str) -> None:
    """Rows of another job's run, or of none, are no source."""
    runner = make_runner()
    await runner.run(Delivery("s", "scripted", {}, {}, "arq:queue", 1))
    outcome = await runner.run(upsert({"quarantine": asked}))
    assert isinstance(outcome, Failed)
    assert said in outcome.error.message
