"""Errors that a real PostgreSQL was brought to raise, through SQLAlchemy and asyncpg, and what each calls for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import asyncpg
import pytest
from sqlalchemy import URL, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from worker.core.errors import ErrorKind
from worker.database.classify import DATABASE_ERRORS, classify, describe, sqlstate_of
from worker.database.postgres.errors import POSTGRES_ERRORS, RAW_ERRORS
from worker.embedded.postgres import PostgresProcess

MAX_CONNECTIONS = 12
# `nobody` stands by nowhere, so a COMMIT that asks for its word waits for ever, after it has happened.
OPTIONS = {
    "max_connections": str(MAX_CONNECTIONS),
    "fsync": "off",
    "synchronous_commit": "local",
    "synchronous_standby_names": "nobody",
    "deadlock_timeout": "20ms",
}
SCHEMA = """
CREATE TABLE team (id integer PRIMARY KEY);
INSERT INTO team VALUES (1);
CREATE TABLE hero (
    id integer PRIMARY KEY,
    email text CONSTRAINT hero_email_key UNIQUE,
    power smallint NOT NULL DEFAULT 1 CONSTRAINT hero_power_check CHECK (power >= 0),
    alias varchar(5),
    team_id integer CONSTRAINT hero_team_fkey REFERENCES team DEFERRABLE,
    shift int4range,
    number integer GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT hero_shift_excl EXCLUDE USING gist (shift WITH &&)
);
INSERT INTO hero (id, email, shift) VALUES (1, 'one@example.org', '[1,9]'), (2, 'two@example.org', NULL);
CREATE VIEW strong AS SELECT * FROM hero WHERE power > 5 WITH CHECK OPTION;
CREATE FUNCTION raise_as(code text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'raised on purpose' USING ERRCODE = code; END $$;
CREATE FUNCTION dig() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dig(); END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'closed on Sundays'; END $$;
CREATE TABLE guarded (id integer);
CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE TABLE slow (id integer);
CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION dawdle();
CREATE TABLE marks (id integer PRIMARY KEY);
CREATE ROLE stranger;
"""


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A server that a test may fill up, restart and kill."""
    with PostgresProcess(Path(tmp_path_factory.mktemp("postgres")) / "server", options=OPTIONS) as server:

        async def prepare() -> None:
            connection = await asyncpg.connect(server.url)
            try:
                await connection.execute(SCHEMA)
            finally:
                await connection.close()

        asyncio.run(prepare())
        yield server


@pytest.fixture
def url(own_postgres: PostgresProcess) -> URL:
    """The server's address for SQLAlchemy."""
    return make_url(own_postgres.url).set(drivername="postgresql+asyncpg")


@pytest.fixture
async def engine(url: URL) -> AsyncIterator[AsyncEngine]:
    """An engine of the test's own."""
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session whose work is never kept unless a test commits."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def bystander(own_postgres: PostgresProcess) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else on the server: holds locks, ends backends, looks on."""
    connection = await asyncpg.connect(own_postgres.url)
    yield connection
    await connection.close()


@dataclass
class Caught:
    """What a block raised, read as its consumers read it."""

    error: BaseException = field(default_factory=AssertionError)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        assert error is not None, "the block was to raise"
        self.error = error
        return True

    @property
    def facts(self) -> tuple[type[BaseException], str | None, bool, ErrorKind]:
        """The class; SQLSTATE and whether the connection is invalidated, as SQLAlchemy surfaces them; the kind."""
        error = self.error
        sqlstate = sqlstate_of(error.orig) if isinstance(error, exc.DBAPIError) and error.orig else sqlstate_of(error)
        return type(error), sqlstate, getattr(error, "connection_invalidated", False), classify(error, POSTGRES_ERRORS)


async def pid_of(session: AsyncSession) -> int:
    """The server's process behind a session, which its transaction keeps."""
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    assert isinstance(pid, int)
    return pid


async def closed(session: AsyncSession) -> asyncio.Event:
    """Set once the driver has seen the end of the session's connection."""
    seen = asyncio.Event()
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert driver is not None
    driver.add_termination_listener(lambda _: seen.set())
    return seen


async def until_waiting(bystander: asyncpg.Connection, pid: int, event: str) -> None:
    """Return when a backend waits for the named event."""
    query = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1"
    async with asyncio.timeout(10):
        while await bystander.fetchval(query, pid) != event:
            await bystander.execute("SELECT pg_sleep(0.005)")


async def end(bystander: asyncpg.Connection, pid: int) -> None:
    """Terminate a backend and wait for its end."""
    assert await bystander.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)


