"""What rows look like in a file, and that the project's own reader gets the same values out of it."""

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from math import isnan
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
)
from sqlalchemy import Enum as EnumType

from worker.core.errors import OutputError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.output.rows import RowWriter
from worker.output.spec import FileKind
from worker.source.open import open_rows
from worker.source.spec import FileFormat, SourceLimits, SourceSpec
from worker.source.validate import RowValidator

CSV, NDJSON = FileKind("csv"), FileKind("ndjson")
BOTH = pytest.mark.parametrize("kind", [CSV, NDJSON], ids=["csv", "ndjson"])


class Mood(Enum):
    """An enumeration whose names and values differ."""

    SAD = "a sad one"
    HAPPY = 'a "happy", one'


def csv_of(*rows: Sequence[object], columns: str = "ab", documents: str = "") -> str:
    """Rows as CSV without the header, each column named by a letter."""
    return RowWriter(columns, CSV, documents=documents).render(rows).decode()


def json_of(*values: object, documents: str = "") -> list[object]:
    """Values of one column as the parsed NDJSON has them."""
    written = RowWriter("a", NDJSON, documents=documents).render([(value,) for value in values])
    return [json.loads(line)["a"] for line in written.splitlines()]


def test_null_and_an_empty_text_differ_in_csv() -> None:
    """Readers that care can tell `""` from nothing."""
    assert csv_of((None, ""), ("", None)) == ',""\n"",\n'


def test_a_row_of_one_empty_cell_is_no_empty_line() -> None:
    """An empty line would be no row, for this reader and for many others."""
    assert csv_of(("x",), (None,), ("",), columns="a") == 'x\n""\n""\n'


def test_only_what_needs_quotes_gets_them() -> None:
    """Delimiters, quotes and line ends of both kinds are quoted; the rest is left alone, a formula's beginning too."""
    rows = [("a,b", "c;d"), ('say "a"', "a\nb"), ("a\rb", " x "), ("=1+1", "@x"), ("-x", "+x")]
    assert csv_of(*rows) == '"a,b",c;d\n"say ""a""","a\nb"\n"a\rb", x \n=1+1,@x\n-x,+x\n'


def test_a_tsv_has_tabs() -> None:
    """Then a tab needs quotes, and a comma does not."""
    writer = RowWriter(["a", "b,c"], FileKind("csv", "\t"))
    assert writer.head + writer.render([("1,2", "3\t4")]) == b'a\tb,c\n1,2\t"3\t4"\n'


def test_the_header_is_quoted_like_a_row() -> None:
    """A column may be called anything, and NDJSON needs no header."""
    assert RowWriter(["a", 'b"c', "\ufeffd"], CSV).head == 'a,"b""c","\ufeffd"\n'.encode()
    assert RowWriter(["a"], NDJSON).head == b""


def test_an_ndjson_row_is_an_object_of_all_columns() -> None:
    """NULL is written, so that every row shows which columns there are."""
    assert RowWriter("ab", NDJSON).render([(1, None), (2, "ü")]) == '{"a":1,"b":null}\n{"a":2,"b":"ü"}\n'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (-5, "-5"),
        (2**70, str(2**70)),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-10"), "0.0000000001"),
        (Decimal("NaN"), "NaN"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), "2026-01-02T03:04:05.000006+00:00"),
        (dt.datetime(2026, 1, 2), "2026-01-02T00:00:00"),  # noqa: DTZ001 - naive on purpose
        (dt.datetime(1900, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1172))), "1899-12-31T23:40:28+00:00"),
        (dt.date(26, 1, 2), "0026-01-02"),
        (dt.time(3, 4, tzinfo=dt.timezone(dt.timedelta(hours=-2))), "03:04:00-02:00"),
        (dt.timedelta(days=400, hours=5, microseconds=7), "P400DT5H0M0.000007S"),
        (dt.timedelta(microseconds=-1), "-P0DT0H0M0.000001S"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (b"\x00\xff", r"\x00ff"),
        (memoryview(b"a"), r"\x61"),
        (Mood.SAD, "a sad one"),
        ([1, None, "x,y"], '"[1,null,""x,y""]"'),
        ([[Decimal("1.0")], [float("inf")]], '"[[""1.0""],[""Infinity""]]"'),
        ({"a": b"\x01"}, '"{""a"":""\\\\x01""}"'),
    ],
)
def test_the_written_form_of_each_type(value: object, text: str) -> None:
    """The same text stands in a CSV whether its column holds one type or several."""
    assert csv_of((value, 0)) == f"{text},0\n"
    assert csv_of((value, 0), ("x", 0), (None, 0)) == f"{text},0\nx,0\n,0\n"


