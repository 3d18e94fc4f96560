"""For random files, cut anywhere and resumed, each row is read exactly once, with its line."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.source.batch import ABSENT
from worker.source.lines import LineReader
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec

CELL = st.text(st.sampled_from('ab ,"\n\r;é漢\U0001f600\x00\u2028')) | st.text(st.characters(exclude_categories=["Cs"]))
TABLE = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=30)
)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=5)
PACKINGS = ["plain", "gzip", "zip"]
EXAMPLES = settings(max_examples=60, deadline=None)


def pack(content: bytes, packing: str, name: str) -> bytes:
    """A file's content, packed."""
    if packing == "plain":
        return content
    if packing == "gzip":
        return gzip.compress(content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def read_in_pieces(
    content: bytes, name: str, packing: str, sizes: list[int]
) -> Iterator[tuple[int, tuple[object, ...]]]:
    """Every row and its line, opening the file anew at the cursor of each batch."""
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(pack(content, packing, name))
        cursor, last, turn = None, False, 0
        while not last:
            source = open_rows(SourceSpec(uri=name), SourceLimits(data_dirs=(Path(folder),)), cursor)
            batch = source.read(sizes[turn % len(sizes)])
            source.close()
            assert batch.read <= sizes[turn % len(sizes)]
            assert not batch.faults
            yield from zip(batch.positions, batch.rows, strict=True)
            cursor, last, turn = json.loads(json.dumps(batch.cursor)), batch.last, turn + 1


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@given(table=TABLE, sizes=SIZES)
@EXAMPLES
def test_a_csv_is_read_exactly_once(
    packing: str, quoting: int, end: str, table: list[list[str]], sizes: list[int]
) -> None:
    """What `csv.writer` wrote comes back, whatever the cells hold and wherever the batches are cut."""
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:  # then the writer leaves a carriage return bare, which is no CSV
        table = [[cell.replace("\r", "") for cell in row] for row in table]
    header = [f"c{index}" for index in range(len(table[0]))]
    written, expected = io.StringIO(newline=""), []
    writer = csv.writer(written, quoting=csv.QUOTE_MINIMAL if quoting == 0 else csv.QUOTE_ALL, lineterminator=end)
    writer.writerow(header)
    for row in table:
        line = written.getvalue().count("\n") + 1
        writer.writerow(row)
        expected.append((line, tuple(cell or ABSENT for cell in row)))
    assert list(read_in_pieces(written.getvalue().encode(), "x.csv", packing, sizes)) == expected


MEMBERS = st.sampled_from(["a", "b", "c"])
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.none() | st.booleans() | NUMBER | st.text(st.characters(exclude_categories=["Cs"]))
OBJECT = st.dictionaries(MEMBERS, VALUE | st.lists(st.integers(-99, 99)))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("raw", [True, False])
@given(objects=st.lists(OBJECT, max_size=30), sizes=SIZES)
@EXAMPLES
def test_an_ndjson_is_read_exactly_once(
    packing: str,
    raw: bool,  # noqa: FBT001 - a pytest parameter
    objects: list[dict[str, object]],
    sizes: list[int],
) -> None:
    """What `json.dumps` wrote comes back, numbers of any size included."""
    content = "".join(json.dumps(found, ensure_ascii=not raw) + "\n" for found in objects).encode()
    columns = list(dict.fromkeys(name for found in objects for name in found))
    expected = [
        (line, tuple(found.get(name, ABSENT) for name in columns)) for line, found in enumerate(objects, start=1)
    ]
    assert list(read_in_pieces(content, "x.ndjson", packing, sizes)) == expected


class Blocks:
    """A stream of blocks cut at given places."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._content = io.BytesIO(content)
        self._sizes = sizes

    def read(self) -> bytes:
        """The next block."""
        self._sizes = self._sizes[1:] + self._sizes[:1]
        return self._content.read(self._sizes[0])


@given(
    content=st.lists(st.sampled_from([b"\n", b"x", b"yy", b"zzzzz", b"\r"]), max_size=60).map(b"".join),
    sizes=SIZES,
    limit=st.integers(1, 12),
    counts=SIZES,
)
def test_lines_do_not_depend_on_how_blocks_are_cut(
    content: bytes, sizes: list[int], limit: int, counts: list[int]
) -> None:
    """Lines within the bound come back whole, longer ones as their length, each at its offset."""
    lines = LineReader(Blocks(content, sizes), offset=0, line=1, max_line_bytes=limit)
    expected = io.BytesIO(content).readlines()
    found: list[bytes | int] = []
    while not lines.ended():
        counts = counts[1:] + counts[:1]
        seen = lines.peek(counts[0])
        if seen:
            assert lines.peek_more(counts[0])[: len(seen)] == seen
            found += seen
            lines.advance(len(seen))
        elif lines.long_line is not None:
            found.append(lines.long_line.length)
            lines.skip_long_line()
        assert lines.offset == sum(map(len, expected[: len(found)]))
        assert lines.line == len(found) + 1
    assert found == [line if len(line) <= limit else len(line) for line in expected]