INSERT = "INSERT INTO hero (id, email, power, alias, team_id) VALUES (:id, :email, :power, :alias, :team_id)"


def hero(**values: object) -> dict[str, object]:
    """A hero's values, good ones but for those that are given."""
    return {"id": 100, "email": None, "power": 1, "alias": None, "team_id": 1, **values}


ROWS: list[tuple[str, str, dict[str, object], type[BaseException]]] = [
    ("23505", INSERT, hero(email="one@example.org"), exc.IntegrityError),
    ("23503", INSERT, hero(team_id=99), exc.IntegrityError),
    ("23514", INSERT, hero(power=-1), exc.IntegrityError),
    ("23502", INSERT, hero(power=None), exc.IntegrityError),
    ("23P01", "INSERT INTO hero (id, shift) VALUES (100, '[5,6]')", {}, exc.IntegrityError),
    ("44000", "INSERT INTO strong (id, power) VALUES (100, 2)", {}, exc.DBAPIError),
    ("22001", INSERT, hero(alias="far too long"), exc.DBAPIError),
    ("22003", "UPDATE hero SET power = CAST(:power AS integer)", {"power": 32768}, exc.DBAPIError),
    ("22P02", "SELECT CAST(CAST(:power AS text) AS integer)", {"power": "strong"}, exc.DBAPIError),
    ("22008", "SELECT CAST(CAST(:day AS text) AS date)", {"day": "2026-02-30"}, exc.DBAPIError),
    ("22012", "SELECT power / (power - power) FROM hero", {}, exc.DBAPIError),
    ("22021", INSERT, hero(email="a\0b"), exc.DBAPIError),
    ("22000", INSERT, hero(id=2**31), exc.DBAPIError),  # asyncpg's own, before anything is sent
    ("22000", INSERT, hero(id="seven"), exc.DBAPIError),
    ("P0001", "INSERT INTO guarded VALUES (1)", {}, exc.DBAPIError),
]
STATEMENTS = [
    ("42601", "SELEC 1", exc.ProgrammingError, ErrorKind.PERMANENT),
    ("42P01", "SELECT * FROM villain", exc.ProgrammingError, ErrorKind.PERMANENT),
    ("42501", "SET LOCAL ROLE stranger; SELECT * FROM hero", exc.ProgrammingError, ErrorKind.PERMANENT),
    ("428C9", "INSERT INTO hero (id, number) VALUES (100, 1)", exc.ProgrammingError, ErrorKind.PERMANENT),
    ("0A000", "SELECT * FROM elsewhere.public.hero", exc.DBAPIError, ErrorKind.PERMANENT),
    ("3F000", "CREATE TABLE elsewhere.hero (id integer)", exc.DBAPIError, ErrorKind.PERMANENT),
    ("21000", "UPDATE hero SET power = (SELECT id FROM hero)", exc.DBAPIError, ErrorKind.PERMANENT),
    ("2201W", "SELECT * FROM hero LIMIT -1", exc.DBAPIError, ErrorKind.PERMANENT),
    ("25001", "VACUUM", exc.DBAPIError, ErrorKind.PERMANENT),
    ("26000", "EXECUTE no_such_statement", exc.DBAPIError, ErrorKind.CONTENTION),
    ("25006", "SET TRANSACTION READ ONLY; DELETE FROM hero", exc.DBAPIError, ErrorKind.CONNECTION),
    ("57014", "SET LOCAL statement_timeout = 20; SELECT pg_sleep(60)", exc.DBAPIError, ErrorKind.OVERLOAD),
    ("53200", "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 100000) n", exc.DBAPIError, ErrorKind.OVERLOAD),
    ("54000", "INSERT INTO hero (id, email) SELECT 100, string_agg(md5(n::text), '') FROM generate_series(1, 999) n",
     exc.DBAPIError, ErrorKind.OVERLOAD),
    ("54001", "SET LOCAL max_stack_depth = '100kB'; SELECT dig()", exc.DBAPIError, ErrorKind.OVERLOAD),
    ("53100", "SELECT raise_as('53100')", exc.DBAPIError, ErrorKind.EXHAUSTED),
    ("53400", "SET LOCAL temp_file_limit = '1MB'; SELECT count(DISTINCT md5(n::text)) FROM generate_series(1, 99999) n",
     exc.DBAPIError, ErrorKind.EXHAUSTED),
    ("58030", "SELECT raise_as('58030')", exc.DBAPIError, ErrorKind.EXHAUSTED),
]  # fmt: skip


