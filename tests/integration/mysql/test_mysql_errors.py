"""Errors that a real MariaDB was brought to raise, through SQLAlchemy and aiomysql, and what each calls for."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

import pytest
from pydantic import SecretStr
from sqlalchemy import exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.mariadb import MariaDbProcess
from tests.support.mariadb_hand import Hand, driver_behind, hand_on, run_on
from worker.core.errors import ErrorKind
from worker.core.settings import Settings
from worker.database.classify import DATABASE_ERRORS, classify, describe
from worker.database.engine import Database, open_database
from worker.database.mysql.errors import MYSQL_ERRORS, code_of

SCHEMA = """
CREATE TABLE team (id integer PRIMARY KEY) ENGINE=InnoDB;
INSERT INTO team VALUES (1);
CREATE TABLE hero (
    id integer PRIMARY KEY,
    email varchar(50) UNIQUE,
    power smallint NOT NULL DEFAULT 1,
    alias varchar(5),
    team_id integer,
    born date,
    mood ENUM('a', 'b'),
    rank integer NOT NULL DEFAULT 1,
    story JSON,
    latin varchar(20) CHARACTER SET latin1,
    CONSTRAINT hero_power_check CHECK (power >= 0),
    CONSTRAINT hero_team_fkey FOREIGN KEY (team_id) REFERENCES team (id)
) ENGINE=InnoDB;
INSERT INTO hero (id, email, team_id) VALUES (1, 'one@example.org', 1), (2, 'two@example.org', NULL);
CREATE VIEW strong AS SELECT * FROM hero WHERE power > 5 WITH CHECK OPTION;
CREATE TABLE guarded (id integer) ENGINE=InnoDB;
CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'closed on Sundays';
CREATE TABLE parted (id integer) ENGINE=InnoDB PARTITION BY RANGE (id) (PARTITION small VALUES LESS THAN (10));
CREATE TABLE bare (id integer NOT NULL) ENGINE=InnoDB
"""


@pytest.fixture
async def prepared(own_url: str) -> None:
    """Tables that refuse rows in every way."""
    await run_on(own_url, *SCHEMA.split(";\n"))


@pytest.fixture
async def connection(database: Database, prepared: None) -> AsyncIterator[AsyncConnection]:
    """A worker's connection, whose work is never kept unless a test commits."""
    del prepared
    async with database.engine.connect() as connection:
        yield connection


@pytest.fixture
async def hand(own_url: str, prepared: None) -> AsyncIterator[Hand]:
    """Somebody else on the server."""
    del prepared
    async with hand_on(own_url) as hand:
        yield hand


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
    def facts(self) -> tuple[str | None, bool, ErrorKind]:
        """The number and whether the connection is invalidated, as SQLAlchemy surfaces them; the kind."""
        assert isinstance(self.error, exc.DBAPIError)
        assert isinstance(self.error.orig, BaseException)
        return code_of(self.error.orig), self.error.connection_invalidated, classify(self.error, MYSQL_ERRORS)


INSERT = (
    "INSERT INTO hero (id, email, power, alias, team_id, born, mood) "
    "VALUES (:id, :email, :power, :alias, :team_id, :born, :mood)"
)


def hero(**values: object) -> dict[str, object]:
    """A hero's values, good ones but for those that are given."""
    return {"id": 100, "email": None, "power": 1, "alias": None, "team_id": 1, "born": None, "mood": "a", **values}


