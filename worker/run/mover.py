"""Moving rows to another value of one column, each with an audit row that says what it held before.

Owns the order of it: lock in key order, see what each row really holds, change what differs, write down what was
changed; all in the run's transaction. Refuses to choose rows, and to validate the new value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Row, Select, Table, literal, select, type_coerce, update

from worker.core.errors import RequestError
from worker.core.moving import MovingRow, audited
from worker.core.settings import Settings
from worker.core.table_facts import TableFacts
from worker.database.engine import Database
from worker.database.moves import Move, write_moves
from worker.database.session import RunSession, fetch
from worker.declare.row_order import PLACE, KeyValues, exact_type
from worker.declare.walk import Walk

MOST_VALUES: Final = 5_000
"""Values of keys in one statement: a server takes some 30,000 parameters, and planning takes time that grows."""

AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Mover:
    """Moves rows of one table to one value of one column. Get one from `open_mover`.

    Attributes:
        walk: the table and its primary key.
        facts: what the database says of it.
        column: the one that is changed.
        new: its new value, as an expression.
        move: what the audit rows share.
        session: the run's.
        database: of the session.
    """

    walk: Walk
    facts: TableFacts
    column: Column[Any]
    new: ColumnElement[Any]
    move: Move
    session: RunSession
    database: Database

    async def lock_where(self, condition: ColumnElement[bool]) -> list[MovingRow]:
        """Lock the rows for which a condition holds, in key order."""
        return [self._moving(row) for row in await self._locked(self._seen().where(condition))]

    async def lock_keys(self, keys: Sequence[KeyValues]) -> tuple[list[MovingRow], int]:
        """Lock the rows that some keys name, in key order.

        Args:
            keys: as the driver takes them. Several may name one row, where the database holds them for equal.

        Returns:
            The rows, and how many of the keys name none.
        """
        order = self.walk.row_order
        listed = order.listed(keys)
        seen = self._seen().add_columns(listed.c[PLACE]).join_from(self.walk.table, listed, order.matches(listed))
        met = await self._locked(seen)
        rows = {moving.key: moving for moving in map(self._moving, met)}
        return list(rows.values()), len(keys) - len({row[-1] for row in met})

    async def apply(self, rows: Sequence[MovingRow]) -> int:
        """Move rows, and write down that they were.

        Args:
            rows: locked in this transaction, of which each differs.

        Returns:
            How many.

        Raises:
            RequestError: the database left some as they were.
            sqlalchemy.exc.DBAPIError: it refused a row.
        """
        connection = await self.session.connection()
        changed = 0
        for part in _parts([row.key for row in rows], MOST_VALUES // len(self.walk.key)):
            changing = update(self.walk.table).where(self.walk.row_order.among(part)).values({self.column: self.new})
            changed += (await connection.execute(changing)).rowcount
        if changed != len(rows):
            raise RequestError(
                f"Table {self.facts.table!r} kept {len(rows) - changed:,} of {len(rows):,} rows from being moved, and "
                "did not say which: a trigger or a policy of row security does that. Nothing of this chunk was kept"
            )
        await write_moves(
            connection, self.move, [([audited(part) for part in row.key], audited(row.old)) for row in rows]
        )
        if self.facts.deferred:
            await self.database.dialect.check_deferred(connection)
        return changed

    def _seen(self) -> "Select[*tuple[Any, ...]]":
        facts = self.facts.column(self.column.name)
        dialect = self.database.dialect
        differs = dialect.differs(self.column, dialect.as_stored(self.new, facts), facts)
        old = type_coerce(self.column, exact_type(facts))
        return select(*self.walk.row_order.read(), old.label("old"), differs.label("differs"))

    async def _locked(self, seen: "Select[*tuple[Any, ...]]") -> Sequence[AnyRow]:
        keys_stay = not any(self.column.name in unique.columns for unique in self.facts.unique_keys)
        locking = seen.order_by(*self.walk.key).with_for_update(of=self.walk.table, key_share=keys_stay)
        await self.session.flush()
        return (await (await self.session.connection()).execute(locking)).all()

    def _moving(self, row: AnyRow) -> MovingRow:
        width = len(self.walk.key)
        return MovingRow(tuple(row[:width]), row[width], bool(row[width + 1]))


async def open_mover(
    session: RunSession,
    database: Database,
    settings: Settings,
    *,
    walk: Walk,
    facts: TableFacts,
    column: str,
    value: object,
    move: Move,
) -> Mover:
    """A mover of a table's rows to one value.

    Args:
        session: the run's.
        database: of the session.
        settings: whose timeouts hold.
        walk: the table and its primary key.
        facts: what the database says of the table.
        column: the one to change; no part of the primary key.
        value: validated.
        move: what the audit rows share; its new value is put in here, as the database will have it.
    """
    named, known = _column(walk.table, column), facts.column(column)
    (sent,) = database.dialect.encoder(named, known, database.engine.dialect)([value])
    new = literal(sent, exact_type(known))
    as_stored = type_coerce(database.dialect.as_stored(new, known), exact_type(known))
    ((stored,),) = await fetch(database, settings, select(as_stored))
    shared = Move(move.run_id, move.actor, move.table, move.key, move.column, audited(stored), move.reason)
    return Mover(walk, facts, named, new, shared, session, database)


def _column(table: Table, name: str) -> Column[Any]:
    return next(column for column in table.columns if column.name == name)


def _parts(keys: Sequence[KeyValues], most: int) -> Iterator[Sequence[KeyValues]]:
    for first in range(0, len(keys), most):
        yield keys[first : first + most]
