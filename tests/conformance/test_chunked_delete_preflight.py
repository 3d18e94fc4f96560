"""What a delete is refused for, and what it is warned of, before its first chunk."""

from dataclasses import dataclass
from typing import Final

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from tests.conftest import MakeRunner
from tests.support.deleting import (
    delete,
    delete_runner,
    error_of,
    execute,
    make_events,
    one_chunk_of,
    record_of,
    result_of,
    rows_of,
)
from worker.core.outcomes import Interrupted
from worker.core.settings import Settings
from worker.database.engine import Database

PARTS: Final = "CREATE TABLE part (id serial PRIMARY KEY, event_id bigint REFERENCES event %s, other int)"
MANY: Final = "INSERT INTO part (other) SELECT n FROM generate_series(1, 120000) AS n"


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


async def test_nothing_to_say(make_runner: MakeRunner, database: Database) -> None:
    """A plain table, and one that is referred to by an indexed, restricting key, give no warning."""
    await execute(database, PARTS % "ON DELETE RESTRICT", "CREATE INDEX ON part (event_id, other)", MANY)
    assert await notes_of(make_runner) == []


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that gives a warning."""

    changes: tuple[str, ...]
    said: tuple[str, ...]


FUNCTION: Final = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$"
WARNINGS: Final = {
    "small_child_without_an_index": Warned(
        (PARTS % "",),
        ("'part' refers to 'event' by part_event_id_fkey", "CREATE INDEX CONCURRENTLY ON part (event_id)"),
    ),
    "an_index_that_starts_elsewhere": Warned(
        (PARTS % "", "CREATE INDEX ON part (other, event_id)"), ("none of its indexes starts with event_id",)
    ),
    "a_partial_index": Warned(
        (PARTS % "", "CREATE INDEX ON part (event_id) WHERE other > 5"), ("none of its indexes starts with event_id",)
    ),
    "cascade": Warned(
        (PARTS % "ON DELETE CASCADE", "CREATE INDEX ON part (event_id)"),
        ("'part' refers to 'event'", "deleted with them, uncounted"),
    ),
    "set_null": Warned((PARTS % "ON DELETE SET NULL", "CREATE INDEX ON part (event_id)"), ("(SET NULL), uncounted",)),
    "set_default": Warned(
        (PARTS % "ON DELETE SET DEFAULT", "CREATE INDEX ON part (event_id)"), ("(SET DEFAULT), uncounted",)
    ),
    "what_a_cascade_reaches": Warned(
        (
            PARTS % "ON DELETE CASCADE",
            "CREATE INDEX ON part (event_id)",
            "CREATE TABLE screw (part_id int REFERENCES part)",
        ),
        ("'screw' refers to 'part' by screw_part_id_fkey", "CREATE INDEX CONCURRENTLY ON screw (part_id)"),
    ),
    "itself": Warned(
        ("ALTER TABLE event ADD parent bigint REFERENCES event", "CREATE INDEX ON event (parent)"),
        ("refers to 'event' by event_parent_fkey, itself",),
    ),
    "row_triggers": Warned(
        (FUNCTION, "CREATE TRIGGER each_one BEFORE DELETE OR UPDATE ON event FOR EACH ROW EXECUTE FUNCTION f()"),
        ("triggers that run for each row of a delete: each_one",),
    ),
    "statement_triggers": Warned(
        (FUNCTION, "CREATE TRIGGER all_at_once AFTER DELETE ON event EXECUTE FUNCTION f()"),
        ("triggers that run for each statement of a delete: all_at_once",),
    ),
    "heirs": Warned(("CREATE TABLE late_event () INHERITS (event)",), ("their rows count as its own: late_event",)),
    "names_with_odd_letters": Warned(
        ('CREATE TABLE "Odd Part" (id int PRIMARY KEY, "Event" bigint REFERENCES event)',),
        ('CREATE INDEX CONCURRENTLY ON "Odd Part" ("Event")',),
    ),
    "a_partitioned_child": Warned(
        (
            "CREATE TABLE part (id int, event_id bigint REFERENCES event) PARTITION BY RANGE (id)",
            "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9)",
        ),
        ("'part' refers to 'event'", "CREATE INDEX ON part (event_id)"),
    ),
}


@pytest.mark.parametrize("kind", WARNINGS)
async def test_warnings_are_in_the_runs_record(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """What may surprise is noted, and the run goes on."""
    await execute(database, *WARNINGS[kind].changes)
    notes = "\n".join(await notes_of(make_runner))
    for said in WARNINGS[kind].said:
        assert said in notes


SILENT: Final = {
    "another_events_trigger": (FUNCTION, "CREATE TRIGGER t BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION f()"),
    "a_disabled_trigger": (
        FUNCTION,
        "CREATE TRIGGER t BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE event DISABLE TRIGGER t",
    ),
    "an_index_without_nulls": (PARTS % "", "CREATE INDEX ON part (event_id) WHERE event_id IS NOT NULL"),
    "a_hash_index": (PARTS % "", "CREATE INDEX ON part USING hash (event_id)"),
    "a_key_of_which_one_column_leads": (
        "ALTER TABLE event ADD UNIQUE (id, kind)",
        "CREATE TABLE part (k text, e bigint, FOREIGN KEY (e, k) REFERENCES event (id, kind))",
        "CREATE INDEX ON part (e)",
    ),
}


@pytest.mark.parametrize("kind", SILENT)
async def test_what_is_no_trouble(make_runner: MakeRunner, database: Database, kind: str) -> None:
    """What will not be in the way of a delete is not warned of."""
    await execute(database, *SILENT[kind])
    assert await notes_of(make_runner) == []


async def test_a_large_child_without_an_index_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """A delete that would read a large table once a row does not begin; the message has the statement that helps."""
    await execute(database, PARTS % "", MANY, "ANALYZE part")
    runner = delete_runner(make_runner)
    said = error_of(await delete(runner, all_rows=True))
    assert said.startswith("PreflightError: Table 'part' refers to 'event' by part_event_id_fkey, and none of its")
    assert "CREATE INDEX CONCURRENTLY ON part (event_id)" in said
    assert await rows_of(database, "SELECT count(*) FROM event") == [(100,)]


async def test_a_rule_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """What a rule makes of a delete cannot be counted."""
    await execute(database, "CREATE RULE keep AS ON DELETE TO event DO INSTEAD NOTHING")
    assert "rules that rewrite a delete (keep)" in error_of(await delete(delete_runner(make_runner), all_rows=True))


async def test_a_table_without_a_primary_key_is_refused(make_runner: MakeRunner, database: Database) -> None:
    """Rows that cannot be told apart cannot be walked in chunks."""
    await execute(database, "ALTER TABLE event DROP CONSTRAINT event_pkey")
    assert "no primary key" in error_of(await delete(delete_runner(make_runner), all_rows=True))


async def test_a_partitioned_table_has_a_better_way(make_runner: MakeRunner, database: Database) -> None:
    """Rows of a partitioned table are deleted like any, with the advice to drop partitions."""
    await execute(
        database,
        "ALTER TABLE event RENAME TO event_1",
        "CREATE TABLE event (LIKE event_1, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "ALTER TABLE event ATTACH PARTITION event_1 FOR VALUES FROM (0) TO (1000)",
    )
    (note,) = await notes_of(make_runner)
    assert "'event' is partitioned. Where all rows of a partition are meant" in note


async def test_warnings_are_given_once(make_runner: MakeRunner, database: Database) -> None:
    """A run that resumes says nothing anew of what it has begun."""
    await execute(database, PARTS % "ON DELETE CASCADE", "CREATE INDEX ON part (event_id)")
    assert await delete(one_chunk_of(delete_runner(make_runner)), all_rows=True) == Interrupted()
    await execute(database, "CREATE TABLE late (event_id bigint REFERENCES event)", "CREATE INDEX ON late (event_id)")
    runner = delete_runner(make_runner)
    assert result_of(await delete(runner, all_rows=True)) == {"deleted": 100, "archived": 0}
    assert len((await record_of(runner)).notes) == 1


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


async def test_a_large_delete_ends_with_advice(make_runner: MakeRunner, database: Database, settings: Settings) -> None:
    """After many deletes the record says what their room needs."""
    await execute(database, "INSERT INTO event (id) SELECT n FROM generate_series(101, 100000) AS n")
    changed = settings.model_copy(update={"chunk_start_rows": 20_000, "chunk_max_rows": 20_000})
    runner = delete_runner(make_runner, changed=changed)
    assert result_of(await delete(runner, all_rows=True)) == {"deleted": 100_000, "archived": 0}
    (note,) = (await record_of(runner)).notes
    assert note.startswith("100,000 rows are gone from table 'event'")
    assert note.endswith("VACUUM (ANALYZE) event")
