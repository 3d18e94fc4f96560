"""What a delete is refused for, and what it is warned of, before its first chunk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pytest
from pydantic import SecretStr
from sqlalchemy import BigInteger, Column, UniqueConstraint, make_url

from tests.conftest import MakeRunner
from tests.support.chosen import Backend
from tests.support.deleting import (
    delete,
    delete_runner,
    error_of,
    event_table,
    make_events,
    one_chunk_of,
    record_of,
    result_of,
)
from tests.support.own_session import analyze, execute, value_of
from tests.support.row_triggers import object_to
from tests.support.spelling import Spelling
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database

PARTS: Final = (
    "CREATE TABLE part (id int PRIMARY KEY, event_id bigint DEFAULT 2, other int, "
    "CONSTRAINT part_event_id_fkey FOREIGN KEY (event_id) REFERENCES event (id) %s)"
)
INDEX: Final = "CREATE INDEX part_event ON part (event_id)"
MANY: Final = "INSERT INTO part (id, event_id, other) SELECT n, NULL, n FROM %s"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of ten rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 10, "chunk_min_rows": 10, "chunk_max_rows": 10})


@pytest.fixture
async def _events(database: Database) -> None:
    await make_events(database)


pytestmark = pytest.mark.usefixtures("_events")


async def notes_of(make_runner: MakeRunner) -> list[str]:
    """The notes of a run that deletes one row, whatever the preflight says of it."""
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, where={"id": {"eq": 1}})) == {"deleted": 1, "archived": 0}
    return (await record_of(runner)).notes


async def test_nothing_to_say(make_runner: MakeRunner, database: Database, spelling: Spelling) -> None:
    """A plain table, and one that is referred to by an indexed, restricting key, give no warning."""
    await execute(
        database,
        PARTS % "ON DELETE RESTRICT",
        "CREATE INDEX part_event ON part (event_id, other)",
        MANY % spelling.numbers(1, 120_000),
    )
    assert await notes_of(make_runner) == []


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that gives a warning."""

    changes: tuple[str, ...]
    said: tuple[str, ...]


async def assert_warned(make_runner: MakeRunner, database: Database, warned: Warned) -> None:
    """What may surprise is noted, and the run goes on."""
    await execute(database, *warned.changes)
    notes = "\n".join(await notes_of(make_runner))
    for said in warned.said:
        assert said in notes


WARNINGS: Final = {
    "cascade": Warned(
        (PARTS % "ON DELETE CASCADE", INDEX), ("'part' refers to 'event'", "deleted with them, uncounted")
    ),
    "set_null": Warned((PARTS % "ON DELETE SET NULL", INDEX), ("(SET NULL), uncounted",)),
    "what_a_cascade_reaches": Warned(
        (
            PARTS % "ON DELETE CASCADE",
            INDEX,
            "CREATE TABLE screw (part_id int, FOREIGN KEY (part_id) REFERENCES part (id) ON DELETE SET NULL)",
            "CREATE INDEX screw_part ON screw (part_id)",
        ),
        ("'screw' refers to 'part'", "(SET NULL), uncounted"),
    ),
}


