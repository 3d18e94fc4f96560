"""Rows that only change what is there: what may be absent, what stands for nothing, and who judges them."""

import pytest
from pydantic import ValidationInfo, field_validator, model_validator
from sqlalchemy import Table
from sqlmodel import Field, SQLModel

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts
from worker.source.batch import ABSENT, Batch
from worker.source.validate import RowValidator, ValidatedBatch


class Room(SQLModel, table=True):
    """A model with defaults, whose only validators are of single fields."""

    __tablename__ = "update_rooms"

    id: int = Field(primary_key=True)
    name: str
    beds: int = 2
    price: int
    note: str | None = None

    @field_validator("name")
    @classmethod
    def _upper(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("no such name")
        return name.upper()

    @field_validator("price")
    @classmethod
    def _dear(cls, price: int, others: ValidationInfo) -> int:
        if price < others.data.get("beds", 0):
            raise ValueError("too cheap for its beds")
        return price


class Stay(SQLModel, table=True):
    """A model that judges whole rows."""

    __tablename__ = "update_stays"

    id: int = Field(primary_key=True)
    start: int
    stop: int
    guests: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Stay":
        if self.stop <= self.start:
            raise ValueError("a stay must stop after it starts")
        return self


def integer(name: str, default: str | None = None) -> ColumnFacts:
    """A NOT NULL integer."""
    return ColumnFacts(name, "integer", "integer", nullable=False, default=default)


def facts(*columns: ColumnFacts) -> TableFacts:
    """A table of these columns."""
    return TableFacts("update_things", {column.name: column for column in columns})


ROOMS = facts(
    integer("id"),
    ColumnFacts("name", "text", "text", nullable=False, text=True),
    integer("beds"),
    integer("price", default="9"),
    ColumnFacts("note", "text", "text", nullable=True, text=True),
)
STAYS = facts(*map(integer, ("id", "start", "stop", "guests")))


def validator(model: type[SQLModel], found: TableFacts, *columns: str, csv: bool = False) -> RowValidator:
    """A validator of rows that update, with these columns beside the key."""
    table: Table = model.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
    return RowValidator(
        table, model, found, source_columns=("id", *columns), key=("id",), empty_is_text=csv, inserts=False
    )


def judge(found: RowValidator, *rows: tuple[object, ...]) -> ValidatedBatch:
    """Judge rows, whose keys are their numbers, from 1."""
    numbered = [(number, *row) for number, row in enumerate(rows, start=1)]
    return found.validate(Batch(numbered, list(range(1, len(rows) + 1)), [], {}, last=True, fraction=None))


def reasons(result: ValidatedBatch) -> list[str]:
    """Why rows were refused."""
    return [fault.reason for fault in result.faults]


def test_only_what_the_rows_carry() -> None:
    """Columns that the source lacks are neither required nor filled, whoever has a default for them."""
    assert validator(Room, ROOMS, "note").columns == ("id", "note")
    assert judge(validator(Room, ROOMS, "note"), ("x",)).values == [[1], ["x"]]


@pytest.mark.parametrize("column", ["beds", "price"])
def test_no_default_stands_for_an_absent_value(column: str) -> None:
    """An absent value of a NOT NULL column is refused, though the model or the database has a default; so is null."""
    result = judge(validator(Room, ROOMS, column), (ABSENT,), (None,), (5,))
    assert result.values == [[3], [5]]
    assert reasons(result) == [f"column {column!r} may not be empty or null", f"column {column!r} may not be null"]


@pytest.mark.parametrize("csv", [False, True])
def test_an_absent_value_of_a_nullable_column_is_null(*, csv: bool) -> None:
    """As everywhere, and an empty cell of a NOT NULL text is ''."""
    result = judge(validator(Room, ROOMS, "note", "name", csv=csv), (ABSENT, "a"), ("", "b"), ("x", ABSENT))
    assert result.values == ([[1, 2, 3], [None, "", "x"], ["A", "B", ""]] if csv else [[1, 2], [None, ""], ["A", "B"]])


def test_field_validators_judge_the_fields_there_are() -> None:
    """A field's validator sees, changes and refuses its values, and finds other fields of the row."""
    found = validator(Room, ROOMS, "beds", "name", "price")
    result = judge(found, (3, "a", 3), (3, "bad", 3), (3, "b", 2), (3, "bad", "x"), ("many", "c", 1))
    assert result.values == [[1], [3], ["A"], [3]]
    assert [reason.partition(" should")[0] for reason in reasons(result)] == [
        "column 'name': Value error, no such name; given 'bad'",
        "column 'price': Value error, too cheap for its beds; given 2",
        "column 'name': Value error, no such name; given 'bad'; column 'price': Input",
        "column 'beds': Input",
    ]


def test_field_validators_find_no_defaults() -> None:
    """What a row does not carry is not judged by what the model would have put in its place."""
    assert judge(validator(Room, ROOMS, "price"), (1,)).values == [[1], [1]]


def test_whole_rows_are_judged_where_they_are_whole() -> None:
    """A model that judges whole rows does so where the source carries all that it requires."""
    result = judge(validator(Stay, STAYS, "start", "stop"), (1, 2), (2, 1))
    assert result.values == [[1], [1], [2]]
    assert reasons(result) == ["Value error, a stay must stop after it starts"]


def test_whole_rows_cannot_be_judged_by_a_part() -> None:
    """A source that carries less is refused at once: what the model would say is not known."""
    with pytest.raises(RequestError, match="lacks required columns: stop"):
        validator(Stay, STAYS, "start")