ROWS: list[tuple[str, str, dict[str, object]]] = [
    ("1062", INSERT, hero(email="one@example.org")),
    ("1452", INSERT, hero(team_id=99)),
    ("1451", "DELETE FROM team", {}),
    ("4025", INSERT, hero(power=-1)),
    ("1048", INSERT, hero(power=None)),
    ("1364", "INSERT INTO bare () VALUES ()", {}),
    ("1369", "INSERT INTO strong (id, power) VALUES (100, 2)", {}),
    ("1406", INSERT, hero(alias="far too long")),
    ("1264", INSERT, hero(power=32768)),
    ("1366", INSERT, hero(id="seven")),
    ("1292", INSERT, hero(born="2026-02-30")),
    ("1292", INSERT, hero(born="0000-00-00")),
    ("1265", INSERT, hero(mood="c")),
    ("1366", "UPDATE hero SET latin = :latin", {"latin": "λ"}),
    ("4025", "UPDATE hero SET story = :story", {"story": "{"}),
    ("1365", "UPDATE hero SET power = power / (power - power)", {}),
    ("1690", "UPDATE hero SET power = 9223372036854775807 + id", {}),
    ("1526", "INSERT INTO parted VALUES (11)", {}),
    ("1644", "INSERT INTO guarded VALUES (1)", {}),
    ("1300", INSERT, hero(alias="\udcff")),  # the driver's own, before anything is sent
]
STATEMENTS = [
    ("1064", "SELEC 1", ErrorKind.PERMANENT),
    ("1146", "SELECT * FROM villain", ErrorKind.PERMANENT),
    ("1054", "SELECT courage FROM hero", ErrorKind.PERMANENT),
    ("1146", "SELECT * FROM elsewhere.hero", ErrorKind.PERMANENT),
    ("1242", "UPDATE hero SET power = (SELECT id FROM team UNION SELECT 2)", ErrorKind.PERMANENT),
    ("1305", "SELECT no_such_function(1)", ErrorKind.PERMANENT),
    ("1969", "SET STATEMENT max_statement_time=0.02 FOR SELECT SLEEP(60)", ErrorKind.OVERLOAD),
    ("1792", "SET STATEMENT tx_read_only=1 FOR DELETE FROM hero", ErrorKind.PERMANENT),
]  # fmt: skip


@pytest.mark.parametrize(("number", "statement", "values"), ROWS)
async def test_refused_row(connection: AsyncConnection, number: str, statement: str, values: dict[str, object]) -> None:
    """Constraints, data errors, triggers and values that cannot be sent are the row's fault."""
    with Caught() as caught:
        await connection.execute(text(statement), values)
    assert caught.facts == (number, False, ErrorKind.REFUSED_ROW)


@pytest.mark.parametrize(("number", "statement", "kind"), STATEMENTS)
async def test_failing_statement(connection: AsyncConnection, number: str, statement: str, kind: ErrorKind) -> None:
    """A statement that cannot work, or cannot work now, has the kind of its number."""
    with Caught() as caught:
        await connection.execute(text(statement))
    assert caught.facts == (number, False, kind)


async def test_values_are_never_cut_short_though_the_server_would(own_mariadb: MariaDbProcess, own_url: str) -> None:
    """On a server with lax modes a worker's own are strict all the same."""
    await run_on(own_mariadb.url, "SET GLOBAL sql_mode = ''")
    database = open_database(Settings(database_url=SecretStr(own_url)), "strict")
    try:
        await run_on(own_url, *SCHEMA.split(";\n"))
        async with database.engine.connect() as connection:
            with Caught() as caught:
                await connection.execute(text(INSERT), hero(alias="far too long"))
    finally:
        await database.dispose()
        await run_on(own_mariadb.url, "SET GLOBAL sql_mode = DEFAULT")
    assert caught.facts == ("1406", False, ErrorKind.REFUSED_ROW)


async def test_a_zero_stays_a_zero(connection: AsyncConnection) -> None:
    """In a column that the server numbers, 0 is a value like any other, and no wish for a new number."""
    await connection.execute(text("CREATE TEMPORARY TABLE numbered (id bigint AUTO_INCREMENT PRIMARY KEY)"))
    await connection.execute(text("INSERT INTO numbered VALUES (0)"))
    assert (await connection.execute(text("SELECT id FROM numbered"))).scalar_one() == 0


@pytest.mark.parametrize("ending", ["", " NOWAIT"])
async def test_lock_timeout(database: Database, settings: Settings, hand: Hand, ending: str) -> None:
    """A row lock that does not come in time, or not at once where NOWAIT asks for that, is contention."""
    await hand.ask("BEGIN")
    await hand.ask("SELECT * FROM hero WHERE id = 1 FOR UPDATE")
    async with database.engine.connect() as connection, connection.begin():
        await connection.run_sync(database.dialect.set_limits, settings)
        with Caught() as caught:
            await connection.execute(text(f"SELECT * FROM hero WHERE id = 1 FOR UPDATE{ending}"))
    assert caught.facts == ("1205", False, ErrorKind.CONTENTION)


