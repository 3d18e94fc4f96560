"""`export_rows`: files of a table's rows, whole and once, whatever happens to their run."""

import gzip
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import pytest
from sqlalchemy import insert, text

from tests.conftest import MODELS, MakeRunner
from tests.support.chosen import Backend
from tests.support.file_runs import left_in
from tests.support.own_session import execute, rows_of, value_of
from tests.support.shop_models import Item
from worker import RequestError
from worker.core.errors import NotAllowedError, OutputError, UnknownColumnError, UnknownTableError, WhereError
from worker.core.events import ChunkCommitted, Event
from worker.core.options import RunOptions
from worker.core.outcomes import Failed, Interrupted, Outcome, Succeeded
from worker.core.settings import Settings
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.reflect import complete_tables
from worker.declare.tables import find_tables
from worker.main import load_declared
from worker.run.runner import Runner

ITEM = Item.__table__  # type: ignore[attr-defined]  # SQLModel sets it
HEADER = "sku,name,quantity,price,note,shelf,slot,counted_at\n"
NOTES = ("", '""')


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder, which the first run makes."""
    return tmp_path / "out"


@pytest.fixture
def settings(settings: Settings, out: Path) -> Settings:
    """Settings with chunks of ten rows, always, and an output folder of the test's own."""
    bounds = dict.fromkeys(("chunk_start_rows", "chunk_min_rows", "chunk_max_rows"), 10)
    return settings.model_copy(update={**bounds, "output_dirs": (out,)})


