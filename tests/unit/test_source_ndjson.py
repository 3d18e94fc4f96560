"""NDJSON files as rows: exact numbers, columns of the first rows, and faults."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from worker.source.batch import ABSENT, Batch, RowSource
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec

OPENED: list[RowSource] = []


@pytest.fixture(autouse=True)
def _close_sources() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(folder: Path, content: bytes | str, cursor: dict[str, object] | None = None) -> RowSource:
    """An NDJSON file of some content, closed with the test."""
    if cursor is None:
        (folder / "x.ndjson").write_bytes(content.encode() if isinstance(content, str) else content)
    limits = SourceLimits(data_dirs=(folder,), max_row_bytes=100_000)
    OPENED.append(open_rows(SourceSpec(uri="x.ndjson"), limits, cursor))
    return OPENED[-1]


def read(folder: Path, content: bytes | str) -> Batch:
    """All of an NDJSON file, as one batch."""
    return opened(folder, content).read(1_000_000)


def test_members_are_columns_in_first_seen_order(tmp_path: Path) -> None:
    """An object that lacks a member carries no value there; null is a value; order does not matter."""
    source = opened(tmp_path, '{"b": 1, "a": [true]}\n{"a": null}\n{"a": "x", "c": 1.5, "b": 2}\n')
    assert source.columns == ("b", "a", "c")
    batch = source.read(5)
    assert batch.rows == [(1, [True], ABSENT), (ABSENT, None, ABSENT), (2, "x", 1.5)]
    assert (batch.positions, batch.last, batch.faults) == ([1, 2, 3], True, [])


def test_empty_lines_marks_and_line_ends_are_no_rows(tmp_path: Path) -> None:
    """A byte order mark, blank lines, CRLF and a missing last line end change nothing."""
    batch = read(tmp_path, '\ufeff{"a": 1}\r\n\n  \n{"a": 2}')
    assert (batch.rows, batch.positions, batch.faults) == ([(1,), (2,)], [1, 4], [])


def test_a_file_without_rows_is_an_empty_last_batch(tmp_path: Path) -> None:
    """An empty file has no columns and nothing to read."""
    source = opened(tmp_path, "")
    assert source.columns == ()
    assert source.read(5).last


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": 1e400}', "not JSON: number is infinity"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at byte 8 of the row"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "not JSON"),
        (b'{"a": {"deep": 0.1234567890123456789}}', "a number inside 'a' has more digits"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "cannot be kept exactly|not JSON"),
        (b'{"a": "' + b"x" * 100_000 + b'"}', "above WORKER_MAX_ROW_BYTES"),
    ],
)
def test_a_line_that_is_no_row_is_a_fault(tmp_path: Path, line: bytes, reason: str) -> None:
    """It costs itself alone, keeps its text and its line number, and is found again on the slow path."""
    batch = read(tmp_path, b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    assert batch.rows == [(1,), (2,)]
    assert batch.positions == [1, 3]
    [fault] = batch.faults
    assert fault.position == 2
    assert re.search(reason, fault.reason)
    assert fault.payload == {"raw": (line + b"\n")[:10_000].decode("utf-8", "replace")}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551616", 2**64),
        ("-9223372036854775809", -(2**63) - 1),
        ("9223372036854775807", 2**63 - 1),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("12345678901234567890.123", Decimal("12345678901234567890.123")),
        ("0.1234567890123456789", Decimal("0.1234567890123456789")),
        ("1234567890123456789e-5", Decimal("1234567890123456789e-5")),
        ("0.1", 0.1),
        ("0.30000000000000004", 0.30000000000000004),
        ("123456789012.345", 123456789012.345),
        ("1.5e300", 1.5e300),
    ],
)
def test_numbers_are_exactly_what_the_text_says(tmp_path: Path, text: str, value: object) -> None:
    """What a double holds is a float, what it would round is an int or a Decimal, beside strings of digits."""
    batch = read(tmp_path, f'{{"digits": "12345678901234567890.5", "number": {text}, "nested": [1.5]}}\n')
    assert batch.rows == [("12345678901234567890.5", value, [1.5])]
    assert type(batch.rows[0][1]) is type(value)


def test_a_later_member_that_no_column_has_is_a_fault(tmp_path: Path) -> None:
    """Columns are those of the first 1,000 rows; the reason says what to do."""
    lines = ['{"a": 1}'] * 999 + ['{"b": 2}', '{"c": 3}', '{"a": 4}']
    source = opened(tmp_path, "\n".join(lines))
    batch = source.read(2_000)
    assert source.columns == ("a", "b")
    assert batch.rows[-2:] == [(ABSENT, 2), (4, ABSENT)]
    [fault] = batch.faults
    assert fault.position == 1_001
    assert fault.payload == {"raw": '{"c": 3}\n'}
    assert "'c'" in fault.reason
    assert "first 1,000 rows" in fault.reason
    assert "put a row with all columns first" in fault.reason


def test_faulty_rows_count_among_the_first(tmp_path: Path) -> None:
    """The rows that columns are taken from are the file's first, readable or not."""
    lines = ["oops"] * 500 + ["x" * 200_000] + ["oops"] * 499 + ['{"a": 1}']
    assert opened(tmp_path, "\n".join(lines)).columns == ()


def test_the_search_for_columns_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A member that first stands after 8 MiB is no column."""
    line = json.dumps({"a": "x" * 90_000}) + "\n"
    assert opened(tmp_path, line * 110 + '{"b": 1}\n').columns == ("a",)


def test_columns_are_the_same_on_every_attempt(tmp_path: Path) -> None:
    """They travel in the cursor, so that a later start does not see others."""
    content = '{"a": 1}\n{"a": 2, "b": 3}\n{"b": 4}\n'
    first = opened(tmp_path, content).read(2)
    resumed = opened(tmp_path, content, cursor=json.loads(json.dumps(first.cursor)))
    assert resumed.columns == ("a", "b")
    assert resumed.read(5).rows == [(ABSENT, 4)]