def test_json_has_its_own_numbers_and_text_for_the_rest() -> None:
    """What JSON can say exactly is no text; what most readers would round is."""
    values = [1, True, 0.5, None, "x", [1, [None]], {"a": 1}]
    assert json_of(*values) == values
    assert json_of(Decimal("0.10"), 2**64, float("nan"), b"\x01") == ["0.10", str(2**64), "NaN", r"\x01"]


def test_a_document_is_json_in_both_formats() -> None:
    """It is given as JSON text, and its numbers stay as they stand there; NULL stays NULL, and is not JSON's null."""
    values = ['"x"', "1.00000000000000000001", "null", None, '{"ü":\r\n [1.0]}']
    written = RowWriter("a", NDJSON, documents="a").render([(value,) for value in values])
    assert written.decode().splitlines() == [
        '{"a":"x"}',
        '{"a":1.00000000000000000001}',
        '{"a":null}',
        '{"a":null}',
        '{"a":{"ü":   [1.0]}}',
    ]
    cells = [row[0] for row in csv.reader(csv_of(*[(value, 0) for value in values], documents="a").splitlines())]
    assert cells == ['"x"', "1.00000000000000000001", "null", "", '{"ü":   [1.0]}']


@BOTH
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "'a' holds a value of type builtins.object"),
        ({1: 2}, "builtins.int"),
        ([{3}], "builtins.set"),
        (range(3), "turn it into text first"),
    ],
)
def test_a_value_without_an_exact_form_is_refused(kind: FileKind, value: object, said: str) -> None:
    """The refusal names the column and the type, and what to do."""
    for rows in ([(value,)], [(None,), (value,), ("x",)]):
        with pytest.raises(OutputError, match=said):
            RowWriter("a", kind).render(rows)


@BOTH
def test_a_document_that_is_no_text_is_refused(kind: FileKind) -> None:
    """It was parsed already, and what it said is lost."""
    with pytest.raises(TypeError, match="column 'a' holds documents, whose values are given as JSON text"):
        RowWriter("a", kind, documents="a").render([(1.5,)])


@BOTH
@pytest.mark.parametrize("rows", [[(1, 2, 3)], [(1,)], [(1, 2), (1,)]])
def test_a_row_of_another_width_is_refused(kind: FileKind, rows: list[tuple[object, ...]]) -> None:
    """Values never slip into another column."""
    with pytest.raises(ValueError, match=r"does not fit the columns a, b|shorter"):
        RowWriter("ab", kind).render(rows)


