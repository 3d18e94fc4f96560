"""Packed files: what is recognised, what is refused, and what a damage leaves of a file."""

import bz2
import gzip
import io
import lzma
import random
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.core.errors import SourceError
from worker.source.batch import RowSource
from worker.source.open import open_rows
from worker.source.spec import SourceLimits, SourceSpec

NUMBERS = random.Random(7)
ROWS = [f"{index},{NUMBERS.random()}" for index in range(20_000)]
TEXT = ("id,value\n" + "\n".join(ROWS) + "\n").encode()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of some members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


OPENED: list[RowSource] = []


@pytest.fixture(autouse=True)
def _close_sources() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(
    folder: Path, name: str, content: bytes, cursor: dict[str, object] | None = None, max_bytes: int = 1 << 30
) -> RowSource:
    """A file of some content, closed with the test."""
    if cursor is None:
        (folder / name).write_bytes(content)
    limits = SourceLimits(data_dirs=(folder,), max_decompressed_bytes=max_bytes)
    OPENED.append(open_rows(SourceSpec(uri=name), limits, cursor))
    return OPENED[-1]


def read_rows(source: RowSource, size: int = 3_000) -> tuple[list[object], SourceError | None]:
    """All that can be read, and the error that ended it."""
    ids: list[object] = []
    try:
        while True:
            batch = source.read(size)
            ids += [row[0] for row in batch.rows]
            if batch.last:
                return ids, None
    except SourceError as error:
        return ids, error


PACKED = {
    "gzip": ("x.csv.gz", gzip.compress(TEXT)),
    "gzip of several members": (
        "x.csv.gz",
        b"".join(gzip.compress(TEXT[i : i + 9_999]) for i in range(0, len(TEXT), 9_999)),
    ),
    "gzip with padding": (
        "x.csv.gz",
        gzip.compress(TEXT[:999]) + b"\0" * 99 + gzip.compress(TEXT[999:]) + b"\0" * 99_999,
    ),
    "gzip without the ending": ("x.csv", gzip.compress(TEXT)),
    "zip": ("x.zip", zipped(("folder/", b""), ("folder/x.csv", TEXT))),
    "zip named by itself": ("x.csv.zip", zipped(("data", TEXT))),
    "zip, stored": ("x.zip", zipped(("x.csv", TEXT), method=zipfile.ZIP_STORED)),
    "plain with a packed name": ("x.csv.gz", TEXT),
}


@pytest.mark.parametrize(("name", "content"), PACKED.values(), ids=PACKED)
def test_a_packing_is_told_from_the_first_bytes(tmp_path: Path, name: str, content: bytes) -> None:
    """However the file is called, its rows are the same."""
    ids, error = read_rows(opened(tmp_path, name, content))
    assert ids == [str(index) for index in range(20_000)]
    assert error is None


@pytest.mark.parametrize(("name", "content"), PACKED.values(), ids=PACKED)
def test_a_packed_file_resumes_at_the_cursor(tmp_path: Path, name: str, content: bytes) -> None:
    """It is unpacked again and gone on with at the very row."""
    cursor = opened(tmp_path, name, content).read(12_345).cursor
    batch = opened(tmp_path, name, content, cursor).read(2)
    assert [row[0] for row in batch.rows] == ["12345", "12346"]
    assert batch.positions == [12_347, 12_348]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped(("a.csv", b"a"), ("b.csv", b"b")), "zip of 2 files.*'a.csv', 'b.csv'"),
        (zipped(*((f"{index}.csv", b"a") for index in range(12))), "'9.csv' and 2 more"),
        (zipped(), "zip of 0 files.*nothing"),
        (zipped(("a.csv", b"a\n1\n"), method=zipfile.ZIP_BZIP2), "method 12"),
        (zipped(("a.csv", TEXT))[:-30], "truncated or damaged"),
        (bz2.compress(TEXT), "bzip2"),
        (lzma.compress(TEXT), "xz"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 20, "zstandard"),
    ],
)
def test_a_packing_that_is_not_read_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """The error says what it is, or what is inside."""
    with pytest.raises(SourceError, match=said):
        opened(tmp_path, "x.csv", content)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    """Both headers of the member carry the mark."""
    packed = bytearray(zipped(("a.csv", b"a\n1\n")))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceError, match="encrypted"):
        opened(tmp_path, "x.zip", bytes(packed))


def test_a_zip_of_very_many_files_is_refused_before_it_is_listed(tmp_path: Path) -> None:
    """Its table of contents could fill the memory."""
    packed = zipped(*((f"{index:0200}.csv", b"") for index in range(18_000)))
    with pytest.raises(SourceError, match="very many files"):
        opened(tmp_path, "x.zip", packed)


def test_a_text_that_begins_like_bzip2_is_text(tmp_path: Path) -> None:
    """Three letters are no proof."""
    assert opened(tmp_path, "x.csv", b"BZh9,b\n1,2\n").columns == ("BZh9", "b")


