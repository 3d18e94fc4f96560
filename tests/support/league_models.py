"""Teams, their heroes, and a table of a key of two columns: what rows are moved between in tests."""

import datetime as dt
import enum
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Computed, Double, Table
from sqlmodel import JSON, Column, Field, ForeignKey, Integer, LargeBinary, Numeric, SQLModel, String

from tests.support.column_types import MOMENT


class Form(enum.Enum):
    """A hero's; stored by name."""

    rested = "fresh"
    tired = "worn"


class Team(SQLModel, table=True):
    """What heroes belong to."""

    __tablename__ = "team"

    id: int = Field(primary_key=True)
    name: str


class Hero(SQLModel, table=True):
    """A row with a column of every common type to be moved by."""

    __tablename__ = "hero"

    id: int = Field(primary_key=True)
    name: str = Field(max_length=20)
    team_id: int | None = Field(default=None, foreign_key="team.id")
    strength: Decimal = Field(default=Decimal(1), sa_column=Column(Numeric(12, 2), nullable=False))
    joined: dt.date | None = None
    seen_at: dt.datetime | None = Field(default=None, sa_column=Column(MOMENT))
    badge: UUID | None = None
    active: bool = True
    speed: float | None = Field(default=None, sa_column=Column(Double))
    emblem: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    traits: dict[str, object] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    form: Form | None = None
    initial: str | None = Field(
        default=None, sa_column=Column(String(1), Computed("substr(name, 1, 1)", persisted=True))
    )


class Bench(SQLModel, table=True):
    """A row known by two columns."""

    __tablename__ = "bench"

    row: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    hero_id: int | None = Field(default=None, sa_column=Column(Integer, ForeignKey("hero.id")))


LEAGUE: list[type[SQLModel]] = [Team, Hero, Bench]
TEAM: Table = Team.__table__  # type: ignore[attr-defined]  # SQLModel sets it
HERO: Table = Hero.__table__  # type: ignore[attr-defined]  # likewise
BENCH: Table = Bench.__table__  # type: ignore[attr-defined]  # likewise
