"""CSV files as rows: what is a record, what is a fault, and which header is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.core.errors import SourceError
from worker.source.batch import ABSENT, Batch, RowFault, RowSource
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec

MAX = 1024
OPENED: list[RowSource] = []


@pytest.fixture(autouse=True)
def _close_sources() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(folder: Path, content: bytes | str, *, name: str = "x.csv", max_row_bytes: int = MAX) -> RowSource:
    """A CSV file of some content, closed with the test."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    limits = SourceLimits(data_dirs=(folder,), max_row_bytes=max_row_bytes)
    OPENED.append(open_rows(SourceSpec(uri=name), limits))
    return OPENED[-1]


def read(folder: Path, content: bytes | str, *, name: str = "x.csv") -> Batch:
    """All of a CSV file, as one batch."""
    return opened(folder, content, name=name).read(1_000_000)


def faults(batch: Batch) -> list[tuple[int, str]]:
    """Where each fault stands, and why it is one."""
    return [(fault.position, fault.reason) for fault in batch.faults]


def test_rows_are_text_with_their_lines(tmp_path: Path) -> None:
    """Values are text, and the header is line 1."""
    batch = read(tmp_path, "id,name\n1,one\n2,two\n")
    assert batch.rows == [("1", "one"), ("2", "two")]
    assert (batch.positions, batch.faults, batch.last, batch.fraction) == ([2, 3], [], True, 1.0)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_all_kinds(tmp_path: Path, end: str, last: bool) -> None:  # noqa: FBT001 - a pytest parameter
    """CRLF, LF and a missing last line end read the same."""
    batch = read(tmp_path, f"a,b{end}1,x{end}2,y" + end * last)
    assert batch.rows == [("1", "x"), ("2", "y")]


def test_the_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    """A file saved by a spreadsheet has the columns it shows."""
    assert opened(tmp_path, b'\xef\xbb\xbf"id",b\n1,2\n').columns == ("id", "b")


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    """The name's ending chooses the delimiter."""
    assert read(tmp_path, "a\tb\n1,5\t2\n", name="x.tsv").rows == [("1,5", "2")]


def test_empty_cells_are_absent_quoted_or_not(tmp_path: Path) -> None:
    """The two cannot be told apart."""
    batch = read(tmp_path, 'a,b,c\n,"",x\n1,,\n')
    assert batch.rows == [(ABSENT, ABSENT, "x"), ("1", ABSENT, ABSENT)]


def test_quoted_line_ends_belong_to_the_value(tmp_path: Path) -> None:
    """A record of several lines has the number of its first."""
    batch = read(tmp_path, 'a,b\n1,"x\ny\r\n\nz"\n2,"say ""hi"""\n')
    assert batch.rows == [("1", "x\ny\r\n\nz"), ("2", 'say "hi"')]
    assert batch.positions == [2, 6]


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    """They are passed over, and counted as lines, before the header too."""
    batch = read(tmp_path, "\r\na,b\n\n1,2\n\r\n3,4\n\n")
    assert (batch.rows, batch.positions, batch.read) == ([("1", "2"), ("3", "4")], [4, 6], 2)


def test_a_nul_is_data(tmp_path: Path) -> None:
    """What a value may hold is for validation to say."""
    assert read(tmp_path, "a\nx\0y\n").rows == [("x\0y",)]


def test_line_separators_of_unicode_end_nothing(tmp_path: Path) -> None:
    """Only a line feed ends a line."""
    assert read(tmp_path, "a,b\n1\u2028\x0b\x1c\x85,2\n").rows == [("1\u2028\x0b\x1c\x85", "2")]


def test_a_wrong_number_of_fields_is_a_fault(tmp_path: Path) -> None:
    """The reason says how many there were and how many were expected; the rest is read."""
    batch = read(tmp_path, 'a,b\n1\n1,2,3\n4,5\n"6"\n')
    assert batch.rows == [("4", "5")]
    assert batch.positions == [4]
    assert faults(batch) == [
        (2, "1 fields where the header has 2"),
        (3, "3 fields where the header has 2"),
        (5, "1 fields where the header has 2"),
    ]
    assert batch.faults[1].payload == {"raw": "1,2,3\n"}


def test_bytes_that_are_not_utf8_are_a_fault(tmp_path: Path) -> None:
    """The reason names the byte and its place in the row, even in the second line of a record."""
    batch = read(tmp_path, b'a,b\n1,\xff\n2,ok\n3,"x\n\xe9"\n\xc3\xa9,ok\n')
    assert batch.rows == [("2", "ok"), ("é", "ok")]
    assert batch.positions == [3, 6]
    assert faults(batch) == [
        (2, "not UTF-8: byte 0xff at byte 3 of the row"),
        (4, "not UTF-8: byte 0xe9 at byte 6 of the row"),
    ]
    assert batch.faults[0].payload == {"raw": "1,\ufffd\n"}


@pytest.mark.parametrize("row", ['1,"x"y', "1,x\ry"])
def test_a_malformed_line_is_a_fault_of_its_own(tmp_path: Path, row: str) -> None:
    """Text after a closing quote and a lone carriage return cost one row."""
    batch = read(tmp_path, f"a,b\n0,0\n{row}\n2,ok\n")
    assert batch.rows == [("0", "0"), ("2", "ok")]
    assert [fault.position for fault in batch.faults] == [3]
    assert "malformed CSV" in batch.faults[0].reason


def test_a_quote_inside_an_unquoted_field_is_a_character(tmp_path: Path) -> None:
    """Inches are not quotes."""
    assert read(tmp_path, 'a,b\n5" pipe,x\n').rows == [('5" pipe', "x")]