CUT = gzip.compress(TEXT)[: len(gzip.compress(TEXT)) // 2]
FLIPPED = bytearray(gzip.compress(TEXT))
FLIPPED[len(FLIPPED) // 2] ^= 0xFF
WRONG_SUM = bytearray(zipped(("x.csv", TEXT)))
WRONG_SUM[WRONG_SUM.rindex(b"PK\x01\x02") + 16] ^= 1
WRONG_STORED = bytearray(zipped(("x.csv", TEXT), method=zipfile.ZIP_STORED))
WRONG_STORED[-100 - len(b"x.csv")] ^= 1
DAMAGED = {
    "cut off": (CUT, "is cut off"),
    "cut before its checksum": (gzip.compress(TEXT)[:-8], "is cut off"),
    "cut in its header": (gzip.compress(TEXT) + gzip.compress(TEXT)[:5], "is cut off"),
    "wrong checksum": (gzip.compress(TEXT)[:-8] + bytes(8), "is a damaged gzip"),
    "followed by something else": (gzip.compress(TEXT) + b"something else", "is a damaged gzip"),
    "zip with a wrong checksum": (bytes(WRONG_SUM), "is a damaged zip"),
    "stored zip with a wrong checksum": (bytes(WRONG_STORED), "is a damaged zip"),
}


@pytest.mark.parametrize("size", [7_000, 1_000_000])
@pytest.mark.parametrize(("content", "said"), DAMAGED.values(), ids=DAMAGED)
def test_rows_before_a_damage_are_delivered_and_then_the_error(
    tmp_path: Path, content: bytes, said: str, size: int
) -> None:
    """Whole rows first, never a part of one; then the line, the reason, and that what was committed stays."""
    ids, error = read_rows(opened(tmp_path, "x.csv.gz", content), size)
    assert error is not None
    assert said in str(error)
    assert "what was committed stays" in str(error)
    assert f"up to line {len(ids) + 1};" in str(error)
    if said == "is cut off":
        assert len(ids) > 8_000
    assert ids == [str(index) for index in range(len(ids))]
    assert len(ids) > 5_000


def test_a_damage_in_the_middle_ends_the_reading(tmp_path: Path) -> None:
    """What was unpacked long before the damage is right, and the file is never read to its end."""
    ids, error = read_rows(opened(tmp_path, "x.csv.gz", bytes(FLIPPED)), 500)
    assert "is a damaged gzip" in str(error)
    assert ids[:5_000] == [str(index) for index in range(5_000)]


def test_a_small_damaged_file_gives_no_rows(tmp_path: Path) -> None:
    """What a block with a damage unpacks to may be anything, so nothing of it is used."""
    packed = bytearray(gzip.compress(b"a\n1\n2\n"))
    packed[-8] ^= 1
    with pytest.raises(SourceError, match=r"is a damaged gzip.*what was committed stays"):
        opened(tmp_path, "x.csv.gz", bytes(packed))


def test_a_cut_gzip_gives_every_row_that_zlib_can_find(tmp_path: Path) -> None:
    """Nothing readable before the cut is left out, and nothing after the last whole line is made up."""
    found = zlib.decompressobj(31).decompress(CUT)
    ids, _ = read_rows(opened(tmp_path, "x.csv.gz", CUT), 100)
    assert ids == [line.split(b",")[0].decode() for line in found.split(b"\n")[1:-1]]


def test_a_damage_inside_an_open_quote_makes_up_no_rows(tmp_path: Path) -> None:
    """The lines of a record whose end is missing are not read as rows."""
    text = b'a\nfirst\n"begins\n' + b"inside\n" * 1_000
    ids, error = read_rows(opened(tmp_path, "x.csv.gz", gzip.compress(text)[:-8]))
    assert ids == ["first"]
    assert "up to line 2;" in str(error)


def test_a_damage_is_found_again_on_the_next_attempt(tmp_path: Path) -> None:
    """Resuming at the last good row ends with the same error."""
    source = opened(tmp_path, "x.csv.gz", CUT)
    batch = source.read(1_000_000)
    assert not batch.last
    again = opened(tmp_path, "x.csv.gz", CUT, batch.cursor)
    with pytest.raises(SourceError, match=f"up to line {batch.read + 1};"):
        again.read(1)


def test_a_damaged_header_is_refused_at_once(tmp_path: Path) -> None:
    """Without columns there is nothing to begin with."""
    with pytest.raises(SourceError, match="is cut off"):
        opened(tmp_path, "x.csv.gz", gzip.compress(b"a,b")[:-4])


@pytest.mark.parametrize("max_bytes", [len(TEXT), len(TEXT) - 1, 300_000, 256 * 1024])
def test_what_a_file_unpacks_to_is_bounded_to_the_byte(tmp_path: Path, max_bytes: int) -> None:
    """Rows within the bound are delivered; then the setting is named."""
    ids, error = read_rows(opened(tmp_path, "x.csv.gz", gzip.compress(TEXT), max_bytes=max_bytes))
    assert ids == [str(index) for index in range(TEXT[:max_bytes].count(b"\n") - 1)]
    assert (error is None) == (max_bytes == len(TEXT))
    assert error is None or "WORKER_MAX_DECOMPRESSED_BYTES" in str(error)


def test_the_bound_counts_what_a_resumed_run_passes_over(tmp_path: Path) -> None:
    """An attempt that starts late may not unpack more than one that starts early."""
    content, bound = gzip.compress(TEXT), 300_000
    cursor = opened(tmp_path, "x.csv.gz", content, max_bytes=bound).read(5_000).cursor
    ids, error = read_rows(opened(tmp_path, "x.csv.gz", content, cursor, max_bytes=bound))
    assert ids[-1] == str(TEXT[:bound].count(b"\n") - 2)
    assert "WORKER_MAX_DECOMPRESSED_BYTES" in str(error)


def test_a_cursor_beyond_what_a_file_unpacks_to_is_refused(tmp_path: Path) -> None:
    """A cursor that points nowhere is an error, not an empty rest."""
    content = gzip.compress(TEXT)
    cursor = {**opened(tmp_path, "x.csv.gz", content).read(1).cursor, "offset": len(TEXT) + 1}
    with pytest.raises(SourceError, match="ends 1 bytes before"):
        opened(tmp_path, "x.csv.gz", content, cursor)
