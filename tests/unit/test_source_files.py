"""Which files may be read, and that a file stays the one its run began with."""

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.core.errors import SourceError
from worker.source.batch import RowSource
from worker.source.open import open_rows
from worker.source.spec import FileFormat, SourceLimits, SourceSpec

ROWS = "id,name\n1,one\n2,two\n"


OPENED: list[RowSource] = []


@pytest.fixture(autouse=True)
def _close_sources() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one file, and another file beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.csv").write_text(ROWS)
    (tmp_path / "outside.csv").write_text(ROWS)
    return folder


def opened(
    uri: str, *folders: Path, cursor: dict[str, object] | None = None, kind: FileFormat | None = None
) -> RowSource:
    """A file as a source, closed with the test."""
    OPENED.append(open_rows(SourceSpec(uri=uri, format=kind), SourceLimits(data_dirs=folders), cursor))
    return OPENED[-1]


def refusal(uri: str, *folders: Path, cursor: dict[str, object] | None = None) -> str:
    """What is said of a file that cannot be opened."""
    with pytest.raises(SourceError) as caught:
        opened(uri, *folders, cursor=cursor)
    return str(caught.value)


def columns(uri: str, *folders: Path) -> tuple[str, ...]:
    """The columns of a file that can be opened."""
    return opened(uri, *folders).columns


@pytest.mark.parametrize(
    "form", ["file://{}/x.csv", "file:{}/x.csv", "FILE://localhost{}/x.csv", "file://{}/%78.csv", "{}/x.csv", "x.csv"]
)
def test_a_file_is_named_by_uri_or_path(data: Path, form: str) -> None:
    """Every spelling of a local file leads to it."""
    assert columns(form.format(data), data) == ("id", "name")


def test_a_relative_path_is_looked_up_in_each_folder(data: Path, tmp_path: Path) -> None:
    """The first folder that holds it wins."""
    other = tmp_path / "other"
    other.mkdir()
    assert columns("x.csv", other, data) == ("id", "name")
    (other / "x.csv").write_text("first\n")
    assert columns("x.csv", other, data) == ("first",)


def test_percent_decoding_reaches_names_with_any_byte(data: Path) -> None:
    """A name with a space, a hash or a byte that is not UTF-8 can be written in a URI."""
    (Path(os.fsdecode(os.fsencode(data) + b"/a #\xff.csv"))).write_text("odd\n")
    assert columns(f"file://{data}/a%20%23%FF.csv", data) == ("odd",)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://bucket/x.csv", "scheme 's3'.*WORKER_URI_SCHEMES"),
        ("https://example.com/x.csv", "WORKER_URI_SCHEMES"),
        ("data:text/csv,a", "WORKER_URI_SCHEMES"),
        ("zip://x.csv::file:///y.zip", "chained"),
        ("file://elsewhere/x.csv", "host 'elsewhere'"),
        ("file:x.csv", "three slashes"),
        ("", "names no file"),
        ("file:///%00", "names no file"),
        ("\ud800.csv", "not a path"),
        ("missing.csv", "no file 'missing.csv'"),
        ("x.csv/y.csv", "no file"),
        (".", "is a folder"),
    ],
)
def test_what_names_no_readable_file_is_refused(data: Path, uri: str, said: str) -> None:
    """Each refusal says what is wrong with the name."""
    with pytest.raises(SourceError, match=said):
        opened(uri, data)


@pytest.mark.parametrize("uri", ["{}/outside.csv", "file://{}/data/../outside.csv", "../outside.csv", "/etc/passwd"])
def test_a_file_outside_the_folders_is_refused(data: Path, tmp_path: Path, uri: str) -> None:
    """The refusal lists the folders and names the setting."""
    said = refusal(uri.format(tmp_path), data)
    assert str(data) in said
    assert "WORKER_DATA_DIRS" in said


def test_outside_the_folders_nothing_is_said_of_what_exists(data: Path, tmp_path: Path) -> None:
    """A missing file outside reads as one that exists."""
    there, missing = (refusal(f"{tmp_path}/{name}", data) for name in ("outside.csv", "nothing.csv"))
    assert there.replace("outside.csv", "") == missing.replace("nothing.csv", "")


def test_a_link_is_judged_by_where_it_leads(data: Path, tmp_path: Path) -> None:
    """A link out is refused, a link within is followed, and a linked data folder is a data folder."""
    (data / "out.csv").symlink_to(tmp_path / "outside.csv")
    (data / "in.csv").symlink_to(data / "x.csv")
    (tmp_path / "alias").symlink_to(data)
    assert "outside the folders" in refusal("out.csv", data)
    assert columns("in.csv", data) == ("id", "name")
    assert columns("x.csv", tmp_path / "alias") == ("id", "name")


def test_a_folder_whose_name_only_begins_alike_is_outside(data: Path, tmp_path: Path) -> None:
    """Containment goes by folders, not by letters."""
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "x.csv").write_text(ROWS)
    assert "outside the folders" in refusal(f"{tmp_path}/data2/x.csv", data)