async def test_a_lock_timeout_in_a_savepoint_is_not_about_the_row(
    database: Database, settings: Settings, hand: Hand
) -> None:
    """The statement alone was undone by the server; the error is contention, and raising it undoes the rest."""
    await hand.ask("BEGIN")
    await hand.ask("SELECT * FROM hero WHERE id = 1 FOR UPDATE")
    async with database.engine.connect() as connection:
        with Caught() as caught:
            async with connection.begin():
                await connection.run_sync(database.dialect.set_limits, settings)
                await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 2"))
                async with connection.begin_nested():
                    await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 1"))
    assert caught.facts == ("1205", False, ErrorKind.CONTENTION)
    assert await hand.value("SELECT power FROM hero WHERE id = 2") == 1


async def _deadlock(connection: AsyncConnection, hand: Hand) -> asyncio.Task[object]:
    """Make the connection the victim of a deadlock; it has updated hero 2, and its statement is under way."""
    await hand.ask("BEGIN")
    # the one that has changed more rows survives
    await hand.ask("UPDATE hero SET rank = 9 WHERE id = 1")
    await hand.ask("INSERT INTO bare SELECT seq FROM seq_1_to_50")
    await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 2"))
    other = asyncio.create_task(hand.ask("UPDATE hero SET rank = 9 WHERE id = 2"))
    async with hand_on(connection.engine.url.render_as_string(hide_password=False)) as onlooker:
        await onlooker.until_lock_is_awaited()
    return other


async def test_deadlock(connection: AsyncConnection, hand: Hand) -> None:
    """Of two transactions that wait for each other, the victim gets contention."""
    other = await _deadlock(connection, hand)
    with Caught() as caught:
        await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 1"))
    assert caught.facts == ("1213", False, ErrorKind.CONTENTION)
    await other


async def test_a_deadlock_in_a_savepoint_stays_a_deadlock(connection: AsyncConnection, hand: Hand) -> None:
    """The savepoint went with the transaction: that it cannot be rolled back to does not hide why."""
    other = await _deadlock(connection, hand)
    with Caught() as caught:
        async with connection.begin_nested():
            await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 1"))
    assert caught.facts == ("1213", False, ErrorKind.CONTENTION)
    await other


async def test_nothing_is_kept_of_a_transaction_that_goes_on_after_a_deadlock(
    connection: AsyncConnection, hand: Hand
) -> None:
    """The server would begin another one in silence, and the first half would be lost: every statement is refused."""
    other = await _deadlock(connection, hand)
    with Caught():
        async with connection.begin_nested():
            await connection.execute(text("UPDATE hero SET power = 7 WHERE id = 1"))
    await other
    await hand.ask("ROLLBACK")
    with Caught() as next_statement:
        await connection.execute(text("UPDATE hero SET power = 8 WHERE id = 1"))
    assert next_statement.facts == ("1213", False, ErrorKind.CONTENTION)
    with Caught() as commit:
        await connection.commit()
    assert commit.facts == ("1213", False, ErrorKind.CONTENTION)
    await connection.rollback()
    assert (await connection.execute(text("SELECT power FROM hero ORDER BY id"))).scalars().all() == [1, 1]


@pytest.mark.parametrize(
    ("word", "number", "kind", "invalidated"),
    [
        ("KILL QUERY", "1317", ErrorKind.OVERLOAD, False),
        ("KILL CONNECTION", "2013", ErrorKind.CONNECTION, True),
    ],
)
async def test_somebody_ends_a_running_statement(
    connection: AsyncConnection, hand: Hand, word: str, number: str, kind: ErrorKind, *, invalidated: bool
) -> None:
    """A killed statement looks like a timeout; a killed session is a lost connection."""
    session = (await driver_behind(connection)).server_id
    running = asyncio.create_task(connection.execute(text("SELECT id, SLEEP(60) FROM hero FOR UPDATE")))
    await hand.until_running(session, "SELECT id, SLEEP")
    await hand.ask(f"{word} {session}")
    with Caught() as caught:
        await running
    assert caught.facts == (number, invalidated, kind)