@pytest.mark.parametrize(("sqlstate", "statement", "values", "wrapper"), ROWS)
async def test_refused_row(
    session: AsyncSession, sqlstate: str, statement: str, values: dict[str, object], wrapper: type[BaseException]
) -> None:
    """Constraints, data errors, triggers and values that the driver cannot send are the row's fault."""
    with Caught() as caught:
        await session.execute(text(statement), values)
    assert caught.facts == (wrapper, sqlstate, False, ErrorKind.REFUSED_ROW)


@pytest.mark.parametrize(("sqlstate", "script", "wrapper", "kind"), STATEMENTS)
async def test_failing_statement(
    session: AsyncSession, sqlstate: str, script: str, wrapper: type[BaseException], kind: ErrorKind
) -> None:
    """A statement that cannot work, or cannot work now, has the kind of its code."""
    *before, last = script.split("; ")
    for statement in before:
        await session.execute(text(statement))
    with Caught() as caught:
        await session.execute(text(last))
    assert caught.facts == (wrapper, sqlstate, False, kind)


async def test_deadlock(engine: AsyncEngine) -> None:
    """Of two transactions that wait for each other, one gets contention, and not as an OperationalError."""
    update = text("UPDATE hero SET power = 2 WHERE id = :id")

    async def lock(session: AsyncSession, hero_id: int) -> None:
        try:
            await session.execute(update, {"id": hero_id})
        finally:
            await session.rollback()

    async with AsyncSession(engine) as first, AsyncSession(engine) as second:
        await first.execute(update, {"id": 1})
        await second.execute(update, {"id": 2})
        with Caught() as caught:
            endings = await asyncio.gather(lock(first, 2), lock(second, 1), return_exceptions=True)
            (failure,) = (ending for ending in endings if ending is not None)
            raise failure
    assert caught.facts == (exc.DBAPIError, "40P01", False, ErrorKind.CONTENTION)


