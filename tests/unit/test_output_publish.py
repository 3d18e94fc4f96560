"""What stands in the way of a file: others of its name, other runs, and parts of it that were lost."""

import errno
import os
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.file_runs import CONTENT, FileRun, left_in
from worker.core.errors import OutputError
from worker.output.cursor import Piece
from worker.output.folder import Folder
from worker.output.join import Join
from worker.output.names import Names, run_key
from worker.output.place import Place
from worker.output.segment import SegmentWriter

COMMITS_OF_ROWS = 3


def taken_to(run: FileRun, commits: int) -> FileRun:
    """A run after so many commits, without its process."""
    steps = run.claim()
    for step in steps:
        if not commits:
            break
        commits -= step == "commit"
    steps.close()
    return run


def refusal(run: FileRun) -> str:
    """What a run fails with."""
    with pytest.raises(OutputError) as caught:
        run.run()
    return str(caught.value)


def test_an_existing_file_is_refused_before_any_row(tmp_path: Path) -> None:
    """The refusal says how large it is and what can be done, and the file stays as it is."""
    (tmp_path / "x.csv").write_text("old")
    said = refusal(FileRun(tmp_path))
    assert "'x.csv' exists already (3 bytes)" in said
    assert '"overwrite": true' in said
    assert (left_in(tmp_path), (tmp_path / "x.csv").read_text()) == (["x.csv"], "old")


def test_a_link_to_nothing_is_no_free_name(tmp_path: Path) -> None:
    """Where it leads counts: the file is made there."""
    (tmp_path / "x.csv").symlink_to("y.csv")
    FileRun(tmp_path).run()
    assert (tmp_path / "y.csv").read_text() == CONTENT
    assert left_in(tmp_path) == ["x.csv", "y.csv"]


def test_overwriting_replaces_the_file_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    """Until then readers find the old one, and whoever has it open keeps it."""
    (tmp_path / "x.csv").write_text("old")
    run = taken_to(FileRun(tmp_path, overwrite=True), COMMITS_OF_ROWS + 1)
    assert (tmp_path / "x.csv").read_text() == "old"
    with (tmp_path / "x.csv").open() as held:
        run.run()
        assert held.read() == "old"
    assert ((tmp_path / "x.csv").read_text(), left_in(tmp_path)) == (CONTENT, ["x.csv"])


@pytest.mark.parametrize("commits", [1, COMMITS_OF_ROWS])
def test_a_file_that_came_meanwhile_is_noticed_by_the_next_claim(tmp_path: Path, commits: int) -> None:
    """Not only after hours of writing."""
    run = taken_to(FileRun(tmp_path), commits)
    (tmp_path / "x.csv").write_text("new")
    assert "exists already" in refusal(run)
    (tmp_path / "x.csv").unlink()
    run.run()
    assert ((tmp_path / "x.csv").read_text(), left_in(tmp_path)) == (CONTENT, ["x.csv"])


