"""`chunked_delete` into an archive table: a row is in the one or in the other, never in both and never in none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Identity,
    Integer,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    select,
    text,
)
from sqlalchemy.util import await_only

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.column_types import MOMENT
from tests.support.deleting import (
    EVENT,
    KEPT,
    before_statements,
    delete,
    delete_runner,
    error_of,
    event_table,
    make_events,
    record_of,
    result_of,
)
from tests.support.impatient import is_let
from tests.support.lock_waits import until_somebody_waits
from tests.support.own_session import execute, put, rows_of, value_of
from tests.support.refused_as import refused_by
from tests.support.row_triggers import swallow
from worker.core.settings import Settings
from worker.database.column_types import utc_now
from worker.database.engine import Database
from worker.database.tables import QUARANTINE
from worker.run.runner import Runner

OLD: Final[dict[str, object]] = {"kind": {"eq": "old"}}
EVERYWHERE: Final = "SELECT * FROM event UNION ALL SELECT * FROM kept_event ORDER BY id"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


@pytest.mark.usefixtures("_events")
@pytest.mark.parametrize("archive", ["kept_event", {"table": "kept_event"}])
async def test_every_deleted_row_is_archived_whole(
    make_runner: MakeRunner, database: Database, archive: object
) -> None:
    """Both tables together hold what the one held before, to the last decimal and document."""
    before = await rows_of(database, "SELECT * FROM event ORDER BY id")
    outcome = await delete(delete_runner(make_runner), where=OLD, archive=archive)
    assert result_of(outcome) == {"deleted": 33, "archived": 33}
    assert await rows_of(database, EVERYWHERE) == before
    assert await rows_of(database, "SELECT DISTINCT kind FROM kept_event") == [("old",)]
    assert await rows_of(database, "SELECT DISTINCT kind FROM event") == [("new",)]


async def test_columns_of_the_archives_own(make_runner: MakeRunner, database: Database) -> None:
    """Columns that the archive has beyond the table's take their defaults, and computed ones are computed anew."""

    def extra() -> list[Column[Any]]:
        twice = Column("twice", Numeric(14, 2), Computed("amount * 2", persisted=True))
        return [twice, Column("half", Numeric(3, 1), server_default="0.5")]

    event = event_table("event", *extra())
    kept = event_table(
        "kept_event",
        *extra(),
        Column("number", Integer, Identity(always=True), primary_key=True),
        Column("at", MOMENT, nullable=False, server_default=utc_now()),
        Column("why", String(40)),
        changed={"id": Column("id", BigInteger, nullable=False)},
    )
    await make_events(database, event=event, kept=kept)
    runner = delete_runner(make_runner, event, kept)
    assert result_of(await delete(runner, where=OLD, archive="kept_event")) == {"deleted": 33, "archived": 33}
    columns = (kept.c.number, kept.c.id, kept.c.twice == kept.c.amount * 2, kept.c.half, kept.c.why)
    found = await rows_of(database, select(*columns).where(kept.c.at.is_not(None)).order_by(kept.c.number))
    assert found[0] == (1, 3, True, 0.5, None)
    assert [row[1:] for row in found] == [(n, True, 0.5, None) for n in range(3, 100, 3)]


@dataclass(frozen=True, slots=True)
class Unfit:
    """An archive that cannot keep whole rows.

    Attributes:
        said: a part of the refusal.
        kept: the archive.
        event: the table.
    """

    said: str
    kept: Table = KEPT
    event: Table = EVENT


def number(name: str) -> Column[object]:
    """One more column."""
    return Column(name, Integer)


def parent(*reference: ForeignKey) -> Column[Any]:
    """A column that may refer to another row."""
    return Column("parent", BigInteger, *reference)