def test_an_unclosed_quote_costs_one_row_before_the_end(tmp_path: Path) -> None:
    """The lines after it are read as rows of their own."""
    batch = read(tmp_path, 'a,b\n1,"x\n2,y\n3,z\n')
    assert batch.rows == [("2", "y"), ("3", "z")]
    assert [fault.position for fault in batch.faults] == [2]
    assert "never closed" in batch.faults[0].reason
    assert batch.faults[0].payload == {"raw": '1,"x\n'}


def test_an_unclosed_quote_costs_one_row_before_another_quoted_row(tmp_path: Path) -> None:
    """A later quote that would close it in the wrong place does not take the rows between."""
    batch = read(tmp_path, 'a,b\n1,"x\n2,y\n3,"z"\n4,w\n')
    assert batch.rows == [("2", "y"), ("3", "z"), ("4", "w")]
    assert [fault.position for fault in batch.faults] == [2]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_an_unclosed_quote_costs_one_row_in_a_long_file(tmp_path: Path, size: int) -> None:
    """Where the record would be longer than a row may be, reading goes on at the next line, whatever the batches."""
    rows = [f"{index},{'v' * 20}" for index in range(200)]
    rows[50] = '50,"oops'
    source = opened(tmp_path, "a,b\n" + "\n".join(rows))
    found: list[tuple[int, object]] = []
    wrong: list[RowFault] = []
    last = False
    while not last:
        batch = source.read(size)
        assert batch.read <= size
        found += [(position, row[0]) for position, row in zip(batch.positions, batch.rows, strict=True)]
        wrong += batch.faults
        last = batch.last
    assert found == [(index + 2, str(index)) for index in range(200) if index != 50]
    assert [fault.position for fault in wrong] == [52]
    assert "WORKER_MAX_ROW_BYTES" in wrong[0].reason


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_row_is_bounded_to_the_byte(tmp_path: Path, end: str) -> None:
    """A row of exactly the bound is read; one byte more is a fault, with the beginning of its text."""
    fits, over = "x" * (MAX - 1), "y" * MAX
    batch = read(tmp_path, f"a\n1\n{fits}\n{over}\n2\n{'z' * (MAX + 1 - len(end))}{end}")
    assert batch.rows == [("1",), (fits,), ("2",)]
    assert batch.positions == [2, 3, 5]
    assert faults(batch) == [
        (line, f"the row is {MAX + 1:,} bytes long, above WORKER_MAX_ROW_BYTES ({MAX:,})") for line in (4, 6)
    ]


def test_a_record_of_several_lines_is_bounded_too(tmp_path: Path) -> None:
    """A well-formed record above the bound is a fault of its first line."""
    lines = ["x" * 100] * 20
    batch = read(tmp_path, 'a,b\n1,"' + "\n".join(lines) + '"\n2,ok\n')
    assert batch.rows == [("2", "ok")]
    assert batch.faults[0].position == 2
    assert "WORKER_MAX_ROW_BYTES" in batch.faults[0].reason
    assert len(batch.faults) == 20  # each further line of it, read as a row


def test_an_open_quote_before_a_line_that_is_too_long(tmp_path: Path) -> None:
    """Both are faults of one line each, and the row after them is read."""
    batch = read(tmp_path, 'a,b\n1,"x\n' + "y" * 3 * MAX + "\n2,ok\n")
    assert batch.rows == [("2", "ok")]
    assert [fault.position for fault in batch.faults] == [2, 3]


def test_a_very_long_line_is_passed_over_across_blocks(tmp_path: Path) -> None:
    """A line far beyond what is read at once is one fault that keeps 10 kB of text."""
    batch = read(tmp_path, "a\n1\n" + "y" * 1_000_000 + "\n2\n")
    assert batch.rows == [("1",), ("2",)]
    assert faults(batch) == [(3, f"the row is 1,000,001 bytes long, above WORKER_MAX_ROW_BYTES ({MAX:,})")]
    assert batch.faults[0].payload == {"raw": "y" * 10_000}


def test_a_field_longer_than_the_parsers_own_limit_is_read(tmp_path: Path) -> None:
    """Python's limit of 128 KiB a field is not ours."""
    long = "x" * 500_000
    batch = opened(tmp_path, f'a\n{long}\n"{long}"\n', max_row_bytes=1_000_000).read(5)
    assert batch.rows == [(long,), (long,)]


def test_a_batch_of_very_large_rows_is_cut_short(tmp_path: Path) -> None:
    """Rows of a batch are bounded by bytes too, so memory is."""
    source = opened(tmp_path, "a\n" + ("x" * 1_000_000 + "\n") * 40, max_row_bytes=2_000_000)
    batches = [source.read(1_000)]
    while not batches[-1].last:
        batches.append(source.read(1_000))
    counts = [batch.read for batch in batches]
    assert sum(counts) == 40
    assert max(counts) < 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
        (b"\xef\xbb\xbf", "an empty line"),
        (b"   \nid\n", "an empty line"),
        (b"\n" * 2_000 + b"id\n", "an empty line"),
        (b"a,,c\n", "no name for column 2: 'a,,c'"),
        (b"a,b,a\n", "names 'a' more than once: 'a,b,a'"),
        (b"a,\xff\n", "not UTF-8: byte 0xff at byte 3"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        (b'a,"b\nc"\n', "does not close it"),
        (b'a,"b"c\n', "malformed"),
        (b"a" * 2 * MAX + b"\n", "longer than WORKER_MAX_ROW_BYTES"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """The error shows the header's own text."""
    with pytest.raises(SourceError, match=said):
        read(tmp_path, content)


def test_a_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    """One empty last batch."""
    batch = read(tmp_path, "a,b")
    assert (batch.rows, batch.last, batch.read) == ([], True, 0)