async def test_serialization_failure(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """An update of a row that changed since the snapshot is contention."""
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    await session.execute(text("SELECT power FROM hero"))
    await bystander.execute("UPDATE hero SET power = power WHERE id = 1")
    with Caught() as caught:
        await session.execute(text("UPDATE hero SET power = 2 WHERE id = 1"))
    assert caught.facts == (exc.DBAPIError, "40001", False, ErrorKind.CONTENTION)


@pytest.mark.parametrize(("limit", "ending"), [("20ms", ""), ("0", " NOWAIT")])
async def test_lock_timeout(session: AsyncSession, bystander: asyncpg.Connection, limit: str, ending: str) -> None:
    """A row lock that does not come in time, or not at once where NOWAIT asks for that, is contention."""
    await session.execute(text(f"SET LOCAL lock_timeout = '{limit}'"))
    async with bystander.transaction():
        await bystander.execute("SELECT * FROM hero WHERE id = 1 FOR UPDATE")
        with Caught() as caught:
            await session.execute(text(f"SELECT * FROM hero WHERE id = 1 FOR UPDATE{ending}"))
    assert caught.facts == (exc.DBAPIError, "55P03", False, ErrorKind.CONTENTION)


@pytest.mark.parametrize(
    ("function", "sqlstate", "invalidated", "kind"),
    [
        ("pg_cancel_backend", "57014", False, ErrorKind.OVERLOAD),
        ("pg_terminate_backend", "08003", True, ErrorKind.CONNECTION),
    ],
)
async def test_somebody_ends_a_running_statement(
    session: AsyncSession,
    bystander: asyncpg.Connection,
    function: str,
    sqlstate: str,
    kind: ErrorKind,
    *,
    invalidated: bool,
) -> None:
    """A cancelled statement looks like a timeout; a terminated backend has a code that the driver made up."""
    pid = await pid_of(session)
    running = asyncio.create_task(session.execute(text("SELECT pg_sleep(60)")))
    await until_waiting(bystander, pid, "PgSleep")
    await bystander.execute(f"SELECT {function}($1)", pid)
    with Caught() as caught:
        await running
    assert caught.facts == (exc.DBAPIError, sqlstate, invalidated, kind)


async def test_backend_terminated_while_idle_in_transaction(
    session: AsyncSession, bystander: asyncpg.Connection
) -> None:
    """The next statement says without any code that the connection is gone."""
    pid, gone = await pid_of(session), await closed(session)
    await end(bystander, pid)
    await gone.wait()
    with Caught() as caught:
        await session.execute(text("SELECT 1"))
    assert caught.facts == (exc.InterfaceError, None, True, ErrorKind.CONNECTION)


async def test_backend_terminated_inside_a_savepoint(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """The savepoint's own rollback, which fails too, does not hide the lost connection."""
    pid, gone = await pid_of(session), await closed(session)
    with Caught() as caught:
        async with session.begin_nested():
            await end(bystander, pid)
            await gone.wait()
            await session.execute(text("SELECT 1"))
    assert caught.facts == (exc.InterfaceError, None, True, ErrorKind.CONNECTION)


async def test_idle_in_transaction_timeout(session: AsyncSession) -> None:
    """A transaction that idled for too long was ended by the server; its code never arrives."""
    gone = await closed(session)
    await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
    await gone.wait()
    with Caught() as caught:
        await session.execute(text("SELECT 1"))
    assert caught.facts == (exc.InterfaceError, None, True, ErrorKind.CONNECTION)


async def test_pooled_connection_that_died(engine: AsyncEngine, bystander: asyncpg.Connection) -> None:
    """A connection that ended while it lay in the pool is reported by BEGIN, and replaced afterwards."""
    async with AsyncSession(engine) as session:
        pid, gone = await pid_of(session), await closed(session)
    await end(bystander, pid)
    await gone.wait()
    with Caught() as caught:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
    async with AsyncSession(engine) as session:
        assert await session.scalar(text("SELECT 1")) == 1
    assert caught.facts == (exc.InterfaceError, None, True, ErrorKind.CONNECTION)


async def test_server_restarts_while_a_statement_runs(
    own_postgres: PostgresProcess, engine: AsyncEngine, session: AsyncSession, bystander: asyncpg.Connection
) -> None:
    """A restart ends the running statement with a lost connection, and the same engine goes on afterwards."""
    pid = await pid_of(session)
    running = asyncio.create_task(session.execute(text("SELECT pg_sleep(60)")))
    await until_waiting(bystander, pid, "PgSleep")
    own_postgres.restart()
    with Caught() as caught:
        await running
    async with AsyncSession(engine) as later:
        assert await later.scalar(text("SELECT 1")) == 1
    assert caught.facts == (exc.DBAPIError, "08003", True, ErrorKind.CONNECTION)


async def test_server_killed_then_absent(
    own_postgres: PostgresProcess, engine: AsyncEngine, session: AsyncSession
) -> None:
    """A server that was killed is a lost connection, then a refused one, bare of any SQLAlchemy wrapper."""
    gone = await closed(session)
    own_postgres.kill()
    try:
        await gone.wait()
        with Caught() as lost:
            await session.execute(text("SELECT 1"))
        with Caught() as refused:
            async with engine.connect():
                pass
    finally:
        own_postgres.start()
    assert lost.facts == (exc.InterfaceError, None, True, ErrorKind.CONNECTION)
    assert refused.facts == (ConnectionRefusedError, None, False, ErrorKind.CONNECTION)
    assert isinstance(refused.error, DATABASE_ERRORS)


async def test_too_many_connections(own_postgres: PostgresProcess, engine: AsyncEngine) -> None:
    """A full server is a matter of connections."""
    taken = []
    try:
        with Caught() as raw:
            while True:
                taken.append(await asyncpg.connect(own_postgres.url))
        with Caught() as caught:
            async with engine.connect():
                pass
    finally:
        # The next test's connections need slots that are free again.
        last = taken.pop()
        for connection in taken:
            await connection.close()
        while await last.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") > 1:
            await last.execute("SELECT pg_sleep(0.005)")
        await last.close()
    assert raw.facts == (asyncpg.TooManyConnectionsError, "53300", False, ErrorKind.CONNECTION)
    assert caught.facts == (exc.DBAPIError, "53300", False, ErrorKind.CONNECTION)


async def test_pool_exhausted(url: URL) -> None:
    """A pool with nothing left is contention among this worker's own runs."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    async with engine.connect():
        with Caught() as caught:
            async with engine.connect():
                pass
    await engine.dispose()
    assert caught.facts == (exc.TimeoutError, None, False, ErrorKind.CONTENTION)


async def test_read_only_server(url: URL) -> None:
    """A server where every transaction is read-only is taken for a former primary."""
    arguments = {"server_settings": {"default_transaction_read_only": "on"}}
    engine = create_async_engine(url, connect_args=arguments)
    with Caught() as caught:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM hero"))
    await engine.dispose()
    assert caught.facts == (exc.DBAPIError, "25006", False, ErrorKind.CONNECTION)


async def test_no_primary_among_the_servers(url: URL) -> None:
    """Where no server is of the wanted sort, a failover is waited for."""
    engine = create_async_engine(url, connect_args={"target_session_attrs": "standby"})
    with Caught() as caught:
        async with engine.connect():
            pass
    await engine.dispose()
    assert caught.facts == (exc.InternalError, None, False, ErrorKind.CONNECTION)


async def test_command_timeout_of_the_driver(url: URL) -> None:
    """The driver's own timeout comes as a builtin TimeoutError, bare of any wrapper."""
    engine = create_async_engine(url, connect_args={"command_timeout": 0.2})
    with Caught() as caught:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))
    await engine.dispose()
    assert caught.facts == (TimeoutError, None, False, ErrorKind.CONNECTION)