async def test_a_session_killed_while_idle_in_its_transaction(connection: AsyncConnection, hand: Hand) -> None:
    """The next statement says that the connection is gone."""
    driver = await driver_behind(connection)
    await connection.execute(text("UPDATE hero SET power = 7"))
    await hand.ask(f"KILL CONNECTION {driver.server_id}")
    await hand.until_gone(driver.server_id)
    with Caught() as caught:
        await connection.execute(text("SELECT 1"))
    number, invalidated, kind = caught.facts
    assert number in {"2013", "1927"}
    assert (invalidated, kind) == (True, ErrorKind.CONNECTION)


async def test_a_session_killed_inside_a_savepoint(connection: AsyncConnection, hand: Hand) -> None:
    """The savepoint's own rollback, which fails too, does not hide the lost connection."""
    driver = await driver_behind(connection)
    with Caught() as caught:
        async with connection.begin_nested():
            await hand.ask(f"KILL CONNECTION {driver.server_id}")
            await hand.until_gone(driver.server_id)
            await connection.execute(text("SELECT 1"))
    assert caught.facts[1:] == (True, ErrorKind.CONNECTION)


async def test_an_idle_transaction_is_ended(database: Database, settings: Settings, hand: Hand) -> None:
    """A transaction that idled for too long was ended by the server, with its connection."""
    settings = settings.model_copy(update={"lease_s": 1.0})
    async with database.engine.connect() as connection:
        with Caught() as caught:
            async with connection.begin():
                await connection.run_sync(database.dialect.set_limits, settings)
                await connection.execute(text("UPDATE hero SET power = 7"))
                await hand.until_gone((await driver_behind(connection)).server_id)
                await connection.execute(text("SELECT 1"))
    assert caught.facts[1:] == (True, ErrorKind.CONNECTION)
    assert await hand.value("SELECT MAX(power) FROM hero") == 1


async def test_a_statement_that_takes_too_long(database: Database, settings: Settings, prepared: None) -> None:
    """Its limit holds for what writes, too, and is overload."""
    del prepared
    settings = settings.model_copy(update={"statement_timeout_ms": 50})
    async with database.engine.connect() as connection, connection.begin():
        await connection.run_sync(database.dialect.set_limits, settings)
        with Caught() as caught:
            await connection.execute(text("UPDATE hero SET power = SLEEP(60)"))
    assert caught.facts == ("1969", False, ErrorKind.OVERLOAD)


async def test_a_server_that_says_nothing_is_given_up(connection: AsyncConnection) -> None:
    """The driver has a limit of its own, for a peer that vanished without a word."""
    driver = await driver_behind(connection)
    await connection.execute(text("SELECT 1"))
    driver.patience_s = 0.05
    with Caught() as caught:
        await connection.execute(text("SELECT SLEEP(60)"))
    assert caught.facts == ("2013", True, ErrorKind.CONNECTION)


async def test_a_statement_larger_than_a_packet_is_not_sent(connection: AsyncConnection) -> None:
    """The server would hang up: the driver refuses it as overload, and the transaction goes on."""
    with Caught() as caught:
        await connection.execute(text("SELECT LENGTH(:value)"), {"value": "x" * (1 << 20)})
    assert caught.facts == ("1153", False, ErrorKind.OVERLOAD)
    assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_read_only_server(own_mariadb: MariaDbProcess, connection: AsyncConnection, hand: Hand) -> None:
    """A former primary, say: the connection is no good."""
    user = make_url(own_mariadb.url).username
    await hand.ask("CREATE USER reader@'%' IDENTIFIED BY 'r'")
    await hand.ask("GRANT ALL ON *.* TO reader@'%'")
    await hand.ask("REVOKE SUPER, READ ONLY ADMIN ON *.* FROM reader@'%'")
    assert user != "reader"
    url = connection.engine.url.set(username="reader", password="r")
    database = open_database(Settings(database_url=SecretStr(url.render_as_string(hide_password=False))), "reader")
    await hand.ask("SET GLOBAL read_only = 1")
    try:
        async with database.engine.connect() as reader:
            with Caught() as caught:
                await reader.execute(text("DELETE FROM hero WHERE id = 2"))
    finally:
        await hand.ask("SET GLOBAL read_only = 0")
        await database.dispose()
        await hand.ask("DROP USER reader@'%'")
    assert caught.facts == ("1290", False, ErrorKind.CONNECTION)