def test_a_loop_of_links_is_one_error(data: Path) -> None:
    """Links that lead to each other end."""
    (data / "a.csv").symlink_to(data / "b.csv")
    (data / "b.csv").symlink_to(data / "a.csv")
    assert "cannot be opened" in refusal("a.csv", data)


def test_a_pipe_is_refused_without_waiting_for_a_writer(data: Path) -> None:
    """Only regular files are read."""
    os.mkfifo(data / "pipe.csv")
    assert "not a regular file" in refusal("pipe.csv", data)


def test_a_socket_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be opened at all says why."""
    monkeypatch.chdir(data)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.csv")
        assert "cannot be opened" in refusal("s.csv", data)


def test_an_unreadable_file_is_one_error(data: Path) -> None:
    """Permissions are named; root, who may read everything, looks as somebody else."""
    (data / "x.csv").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        said = refusal("x.csv", data)
    finally:
        os.seteuid(user)
    assert "may not be read by the worker's user" in said


def test_a_folder_swapped_for_a_link_after_the_check_is_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened must be what was allowed."""
    inner, secret, real_open = data / "inner", tmp_path / "secret", os.open
    inner.mkdir()
    secret.mkdir()
    for folder in (inner, secret):
        (folder / "y.csv").write_text(ROWS)

    def swap_then_open(path: str, flags: int) -> int:
        inner.rename(data / "gone")
        inner.symlink_to(secret)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", swap_then_open)
    assert "was replaced while it was being opened" in refusal("inner/y.csv", data)


def test_a_refused_file_leaves_no_descriptor_open(data: Path) -> None:
    """An error after opening gives the descriptor back."""
    (data / "bad.csv").write_text("a,a\n")
    (data / "plain.txt").write_text("a\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("bad.csv", "plain.txt", "."):
        refusal(name, data)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_unknown_ending_asks_for_the_format(data: Path) -> None:
    """A name that says nothing is not guessed at, and the parameter settles it."""
    (data / "x.txt").write_text(ROWS)
    said = refusal("x.txt", data)
    assert '"format"' in said
    assert ".ndjson" in said
    assert opened("x.txt", data, kind="csv").columns == ("id", "name")


def test_the_format_beats_the_name(data: Path) -> None:
    """What the request says goes before what the name suggests."""
    (data / "y.csv").write_text('{"a": 1}\n')
    assert opened("y.csv", data, kind="ndjson").read(5).rows == [(1,)]


def touch(path: Path) -> None:
    """Change the modification time alone."""
    os.utime(path, ns=(1, 1))


def grow(path: Path) -> None:
    """Add a row."""
    path.write_text(ROWS + "3,three\n")


def rewrite(path: Path) -> None:
    """Change the content and nothing that a folder listing shows."""
    facts = path.stat()
    path.write_text(ROWS.replace("two", "TWO"))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "said"),
    [(touch, "written to since"), (grow, "had 20 bytes and has 28"), (rewrite, "its content is not")],
)
def test_a_file_that_changed_between_attempts_fails_the_run(
    data: Path, change: Callable[[Path], None], said: str
) -> None:
    """Time, size and content are all watched, and the error says which it was."""
    cursor = json.loads(json.dumps(opened("x.csv", data).read(1).cursor))
    change(data / "x.csv")
    refused = refusal("x.csv", data, cursor=cursor)
    assert "changed since the run started" in refused
    assert said in refused


def test_a_file_that_changes_while_it_is_read_fails_the_run(data: Path) -> None:
    """Rows of two versions of a file are never mixed."""
    source = opened("x.csv", data)
    source.read(1)
    grow(data / "x.csv")
    with pytest.raises(SourceError, match="while it was being read"):
        source.read(1)


@pytest.mark.parametrize("field", ["offset", "line", "read", "columns", "file"])
@pytest.mark.parametrize("value", [None, -1, "x", {}, True])
def test_a_damaged_cursor_is_one_error(data: Path, field: str, value: object) -> None:
    """A cursor with a field missing or wrong never leads to a KeyError or to a wrong place."""
    cursor = {**opened("x.csv", data).read(1).cursor, field: value}
    said = refusal("x.csv", data, cursor=cursor)
    assert "start a new run" in said
    assert field in said


def test_fraction_grows_to_one(data: Path) -> None:
    """Progress is between 0 and 1, never falls, and ends at 1, packed or not."""
    text = "id\n" + "".join(f"{index}\n" for index in range(20_000))
    (data / "p.csv").write_text(text)
    (data / "p.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("p.csv", "p.csv.gz"):
        source, seen = opened(name, data), list[float]()
        while not seen or seen[-1] < 1:
            batch = source.read(1_000)
            assert batch.fraction is not None
            seen.append(batch.fraction)
            assert batch.last == (batch.fraction == 1)
        assert seen == sorted(seen)
        assert seen[9] == pytest.approx(0.5, abs=0.1)
