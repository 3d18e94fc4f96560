"""A run that makes a file, killed at every instant, stalled, and overtaken: the file is made once, whole and right."""

import errno
import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.file_runs import CONTENT, FileRun, StaleError, left_in
from worker.core.errors import OutputError

When = Literal["before", "amid", "after"]
WHEN: tuple[When, ...] = ("before", "amid", "after")
CALLS = ("open", "mkdir", "write", "fsync", "link", "replace", "unlink")
SURPLUS = b"a row that was never committed\n"
OLD = "what was there before\n"
RESERVED = b"This name is kept for "
ENOUGH = 3
"""The least number of calls to the system in which there is something to do."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is told to write through, and does so later: a process dies here, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class KilledError(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(number: int, when: When) -> Iterator[None]:
    """Let the process die at one of its calls to the system that change a disk, counted from 0, or half-way in it."""
    calls = count()

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> object:
            if next(calls) != number:
                return real(*args, **more)
            if when == "after":
                with suppress(OSError):
                    real(*args, **more)
            if when == "amid" and name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            raise KilledError

        return call

    with pytest.MonkeyPatch.context() as patched, suppress(KilledError):
        for name in CALLS:
            patched.setattr(os, name, dying(name, getattr(os, name)))
        yield


@contextmanager
def without_links() -> Iterator[None]:
    """A file system that has no hard links."""

    def link(name: str, new: str, *, dst_dir_fd: int, **_: object) -> None:
        there = new in os.listdir(dst_dir_fd)
        raise OSError(errno.EEXIST if there else errno.EPERM, "what such a file system says", name, None, new)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", link)
        yield


def content_at(path: Path) -> str | None:
    """A file's text, unpacked where it is packed; None where there is none."""
    if not path.exists():
        return None
    data = path.read_bytes()
    return gzip.decompress(data).decode() if data.startswith(b"\x1f\x8b") else data.decode()


def add_surplus(run: FileRun, folder: Path) -> None:
    """Let segments hold more than was committed, as after a chunk that was rolled back."""
    writing = run.cursor is None or run.cursor["phase"] == "write"
    for part in folder.glob("*.part") if writing else ():
        with part.open("ab") as file:
            file.write(SURPLUS)


def remove_half_reservation(target: Path) -> None:
    """What a person has to do where there are no links, and a worker died while it took the name."""
    if target.exists() and RESERVED.startswith((data := target.read_bytes())[: len(RESERVED)]) and b"\n" not in data:
        target.unlink()


def begin(run: FileRun, committed: int) -> None:
    """Take a run to so many commits, and lose its process."""
    steps = run.claim()
    for step in steps:
        if not committed:
            break
        committed -= step == "commit"
    steps.close()


@pytest.mark.parametrize("committed", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_a_kill_at_any_instant_changes_nothing(
    tmp_path: Path,
    name: str,
    links: bool,  # noqa: FBT001 - a pytest parameter
    overwrite: bool,  # noqa: FBT001 - a pytest parameter
    committed: int,
) -> None:
    """A claim dies before, in and after each of its calls to the system, and the next one ends as if it had not."""
    instants = ((number, when) for number in count() for when in WHEN)
    for number, when in instants:
        folder = tmp_path / f"{number}-{when}" / "below"
        folder.mkdir(parents=True)
        if overwrite:
            (folder / name).write_text(OLD)
        run = FileRun(folder.parent, f"below/{name}", overwrite=overwrite)
        with nullcontext() if links else without_links():
            begin(run, committed)
            with killed_at(number, when):
                run.run()
            if links or overwrite:
                assert content_at(folder / name) in {None, OLD, CONTENT}
            if run.ended:
                assert number > ENOUGH
                break
            add_surplus(run, folder)
            if not links and not overwrite:
                remove_half_reservation(folder / name)
            run.run()
        assert (content_at(folder / name), left_in(folder)) == (CONTENT, [name])


@given(deaths=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(WHEN)), max_size=6))
def test_many_kills_change_nothing(tmp_path_factory: pytest.TempPathFactory, deaths: list[tuple[int, When]]) -> None:
    """One claim after the other dies somewhere, and the last ends as if it were the only one."""
    folder = tmp_path_factory.mktemp("out")
    run = FileRun(folder)
    for number, when in deaths:
        with killed_at(number, when):
            run.run()
        add_surplus(run, folder)
        if run.ended:
            return
    run.run()
    assert (content_at(folder / "x.csv"), left_in(folder)) == (CONTENT, ["x.csv"])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("links", [True, False])
@given(taken=st.integers(0, 20), turns=st.lists(st.booleans(), max_size=40))
def test_a_worker_taken_for_dead_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory,
    links: bool,  # noqa: FBT001 - a pytest parameter
    overwrite: bool,  # noqa: FBT001 - a pytest parameter
    taken: int,
    turns: list[bool],
) -> None:
    """It is overtaken after any step and goes on beside its successor: only files of its own can be left by it."""
    folder = tmp_path_factory.mktemp("out")
    run = FileRun(folder, overwrite=overwrite)
    with nullcontext() if links else without_links():
        dead = run.claim()
        for _ in range(taken):
            next(dead, None)
        if run.ended:
            return
        alive = run.claim()
        for turn in turns:
            if turn:
                next(alive, None)
            else:
                with suppress(StaleError, OutputError, FileNotFoundError):
                    next(dead, None)
        for _ in alive:
            pass
        with suppress(StaleError, OutputError, FileNotFoundError):
            for _ in dead:
                pass
    assert content_at(folder / "x.csv") == CONTENT
    assert all(name == "x.csv" or ".1." in name for name in left_in(folder))
