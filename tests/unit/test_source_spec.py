"""What the parameter `source` admits, and inline rows."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.core.errors import PayloadError, SourceError
from worker.source.batch import ABSENT
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec, check_inline

LIMITS = SourceLimits(data_dirs=(Path(),))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs one of rows, uri or table, and none was given"),
        ({"uri": None}, "none was given"),
        ({"rows": [], "table": "staging"}, "rows and table were given"),
        ({"rows": [], "uri": "x.csv", "table": "t"}, "rows and uri and table were given"),
        ({"rows": [], "format": "csv"}, '"format" goes with "uri"'),
        ({"uri": "x.csv", "format": "xml"}, "'csv' or 'ndjson'"),
        ({"file": "x.csv"}, "Extra inputs are not permitted"),
        ({"rows": ["a"]}, "valid dictionary"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(given: dict[str, object], said: str) -> None:
    """Each way of asking wrongly has its own words."""
    with pytest.raises(ValidationError, match=said):
        SourceSpec.model_validate(given)


def test_a_table_is_no_file() -> None:
    """What the database reads is not looked for on the disk."""
    with pytest.raises(SourceError, match=r"'staging_x'.*neither inline rows nor a file"):
        open_rows(SourceSpec(table="staging_x"), LIMITS)


def test_inline_rows_are_bounded_in_bytes_not_characters() -> None:
    """The bound is of UTF-8 JSON, to the byte."""
    spec = SourceSpec(rows=[{"name": "é"}])
    size = len('[{"name":"é"}]'.encode())
    check_inline(spec, SourceLimits(data_dirs=(), max_inline_bytes=size))
    with pytest.raises(PayloadError, match=r"WORKER_MAX_INLINE_BYTES.*file.*table"):
        check_inline(spec, SourceLimits(data_dirs=(), max_inline_bytes=size - 1))


def test_opening_inline_rows_checks_their_size() -> None:
    """A client that does not check cannot pass more than the bound."""
    with pytest.raises(PayloadError):
        open_rows(SourceSpec(rows=[{"a": 1}]), SourceLimits(data_dirs=(), max_inline_bytes=3))


def test_a_file_is_not_bounded_as_inline_rows() -> None:
    """The inline bound leaves other sources alone."""
    check_inline(SourceSpec(uri="x.csv"), SourceLimits(data_dirs=(), max_inline_bytes=0))


def test_inline_columns_are_the_union_in_first_seen_order() -> None:
    """A row that lacks a column carries no value there; null is a value."""
    source = open_rows(SourceSpec(rows=[{"b": 1}, {"a": None, "b": 2}, {}]), LIMITS)
    batch = source.read(10)
    source.close()
    assert source.columns == ("b", "a")
    assert batch.rows == [(1, ABSENT), (2, None), (ABSENT, ABSENT)]
    assert (batch.positions, batch.last, batch.fraction, batch.faults) == ([1, 2, 3], True, 1.0, [])


def test_inline_rows_resume_at_the_cursor() -> None:
    """Positions and fraction go on from where the cursor stands."""
    spec = SourceSpec(rows=[{"a": index} for index in range(4)])
    first = open_rows(spec, LIMITS).read(1)
    assert (first.rows, first.last, first.fraction, first.read) == ([(0,)], False, 0.25, 1)
    rest = open_rows(spec, LIMITS, first.cursor).read(10)
    assert (rest.rows, rest.positions, rest.last) == ([(1,), (2,), (3,)], [2, 3, 4], True)


def test_no_inline_rows_are_one_empty_last_batch() -> None:
    """Nothing to do is not an error."""
    batch = open_rows(SourceSpec(rows=[]), LIMITS).read(10)
    assert (batch.rows, batch.last, batch.fraction) == ([], True, 1.0)


@pytest.mark.parametrize("place", [{}, {"row": "1"}, {"row": -1}, {"row": 3}, {"row": 1, "offset": 2}, {"row": True}])
def test_a_cursor_of_something_else_is_refused(place: dict[str, object]) -> None:
    """A damaged cursor is one clear error, never a wrong place to go on from."""
    with pytest.raises(SourceError, match="start a new run"):
        open_rows(SourceSpec(rows=[{"a": 1}, {"a": 2}]), LIMITS, {"columns": ["a"], **place})