def nullable(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values, or NULL."""
    return st.none() | strategy


def zoned(build: Callable[..., st.SearchStrategy[Any]], **bounds: object) -> st.SearchStrategy[Any]:
    """Values with offsets of whole minutes."""
    offsets = st.integers(-959, 959).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
    return build(timezones=offsets, **bounds)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
FLOATS = st.floats()
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("NaN"), Decimal("-Infinity"), Decimal("1.00"), Decimal("1E+50"), Decimal("-1E-50")]
)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
MOMENTS = {"min_value": dt.datetime(2, 1, 1), "max_value": dt.datetime(9998, 1, 1)}  # noqa: DTZ001 - as Hypothesis wants

FIELDS: dict[str, tuple[Any, dict[str, Any], st.SearchStrategy[Any]]] = {
    "id": (Integer, {"minimum": -(2**63), "maximum": 2**63 - 1}, st.integers(-(2**63), 2**63 - 1)),
    "title": (String, {"text": True}, TEXTS),
    "note": (String, {"text": True, "nullable": True}, nullable(TEXTS)),
    "price": (Numeric, {"type_name": "numeric"}, nullable(DECIMALS)),
    "ratio": (Float(53), {}, nullable(FLOATS)),
    "flag": (Boolean, {}, nullable(st.booleans())),
    "day": (Date, {}, nullable(st.dates())),
    "at": (
        DateTime(timezone=True),
        {"type_name": "timestamp with time zone"},
        nullable(zoned(st.datetimes, **MOMENTS)),
    ),
    "wall": (DateTime, {"type_name": "timestamp without time zone"}, nullable(st.datetimes())),
    "clock": (Time, {"type_name": "time without time zone"}, nullable(st.times())),
    "clocktz": (Time(timezone=True), {"type_name": "time with time zone"}, nullable(zoned(st.times))),
    "span": (Interval, {}, nullable(st.timedeltas())),
    "uid": (Uuid, {}, nullable(st.uuids())),
    "blob": (LargeBinary, {}, nullable(st.binary(max_size=8) | TEXTS.map(str.encode))),
    "mood": (EnumType(Mood), {}, nullable(st.sampled_from(Mood))),
    "plain": (EnumType("a b", "c"), {}, nullable(st.sampled_from(["a b", "c"]))),
    "document": (JSON, {"type_name": "jsonb"}, DOCUMENTS),
    "words": (ARRAY(String), {"array": True}, nullable(st.lists(nullable(TEXTS), max_size=3))),
    "prices": (ARRAY(Numeric), {"array": True}, nullable(st.lists(nullable(DECIMALS), max_size=3))),
    "ratios": (
        ARRAY(Float, dimensions=2),
        {"array": True},
        nullable(st.lists(st.lists(FLOATS, max_size=2), max_size=2)),
    ),
    "blobs": (ARRAY(LargeBinary), {"array": True}, nullable(st.lists(st.binary(max_size=3), max_size=2))),
    "ats": (
        ARRAY(DateTime(timezone=True)),
        {"array": True},
        nullable(st.lists(zoned(st.datetimes, **MOMENTS), max_size=2)),
    ),
    "spans": (ARRAY(Interval), {"array": True}, nullable(st.lists(st.timedeltas(), max_size=2))),
}
COLUMNS = tuple(FIELDS)
NAMED = ("document", "note")
TABLE = Table(
    "things", MetaData(), *(Column(name, kind, primary_key=name == "id") for name, (kind, _, _) in FIELDS.items())
)


def facts_of(name: str, known: dict[str, Any]) -> ColumnFacts:
    """A column as a database would declare it."""
    defaults: dict[str, Any] = {"type_name": "other", "full_type": "other", "nullable": name not in {"id", "title"}}
    return ColumnFacts(name=name, **(defaults | known))


FACTS = TableFacts("things", {name: facts_of(name, known) for name, (_, known, _) in FIELDS.items()})


def read_back(folder: Path, content: bytes, kind: FileFormat) -> list[tuple[object, ...]]:
    """The rows that a bulk_upsert of the file would store."""
    (folder / "x").write_bytes(content)
    source = open_rows(SourceSpec(uri="x", format=kind), SourceLimits(data_dirs=(folder,)))
    try:
        validator = RowValidator(
            TABLE, None, FACTS, source_columns=source.columns, key=("id",), empty_is_text=source.empty_is_text
        )
        result = validator.validate(source.read(1_000))
    finally:
        source.close()
    assert result.faults == []
    assert validator.columns == COLUMNS
    return list(zip(*result.values, strict=True))


def written_document(document: object) -> str | None:
    """A document as a database would write it."""
    return None if document is None else json.dumps(document, ensure_ascii=False)


def comparable(row: Iterable[object]) -> list[object]:
    """A row in which NaN equals NaN, and a number only one of its own type."""
    return [_comparable(value) for value in row]


def _comparable(value: object) -> object:
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, float | Decimal) and isnan(value):
        return "NaN"
    return (type(value), value) if isinstance(value, bool | int | float | Decimal) else value


@BOTH
@given(rows=st.lists(st.tuples(*(strategy for _, _, strategy in FIELDS.values())), min_size=1, max_size=4))
def test_values_come_back_as_they_went(
    tmp_path_factory: pytest.TempPathFactory, kind: FileKind, rows: list[tuple[object, ...]]
) -> None:
    """Every type, alone and in arrays; only an empty text in a nullable column is NULL to a reader of CSV."""
    writer, document, note = RowWriter(COLUMNS, kind, documents=("document",)), *map(COLUMNS.index, NAMED)
    given = [(*row[:document], written_document(row[document]), *row[document + 1 :]) for row in rows]
    found = read_back(tmp_path_factory.getbasetemp(), writer.head + writer.render(given), kind.format)
    if kind is CSV:
        rows = [(*row[:note], row[note] or None, *row[note + 1 :]) for row in rows]
    assert list(map(comparable, found)) == list(map(comparable, rows))
