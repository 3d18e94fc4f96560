"""What rows of a source become, and which are refused, one rule at a time and at random."""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AfterValidator, StringConstraints, TypeAdapter, ValidationError, field_validator, model_validator
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    DateTime,
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
from sqlmodel import Field, SQLModel

from worker.core.errors import RequestError, UnknownColumnError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.source.batch import ABSENT, Batch, RowFault
from worker.source.validate import RowValidator, ValidatedBatch

Kind = Mapping[str, Any]  # keywords of ColumnFacts

INT2: Kind = {"type_name": "smallint", "full_type": "smallint", "minimum": -(2**15), "maximum": 2**15 - 1}
INT8: Kind = {"type_name": "bigint", "full_type": "bigint", "minimum": -(2**63), "maximum": 2**63 - 1}
TEXT: Kind = {"type_name": "text", "full_type": "text", "text": True}
VARCHAR3: Kind = {"type_name": "character varying", "full_type": "character varying(3)", "text": True, "max_length": 3}
MONEY: Kind = {"type_name": "numeric", "full_type": "numeric(5,2)"}
NUMERIC: Kind = {"type_name": "numeric", "full_type": "numeric"}
FLOAT8: Kind = {"type_name": "double precision", "full_type": "double precision"}
FLOAT4: Kind = {"type_name": "real", "full_type": "real"}
MOMENT: Kind = {"type_name": "timestamp with time zone", "full_type": "timestamp with time zone"}
NAIVE: Kind = {"type_name": "timestamp without time zone", "full_type": "timestamp without time zone"}
CLOCK: Kind = {"type_name": "time without time zone", "full_type": "time without time zone"}
CLOCKTZ: Kind = {"type_name": "time with time zone", "full_type": "time with time zone"}
JSONB: Kind = {"type_name": "jsonb", "full_type": "jsonb"}
INTS: Kind = {"type_name": "integer[]", "full_type": "integer[]", "array": True}
OTHER: Kind = {"type_name": "other", "full_type": "other"}


class Colour(Enum):
    """Values of an enumerated column."""

    RED = "red"
    BLUE = "blue"


class Thing(SQLModel, table=True):
    """A column of each kind."""

    __tablename__ = "validate_things"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    code: Annotated[str, StringConstraints(pattern="^[a-z]*$")] | None = Field(default=None, max_length=3)
    small: int | None = Field(default=None, ge=0)
    rank: int = 7
    tags: list[int] | None = Field(default=None, sa_column=Column(ARRAY(Integer)))
    price: Decimal | None = None
    ratio: float | None = None
    moment: dt.datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    wall: dt.datetime | None = Field(default=None, sa_column=Column(DateTime))
    clock: dt.time | None = None
    day: dt.date | None = None
    span: dt.timedelta | None = None
    flag: bool | None = None
    uid: UUID | None = None
    blob: bytes | None = None
    colour: Colour | None = None
    doc: dict[str, object] | None = Field(default=None, sa_column=Column("document", JSON))
    token: UUID = Field(default_factory=uuid4)
    made: dt.datetime = Field(
        default_factory=lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC), sa_column=Column(DateTime, nullable=False)
    )
    at: dt.datetime | None = None
    stamp: dt.datetime | None = None
    total: int | None = None


NOT_NULL: dict[str, Kind] = {"id": INT8, "name": TEXT, "rank": INT2, "token": OTHER, "made": NAIVE}
NULLABLE: dict[str, Kind] = {
    "code": VARCHAR3,
    "small": INT2,
    "price": MONEY,
    "ratio": FLOAT8,
    "moment": MOMENT,
    "at": MOMENT,
    "wall": NAIVE,
    "clock": CLOCK,
    "document": JSONB,
    "tags": INTS,
    **dict.fromkeys(("day", "span", "flag", "uid", "blob", "colour"), OTHER),
}
FACTS = {
    **{name: ColumnFacts(name=name, nullable=False, **kind) for name, kind in NOT_NULL.items()},
    **{name: ColumnFacts(name=name, nullable=True, **kind) for name, kind in NULLABLE.items()},
    "stamp": ColumnFacts("stamp", "timestamp without time zone", "timestamp", nullable=False, default="now()"),
    "total": ColumnFacts("total", "integer", "integer", nullable=True, generated=True),
}
THINGS = TableFacts("validate_things", FACTS)
TABLE: Table = Thing.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes


