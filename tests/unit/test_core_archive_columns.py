"""Whether rows of one table fit into another, column by column."""

import pytest

from worker.core.archive_columns import archive_columns
from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts


def column(name: str, type_: str, **more: object) -> ColumnFacts:
    """A column; of some types what the catalogue says besides."""
    ranges = {"integer": (-(2**31), 2**31 - 1), "bigint": (-(2**63), 2**63 - 1)}
    low, high = ranges.get(type_, (None, None))
    known: dict[str, object] = {"nullable": True, "text": type_.startswith(("text", "character")), "minimum": low}
    known |= {"maximum": high, "max_length": int(type_[18:-1]) if "varying(" in type_ else None, **more}
    return ColumnFacts(name, type_.split("(", maxsplit=1)[0], type_, **known)  # type: ignore[arg-type]  # by name, as declared


def table(name: str, *columns: ColumnFacts) -> TableFacts:
    """A table of some columns."""
    return TableFacts(name, {each.name: each for each in columns})


def fit(source: TableFacts, archive: TableFacts) -> tuple[str, ...]:
    """The columns that the archive is given, where models know all."""
    return archive_columns(source, archive, known=source.columns, known_there=archive.columns)


@pytest.mark.parametrize(
    ("given", "kept", "fits"),
    [
        ("integer", "integer", True),
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("bigint", "numeric", True),
        ("numeric(12,2)", "numeric", True),
        ("numeric(12,2)", "numeric(14,2)", False),
        ("double precision", "numeric", False),
        ("character varying(20)", "text", True),
        ("character varying(20)", "character varying(30)", True),
        ("character varying(30)", "character varying(20)", False),
        ("text", "character varying(20)", False),
        ("timestamp with time zone", "timestamp without time zone", False),
        ("jsonb", "text", False),
    ],
)
def test_types_that_keep_every_value(given: str, kept: str, fits: bool) -> None:  # noqa: FBT001 - what is expected
    """A wider column of the same kind keeps every value; another kind, or a narrower one, does not."""
    source, archive = table("a", column("x", given)), table("b", column("x", kept))
    if fits:
        assert fit(source, archive) == ("x",)
        return
    with pytest.raises(RequestError, match="does not always fit"):
        fit(source, archive)


def test_columns_go_in_the_tables_order_by_name() -> None:
    """The archive's order does not matter, and its own columns take their defaults."""
    source = table("a", column("x", "text"), column("y", "integer"))
    archive = table(
        "b", column("at", "date", nullable=False, default="now()"), column("y", "integer"), column("x", "text")
    )
    assert fit(source, archive) == ("x", "y")


def test_every_fault_is_named() -> None:
    """All that is wrong is said at once."""
    source = table("a", column("x", "text"), column("y", "bigint"))
    archive = table("b", column("y", "integer"), column("why", "text", nullable=False))
    with pytest.raises(RequestError) as caught:
        fit(source, archive)
    said = str(caught.value)
    assert "it has no column 'x' (text)" in said
    assert "its column 'y' is integer" in said
    assert "it has a column 'why', NOT NULL and without a default" in said


@pytest.mark.parametrize(
    ("source", "archive", "columns"),
    [
        ({"generated": True}, {"generated": True}, ()),
        ({"generated": True}, {}, ("x",)),
        ({}, {"generated": True}, None),
        ({"generated": True, "identity": True}, {"generated": True, "identity": True}, None),
        ({"generated": True, "identity": True}, {}, ("x",)),
    ],
)
def test_columns_that_the_database_writes(
    source: dict[str, object], archive: dict[str, object], columns: tuple[str, ...] | None
) -> None:
    """What both compute is computed anew; numbers that were given out must be kept as they are."""
    given, kept = table("a", column("x", "bigint", **source)), table("b", column("x", "bigint", **archive))
    if columns is not None:
        assert fit(given, kept) == columns
        return
    with pytest.raises(RequestError, match="the database alone writes its column 'x'"):
        fit(given, kept)


def test_columns_that_a_model_lacks() -> None:
    """A column that no statement can name would be lost."""
    both = table("a", column("x", "text"), column("y", "text"))
    with pytest.raises(RequestError, match="the model of 'a' lacks the column 'y'"):
        archive_columns(both, both, known={"x"}, known_there={"x", "y"})