@pytest.fixture
async def items(database: Database) -> None:
    """Thirty-five items."""
    rows = [
        {
            "sku": f"S{n:02}",
            "name": f"item {n}",
            "quantity": n,
            "price": "0.5",
            "note": "" if n % 2 else None,
            "counted_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for n in range(35)
    ]
    async with database.engine.begin() as connection:
        await connection.execute(insert(ITEM), rows)


@pytest.fixture
def content(backend: Backend) -> str:
    """A file of these items; a database without time zones has its moments in UTC."""
    zone = "+00:00" if backend == "postgresql" else ""
    lines = [f"S{n:02},item {n},{n},0.50,{NOTES[n % 2]},,,2026-01-01T00:00:00{zone}\n" for n in range(35)]
    return HEADER + "".join(lines)


async def export(runner: Runner, run_id: str = "r", **params: object) -> Outcome:
    """One attempt of a run."""
    return await runner.run(Delivery(run_id, "export_rows", {"table": "item", **params}, {}, "arq:queue", 1))


def refused(outcome: Outcome) -> str:
    """What a run failed with."""
    assert isinstance(outcome, Failed), outcome
    assert outcome.error.type == "OutputError"
    return outcome.error.message


@pytest.mark.usefixtures("items")
async def test_all_rows_are_in_the_file_in_the_order_of_the_key(
    make_runner: MakeRunner, out: Path, content: str
) -> None:
    """NULL and an empty text differ, and nothing but the file is left."""
    outcome = await export(make_runner(), uri="x.csv")
    assert (out / "x.csv").read_text() == content
    assert outcome == Succeeded({"rows": 35, "bytes": len(content)})
    assert left_in(out) == ["x.csv"]


@pytest.mark.usefixtures("items")
async def test_a_where_chooses_rows_and_the_name_tells_the_packing(make_runner: MakeRunner, out: Path) -> None:
    """NDJSON, packed, in a folder that is made."""
    outcome = await export(make_runner(), uri="2026/x.ndjson.gz", where={"quantity": {"in": [3, 30]}})
    packed = (out / "2026/x.ndjson.gz").read_bytes()
    rows = [orjson.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert [(row["sku"], row["price"], row["note"]) for row in rows] == [("S03", "0.50", ""), ("S30", "0.50", None)]
    assert outcome == Succeeded({"rows": 2, "bytes": len(packed)})


async def reflecting(make_runner: MakeRunner, database: Database, settings: Settings, table: str) -> Runner:
    """A runner that knows a table from the database alone."""
    changed = settings.model_copy(update={"reflect": (table,)})
    tables = await complete_tables(database, find_tables((MODELS,), {}), changed)
    return replace(make_runner(changed=changed), tables=tables)


@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_a_document_is_written_to_its_last_digit(
    make_runner: MakeRunner, database: Database, settings: Settings, out: Path, backend: Backend, kind: str
) -> None:
    """No parser of JSON stands between the database and the file."""
    document = '\n{"a": 1.00000000000000000001,\n "b": 12345678901234567890123}'
    type_ = kind if backend == "postgresql" else "json"
    await execute(
        database,
        f"CREATE TABLE papers (id int PRIMARY KEY, doc {type_})",
        text("INSERT INTO papers VALUES (1, :doc)").bindparams(doc=document)
        if backend != "postgresql"
        else text(f"INSERT INTO papers VALUES (1, CAST(CAST(:doc AS text) AS {kind}))").bindparams(doc=document),
    )
    runner = await reflecting(make_runner, database, settings, "papers")
    assert isinstance(await export(runner, table="papers", uri="x.ndjson"), Succeeded)
    written = document.replace("\n", " ") if type_ == "json" else document.replace("\n", "")
    assert (out / "x.ndjson").read_text() == '{"id":1,"doc":' + written + "}\n"


async def test_an_empty_table_makes_a_file_with_a_header(make_runner: MakeRunner, out: Path) -> None:
    """Whoever waits for the file finds one."""
    assert await export(make_runner(), uri="x.csv") == Succeeded({"rows": 0, "bytes": len(HEADER)})
    assert (out / "x.csv").read_text() == HEADER


def stopping_after(runner: Runner, chunks: int) -> Runner:
    """A runner that is told to stop when it has committed so many chunks."""
    left = chunks

    def emit(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, ChunkCommitted)
        if not left:
            runner.stop.set()

    object.__setattr__(runner, "emit", emit)
    return runner


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.usefixtures("items")
async def test_an_interrupted_export_goes_on_where_it_was(
    make_runner: MakeRunner, out: Path, content: str, name: str, chunks: int
) -> None:
    """However often it is stopped, at whichever chunk: each claim writes a segment of its own, and rows come once."""
    attempts = 1
    while isinstance(outcome := await export(stopping_after(make_runner(), chunks), uri=name), Interrupted):
        attempts += 1
        if attempts == 2:
            with next(out.glob("*.part")).open("ab") as file:
                file.write(b"a row of a chunk that was rolled back\n")
    data = (out / name).read_bytes()
    assert (gzip.decompress(data) if name.endswith(".gz") else data).decode() == content
    assert outcome == Succeeded({"rows": 35, "bytes": len(data)})
    assert attempts >= 3
    assert left_in(out) == [name]


@pytest.mark.usefixtures("items")
async def test_a_run_that_ended_is_not_run_again(make_runner: MakeRunner, out: Path) -> None:
    """A second delivery finds the result, and does not stumble over the run's own file."""
    outcome = await export(make_runner(), uri="x.csv")
    assert await export(make_runner(), uri="x.csv") == outcome
    assert left_in(out) == ["x.csv"]


@pytest.mark.usefixtures("items")
async def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(
    make_runner: MakeRunner, out: Path, content: str
) -> None:
    """The refusal comes before any row, and says what to do."""
    out.mkdir()
    (out / "x.csv").write_text("old")
    assert '"overwrite": true' in refused(await export(make_runner(), "first", uri="x.csv"))
    assert ((out / "x.csv").read_text(), left_in(out)) == ("old", ["x.csv"])
    assert isinstance(await export(make_runner(), "second", uri="x.csv", overwrite=True), Succeeded)
    assert ((out / "x.csv").read_text(), left_in(out)) == (content, ["x.csv"])


@pytest.mark.usefixtures("items")
async def test_a_file_that_came_meanwhile_is_kept(make_runner: MakeRunner, out: Path) -> None:
    """The run fails, and its rows wait in its segments."""
    assert isinstance(await export(stopping_after(make_runner(), 2), uri="x.csv"), Interrupted)
    (out / "x.csv").write_text("new")
    assert "'x.csv' exists already" in refused(await export(make_runner(), uri="x.csv"))
    assert (out / "x.csv").read_text() == "new"
    assert len(left_in(out)) == 2


@pytest.mark.usefixtures("items")
async def test_a_lost_segment_fails_the_run(make_runner: MakeRunner, out: Path) -> None:
    """No file is made of what is left."""
    assert isinstance(await export(stopping_after(make_runner(), 2), uri="x.csv"), Interrupted)
    next(out.glob("*.part")).unlink()
    assert "is lost: it is not there" in refused(await export(make_runner(), uri="x.csv"))
    assert left_in(out) == []


@pytest.mark.usefixtures("items")
async def test_a_file_outside_the_folders_is_refused(make_runner: MakeRunner, tmp_path: Path) -> None:
    """The worker's own disk decides, so the run fails there."""
    assert "WORKER_OUTPUT_DIRS" in refused(await export(make_runner(), uri=f"{tmp_path}/x.csv"))
    assert left_in(tmp_path) == []


async def export_in_two_attempts(
    make_runner: MakeRunner, database: Database, settings: Settings, between: str
) -> Outcome:
    """Export a reflected table of 15 rows, which is altered after the first chunk."""
    await execute(database, "CREATE TABLE part (id int PRIMARY KEY, name varchar(20) DEFAULT 'x')")
    await execute(database, *(f"INSERT INTO part (id) VALUES ({n})" for n in range(1, 16)))
    first = stopping_after(await reflecting(make_runner, database, settings, "part"), 1)
    assert isinstance(await export(first, table="part", uri="x.csv"), Interrupted)
    await execute(database, between)
    return await export(await reflecting(make_runner, database, settings, "part"), table="part", uri="x.csv")


async def test_a_column_gained_meanwhile_is_not_in_the_file(
    make_runner: MakeRunner, database: Database, settings: Settings, out: Path
) -> None:
    """A file has the columns that it was begun with from its first row to its last."""
    gained = "ALTER TABLE part ADD colour varchar(20) DEFAULT 'new'"
    assert isinstance(await export_in_two_attempts(make_runner, database, settings, gained), Succeeded)
    assert (out / "x.csv").read_text() == "id,name\n" + "".join(f"{n},x\n" for n in range(1, 16))


async def test_a_column_lost_meanwhile_fails_the_run(
    make_runner: MakeRunner, database: Database, settings: Settings
) -> None:
    """A file whose later rows would lack it is not made."""
    outcome = await export_in_two_attempts(make_runner, database, settings, "ALTER TABLE part DROP COLUMN name")
    assert isinstance(outcome, Failed)
    assert "Table 'part' has no column 'name'" in outcome.error.message


POSTGRESQL_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "small smallint": ("-32768",),
    "big bigint": ("9223372036854775807",),
    "exact numeric": ("123456789012345678901234567890.50", "NaN", "1e-20"),
    "money numeric(12,2)": ("1.00",),
    "single real": ("0.1", "Infinity", "-0"),
    "ratio double precision": ("0.1", "-Infinity", "NaN", "1e-300", "0.30000000000000004"),
    "flag boolean": ("true", "false"),
    "title text": ('a,b\n"c" \'\\ ü', "=1+1", " x ", "\\N", "null"),
    "code char(4)": ("ab",),
    "day date": ("0002-01-01", "9998-12-31"),
    "at timestamptz": ("2026-01-01T12:00:00.000001+02:00", "1890-01-01T00:00:00Z"),
    "wall timestamp": ("2026-01-01T12:00:00.5",),
    "clock time": ("23:59:59.999999",),
    "clocktz timetz": ("12:00:00-03:30",),
    "span interval": ("-1 day 02:03:04.5", "400 days"),
    "uid uuid": ("01234567-89ab-cdef-0123-456789abcdef",),
    "blob bytea": (r"\x00ff", r"\x5c78", "plain"),
    "doc jsonb": ('{"a": [1, 2.5, "ü", null, true]}', '"x"', "1", "[]"),
    "plain json": ('{"a":1.0}',),
    "mood mood": ('so "so", la la',),
    "words text[]": ('{a,"b,c",NULL,""}', "{}"),
    "sums numeric[]": ("{1.50,NaN,NULL}",),
    "blobs bytea[]": (r'{"\\x00ff"}',),
    "ats timestamptz[]": ('{"2026-01-01T12:00:00+02:00"}',),
    "host inet": ("10.0.0.1", "10.0.0.0/8"),
    "mac macaddr": ("08:00:2b:01:02:03",),
    "bits bit varying": ("0101",),
    "words_of tsvector": ("'a':1 'b':2",),
    "place point": ("(1,2)",),
}
SQLITE_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "small SMALLINT": ("-32768",),
    "big BIGINT": ("9223372036854775807", "-9223372036854775807"),
    "money NUMERIC(12, 2)": ("1.00", "9999999999.99"),
    "ratio DOUBLE": ("0.1", "1e-300", "0.30000000000000004", "-1e308"),
    "flag BOOLEAN": ("1", "0"),
    "title TEXT": ("'a,b\n\"c\" ''\\ ü'", "'=1+1'", "' x '", "'\\N'", "'null'"),
    "code CHAR(4)": ("'ab'",),
    "day DATE": ("'0002-01-01'", "'9998-12-31'"),
    "wall DATETIME": ("'2026-01-01 12:00:00.500000'", "'0002-01-01 00:00:00.000001'"),
    "clock TIME": ("'23:59:59.999999'",),
    "blob BLOB": ("x'00ff'", "x'5c78'", "x''"),
    "doc JSON": ("""'{"a":[1,2.5,"ü",null,true]}'""", """'"x"'""", "'1'", "'[]'"),
}
MARIADB_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "small smallint": ("-32768",),
    "big bigint": ("9223372036854775807", "-9223372036854775808"),
    "large bigint unsigned": ("18446744073709551615",),
    "exact decimal(65,30)": ("12345678901234567890123456789012345.50", "1e-20"),
    "money decimal(12,2)": ("1.00",),
    "single float": ("0.1", "-0.5", "16777216"),
    "ratio double": ("0.1", "1e-300", "0.30000000000000004"),
    "flag boolean": ("true", "false"),
    "title text": ("'a,b\n\"c\" ''\\\\ ü'", "'=1+1'", "' x '", "'\\\\N'", "'null'"),
    "code char(4)": ("'ab'",),
    "day date": ("'0002-01-01'", "'9998-12-31'"),
    "wall datetime(6)": ("'2026-01-01 12:00:00.5'", "'1000-01-01 00:00:00.000001'"),
    "at timestamp(6) NULL": ("'2026-01-01 12:00:00.000001'",),
    "clock time(6)": ("'23:59:59.999999'",),
    "annum year": ("1901", "2155"),
    "uid uuid": ("'0189f7e5-0000-7000-8000-0000000000ff'",),
    "raw_ varbinary(8)": ("x'00ff'", "x'5c78'", "x''"),
    "doc json": ("""'{"a":[1,2.5,"ü",null,true]}'""", """'"x"'""", "'1'", "'[]'"),
    "mood enum('sad', 'so \"so\", la la')": ("""'so "so", la la'""", "'sad'"),
    "host inet6": ("'::ffff:10.0.0.1'", "'2001:db8::ff00'"),
}
LITERALS: Final[Mapping[Backend, Mapping[str, tuple[str, ...]]]] = {
    "postgresql": {
        kind: tuple(f"CAST($v${value}$v$ AS {kind.partition(' ')[2]})" for value in values)
        for kind, values in POSTGRESQL_KINDS.items()
    },
    "sqlite": SQLITE_KINDS,
    "mariadb": MARIADB_KINDS,
}
"""Columns by database, each with values as they are written in SQL."""