async def test_statement_after_an_error(session: AsyncSession) -> None:
    """To go on in a failed transaction is a mistake of the job's."""
    with Caught():
        await session.execute(text("SELECT 1 / 0"))
    with Caught() as caught:
        await session.execute(text("SELECT 1"))
    assert caught.facts == (exc.DBAPIError, "25P02", False, ErrorKind.PERMANENT)


async def test_too_many_arguments(session: AsyncSession) -> None:
    """More arguments than the protocol takes can never be sent, and come without any code."""
    names = [f"a{number}" for number in range(32768)]
    with Caught() as caught:
        await session.execute(text(f"SELECT 1 IN (:{', :'.join(names)})"), dict.fromkeys(names, 1))
    assert caught.facts == (exc.InterfaceError, None, False, ErrorKind.PERMANENT)


async def test_plan_invalidated_by_ddl(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """A plan from before an ALTER TABLE is contention: told by class, as its code is lost; the next try works."""
    query = text("SELECT * FROM marks")
    await session.execute(query)
    await session.commit()
    await bystander.execute("ALTER TABLE marks ADD COLUMN note text; ALTER TABLE marks DROP COLUMN note")
    await bystander.execute("ALTER TABLE marks ALTER COLUMN id TYPE bigint")
    with Caught() as caught:
        await session.execute(query)
    await session.rollback()
    await session.execute(query)
    await session.rollback()
    await bystander.execute("ALTER TABLE marks ALTER COLUMN id TYPE integer")
    assert caught.facts == (exc.NotSupportedError, None, False, ErrorKind.CONTENTION)


async def test_composite_type_changed_by_ddl(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """A connection that knows an older form of a composite type must be replaced."""
    await bystander.execute("CREATE TYPE place AS (x integer); CREATE TABLE spot (at place)")
    await bystander.execute("INSERT INTO spot VALUES (ROW(1)::place)")
    query = text("SELECT at FROM spot")
    await session.execute(query)
    await session.commit()
    await bystander.execute("ALTER TYPE place ADD ATTRIBUTE y integer CASCADE; UPDATE spot SET at = ROW(1, 2)::place")
    with Caught() as caught:
        await session.execute(query)
    await session.rollback()
    await bystander.execute("DROP TABLE spot; DROP TYPE place")
    assert caught.facts == (exc.InternalError, None, False, ErrorKind.CONNECTION)


async def test_driver_without_sqlalchemy(bystander: asyncpg.Connection) -> None:
    """COPY through the raw driver raises the driver's own classes, which are judged and described alike."""
    with Caught() as caught:
        await bystander.copy_records_to_table("hero", records=[(1, "new@example.org")], columns=["id", "email"])
    assert isinstance(caught.error, RAW_ERRORS)
    assert caught.facts == (asyncpg.UniqueViolationError, "23505", False, ErrorKind.REFUSED_ROW)
    assert describe(caught.error).constraint == "hero_pkey"
    assert "DETAIL" not in describe(caught.error).message


async def test_record_of_a_refused_row(session: AsyncSession) -> None:
    """The record names the driver's class and the constraint, and holds nothing of the row."""
    # The traceback quotes the lines of this test, so the values stand elsewhere.
    values = ROWS[0][2]
    with Caught() as caught:
        await session.execute(text(INSERT), values)
    record = describe(caught.error)
    assert (record.type, record.sqlstate, record.constraint) == ("UniqueViolationError", "23505", "hero_email_key")
    assert record.message == 'duplicate key value violates unique constraint "hero_email_key"'
    assert "INSERT INTO hero" in record.traceback
    assert str(values["email"]) not in record.traceback


async def commit_when(session: AsyncSession, bystander: asyncpg.Connection, event: str) -> "asyncio.Task[None]":
    """A COMMIT under way, at the moment when the server waits for the named event in it."""
    pid = await pid_of(session)
    committing = asyncio.create_task(session.commit())
    await until_waiting(bystander, pid, event)
    return committing


@pytest.mark.parametrize(
    ("mark", "insert", "event", "kept"),
    [
        (1, "INSERT INTO marks VALUES (:mark)", "SyncRep", True),
        (2, "WITH late AS (INSERT INTO slow VALUES (1)) INSERT INTO marks VALUES (:mark)", "PgSleep", False),
    ],
)
async def test_connection_lost_during_commit(
    session: AsyncSession, bystander: asyncpg.Connection, mark: int, insert: str, event: str, *, kept: bool
) -> None:
    """The same error follows a COMMIT that happened and one that did not: that is what doubt means."""
    await session.execute(text("SET LOCAL synchronous_commit = 'on'"))
    await session.execute(text(insert), {"mark": mark})
    pid = await pid_of(session)
    committing = await commit_when(session, bystander, event)
    await end(bystander, pid)
    with Caught() as caught:
        await committing
    assert caught.facts == (exc.DBAPIError, "08003", True, ErrorKind.CONNECTION)
    assert classify(caught.error, POSTGRES_ERRORS) is ErrorKind.CONNECTION
    assert await bystander.fetchval("SELECT EXISTS (SELECT FROM marks WHERE id = $1)", mark) is kept


async def test_cancelled_during_commit(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """A task cancelled while its COMMIT is under way cannot know: here it had happened."""
    await session.execute(text("SET LOCAL synchronous_commit = 'on'"))
    await session.execute(text("INSERT INTO marks VALUES (3)"))
    committing = await commit_when(session, bystander, "SyncRep")
    committing.cancel()
    with Caught() as caught:
        await committing
    assert isinstance(caught.error, asyncio.CancelledError)
    assert await bystander.fetchval("SELECT EXISTS (SELECT FROM marks WHERE id = 3)")


async def test_deferred_constraint_fails_at_commit(session: AsyncSession) -> None:
    """A COMMIT that a deferred constraint refused was answered: nothing is in doubt."""
    await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    await session.execute(text(INSERT), hero(team_id=99))
    with Caught() as caught:
        await session.commit()
    assert caught.facts == (exc.IntegrityError, "23503", False, ErrorKind.REFUSED_ROW)
    assert classify(caught.error, POSTGRES_ERRORS) is not ErrorKind.CONNECTION


async def test_commit_cancelled_by_a_person(session: AsyncSession, bystander: asyncpg.Connection) -> None:
    """A COMMIT that pg_cancel_backend ended was answered too."""
    await session.execute(text("INSERT INTO slow VALUES (1)"))
    pid = await pid_of(session)
    committing = await commit_when(session, bystander, "PgSleep")
    await bystander.execute("SELECT pg_cancel_backend($1)", pid)
    with Caught() as caught:
        await committing
    assert caught.facts == (exc.DBAPIError, "57014", False, ErrorKind.OVERLOAD)
    assert classify(caught.error, POSTGRES_ERRORS) is not ErrorKind.CONNECTION


async def test_serialization_failure_at_commit(session: AsyncSession, engine: AsyncEngine) -> None:
    """Write skew is found at COMMIT: contention, and rolled back for certain."""
    read, write = text("SELECT sum(power) FROM hero"), text("UPDATE hero SET power = power WHERE id = :id")
    options = {"isolation_level": "SERIALIZABLE"}
    async with AsyncSession(engine) as other:
        for side in (session, other):
            await side.connection(execution_options=options)
            await side.execute(read)
        for side, hero_id in ((session, 1), (other, 2)):
            await side.execute(write, {"id": hero_id})
        await other.commit()
        with Caught() as caught:
            await session.commit()
    assert caught.facts == (exc.DBAPIError, "40001", False, ErrorKind.CONTENTION)
    assert classify(caught.error, POSTGRES_ERRORS) is not ErrorKind.CONNECTION


def test_a_driver_that_has_lost_count_needs_another_connection() -> None:
    """What asyncpg raises, with no code, on a session that is terminated as it is lent, is a lost connection."""
    error = asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    assert classify(error, POSTGRES_ERRORS) is ErrorKind.CONNECTION
