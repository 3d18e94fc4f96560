"""The tables of the tests: a small shop, in a module of its own as a user's models would be."""

from datetime import datetime
from decimal import Decimal

from sqlmodel import Column, DateTime, Field, Numeric, SQLModel, UniqueConstraint


class Item(SQLModel, table=True):
    """A row of every common type, with a natural key and another unique constraint."""

    __tablename__ = "item"
    __table_args__ = (UniqueConstraint("shelf", "slot", name="item_place_key"),)

    sku: str = Field(primary_key=True, max_length=40)
    name: str
    quantity: int
    price: Decimal = Field(sa_column=Column(Numeric(12, 2), nullable=False))
    note: str | None = None
    shelf: int | None = None
    slot: int | None = None
    counted_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


class Tally(SQLModel, table=True):
    """A number that each delivery of a chunk would move, so that doing anything twice shows."""

    __tablename__ = "tally"

    id: int = Field(primary_key=True)
    value: int = 0