SAME: Final[Mapping[Backend, str]] = {
    "postgresql": "CAST({} AS text) IS NOT DISTINCT FROM CAST({} AS text)",
    "sqlite": "{0} IS {1} AND typeof({0}) = typeof({1})",
    "mariadb": "{} <=> {}",
}
"""Whether two values are the same, to the last bit."""


# that is what columns of such types are for; and SQLAlchemy's own YEAR is not ready for its next version
@pytest.mark.filterwarnings(
    "ignore:Did not recognize type 'point'", "ignore:Did not recognize type 'inet6'", "ignore:Type object .*YEAR"
)
@pytest.mark.parametrize("name", ["x.csv", "x.ndjson.gz", "x.tsv"])
async def test_what_is_exported_can_be_upserted(
    make_runner: MakeRunner, database: Database, settings: Settings, out: Path, backend: Backend, name: str
) -> None:
    """A table of every kind of column comes back as it was, byte by byte in the database's own text."""
    kinds = LITERALS[backend]
    columns = [kind.partition(" ")[0] for kind in kinds]
    most = max(map(len, kinds.values()))
    rows = [", ".join(values[row % len(values)] for values in kinds.values()) for row in range(most)]
    async with database.engine.begin() as connection:
        if backend == "postgresql":
            await connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('sad', 'so \"so\", la la')")
        await connection.exec_driver_sql(f"CREATE TABLE kinds (id int PRIMARY KEY, {', '.join(kinds)})")
        await connection.exec_driver_sql("INSERT INTO kinds (id) VALUES (0)")
        for number, row in enumerate(rows, 1):
            await connection.exec_driver_sql(f"INSERT INTO kinds (id, {', '.join(columns)}) VALUES ({number}, {row})")
        await connection.exec_driver_sql("CREATE TABLE earlier AS SELECT * FROM kinds")
    runner = await reflecting(make_runner, database, settings.model_copy(update={"data_dirs": (out,)}), "kinds")
    assert isinstance(await export(runner, table="kinds", uri=name), Succeeded)
    await execute(database, "DELETE FROM kinds")
    params: dict[str, object] = {"table": "kinds", "source": {"uri": name}}
    outcome = await runner.run(Delivery("back", "bulk_upsert", params, {}, "arq:queue", 2))
    assert await rows_of(database, "SELECT reason FROM heavylift_quarantine") == []
    assert isinstance(outcome, Succeeded), outcome
    for column in columns:
        pairs = await rows_of(
            database,
            f"SELECT a.{column}, b.{column} FROM earlier a JOIN kinds b ON b.id = a.id "
            f"WHERE NOT ({SAME[backend].format(f'a.{column}', f'b.{column}')})",
        )
        assert pairs == [], column
    assert await value_of(database, "SELECT count(*) FROM kinds") == most + 1
    assert isinstance(outcome.result, dict)
    assert outcome.result["inserted"] == most + 1


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        ({"table": "itme"}, UnknownTableError, "Did you mean 'item'"),
        ({"where": {"colour": {"eq": 1}}}, UnknownColumnError, "no column 'colour'"),
        ({"where": {"quantity": {"lt": "many"}}}, WhereError, "valid integer"),
        ({"uri": "x.txt"}, OutputError, "does not tell"),
        ({"uri": "x.csv.zip"}, OutputError, "Use gzip"),
        ({"uri": "s3://bucket/x.csv"}, OutputError, "scheme 's3'"),
        ({"format": "xml"}, RequestError, "'csv' or 'ndjson'"),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_enqueued(
    settings: Settings, params: dict[str, object], error: type[Exception], said: str
) -> None:
    """One clear line, before anything is queued."""
    spec, tables = load_declared(settings).registry.get("export_rows"), find_tables((MODELS,), {})
    assert spec.check is not None
    with pytest.raises(error, match=said):
        spec.check(spec.validate({"table": "item", "uri": "x.csv", **params}), tables, settings, RunOptions())


def test_reading_must_be_allowed(settings: Settings) -> None:
    """WORKER_ALLOW may leave a table to other operations."""
    spec = load_declared(settings).registry.get("export_rows")
    assert spec.check is not None
    parameters = spec.validate({"table": "item", "uri": "x.csv"})
    with pytest.raises(NotAllowedError, match="does not allow 'read'"):
        spec.check(parameters, find_tables((MODELS,), {"item": ("upsert",)}), settings, RunOptions())