def batch(rows: list[tuple[object, ...]], faults: list[RowFault] | None = None) -> Batch:
    """Rows as a source with one header line hands them out."""
    return Batch(rows, list(range(2, len(rows) + 2)), faults or [], {}, last=True, fraction=None)


def judge(column: str, *cells: object, csv: bool = True) -> ValidatedBatch:
    """Judge cells of one column; the key is a column of its own."""
    validator = RowValidator(TABLE, Thing, THINGS, source_columns=("id", column), key=("id",), empty_is_text=csv)
    return validator.validate(batch([(index, cell) for index, cell in enumerate(cells)]))


def only(result: ValidatedBatch) -> object:
    """The value of the one sound row."""
    assert result.faults == []
    (value,) = result.values[1]
    return value


def why(result: ValidatedBatch) -> str:
    """The reason against the one faulty row."""
    (fault,) = result.faults
    assert result.positions == []
    return fault.reason


def reflected(column: Column[object], kind: Kind, *cells: object) -> ValidatedBatch:
    """Judge cells of a table without a model."""
    table = Table("reflected", MetaData(), Column("id", Integer, primary_key=True), column)
    facts = {"id": FACTS["id"], column.name: ColumnFacts(name=column.name, nullable=True, **kind)}
    validator = RowValidator(
        table, None, TableFacts("reflected", facts), source_columns=("id", column.name), key=("id",), empty_is_text=True
    )
    return validator.validate(batch([(index, cell) for index, cell in enumerate(cells)]))


