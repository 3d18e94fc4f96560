"""The demonstration's only table: one row a flight that left New York City in 2013.

Owns the model. A worker finds it by WORKER_MODELS=worker.demo.models, as it finds a user's own.
"""

from datetime import datetime

from sqlmodel import Column, DateTime, Field, SQLModel

MARK = "Made by `heavylift demo`, which drops and makes it again each time."
"""The table's comment: a table of that name without it is somebody else's, and stays."""


class Flight(SQLModel, table=True):
    """A flight. Times of day are written as hours and minutes (517 is 5:17), delays and air time in minutes.

    A cancelled flight has no departure; one that was diverted or cancelled has no arrival delay and no air time.
    """

    __tablename__ = "demo_flights"
    __table_args__ = {"comment": MARK}  # SQLAlchemy wants a plain dictionary here

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
    time_hour: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