async def test_too_many_connections(own_mariadb: MariaDbProcess, settings: Settings) -> None:
    """A server that is full may have room later."""
    async with hand_on(own_mariadb.url) as hand:
        before = await hand.value("SELECT @@max_connections")
        await hand.ask("SET GLOBAL max_connections = 10")
        database = open_database(settings.model_copy(update={"concurrency": 20}), "many")
        opened: list[AsyncConnection] = []
        try:
            with Caught() as caught:
                for _ in range(20):
                    connection = database.engine.connect()
                    opened.append(connection)
                    await connection
        finally:
            for connection in opened[:-1]:
                await connection.close()
            await database.dispose()
            await hand.ask(f"SET GLOBAL max_connections = {before}")
    assert caught.facts[::2] == ("1040", ErrorKind.CONNECTION)


async def test_server_restarts_while_a_statement_runs(
    own_mariadb: MariaDbProcess, connection: AsyncConnection, hand: Hand
) -> None:
    """A server that shuts down is a lost connection, and the next one works."""
    session = (await driver_behind(connection)).server_id
    running = asyncio.create_task(connection.execute(text("SELECT id, SLEEP(60) FROM hero FOR UPDATE")))
    await hand.until_running(session, "SELECT id, SLEEP")
    own_mariadb.restart()
    with Caught() as caught:
        await running
    number, _, kind = caught.facts
    assert number in {"2013", "1053"}
    assert kind is ErrorKind.CONNECTION


async def test_server_killed_then_absent(
    own_mariadb: MariaDbProcess, database: Database, connection: AsyncConnection
) -> None:
    """A statement meets the end, the next connection a closed door, and a started server serves again."""
    await connection.execute(text("SELECT 1"))
    own_mariadb.kill()
    try:
        with Caught() as caught:
            await connection.execute(text("SELECT 1"))
        await connection.close()
        with Caught() as refused:
            async with database.engine.connect():
                pass
    finally:
        own_mariadb.start()
    assert caught.facts[1:] == (True, ErrorKind.CONNECTION)
    assert refused.facts[::2] == ("2003", ErrorKind.CONNECTION)
    await database.check()


async def test_wrong_password(own_url: str) -> None:
    """Who may log in is nothing that waiting changes."""
    url = make_url(own_url).set(password="wrong").render_as_string(hide_password=False)
    database = open_database(Settings(database_url=SecretStr(url)), "stranger")
    with Caught() as caught:
        async with database.engine.connect():
            pass
    await database.dispose()
    assert caught.facts == ("1045", False, ErrorKind.PERMANENT)


async def test_connection_lost_during_commit(connection: AsyncConnection, hand: Hand) -> None:
    """The error says that the connection is gone; whether it was committed, nobody knows."""
    driver = await driver_behind(connection)
    await connection.execute(text("UPDATE hero SET power = 7"))
    await hand.ask(f"KILL CONNECTION {driver.server_id}")
    await hand.until_gone(driver.server_id)
    with Caught() as caught:
        await connection.commit()
    assert caught.facts[1:] == (True, ErrorKind.CONNECTION)


async def test_record_of_a_refused_row(connection: AsyncConnection) -> None:
    """What is kept of an error has the server's text and number, and no parameters."""
    values = hero(email="one@example.org", alias="o" + "d" * 2)
    try:
        await connection.execute(text(INSERT), values)
    except DATABASE_ERRORS as error:
        record = describe(error, MYSQL_ERRORS.code_of)
    assert record.type == "IntegrityError"
    assert record.message == "Duplicate entry 'one@example.org' for key 'email'"
    assert record.sqlstate == "1062"
    assert record.constraint is None
    assert "odd" not in record.traceback