@pytest.mark.parametrize(
    ("column", "given", "value"),
    [
        ("small", "12", 12),
        ("flag", "true", True),
        ("price", "1.5", Decimal("1.5")),
        ("price", "1.500", Decimal("1.500")),
        ("price", "999.99", Decimal("999.99")),
        ("ratio", "-inf", float("-inf")),
        ("name", "ünïcode", "ünïcode"),
        ("day", "2020-02-29", dt.date(2020, 2, 29)),
        ("span", "PT1H", dt.timedelta(hours=1)),
        ("clock", "12:30", dt.time(12, 30)),
        ("uid", "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        ("blob", "ab", b"ab"),
        ("blob", r"\x00FF", b"\x00\xff"),
        ("blob", r"\x", b""),
        ("blob", r"a\x00", rb"a\x00"),
        ("colour", "red", Colour.RED),
        ("document", '{"a": [1]}', {"a": [1]}),
        ("tags", "[1, 2]", [1, 2]),
        ("tags", "{1,2}", "{1,2}"),
        ("at", "2020-01-01T00:00:00", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        ("moment", "2020-01-01T00:00:00", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        ("moment", "2020-01-01T02:00:00+02:00", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_csv_text_becomes_the_type_of_the_model(column: str, given: object, value: object) -> None:
    """Text is read as the model's annotation says, in pydantic's lax mode."""
    found = only(judge(column, given))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("column", "given", "part"),
    [
        (
            "small",
            "abc",
            "column 'small': Input should be a valid integer, unable to parse string as an integer; given 'abc'",
        ),
        ("small", "32768", "column 'small': is outside the column's range, -32768 to 32767; given '32768'"),
        ("small", "-1", "greater than or equal to 0"),
        ("code", "abcd", "at most 3 characters"),
        ("code", "AB", "match pattern"),
        ("name", "a\x00b", r"NUL character, which the database cannot store; given 'a\x00b'"),
        ("name", "a\ud800", r"half of a surrogate pair, which is no character; given 'a\ud800'"),
        ("price", "1000", "more than 3 digits before the point"),
        ("price", "1.005", "more than 2 decimals"),
        ("price", "NaN", "finite number"),
        ("price", "1e999999", "more than 3 digits before the point"),
        ("day", "2020-01-01T10:00:00", "zero time"),
        ("clock", "12:30+02:00", "has an offset from UTC"),
        ("moment", "0001-01-01T00:00:00+05:00", "between the years 1 and 9999"),
        ("wall", "9999-12-31T23:00:00-05:00", "between the years 1 and 9999"),
        ("colour", "green", "'red' or 'blue'"),
        ("blob", r"\x0", r"begins with \x, after which only pairs of hexadecimal digits may stand; given '\\x0'"),
        ("document", "{", "Invalid JSON"),
        ("document", '{"a": "\\u0000"}', "NUL character"),
        ("document", '{"a": NaN}', "NaN or an infinity"),
        ("tags", '["x"]', "valid integer"),
        ("name", None, "column 'name' may not be null"),
        ("stamp", None, "column 'stamp' may not be null"),
    ],
)
def test_a_value_that_cannot_be_stored_is_a_fault(column: str, given: object, part: str) -> None:
    """The reason names the column, says what is wrong and quotes the value."""
    assert part in why(judge(column, given))


def test_json_values_are_taken_as_they_are() -> None:
    """A document from JSON is not parsed again, and a number is no text."""
    assert only(judge("document", {"a": "1"}, csv=False)) == {"a": "1"}
    assert "valid string" in why(judge("name", 5, csv=False))


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    """Only a real NUL character makes a document unstorable."""
    assert only(judge("document", {"a": "\\u0000", "b": None}, csv=False)) == {"a": "\\u0000", "b": None}


def test_an_array_element_with_nul_is_a_fault() -> None:
    """The limits of text hold inside arrays."""
    kind = {**INTS, "type_name": "text[]"}
    result = reflected(Column("words", ARRAY(String)), kind, '["a"]', '["a\\u0000"]', '["a", null]')
    assert result.values[1] == [["a"], ["a", None]]
    assert "NUL" in result.faults[0].reason


def test_bytes_in_an_array_may_be_hexadecimal() -> None:
    """The mark means the same in an array's elements, in JSON and in the database's own notation."""
    kind = {**INTS, "type_name": "bytea[]"}
    result = reflected(Column("blobs", ARRAY(LargeBinary)), kind, r'["\\x00ff", "a", null]', r'{"\\x00ff"}')
    assert result.values[1] == [[b"\x00\xff", b"a", None], r'{"\\x00ff"}']


@pytest.mark.parametrize(
    ("column", "value"), [("code", None), ("small", None), ("name", ""), ("rank", 7), ("stamp", None)]
)
def test_what_an_empty_cell_stands_for(column: str, value: object) -> None:
    """NULL where it is admitted, '' in NOT NULL text, else the model's default, else the database's (None)."""
    assert only(judge(column, ABSENT)) == value


def test_an_empty_cell_gets_the_default_factory() -> None:
    """Each row gets a value of its own, in the form that the column stores."""
    first, second = judge("token", ABSENT, ABSENT).values[1]
    assert isinstance(first, UUID)
    assert first != second
    assert only(judge("made", ABSENT)) == dt.datetime(2020, 1, 1)  # noqa: DTZ001  # the column has no time zone


def test_a_missing_json_member_is_no_empty_text() -> None:
    """'' is what an empty CSV cell means; a missing member without a default is a fault."""
    assert why(judge("name", ABSENT, csv=False)) == "column 'name' is required"


@pytest.mark.parametrize("cell", [ABSENT, None])
def test_null_in_the_key_is_a_fault(cell: object) -> None:
    """A key admits no NULL, whatever default the database has and whatever the column admits."""
    for key in ("id", "code"):
        validator = RowValidator(TABLE, Thing, THINGS, source_columns=(key,), key=(key,), empty_is_text=True)
        assert "is part of the key" in why(validator.validate(batch([(cell,)])))


def test_null_written_as_json_text_is_refused_where_null_is() -> None:
    """A parsed `null` may not slip into a NOT NULL column as if it asked for the default."""
    facts = TableFacts(
        "t", {"id": FACTS["id"], "d": ColumnFacts("d", "jsonb", "jsonb", nullable=False, default="'{}'")}
    )
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("d", JSON))
    validator = RowValidator(table, None, facts, source_columns=("id", "d"), key=("id",), empty_is_text=True)
    result = validator.validate(batch([("1", "null"), ("2", ABSENT), ("3", "[]")]))
    assert result.values == [[2, 3], [None, []]]
    assert result.faults[0].reason == "column 'd': may not be null; given 'null'"


def test_columns_with_python_defaults_complete_the_rows() -> None:
    """Columns that the source lacks are made where Python has a default and the database none."""
    validator = RowValidator(TABLE, Thing, THINGS, source_columns=("name", "id"), key=("id",), empty_is_text=True)
    assert validator.source_columns == ("name", "id")
    assert validator.columns == ("name", "id", "rank", "token", "made")
    result = validator.validate(batch([("a", "1"), ("b", "x"), ("c", "3")]))
    assert [len(column) for column in result.values] == [2] * 5
    assert result.values[2] == [7, 7]
    assert len(set(result.values[3])) == 2


@pytest.mark.parametrize(
    ("default", "made"),
    [(5, 5), (lambda: 6, 6), (lambda context: context.nothing, None)],  # a context is not to be had
)
def test_defaults_of_a_table_without_a_model(default: object, made: object) -> None:
    """SQLAlchemy's own scalar and callable defaults count; one that wants a statement's context does not."""
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer, default=default))
    facts = TableFacts("t", {"id": FACTS["id"], "n": ColumnFacts("n", "integer", "integer", nullable=False)})
    validator = RowValidator(table, None, facts, source_columns=("id", "n"), key=("id",), empty_is_text=True)
    result = validator.validate(batch([("1", ABSENT)]))
    if made is None:
        assert why(result) == "column 'n' is required"
    else:
        assert only(result) == made


@pytest.mark.parametrize(
    ("column", "kind", "given", "value"),
    [
        (Column("c", Integer()), INT2, "1", 1),
        (Column("c", String()), VARCHAR3, "abc", "abc"),
        (Column("c", Uuid()), OTHER, "12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
        (Column("c", Numeric()), NUMERIC, "Infinity", Decimal("Infinity")),
        (Column("c", EnumType("a", "b")), OTHER, "a", "a"),
        (Column("c", EnumType(Colour)), OTHER, "red", Colour.RED),
        (Column("c", JSON()), JSONB, "[null]", [None]),
        (Column("c", DateTime()), NAIVE, "2020-01-01T01:00:00+01:00", dt.datetime(2020, 1, 1)),  # noqa: DTZ001  # no zone
        (Column("c", Time()), CLOCKTZ, "12:00", dt.time(12, tzinfo=dt.UTC)),
        (Column("c", Interval()), OTHER, "PT1H", dt.timedelta(hours=1)),
    ],
)
def test_types_of_a_table_without_a_model(column: Column[object], kind: Kind, given: object, value: object) -> None:
    """Without a model the SQLAlchemy type says what a value is."""
    assert only(reflected(column._copy(), kind, given)) == value


@pytest.mark.parametrize(
    ("column", "kind", "given", "part"),
    [
        (Column("c", String()), VARCHAR3, "abcd", "4 characters where the column takes 3"),
        (Column("c", EnumType("a", "b")), OTHER, "c", "should be 'a' or 'b'"),
        (Column("c", Numeric(asdecimal=False)), FLOAT4, "1e39", "single precision"),
        (Column("c", Numeric()), MONEY, "Infinity", "infinite"),
        (Column("c", Numeric()), NUMERIC, "1e200000", "more than 131072 digits"),
        (Column("c", Numeric()), NUMERIC, "1e-20000", "more than 16383 decimals"),
        (Column("c", Numeric()), {**NUMERIC, "full_type": "numeric(2,-3)"}, "1500", "no multiple of 1e3"),
    ],
)
def test_limits_of_a_table_without_a_model(column: Column[object], kind: Kind, given: object, part: str) -> None:
    """The catalogue's lengths, ranges and digits are enforced, so that the database has nothing to refuse or round."""
    assert part in why(reflected(column._copy(), kind, given))


def test_a_decimal_longer_than_the_context_is_not_rounded() -> None:
    """Forty digits are counted as forty, whatever precision the thread's decimal context has."""
    kind = {**NUMERIC, "full_type": "numeric(40,39)"}
    text = "1." + "123456789" * 4 + "1"
    assert only(reflected(Column("c", Numeric()), kind, text + "000")) == Decimal(text)
    assert "more than 39 decimals" in why(reflected(Column("c", Numeric()), kind, "1." + "1" * 40))


def test_all_faults_of_a_row_stand_in_one_reason() -> None:
    """A row is refused once, with every column's reason, and its raw values are kept for a replay."""
    validator = RowValidator(
        TABLE, Thing, THINGS, source_columns=("id", "small", "day", "code"), key=("id",), empty_is_text=True
    )
    long = "q" * 500
    unread = RowFault(1, "malformed", {"raw": "x"})
    result = validator.validate(batch([("1", "2", ABSENT, "ok"), ("z", "y", ABSENT, long)], [unread]))
    assert result.positions == [2]
    assert result.faults[0] is unread
    fault = result.faults[1]
    assert fault.position == 3
    assert [part.split("'")[1] for part in fault.reason.split("; column")] == ["id", "small", "code"]
    assert len(fault.reason) < 500
    assert fault.payload == {"id": "z", "small": "y", "day": None, "code": long}


def test_payloads_are_json_whatever_the_row_held() -> None:
    """Surrogates, NaN, dates, bytes, huge numbers and deep nesting are all written as JSON."""
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    row = (
        "\ud800",
        float("nan"),
        dt.date(2020, 1, 1),
        b"\xff",
        2**80,
        10**9000,
        deep,
        {10**9000: {Decimal("1.5")}},
        object(),
    )
    for value in row:
        (fault,) = judge("small", [value], csv=False).faults
        assert orjson.loads(orjson.dumps(fault.payload)).keys() == {"id", "small"}
        orjson.dumps(fault.reason)


def test_unusable_columns_are_refused_before_any_row() -> None:
    """An unknown column, one that the database alone writes, and a key that the source lacks."""

    def build(*columns: str, key: tuple[str, ...] = ("id",)) -> RowValidator:
        return RowValidator(TABLE, Thing, THINGS, source_columns=columns, key=key, empty_is_text=True)

    with pytest.raises(UnknownColumnError, match=r"no column 'nome'. Did you mean 'name'"):
        build("id", "nome")
    with pytest.raises(RequestError, match=r"'total'.*written by the database alone"):
        build("id", "total")
    with pytest.raises(RequestError, match=r"lacks key columns.*: id. It has: name"):
        build("name")


def test_a_batch_without_rows_has_columns_without_values() -> None:
    """The last batch of a source may be empty."""
    validator = RowValidator(TABLE, Thing, THINGS, source_columns=("id",), key=("id",), empty_is_text=True)
    assert validator.validate(batch([])) == ValidatedBatch([[] for _ in validator.columns], [], [])


def _label(data: dict[str, str]) -> str:
    return f"room {data['room']}"


class Booking(SQLModel, table=True):
    """A model with validators of its own."""

    __tablename__ = "validate_bookings"

    id: int = Field(primary_key=True)
    start: int
    stop: int = Field(alias="until")
    room: str = "A1"
    label: str = Field(default_factory=_label)  # type: ignore[arg-type]  # pydantic's form, which SQLModel passes on
    notes: dict[str, int] | None = Field(default=None, sa_column=Column(JSON))
    badge: bytes | None = None

    @field_validator("room")
    @classmethod
    def _upper(cls, room: str) -> str:
        return room.upper()

    @model_validator(mode="after")
    def _ordered(self) -> "Booking":
        if self.stop <= self.start:
            raise ValueError("a booking must stop after it starts")
        return self


def bookings(*columns: str) -> RowValidator:
    """A validator of bookings for a source with these columns."""
    small = {name: ColumnFacts(name=name, nullable=False, **INT2) for name in ("id", "start", "stop")}
    texts = {name: ColumnFacts(name=name, nullable=False, **TEXT) for name in ("room", "label")}
    documents = {"notes": ColumnFacts("notes", "jsonb", "jsonb", nullable=True)}
    facts = {**small, **texts, **documents, "badge": ColumnFacts("badge", "bytea", "bytea", nullable=True)}
    table: Table = Booking.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
    return RowValidator(table, Booking, TableFacts("b", facts), source_columns=columns, key=("id",), empty_is_text=True)


def test_a_model_with_validators_judges_whole_rows() -> None:
    """Its validators see, change and refuse rows as they do in the program, and its defaults see other values."""
    validator = bookings("id", "start", "stop", "room", "notes")
    assert validator.columns == ("id", "start", "stop", "room", "notes", "label")
    rows: list[tuple[object, ...]] = [
        ("1", "5", "9", "b2", '{"a": 1}'),
        ("2", "9", "5", "b2", ABSENT),
        ("3", "x", "5", "b2", ABSENT),
        ("4", "1", "99999", "b2", ABSENT),
        ("5", ABSENT, "9", "b2", ABSENT),
        ("6", "1", "x", "b2", "{"),
    ]
    result = validator.validate(batch(rows))
    assert result.values == [[1], [5], [9], ["B2"], [{"a": 1}], ["room B2"]]
    reasons = [fault.reason for fault in result.faults]
    assert reasons[0] == "Value error, a booking must stop after it starts"
    assert "column 'start': Input should be a valid integer" in reasons[1]
    assert "column 'stop': is outside the column's range, -32768 to 32767; given '99999'" in reasons[2]
    assert reasons[3] == "column 'start' is required"
    assert "column 'notes': Invalid JSON" in reasons[4]


def test_a_model_with_validators_is_given_bytes() -> None:
    """Hexadecimal digits are read before the model sees the row."""
    validator = bookings("id", "start", "stop", "badge")
    assert validator.validate(batch([("1", "5", "9", r"\x00ff")])).values[3] == [b"\x00\xff"]


def test_a_model_with_validators_needs_its_required_columns() -> None:
    """A source that lacks them is refused at once rather than row by row."""
    with pytest.raises(RequestError, match="lacks required columns: stop"):
        bookings("id", "start")


SEEN: list[int] = []


def _even(value: int) -> int:
    SEEN.append(value)
    if value % 2:
        raise ValueError("is odd")
    return value


class Odd(SQLModel, table=True):
    """Columns with constraints, for random rows."""

    __tablename__ = "validate_odds"

    id: int = Field(primary_key=True)
    even: Annotated[int, AfterValidator(_even)] | None = None
    text: str = Field(min_length=1)
    price: Decimal | None = None
    moment: dt.datetime | None = Field(default=None, sa_column=Column(DateTime))


ODD_KINDS = {"id": INT8, "even": INT2, "text": VARCHAR3, "price": MONEY, "moment": NAIVE}
ODD_TYPES: dict[str, TypeAdapter[object]] = {
    "id": TypeAdapter(int),
    "even": TypeAdapter(Annotated[int, AfterValidator(_even)]),
    "text": TypeAdapter(Annotated[str, Field(min_length=1)]),
    "price": TypeAdapter(Decimal),
    "moment": TypeAdapter(dt.datetime),
}
CELLS = st.one_of(
    st.just(ABSENT),
    st.none(),
    st.integers(),
    st.integers(-5, 5).map(str),
    st.floats(),
    st.booleans(),
    st.decimals(places=2),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.text(max_size=5),
    st.text(st.characters(), max_size=3),
    st.binary(max_size=3),
    st.recursive(st.none() | st.text(max_size=2), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)
LIMITS: dict[str, Callable[[object], bool]] = {
    "id": lambda value: isinstance(value, int) and abs(value) < 2**63,
    "even": lambda value: isinstance(value, int) and -(2**15) <= value < 2**15,
    "text": lambda value: isinstance(value, str) and len(value) <= 3 and "\x00" not in value and value.isprintable(),
    "price": lambda value: isinstance(value, Decimal) and abs(value) < 1000 and value == round(value, 2),
    "moment": lambda value: isinstance(value, dt.datetime) and 1 < value.year < 9999,
}


def odds(*columns: str, csv: bool) -> RowValidator:
    """A validator of `Odd` for a source with these columns."""
    facts = {n: ColumnFacts(name=n, nullable=n not in {"id", "text"}, **kind) for n, kind in ODD_KINDS.items()}
    table: Table = Odd.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
    return RowValidator(table, Odd, TableFacts("o", facts), source_columns=columns, key=("id",), empty_is_text=csv)


def test_no_value_is_validated_more_than_twice() -> None:
    """However many rows of a column are refused, the rest is validated once more and all at once."""
    SEEN.clear()
    result = odds("id", "even", csv=True).validate(batch([(index, str(index)) for index in range(1000)]))
    assert len(result.faults) == 500
    assert len(SEEN) == 1500


def test_a_column_refused_in_every_row_is_no_trouble() -> None:
    """A batch may be faulty from its first row to its last."""
    result = odds("id", "even", csv=True).validate(batch([("x", "y")] * 1000))
    assert result.values == [[], []]
    assert len(result.faults) == 1000


def _surely_sound(name: str, cell: object) -> bool:
    """A naive reference for one cell: pydantic on its own, then the limits read plainly."""
    if cell is ABSENT or cell is None:
        return name not in {"id", "text"}
    try:
        value = ODD_TYPES[name].validate_python(cell)
    except ValidationError:
        return False
    return LIMITS[name](value)


@given(st.lists(st.tuples(st.integers(0, 9), CELLS, CELLS, CELLS, CELLS), max_size=12), st.booleans())
@example([(1, "2", "\ud800", "NaN", "0001-01-01T00:00:00+05:00"), (1, 4, "a", "1.10", ABSENT)], True)
def test_random_rows_are_all_accounted_for(rows: list[tuple[object, ...]], csv: bool) -> None:  # noqa: FBT001  # drawn
    """No row is lost, none is refused that a naive reference accepts, and what is accepted can be stored."""
    names = tuple(ODD_KINDS)
    validator = odds(*names, csv=csv)
    given_batch = batch(rows)
    result = validator.validate(given_batch)
    assert [len(column) for column in result.values] == [len(result.positions)] * len(names)
    assert len(result.positions) + len(result.faults) == given_batch.read
    assert result.positions == sorted(result.positions)
    assert [fault.position for fault in result.faults] == sorted(fault.position for fault in result.faults)
    for fault in result.faults:
        row = rows[fault.position - 2]
        assert not all(_surely_sound(name, cell) for name, cell in zip(names, row, strict=True)), fault.reason
        orjson.dumps([fault.reason, fault.payload])
    assert all(value is None or -(2**15) <= value < 2**15 for value in result.values[1])  # type: ignore[operator]  # integers
    assert "\x00" not in "".join(map(str, result.values[2])).encode().decode()
    assert all(value is None or value.tzinfo is None for value in result.values[4])  # type: ignore[attr-defined]  # date-times
