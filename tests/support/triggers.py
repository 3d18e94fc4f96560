"""Triggers that tests put on a table, as each database writes them: one that refuses rows, one that notes them down.

Owns these two. What a row is called in a trigger is NEW everywhere.
"""

from typing import Final, Literal

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from tests.support.chosen import Backend
from worker.database.engine import Database

Event = Literal["INSERT", "UPDATE"]

NOTED: Final = Table(
    "noted", MetaData(), Column("id", Integer, primary_key=True, autoincrement=True), Column("sku", String(40))
)
"""The keys of the items that were written, one row each time."""


def refuse(backend: Backend, condition: str, events: tuple[Event, ...] = ("INSERT", "UPDATE")) -> list[str]:
    """Statements after which the table of items refuses rows by a trigger, with the words "too many".

    Args:
        backend: the database.
        condition: over NEW.
        events: on which of them.
    """
    if backend == "postgresql":
        return [_function(f"IF {condition} THEN RAISE 'too many'; END IF"), _fires("BEFORE", " OR ".join(events))]
    if backend == "sqlite":
        action = f"SELECT RAISE(ABORT, 'too many') WHERE {condition}"
        return [_for_each_row(event, f"BEGIN {action}; END") for event in events]
    action = f"IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'too many'; END IF"
    return [_for_each_row(event, action) for event in events]


async def note_writes(database: Database, backend: Backend, event: Event = "UPDATE") -> None:
    """See that each row of the table of items that is written, changed or not, is noted down from now on."""
    action = "INSERT INTO noted (sku) VALUES (NEW.sku)"
    async with database.engine.begin() as connection:
        await connection.run_sync(NOTED.create)
        if backend == "postgresql":
            await connection.exec_driver_sql(_function(action))
            await connection.exec_driver_sql(_fires("AFTER", event))
        elif backend == "sqlite":
            await connection.exec_driver_sql(_for_each_row(event, f"BEGIN {action}; END"))
        else:
            await connection.exec_driver_sql(_for_each_row(event, action))


async def noted(database: Database) -> list[str]:
    """The keys that were noted down, in the order in which their rows were written."""
    async with database.engine.connect() as connection:
        return list((await connection.execute(select(NOTED.c.sku).order_by(NOTED.c.id))).scalars())


def _function(action: str) -> str:
    return f"CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {action}; RETURN NEW; END $$"


def _fires(when: str, event: str) -> str:
    return f"CREATE TRIGGER seen {when} {event} ON item FOR EACH ROW EXECUTE FUNCTION seen()"


def _for_each_row(event: Event, body: str) -> str:
    return f"CREATE TRIGGER seen_{event.lower()} AFTER {event} ON item FOR EACH ROW {body}"
