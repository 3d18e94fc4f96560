"""The demonstration's tables: the flights that left New York City in 2013, their archive, and some accounts.

Owns the models. A worker finds them by WORKER_MODELS=worker.demo.models, as it finds a user's own.
"""

from datetime import datetime
from decimal import Decimal

from sqlmodel import BigInteger, CheckConstraint, Column, DateTime, Field, Numeric, SQLModel

MARK = "made_by_heavylift_demo_{}"
"""The name of a table's constraint, by the table's: without it a table of that name is somebody else's, and stays.

A comment would say it better, and not every database keeps comments. The constraint holds for every row."""


def _mark(table: str) -> CheckConstraint:
    return CheckConstraint("1 = 1", name=MARK.format(table))


class FlightColumns(SQLModel):
    """A flight. Times of day are written as hours and minutes (517 is 5:17), delays and air time in minutes.

    A cancelled flight has no departure; one that was diverted or cancelled has no arrival delay and no air time.
    """

    year: int = Field(primary_key=True)
    month: int = Field(primary_key=True)
    day: int = Field(primary_key=True)
    dep_time: int | None = None
    sched_dep_time: int = Field(primary_key=True)
    dep_delay: int | None = None
    arr_time: int | None = None
    sched_arr_time: int
    arr_delay: int | None = None
    carrier: str = Field(primary_key=True, max_length=2)
    flight: int = Field(primary_key=True)
    tailnum: str | None = Field(default=None, max_length=6)
    origin: str = Field(primary_key=True, max_length=3)
    dest: str = Field(max_length=3)
    air_time: int | None = None
    distance: int
    hour: int
    minute: int
    time_hour: datetime = Field(sa_type=DateTime(timezone=True))


class Flight(FlightColumns, table=True):
    """A flight of the current list."""

    __tablename__ = "demo_flights"
    __table_args__ = (_mark("demo_flights"),)


class ArchivedFlight(FlightColumns, table=True):
    """A flight that was deleted from the list, as it was."""

    __tablename__ = "demo_flights_archive"
    __table_args__ = (_mark("demo_flights_archive"),)


class Account(SQLModel, table=True):
    """An account, in dollars."""

    __tablename__ = "demo_accounts"
    __table_args__ = (_mark("demo_accounts"),)

    id: int = Field(primary_key=True, sa_type=BigInteger)
    balance: Decimal = Field(sa_column=Column(Numeric(12, 2), nullable=False))


FRESH: tuple[type[SQLModel], ...] = (Flight, ArchivedFlight)
"""Those that each demonstration begins with empty."""

KEPT: tuple[type[SQLModel], ...] = (Account,)
"""Those that it adds to: the books keep every account that money was moved of."""