@pytest.mark.parametrize("same_content", [True, False])
def test_a_file_that_came_before_publishing_is_left_alone(
    tmp_path: Path,
    same_content: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    """All rows wait beside it, and the message says where; with it out of the way the run goes on."""
    run = taken_to(FileRun(tmp_path), COMMITS_OF_ROWS + 1)
    (tmp_path / "x.csv").write_text(CONTENT if same_content else "new")
    said = refusal(run)
    (whole,) = tmp_path.glob("*.whole")
    assert "'x.csv' exists by now and is another file" in said
    assert f"All 5 rows are in '{whole}': move the other file away, then `heavylift retry r`" in said
    (tmp_path / "x.csv").rename(tmp_path / "moved")
    run.run()
    assert ((tmp_path / "x.csv").read_text(), left_in(tmp_path)) == (CONTENT, ["moved", "x.csv"])


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_came_before_publishing_is_left_alone(
    tmp_path: Path,
    overwrite: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    """Even where overwriting is asked for."""
    run = taken_to(FileRun(tmp_path, overwrite=overwrite), COMMITS_OF_ROWS + 1)
    (tmp_path / "x.csv").mkdir()
    assert "exists by now" in refusal(run)


def test_two_runs_with_one_target_do_not_meet(tmp_path: Path) -> None:
    """Each writes files of its own; the first to publish wins, the other keeps its rows and says where."""
    first, second = (taken_to(FileRun(tmp_path, run_id=name), COMMITS_OF_ROWS + 1) for name in ("a", "b"))
    assert len(left_in(tmp_path)) == 4
    first.run()
    assert "exists by now" in refusal(second)
    (tmp_path / "x.csv").rename(tmp_path / "first.csv")
    second.run()
    assert (tmp_path / "first.csv").read_text() == (tmp_path / "x.csv").read_text() == CONTENT
    assert left_in(tmp_path) == ["first.csv", "x.csv"]


def test_clearing_away_spares_files_of_like_names(tmp_path: Path) -> None:
    """Another run's, another target's, and what a person put there."""
    taken_to(FileRun(tmp_path, run_id="b"), 1)
    taken_to(FileRun(tmp_path, "x.csv.gz"), 1)
    (tmp_path / "x.csv.0123456789ab.1.part").touch()
    (tmp_path / "x.csv.old").touch()
    before = left_in(tmp_path)
    FileRun(tmp_path).run()
    assert left_in(tmp_path) == sorted([*before, "x.csv"])


def remove(part: Path) -> None:
    """Lose a segment."""
    part.unlink()


def cut(part: Path) -> None:
    """Lose its end."""
    os.truncate(part, 9)


def change(part: Path) -> None:
    """Lose its content, and nothing that a folder listing shows."""
    part.write_bytes(b"?" * part.stat().st_size)


def swap(part: Path) -> None:
    """Put a folder in its place."""
    part.unlink()
    part.mkdir()


def lead_away(part: Path) -> None:
    """Put a link in its place."""
    part.rename(part.with_suffix(".moved"))
    part.symlink_to(part.with_suffix(".moved"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lead_away, "it is not there"),
        (remove, "it is not there"),
        (cut, "it has 9 bytes"),
        (change, "other bytes stand in their place, as the checksum tells"),
        (swap, "it is not there"),
    ],
)
@pytest.mark.parametrize("commits", [1, 2, COMMITS_OF_ROWS])
def test_a_lost_segment_fails_the_run(tmp_path: Path, damage: Callable[[Path], None], said: str, commits: int) -> None:
    """The message names the segment and how much of it counted; no file is made of what is left."""
    run = taken_to(FileRun(tmp_path), commits)
    (part,) = tmp_path.glob("*.1.part")
    size = part.stat().st_size
    damage(part)
    refused = refusal(run)
    assert f"'{part}' is needed for 'x.csv', and what was committed of it, {size} bytes, is lost: {said}" in refused
    assert "`heavylift retry r`" in refused
    assert not (tmp_path / "x.csv").exists()


def test_a_segment_lost_before_its_own_claim_joins_fails_the_run(tmp_path: Path) -> None:
    """It is found then and not when it is too late."""
    run = FileRun(tmp_path)
    steps = run.claim()
    while next(steps) != "join":
        pass
    (part,) = tmp_path.glob("*.1.part")
    cut(part)
    with pytest.raises(OutputError, match="is lost: it ends after 9 bytes"):
        next(steps)


@pytest.mark.parametrize("damage", [remove, cut, swap])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_lost_whole_file_fails_the_run(
    tmp_path: Path,
    damage: Callable[[Path], None],
    overwrite: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    """What it was replaced by is not published."""
    run = taken_to(FileRun(tmp_path, overwrite=overwrite), COMMITS_OF_ROWS + 1)
    (whole,) = tmp_path.glob("*.whole")
    damage(whole)
    assert f"'{whole}' is needed for 'x.csv'" in refusal(run)
    assert not (tmp_path / "x.csv").exists()


def test_a_file_that_was_moved_into_place_is_known_by_its_content(tmp_path: Path) -> None:
    """Where there are no links, the first name is gone; another content is another file."""
    run = taken_to(FileRun(tmp_path), COMMITS_OF_ROWS + 1)
    (whole,) = tmp_path.glob("*.whole")
    whole.rename(tmp_path / "x.csv")
    original = (tmp_path / "x.csv").read_bytes()
    (tmp_path / "x.csv").write_bytes(original.swapcase())
    assert "is lost: it is not there" in refusal(run)
    (tmp_path / "x.csv").write_bytes(original)
    run.run()
    assert (left_in(tmp_path), (tmp_path / "x.csv").read_bytes()) == (["x.csv"], original)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_worker_moves_into_place_at_this_moment_is_published(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    links: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    """One that was taken for dead wakes up and is faster by a moment."""
    run, real = taken_to(FileRun(tmp_path, overwrite=links), COMMITS_OF_ROWS + 1), os.replace

    def overtaken(name: str, new: str, **folders: Any) -> None:
        real(name, new, **folders)
        real(name, new, **folders)

    monkeypatch.setattr(os, "replace", overtaken)
    if not links:
        monkeypatch.setattr(Folder, "link", lambda *_: False)
    run.run()
    assert ((tmp_path / "x.csv").read_text(), left_in(tmp_path)) == (CONTENT, ["x.csv"])


@pytest.mark.parametrize("role", ["part", "whole"])
def test_a_file_under_this_claims_own_name_is_never_touched(tmp_path: Path, role: str) -> None:
    """It means that two ledgers know of the claim, which the message says."""
    run = taken_to(FileRun(tmp_path), 1)
    (part,) = tmp_path.glob("*.part")
    foreign = tmp_path / part.name.replace(".1.part", f".2.{role}")
    foreign.write_text("precious")
    said = refusal(run)
    assert f"'{foreign}' exists, and only this claim of run 'r' may write it" in said
    assert "restored from a backup" in said
    assert foreign.read_text() == "precious"
    run.run()
    assert (tmp_path / "x.csv").read_text() == CONTENT


def test_a_later_run_of_the_same_id_has_names_of_its_own() -> None:
    """The earlier one's rows may exist nowhere else."""
    first, second = (run_key("r", datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2))
    assert first != second
    assert first != run_key("r2", datetime(2026, 1, 1, tzinfo=UTC))
    assert first == run_key("r", datetime.fromisoformat("2026-01-01T02:00:00+02:00"))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_after_a_failed_write_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk is told as what it is, with the file's name; a second try would not know what the disk holds."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = taken_to(FileRun(tmp_path), 1)
    steps = run.claim()
    assert [next(steps), next(steps)] == ["open", "append"]
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(OSError, match=r"No space left on device: '.*x\.csv\..*\.2\.part'") as caught:
            list(steps)
    assert caught.value.errno == errno.ENOSPC
    run.run()
    assert (tmp_path / "x.csv").read_text() == CONTENT


def test_a_segment_is_not_trusted_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed once would succeed the second time, and the bytes be lost all the same."""
    folder = Folder.open(str(tmp_path), [])
    segment = SegmentWriter(folder, "s", 1)
    segment.append(b"abc")
    segment.flush()
    segment.append(b"def")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            segment.flush()
    for again in (segment.flush, partial(segment.append, b"x")):
        with pytest.raises(OutputError, match="what it holds is not known; claim the run anew"):
            again()
    assert segment.synced == Piece(fence=1, bytes=3, crc32=zlib.crc32(b"abc"))
    segment.close()
    folder.close()


def test_a_failed_join_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what it made taken for whole: the next claim joins anew."""
    run = taken_to(FileRun(tmp_path), 1)
    steps = run.claim()
    while next(steps) != "join":
        pass
    real_write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:1]) // 0)
        with pytest.raises(ZeroDivisionError):
            next(steps)
    run.run()
    assert ((tmp_path / "x.csv").read_text(), left_in(tmp_path)) == (CONTENT, ["x.csv"])


def test_what_a_dead_claim_joined_makes_way(tmp_path: Path) -> None:
    """A run that is interrupted again and again while it joins does not fill the disk."""
    run = taken_to(FileRun(tmp_path), COMMITS_OF_ROWS)
    for _ in range(2):
        steps = run.claim()
        while next(steps) != "join":
            pass
        next(steps)
        assert [path.name.split(".")[-2] for path in tmp_path.glob("*.whole")] == [str(run.fence)]
        steps.close()


def test_a_worker_taken_for_dead_does_not_remove_what_its_successor_joined(tmp_path: Path) -> None:
    """It wakes up right before it joins, and its successor is right before publishing."""
    run = FileRun(tmp_path)
    dead = run.claim()
    while next(dead) != "join":
        pass
    alive = run.claim()
    while next(alive) != "publish":
        pass
    next(dead)
    list(alive)
    assert (tmp_path / "x.csv").read_text() == CONTENT


def test_a_worker_taken_for_dead_cannot_write_into_the_file(tmp_path: Path) -> None:
    """Its segment is copied, however sound it is: it may still be open there."""
    run = taken_to(FileRun(tmp_path), COMMITS_OF_ROWS)
    (part,) = tmp_path.glob("*.part")
    with part.open("ab") as held:
        run.run()
        held.write(b"late")
    assert (tmp_path / "x.csv").read_text() == CONTENT


def test_names_reach_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synced file whose folder is not synced can be gone after a power cut: each new name is followed by a sync."""
    synced, real = list[str](), os.fsync

    def recorded(descriptor: int) -> None:
        facts = os.fstat(descriptor)
        synced.append("folder" if facts.st_ino == tmp_path.stat().st_ino else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    run = taken_to(FileRun(tmp_path), 2)
    assert synced == ["file", "folder", "file"]
    synced.clear()
    taken_to(run, 2)
    assert synced == ["file", "folder", "file", "folder"]
    synced.clear()
    run.run()
    assert synced == ["folder", "folder"]


def test_a_join_that_failed_once_fails_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step never makes a whole file of what the one before left."""
    folder = Folder.open(str(tmp_path), [])
    join = Join(Place(folder, Names("x.csv", "0" * 12), "x.csv", "r"), [], 1, alone=b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            join.step(10)
    with pytest.raises(OutputError, match="has 0 bytes and not 3; claim the run anew"):
        join.step(10)
    join.close()
    folder.close()