UNFIT: Final = {
    "a_column_is_missing": Unfit(
        "it has no column 'amount' (numeric(12,2))", event_table("kept_event", changed={"amount": None})
    ),
    "a_column_is_rounder": Unfit(
        "'amount' is numeric(12,1)",
        event_table("kept_event", changed={"amount": Column("amount", Numeric(12, 1))}),
    ),
    "a_text_is_shorter": Unfit(
        "'kind' is character varying(20)", event_table("kept_event", changed={"kind": Column("kind", String(20))})
    ),
    "a_column_needs_a_value": Unfit(
        "a column 'why', NOT NULL and without", event_table("kept_event", Column("why", String(40), nullable=False))
    ),
    "what_a_row_has_would_be_computed": Unfit(
        "the database alone writes its column 'amount'",
        event_table(
            "kept_event", changed={"amount": Column("amount", Numeric(12, 2), Computed("id * 2", persisted=True))}
        ),
    ),
    "the_table_has_more": Unfit("it has no column 'secret'", event=event_table("event", number("secret"))),
    "rows_would_vanish_by_cascade": Unfit(
        "cascades from table 'event' back to itself",
        event_table("kept_event", parent()),
        event_table("event", parent(ForeignKey("event.id", ondelete="CASCADE"))),
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
async def test_an_archive_that_would_lose_something(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """An archive that cannot keep whole rows is refused before the first of them is deleted."""
    case = UNFIT[kind]
    await make_events(database, event=case.event, kept=case.kept)
    # the models know every column but the one that is about that
    known = (case.event, case.kept) if "parent" in case.kept.c else ()
    assert case.said in error_of(await delete(delete_runner(make_runner, *known), where=OLD, archive="kept_event"))
    assert await value_of(database, "SELECT count(*) FROM event") == 100


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite's integers have one width, whatever their column is called")
async def test_an_archive_of_narrower_numbers(make_runner: MakeRunner, database: Database) -> None:
    """An archive whose numbers are of a narrower type is refused."""
    await make_events(database, kept=event_table("kept_event", changed={"id": Column("id", Integer)}))
    said = error_of(await delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
    assert "'id' is integer, and bigint does not" in said


UNFIT_ON_POSTGRESQL: Final = {
    "keys_would_be_numbered_anew": (
        "ALTER TABLE kept_event ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "the database alone writes its column 'id'",
    ),
    "it_is_a_part_of_the_table": ("ALTER TABLE kept_event INHERIT event", "inherits from the other"),
    "a_rule_rewrites_inserts": (
        "CREATE RULE aside AS ON INSERT TO kept_event DO INSTEAD NOTHING",
        "has rules that rewrite an insert (aside)",
    ),
}


@pytest.mark.only_on("postgresql", why="identities that are always counted, inheritance and rules are PostgreSQL's")
@pytest.mark.usefixtures("_events")
@pytest.mark.parametrize("kind", UNFIT_ON_POSTGRESQL)
async def test_an_archive_that_only_postgresql_can_have(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """An archive that numbers rows anew, is a part of the table or has rules is refused."""
    change, said = UNFIT_ON_POSTGRESQL[kind]
    await execute(database, change)
    assert said in error_of(await delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
    assert await value_of(database, "SELECT count(*) FROM ONLY event") == 100


@pytest.mark.usefixtures("_events")
async def test_a_column_that_the_model_lacks(make_runner: MakeRunner, database: Database) -> None:
    """A column that only the database knows would be lost, and so the archive is refused."""
    await execute(database, "ALTER TABLE event ADD secret int", "ALTER TABLE kept_event ADD secret int")
    said = error_of(await delete(delete_runner(make_runner), where=OLD, archive="kept_event"))
    assert "the model of 'event' lacks the column 'secret'" in said
    assert "the model of 'kept_event' lacks the column 'secret'" in said


@pytest.mark.only_on("postgresql", "sqlite", why="a trigger of MariaDB's cannot leave a row out without an error")
@pytest.mark.usefixtures("_events")
async def test_an_archive_that_drops_rows_without_a_word(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """Where a trigger of the archive swallows a row, the chunk is undone and the run fails."""
    await execute(database, *swallow(backend, "kept_event", "INSERT", "NEW.id = 6"))
    runner = delete_runner(make_runner)
    assert "took 2 without an error" in error_of(await delete(runner, where=OLD, archive="kept_event"))
    assert await value_of(database, "SELECT count(*) FROM event") == 100
    assert await value_of(database, "SELECT count(*) FROM kept_event") == 0
    assert any(
        "triggers that run for each row of an insert: swallow" in note for note in (await record_of(runner)).notes
    )


async def test_rows_that_the_archive_refuses_stay(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """A row that violates a constraint of the archive is put aside and stays; the others go."""
    kept = event_table("kept_event", CheckConstraint("id <> 30", name="kept_event_id_check"))
    await make_events(database, kept=kept)
    await put(database, KEPT, [{"id": 9}, {"id": 60}])
    runner = delete_runner(make_runner)
    outcome = await delete(runner, where=OLD, archive="kept_event")
    assert result_of(outcome) == {"deleted": 30, "archived": 30}
    assert await rows_of(database, "SELECT id FROM event WHERE kind = 'old' ORDER BY id") == [(9,), (30,), (60,)]
    aside = QUARANTINE.c
    found = await rows_of(database, select(aside.payload, aside.sqlstate, aside.constraint_name).order_by(aside.id))
    assert [(payload["id"], *why) for payload, *why in found] == [
        (9, *refused_by(backend, "primary key", "kept_event_pkey")),
        (30, *refused_by(backend, "check", "kept_event_id_check")),
        (60, *refused_by(backend, "primary key", "kept_event_pkey")),
    ]


@pytest.mark.only_on("postgresql", why="no other database here can check a UNIQUE constraint at the COMMIT alone")
async def test_a_constraint_that_would_wait_for_the_commit(make_runner: MakeRunner, database: Database) -> None:
    """A deferred constraint of the archive refuses its row alone, not the COMMIT of the whole chunk."""
    late = UniqueConstraint("id", deferrable=True, initially="DEFERRED")
    await make_events(database, kept=event_table("kept_event", late, changed={"id": Column("id", BigInteger)}))
    await put(database, KEPT, [{"id": 9}])
    outcome = await delete(delete_runner(make_runner), where=OLD, archive="kept_event")
    assert result_of(outcome) == {"deleted": 32, "archived": 32}
    assert await rows_of(database, "SELECT id FROM event WHERE kind = 'old'") == [(9,)]


@pytest.mark.usefixtures("_events")
@pytest.mark.parametrize(
    ("allow", "said"),
    [
        (
            {"event": ("delete",), "kept_event": ("read",)},
            "An archive is inserted into, which is the operation 'upsert'. WORKER_ALLOW does not allow",
        ),
        ({"event": ("upsert",)}, "does not allow 'delete' on table 'event'"),
    ],
)
async def test_what_is_not_allowed(
    make_runner: MakeRunner, database: Database, allow: dict[str, tuple[str, ...]], said: str
) -> None:
    """Deleting must be allowed on the table, and inserting on the archive."""
    runner = delete_runner(make_runner, allow=allow)
    assert said in error_of(await delete(runner, where=OLD, archive="kept_event"))
    assert await rows_of(database, "SELECT count(*) FROM event") == [(100,)]


@pytest.mark.usefixtures("_events")
async def test_a_table_is_not_its_own_archive(make_runner: MakeRunner) -> None:
    """To move rows into the table that they are in would never end."""
    assert "cannot be its own archive" in error_of(await delete(delete_runner(make_runner), where=OLD, archive="event"))


@asynccontextmanager
async def just_before_the_delete(runner: Runner, backend: Backend, *statements: str) -> AsyncIterator[list[bool]]:
    """Have another session try something when rows are locked and none is deleted yet; what of it it is let do."""
    let: list[bool] = []

    async def other_session() -> None:
        let.extend([await is_let(runner.ledger.database, backend, statement) for statement in statements])

    def tell(statement: str, _: object) -> None:
        if "DELETE FROM event" in statement and not let:
            await_only(other_session())

    async with before_statements(runner, tell):
        yield let
    assert let


@pytest.mark.usefixtures("_events")
async def test_rows_that_begin_to_match_after_the_lock(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """A row that another session adds, or makes match, between lock and delete is in one of the two tables, whole."""
    await execute(database, "DELETE FROM event WHERE id = 6", "UPDATE event SET amount = 0")
    runner = delete_runner(make_runner)
    changes = (
        "INSERT INTO event (id, kind, amount) VALUES (6, 'old', 66)",
        "UPDATE event SET kind = 'old', amount = 55 WHERE id = 5",
    )
    async with just_before_the_delete(runner, backend, *changes) as let:
        outcome = await delete(runner, where=OLD, archive="kept_event")
    # SQLite has one writer: nobody changes anything meanwhile
    assert let == [backend != "sqlite"] * 2
    counts = result_of(outcome)
    kept = await rows_of(database, "SELECT id, amount FROM kept_event ORDER BY id")
    assert counts == {"deleted": len(kept), "archived": len(kept)}
    everywhere = await rows_of(database, "SELECT id, amount FROM event UNION ALL SELECT id, amount FROM kept_event")
    changed = {5: 55, 6: 66} if all(let) else {}
    assert sorted(everywhere) == [(n, changed.get(n, 0)) for n in range(1, 101) if n != 6 or changed]


@pytest.mark.usefixtures("_events")
async def test_a_locked_row_cannot_be_changed(make_runner: MakeRunner, backend: Backend) -> None:
    """What another session tries on a row that is about to be deleted waits: nothing slips in between."""
    runner = delete_runner(make_runner)
    changes = ("UPDATE event SET kind = 'new' WHERE id = 3", "DELETE FROM event WHERE id = 9")
    async with just_before_the_delete(runner, backend, *changes) as let:
        outcome = await delete(runner, where=OLD, archive="kept_event")
    assert let == [False, False]
    assert result_of(outcome) == {"deleted": 33, "archived": 33}


@pytest.mark.usefixtures("_events")
@pytest.mark.parametrize(
    ("change", "deleted", "last"),
    [
        ("UPDATE event SET amount = 77 WHERE id = 3", 33, [(3, 77, "kept")]),
        ("UPDATE event SET kind = 'new', amount = 77 WHERE id = 3", 32, [(3, 77, "left")]),
        ("DELETE FROM event WHERE id = 3", 32, []),
    ],
)
async def test_a_row_that_another_session_is_changing(
    make_runner: MakeRunner,
    database: Database,
    backend: Backend,
    change: str,
    deleted: int,
    last: list[tuple[object, ...]],
) -> None:
    """The chunk waits for the other session, and goes by what it made of the row."""
    runner = delete_runner(make_runner)
    async with database.engine.connect() as other:
        await other.execute(text(change))
        async with until_somebody_waits(runner.ledger.database, backend):
            run = asyncio.create_task(delete(runner, where=OLD, archive="kept_event"))
        await other.commit()
        outcome = await run
    assert result_of(outcome) == {"deleted": deleted, "archived": deleted}
    where_it_is = (
        "SELECT id, amount, 'left' FROM event WHERE id = 3 "
        "UNION ALL SELECT id, amount, 'kept' FROM kept_event WHERE id = 3"
    )
    assert await rows_of(database, where_it_is) == last
