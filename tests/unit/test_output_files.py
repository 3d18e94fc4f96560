"""Where a file may be made, and what it is made of, start to end."""

import datetime as dt
import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from worker.core.errors import OutputError
from worker.output.folder import write_all
from worker.output.open import open_output
from worker.output.segmented import SegmentedOutput
from worker.output.spec import OutputSpec, check_output

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OPENED: list[SegmentedOutput] = []


@pytest.fixture(autouse=True)
def _close_outputs() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def opened(uri: str, *folders: Path, cursor: object = None, fence: int = 1, **spec: Any) -> SegmentedOutput:
    """A file that is being made, closed with the test."""
    asked = OutputSpec(uri=uri, **spec)
    OPENED.append(
        open_output(asked, folders, run_id="r", started_at=MOMENT, fence=fence, columns=["id", "name"], cursor=cursor)
    )
    return OPENED[-1]


def refusal(uri: str, *folders: Path, **more: Any) -> str:
    """What is said of a file that cannot be made."""
    with pytest.raises(OutputError) as caught:
        opened(uri, *folders, **more)
    return str(caught.value)


def finish(output: SegmentedOutput) -> None:
    """Take an output from its last row to its end."""
    while not output.join():
        pass
    output.publish()
    output.clear()


def make(uri: str, *folders: Path, **spec: Any) -> SegmentedOutput:
    """Make a file of two rows in two chunks."""
    output = opened(uri, *folders, **spec)
    for row in ((1, "one"), (2, "two")):
        output.append([row])
        output.flush()
    finish(output)
    return output


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["file://{}/x.csv", "file://localhost{}/%78.csv", "{}/x.csv", "x.csv", "./x.csv"])
def test_a_file_is_named_by_uri_or_path(out: Path, form: str) -> None:
    """Every spelling of a local file leads to it, and nothing but the file is left in the end."""
    output = make(form.format(out), out)
    assert (out / "x.csv").read_text() == "id,name\n1,one\n2,two\n"
    assert (output.rows, output.size) == (2, 20)
    assert names(out) == ["x.csv"]


def test_a_relative_path_is_looked_up_in_the_first_folder(out: Path, tmp_path: Path) -> None:
    """What other folders hold does not matter."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.csv").touch()
    make("x.csv", out, other)
    assert names(out) == ["x.csv"]
    make("../other/y.csv", out, other)
    assert names(other) == ["x.csv", "y.csv"]


def test_a_folder_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the default one is: it is then beneath the folder that the worker was started in, once."""
    monkeypatch.chdir(tmp_path)
    make("x.csv", Path("out"))
    assert names(tmp_path / "out") == ["x.csv"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """Below an output folder, and the output folder itself."""
    make("2026/07/x.csv", tmp_path / "out")
    assert names(tmp_path / "out/2026/07") == ["x.csv"]


def test_the_folder_of_an_output_folder_is_not_made(tmp_path: Path) -> None:
    """It may be a disk that is not mounted."""
    said = refusal("x.csv", tmp_path / "disk/out")
    assert "Is its disk mounted?" in said
    assert str(tmp_path / "disk") in said
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://bucket/x.csv", "scheme 's3'.*can be written, such as file:///data/out/orders.csv"),
        ("zip://x.csv::file:///y.zip", "chained"),
        ("file://elsewhere/x.csv", "host 'elsewhere'.*can be written"),
        ("file:x.csv", "three slashes"),
        ("", "names no file"),
        ("file:///%00.csv", "names no file"),
        ("\ud800.csv", "not a path"),
        ("x.txt", "does not tell what the file holds"),
        ("x.csv.zip", "packed with zip, which is not written. Use gzip, for example file:///data/out/orders.csv.gz"),
        ("x.csv.bz2", "packed with bzip2"),
        (".csv", "does not tell"),
        ("n" * 250 + ".csv", "no place for a file: File name too long"),
    ],
)
def test_what_names_no_file_to_be_made_is_refused(out: Path, uri: str, said: str) -> None:
    """Each refusal says what is wrong with the name."""
    with pytest.raises(OutputError, match=said):
        opened(uri, out)


@pytest.mark.parametrize(
    "uri", ["{}/outside.csv", "file://{}/out/../outside.csv", "../outside.csv", "{}/out2/x.csv", "/etc/x.csv"]
)
def test_a_file_outside_the_folders_is_refused(out: Path, tmp_path: Path, uri: str) -> None:
    """The refusal lists the folders and names the setting; no folder is made."""
    said = refusal(uri.format(tmp_path), out)
    assert str(out) in said
    assert "may be written" in said
    assert "WORKER_OUTPUT_DIRS=/data/out" in said
    assert names(tmp_path) == ["out"]