@pytest.mark.parametrize("kind", WARNINGS)
async def test_warnings_are_in_the_runs_record(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """What may surprise is noted, and the run goes on."""
    await assert_warned(make_runner, database, WARNINGS[kind])


async def test_a_table_that_refers_to_itself(make_runner: MakeRunner, database: Database) -> None:
    """That rows may refer to others that are to be deleted, too, is noted."""
    await execute(
        database,
        "DROP TABLE event",
        "CREATE TABLE event (id bigint PRIMARY KEY, kind varchar(40), created_at date, amount numeric(12,2), "
        "data varchar(40), parent bigint, FOREIGN KEY (parent) REFERENCES event (id))",
        "CREATE INDEX event_parent ON event (parent)",
        "INSERT INTO event (id) VALUES (1)",
    )
    (note,) = await notes_of(make_runner)
    assert "refers to 'event' by" in note
    assert ", itself: a row to which another still refers is refused" in note


async def test_triggers_for_each_row(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """Triggers that a delete sets off are noted by name."""
    await execute(database, *object_to(backend, "event", "DELETE", "OLD.id < 0"))
    assert await notes_of(make_runner) == ["Table 'event' has triggers that run for each row of a delete: object"]


UNINDEXED: Final = {
    "small_child_without_an_index": Warned((PARTS % "",), ("'part' refers to 'event' by", " ON part (event_id)")),
    "an_index_that_starts_elsewhere": Warned(
        (PARTS % "", "CREATE INDEX elsewhere ON part (other, event_id)"),
        ("none of its indexes starts with event_id",),
    ),
    "a_partial_index": Warned(
        (PARTS % "", "CREATE INDEX partial ON part (event_id) WHERE other > 5"),
        ("none of its indexes starts with event_id",),
    ),
    "what_a_cascade_reaches": Warned(
        (
            PARTS % "ON DELETE CASCADE",
            INDEX,
            "CREATE TABLE screw (part_id int, FOREIGN KEY (part_id) REFERENCES part (id))",
        ),
        ("'screw' refers to 'part' by", " ON screw (part_id)"),
    ),
    "names_with_odd_letters": Warned(
        ('CREATE TABLE "Odd Part" (id int PRIMARY KEY, "Event" bigint REFERENCES event (id))',),
        (' ON "Odd Part" ("Event")',),
    ),
    "set_default": Warned((PARTS % "ON DELETE SET DEFAULT", INDEX), ("(SET DEFAULT), uncounted",)),
}


@pytest.mark.only_on(
    "postgresql",
    "sqlite",
    why="MariaDB makes an index for each foreign key, has no partial ones, and no ON DELETE SET DEFAULT",
)
@pytest.mark.parametrize("kind", UNINDEXED)
async def test_foreign_keys_without_an_index(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """A table that is read as a whole for each deleted row is noted, with the statement that helps."""
    await assert_warned(make_runner, database, UNINDEXED[kind])


FUNCTION: Final = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$"
ON_POSTGRESQL: Final = {
    "statement_triggers": Warned(
        (FUNCTION, "CREATE TRIGGER all_at_once AFTER DELETE ON event EXECUTE FUNCTION f()"),
        ("triggers that run for each statement of a delete: all_at_once",),
    ),
    "heirs": Warned(("CREATE TABLE late_event () INHERITS (event)",), ("their rows count as its own: late_event",)),
    "a_partitioned_child": Warned(
        (
            "CREATE TABLE part (id int, event_id bigint REFERENCES event) PARTITION BY RANGE (id)",
            "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9)",
        ),
        ("'part' refers to 'event' by part_event_id_fkey", "CREATE INDEX ON part (event_id)"),
    ),
    "locks_that_an_index_need_not_take": Warned((PARTS % "",), ("CREATE INDEX CONCURRENTLY ON part (event_id)",)),
}


@pytest.mark.only_on(
    "postgresql", why="triggers for statements, inheritance and partitions that refer to others are PostgreSQL's"
)
@pytest.mark.parametrize("kind", ON_POSTGRESQL)
async def test_warnings_of_what_only_postgresql_has(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """What may surprise is noted, and the run goes on."""
    await assert_warned(make_runner, database, ON_POSTGRESQL[kind])


async def test_a_trigger_of_another_change(make_runner: MakeRunner, database: Database, backend: Backend) -> None:
    """A trigger that a delete does not set off is not warned of."""
    await execute(database, *object_to(backend, "event", "UPDATE", "OLD.id < 0"))
    assert await notes_of(make_runner) == []


async def test_a_key_of_which_one_column_leads(make_runner: MakeRunner, database: Database) -> None:
    """An index on the first column of a foreign key of two is enough for it."""
    await execute(database, "DROP TABLE event", "DROP TABLE kept_event")
    await make_events(database, event=event_table("event", UniqueConstraint("id", "kind")))
    await execute(
        database,
        "CREATE TABLE part (k varchar(40), e bigint, FOREIGN KEY (e, k) REFERENCES event (id, kind))",
        "CREATE INDEX part_e ON part (e)",
    )
    assert await notes_of(make_runner) == []


@pytest.mark.only_on("postgresql", "sqlite", why="MariaDB has no partial indexes")
async def test_an_index_that_leaves_nulls_out(make_runner: MakeRunner, database: Database) -> None:
    """An index of all rows that refer to anything is enough for a foreign key."""
    await execute(database, PARTS % "", "CREATE INDEX partial ON part (event_id) WHERE event_id IS NOT NULL")
    assert await notes_of(make_runner) == []


SILENT_ON_POSTGRESQL: Final[Mapping[str, tuple[str, ...]]] = {
    "a_disabled_trigger": (
        FUNCTION,
        "CREATE TRIGGER t BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE event DISABLE TRIGGER t",
    ),
    "a_hash_index": (PARTS % "", "CREATE INDEX ON part USING hash (event_id)"),
}


@pytest.mark.only_on("postgresql", why="triggers that are disabled and hash indexes on tables are PostgreSQL's")
@pytest.mark.parametrize("kind", SILENT_ON_POSTGRESQL)
async def test_what_is_no_trouble_on_postgresql(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """What will not be in the way of a delete is not warned of."""
    await execute(database, *SILENT_ON_POSTGRESQL[kind])
    assert await notes_of(make_runner) == []


@pytest.mark.only_on("postgresql", "sqlite", why="MariaDB makes an index for each foreign key")
async def test_a_large_child_without_an_index_is_refused(
    make_runner: MakeRunner, database: Database, spelling: Spelling
) -> None:
    """A delete that would read a large table once a row does not begin; the message has the statement that helps."""
    await execute(database, PARTS % "", MANY % spelling.numbers(1, 120_000))
    await analyze(database, "part")
    said = error_of(await delete(delete_runner(make_runner), all_rows=True))
    assert said.startswith("PreflightError: Table 'part' refers to 'event' by ")
    assert ", and none of its" in said
    assert " ON part (event_id)" in said
    assert await value_of(database, "SELECT count(*) FROM event") == 100


@pytest.mark.only_on("postgresql", why="rules are PostgreSQL's")
async def test_a_rule_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """What a rule makes of a delete cannot be counted."""
    await execute(database, "CREATE RULE keep AS ON DELETE TO event DO INSTEAD NOTHING")
    assert "rules that rewrite a delete (keep)" in error_of(await delete(delete_runner(make_runner), all_rows=True))


async def test_a_table_without_a_primary_key_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """Rows that cannot be told apart cannot be walked in chunks."""
    await execute(database, "DROP TABLE event", "DROP TABLE kept_event")
    await make_events(database, event=event_table("event", changed={"id": Column("id", BigInteger)}))
    assert "no primary key" in error_of(await delete(delete_runner(make_runner), all_rows=True))


PARTITIONED: Final[Mapping[Backend, tuple[str, ...]]] = {
    "postgresql": (
        "ALTER TABLE event RENAME TO event_1",
        "CREATE TABLE event (LIKE event_1, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "ALTER TABLE event ATTACH PARTITION event_1 FOR VALUES FROM (0) TO (1000)",
    ),
    "mariadb": ("ALTER TABLE event PARTITION BY RANGE (id) (PARTITION event_1 VALUES LESS THAN (1000))",),
}


@pytest.mark.only_on("postgresql", "mariadb", why="SQLite has no partitions")
async def test_a_partitioned_table_has_a_better_way(
    make_runner: MakeRunner, database: Database, backend: Backend
) -> None:
    """Rows of a partitioned table are deleted like any, with the advice to drop partitions."""
    await execute(database, *PARTITIONED[backend])
    (note,) = await notes_of(make_runner)
    assert "'event' is partitioned. Where all rows of a partition are meant" in note


async def test_warnings_are_given_once(make_runner: MakeRunner, database: Database) -> None:
    """A run that resumes says nothing anew of what it has begun."""
    await execute(database, PARTS % "ON DELETE CASCADE", INDEX)
    assert await delete(one_chunk_of(delete_runner(make_runner)), all_rows=True) == Interrupted()
    await execute(
        database,
        "CREATE TABLE late (event_id bigint, FOREIGN KEY (event_id) REFERENCES event (id))",
        "CREATE INDEX late_event ON late (event_id)",
    )
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, all_rows=True)) == {"deleted": 100, "archived": 0}
    assert len((await record_of(runner)).notes) == 1


@pytest.mark.only_on("postgresql", why="a lock needs a privilege of its own, and rows are hidden, on PostgreSQL alone")
async def test_privileges_that_are_missing(make_runner: MakeRunner, database: Database, settings: Settings) -> None:
    """A role that may delete but not lock is told what to grant; once that was done, it deletes."""
    role = make_url(str(database.engine.url)).database
    await execute(
        database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"REVOKE ALL ON event FROM {role}",
        f"GRANT SELECT, DELETE ON event TO {role}",
    )
    url = database.engine.url.set(username=role, password="x").render_as_string(hide_password=False)
    changed = settings.model_copy(update={"database_url": SecretStr(url)})
    try:
        said = error_of(await delete(delete_runner(make_runner, changed=changed), all_rows=True))
        assert f"GRANT UPDATE ON event TO {role}" in said
        await execute(
            database,
            "DELETE FROM heavylift_runs",
            f"GRANT UPDATE ON event TO {role}",
            "ALTER TABLE event ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY odd ON event TO {role} USING (id % 2 = 1)",
        )
        runner = delete_runner(make_runner, changed=changed)
        assert result_of(await delete(runner, all_rows=True)) == {"deleted": 50, "archived": 0}
        assert any("Row-level security hides rows" in note for note in (await record_of(runner)).notes)
    finally:
        await execute(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


ADVICE: Final[Mapping[Backend, str]] = {
    "postgresql": "VACUUM (ANALYZE) event",
    "sqlite": "VACUUM",
    "mariadb": "OPTIMIZE TABLE event",
}


async def test_a_large_delete_ends_with_advice(
    make_runner: MakeRunner, database: Database, settings: Settings, backend: Backend, spelling: Spelling
) -> None:
    """After many deletes the record says what their room needs."""
    await execute(database, f"INSERT INTO event (id) SELECT n FROM {spelling.numbers(101, 100_000)}")
    changed = settings.model_copy(update={"chunk_start_rows": 20_000, "chunk_max_rows": 20_000})
    runner = delete_runner(make_runner, changed=changed)
    assert result_of(await delete(runner, all_rows=True)) == {"deleted": 100_000, "archived": 0}
    (note,) = (await record_of(runner)).notes
    assert note.startswith("100,000 rows are gone from table 'event'")
    assert ADVICE[backend] in note