def test_without_output_folders_nothing_is_written(out: Path) -> None:
    """Not even into the working directory."""
    assert "there are none" in refusal(str(out / "x.csv"))


def test_a_link_is_judged_by_where_it_leads(out: Path, tmp_path: Path) -> None:
    """A link out is refused, be it the file or a folder on the way; a link within is followed."""
    (tmp_path / "elsewhere").mkdir()
    (out / "inner").mkdir()
    (out / "way").symlink_to(tmp_path / "elsewhere")
    (out / "within").symlink_to(out / "inner")
    (out / "x.csv").symlink_to(tmp_path / "elsewhere/x.csv")
    for uri in ("way/x.csv", "way/new/x.csv", "x.csv"):
        assert "outside the folders" in refusal(uri, out)
    make("within/x.csv", out)
    assert names(out / "inner") == ["x.csv"]
    assert names(tmp_path / "elsewhere") == []


def test_a_folder_swapped_for_a_link_after_the_check_is_noticed(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to must be what was allowed."""
    (tmp_path / "elsewhere").mkdir()
    real_open = os.open

    def swap_then_open(path: str, *args: Any, **more: Any) -> int:
        if path == "inner" and not (out / "inner").exists():
            (out / "inner").symlink_to(tmp_path / "elsewhere")
        return real_open(path, *args, **more)

    monkeypatch.setattr(os, "open", swap_then_open)
    assert "no place for a file" in refusal("inner/x.csv", out)
    assert names(tmp_path / "elsewhere") == []


def test_a_folder_that_is_moved_away_stays_the_place(out: Path, tmp_path: Path) -> None:
    """What was checked is written to, whatever stands under its name later."""
    (out / "inner").mkdir()
    output = opened("inner/x.csv", out)
    (out / "inner").rename(out / "moved")
    (out / "inner").symlink_to(tmp_path)
    output.append([(1, "one")])
    output.flush()
    finish(output)
    assert names(out / "moved") == ["x.csv"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_may_not_be_written_is_one_error(out: Path) -> None:
    """Permissions are named; root, who may write everywhere, looks as somebody else."""
    output, user = opened("x.csv", out), os.geteuid()
    out.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(OutputError, match="may not be used by the worker's user: Permission denied"):
            output.append([(1, "one")])
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("uri", [".", "", "./"])
def test_an_output_folder_is_no_file(out: Path, uri: str) -> None:
    """Nor is one that does not exist yet."""
    for folder in (out, out / "new"):
        assert "names no file" in (said := refusal(uri, folder, format="csv")) or "is an output folder itself" in said


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_is_never_replaced(out: Path, overwrite: bool) -> None:  # noqa: FBT001 - a pytest parameter
    """Not even when overwriting is asked for."""
    (out / "x.csv").mkdir()
    assert "is no regular file" in refusal("x.csv", out, overwrite=overwrite)


def test_a_refused_file_leaves_no_descriptor_open(out: Path) -> None:
    """An error on the way gives all descriptors back, and so does an output that nobody holds any more."""
    (out / "x.csv").touch()
    before = names(Path("/proc/self/fd"))
    refusal("x.csv", out)
    refusal("x.csv/y/z.csv", out)
    opened("y.csv", out)
    OPENED.pop()
    assert names(Path("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("uri", "asked", "content"),
    [
        ("x.ndjson", None, '{"id":1,"name":"one"}\n{"id":2,"name":"two"}\n'),
        ("x.jsonl", None, '{"id":1,"name":"one"}\n{"id":2,"name":"two"}\n'),
        ("x.tsv", None, "id\tname\n1\tone\n2\ttwo\n"),
        ("x.tsv", "csv", "id\tname\n1\tone\n2\ttwo\n"),
        ("x.csv", "ndjson", '{"id":1,"name":"one"}\n{"id":2,"name":"two"}\n'),
        ("x", "csv", "id,name\n1,one\n2,two\n"),
        ("X.CSV", None, "id,name\n1,one\n2,two\n"),
    ],
)
def test_the_name_or_the_request_tells_the_format(out: Path, uri: str, asked: str | None, content: str) -> None:
    """The request goes before the name, but for what separates fields: the reader looks at the name alone."""
    make(uri, out, format=asked)
    assert (out / uri).read_text() == content


@pytest.mark.parametrize("name", ["x.csv.gz", "x.CSV.GZIP", "x.tsv.gz"])
def test_a_name_ending_in_gz_is_packed(out: Path, name: str) -> None:
    """Each chunk is a gzip member of its own, and any gzip reader joins them; there is no time in them."""
    make(name, out)
    content = (out / name).read_bytes()
    assert gzip.decompress(content).decode().replace("\t", ",") == "id,name\n1,one\n2,two\n"
    assert content.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 2


@pytest.mark.parametrize(
    ("name", "content"), [("x.csv", b"id,name\n"), ("x.ndjson", b""), ("x.csv.gz", b"id,name\n"), ("x.ndjson.gz", b"")]
)
def test_a_file_without_rows_is_a_file(out: Path, name: str, content: bytes) -> None:
    """A CSV has its header, a gzip is one, and nothing else is there."""
    output = opened(name, out)
    output.append([])
    output.flush()
    finish(output)
    written = (out / name).read_bytes()
    assert (gzip.decompress(written) if name.endswith("gz") else written) == content
    assert bool(written) == (name != "x.ndjson")
    assert (output.rows, output.size, names(out)) == (0, len(written), [name])


def test_the_cursor_is_small_and_json(out: Path) -> None:
    """It lists what is on the disk, and survives a ledger."""
    output = opened("x.csv", out)
    assert output.cursor()["segments"] == []
    output.append([(1, "one")])
    output.flush()
    cursor = json.loads(json.dumps(output.cursor()))
    assert cursor == output.cursor()
    assert cursor["segments"] == [{"fence": 1, "bytes": 14, "crc32": zlib.crc32(b"id,name\n1,one\n")}]
    assert (cursor["rows"], cursor["phase"], cursor["columns"]) == (1, "write", ["id", "name"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "../../etc"),
        ("columns", []),
        ("rows", -1),
        ("rows", "1"),
        ("segments", [{"fence": 1, "bytes": 5, "crc32": 2**32}]),
        ("segments", [{"fence": fence, "bytes": 5, "crc32": 0} for fence in (2, 1)]),
        ("whole", {"fence": 1, "bytes": 5, "crc32": 0}),
        ("phase", "publish"),
        ("more", 1),
    ],
)
def test_a_damaged_cursor_is_one_error(out: Path, field: str, value: object) -> None:
    """It never leads to a file of another name or to a wrong length."""
    cursor = {**opened("x.csv", out).cursor(), field: value}
    assert "start a new run" in refusal("x.csv", out, cursor=cursor, fence=2)


def test_a_file_keeps_the_columns_that_it_was_begun_with(out: Path) -> None:
    """A column that the table gains meanwhile is not in the file."""
    cursor = {**opened("x.csv", out).cursor(), "columns": ["id"]}
    assert opened("x.csv", out, cursor=cursor, fence=2).columns == ("id",)


def test_calls_in_another_order_are_refused(out: Path) -> None:
    """A mistake in a job is told at once, rather than made into a damaged file."""
    output = opened("x.csv", out)
    with pytest.raises(RuntimeError, match=r"publish\(\) belongs to the phase 'publish', and this output's is 'write'"):
        output.publish()
    output.append([(1, "one")])
    for step in (output.cursor, output.join):
        with pytest.raises(RuntimeError, match=r"call flush\(\)"):
            step()
    output.close()
    with pytest.raises(RuntimeError, match="closed"):
        output.flush()
    output.close()


def test_a_claim_has_a_fence_above_those_before_it(out: Path) -> None:
    """Otherwise two claims would write one segment."""
    output = opened("x.csv", out, fence=5)
    output.append([(1, "one")])
    output.flush()
    with pytest.raises(ValueError, match="fence 5 is not above that of the last segment, 5"):
        opened("x.csv", out, fence=5, cursor=output.cursor())


def test_closing_waits_for_a_call_in_another_thread(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor is not given back while a thread still writes to it: its number may be another file's by then."""
    output, writing, go_on = opened("x.csv", out), threading.Event(), threading.Event()

    def write_slowly(descriptor: int, data: bytes) -> None:
        writing.set()
        assert go_on.wait(60)
        write_all(descriptor, data)

    monkeypatch.setattr("worker.output.segment.write_all", write_slowly)
    writer = threading.Thread(target=output.append, args=([(1, "one")],))
    closer = threading.Thread(target=output.close)
    writer.start()
    assert writing.wait(60)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    for thread in (writer, closer):
        thread.join(60)
    (part,) = out.iterdir()
    assert part.read_text() == "id,name\n1,one\n"


def test_a_request_that_cannot_be_met_is_known_without_a_disk() -> None:
    """A client can check it."""
    with pytest.raises(OutputError):
        check_output(OutputSpec(uri="x.zip", format="csv"))
    with pytest.raises(ValidationError):
        OutputSpec.model_validate({"uri": "x.csv", "mode": "w"})
