"""`transfer_rows`: give rows another value of one column (a hero changes teams), and write down each row that moved.

Safe to run again at any point: a row, its audit row, the counts and the place in the walk commit together, and a row
that holds the value already is left alone. It locks the rows of one chunk at a time, in key order. The audit row says
what the row really held under its lock, whoever changed it before.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from pydantic import BaseModel, JsonValue

from jobs.row_ids import check_ids, read_ids
from worker import (
    Batch,
    JobContext,
    Mover,
    MovingRow,
    ParametersError,
    RefusedRow,
    RegisteredTable,
    RowValidator,
    RunOptions,
    Settings,
    TableFacts,
    Tables,
    UnknownColumnError,
    check_bounded,
    check_refused,
    check_where,
    job,
    parse_where,
    primary_walk,
    row_payload,
    where_clause,
)

COUNTERS: Final = ("moved", "unchanged", "missing", "quarantined")
"""What is counted: each row, or each id without one, once."""

MOST_AT_ONCE: Final = 1_000
"""Ids in one chunk at most: each is a parameter of its statements."""


class MoveCounts(BaseModel):
    """What became of the rows.

    Attributes:
        moved: rows that hold the new value now, each with an audit row.
        unchanged: rows that held it already.
        missing: ids that the table does not have.
    """

    moved: int
    unchanged: int
    missing: int


def check_transfer_rows(parameters: BaseModel, tables: Tables, settings: Settings, options: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: both `ids` and `where`, an unknown table or column, an operation that is not allowed, a column of
            the primary key, no reason, ids of another form than the key's, a `where` that the table cannot answer, or
            none though not all rows may be touched.
    """
    del settings
    given = dict(parameters)
    target = tables.allowed(given["table"], "update")
    _check_column(target, given["column"])
    if not str(given["reason"]).strip():
        raise ParametersError("`reason` is empty. Say why the rows move, for example: the team was dissolved")
    if given["ids"] is None:
        condition = parse_where(given["where"])
        check_where(condition, target.table)
        check_bounded(condition, options, target.table)
    elif given["where"] is not None:
        raise ParametersError("transfer_rows takes either `ids` or `where`, and both were given. Leave one out")
    else:
        check_ids(given["ids"], [column.name for column in target.table.primary_key])


@job(check=check_transfer_rows)
async def transfer_rows(
    ctx: JobContext,
    table: str,
    ids: list[JsonValue] | None = None,
    where: dict[str, JsonValue] | None = None,
    *,
    column: str,
    to: JsonValue,
    reason: str,
) -> MoveCounts:
    """Give rows of a table another value of one column, each with an audit row in `heavylift_moves`.

    Args:
        ctx: the run.
        table: a registered table with a primary key.
        ids: which rows are meant, by their primary keys; at most 10,000. Of several columns each is an object, or a
            list in the order of the key.
        where: instead of `ids`: which rows are meant. Without both every row, which the run option `all` must allow.
        column: the column that gets the value; no part of the primary key.
        to: the value; null where the column is nullable.
        reason: why, for the audit rows.

    Returns:
        The counts, over all attempts.
    """
    target = ctx.tables.allowed(table, "update")
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    facts = await ctx.tools.table_facts(target.table)
    mover = await ctx.tools.mover(
        target, facts, column=column, value=_value(target, facts, column, to), reason=reason.strip()
    )
    change = _Change(ctx, mover, (*(part.name for part in primary_walk(target.table, facts).key), column), to)
    if ids is None:
        await change.where(target, facts, where)
    else:
        ctx.works_on(target.table)
        await change.ids(await read_ids(ctx, target, facts, ids))
    return MoveCounts.model_validate(ctx.progress.counters)


class _Change:
    """The walk of one run, of either kind.

    Args:
        ctx: the run.
        mover: locks and moves.
        columns: those of a refused row: the key's, and the one that is changed.
        to: the value, as given.
    """

    def __init__(self, ctx: JobContext, mover: Mover, columns: tuple[str, ...], to: JsonValue) -> None:
        self._ctx = ctx
        self._mover = mover
        self._columns = columns
        self._to = to

    async def where(self, target: RegisteredTable, facts: TableFacts, where: Mapping[str, JsonValue] | None) -> None:
        """Move the rows for which a `where` holds."""
        ctx = self._ctx
        condition = parse_where(where)
        walk = await ctx.tools.choose_walk(target.table, facts, condition)
        if walk.names[0] == self._columns[-1] and not _is_of_one_value(where, self._columns[-1]):
            # a row that moves must not come again where it has moved to
            walk = primary_walk(target.table, facts)
        # of a part of the table nobody knows how large it is
        ctx.progress.total = facts.estimated_rows if walk.base is None else None
        async for span in ctx.spans(walk, where_clause(condition, target.table, facts, ctx.started_at)):
            self._check_refused()
            await self._move(await self._mover.lock_where(span.condition))
        self._check_refused()

    async def ids(self, keys: Sequence[tuple[object, ...]]) -> None:
        """Move the rows of some keys."""
        ctx = self._ctx
        ctx.progress.total = len(keys)
        place = int(str((ctx.progress.cursor or {}).get("place", 0)))
        while place < len(keys):
            some = keys[place : place + min(ctx.progress.chunk_rows, MOST_AT_ONCE)]
            place += len(some)
            await ctx.commit_chunk(partial(self._move_keys, some), cursor={"place": place}, rows=len(some))
            self._check_refused()

    async def _move_keys(self, keys: Sequence[tuple[object, ...]]) -> None:
        rows, missing = await self._mover.lock_keys(keys)
        self._ctx.progress.count(missing=missing)
        await self._move(rows)

    async def _move(self, rows: Sequence[MovingRow]) -> None:
        """Move locked rows and count them; what the database refuses is put aside, without an audit row."""
        differing = [row for row in rows if row.differs]
        found = await self._ctx.tools.isolate(differing, self._mover.apply)
        self._ctx.progress.count(
            moved=sum(found.results), unchanged=len(rows) - len(differing), quarantined=len(found.refused)
        )
        # such a row has no place in a source: its key says which it is
        await self._ctx.tools.quarantine(
            [
                RefusedRow.by_database(
                    0, row_payload(self._columns, (*one.item.key, self._to), empty_is_text=False), one.error
                )
                for one in found.refused
            ]
        )

    def _check_refused(self) -> None:
        # of the chunks that are committed
        counters = self._ctx.progress.counters
        read = counters["moved"] + counters["unchanged"] + counters["quarantined"]
        check_refused(self._ctx.run_id, read, counters["quarantined"])


def _is_of_one_value(where: Mapping[str, JsonValue] | None, column: str) -> bool:
    asked = (where or {}).get(column)
    return isinstance(asked, dict) and asked.keys() == {"eq"}


def _check_column(target: RegisteredTable, name: str) -> None:
    existing = [column.name for column in target.table.columns]
    if name not in existing:
        raise UnknownColumnError(target.name, name, existing)
    if any(part.name == name for part in target.table.primary_key):
        raise ParametersError(
            f"Column {name!r} is part of the primary key of table {target.name!r}: a row with another key is another "
            "row, and its audit trail would lead nowhere. Move it by another column"
        )


def _value(target: RegisteredTable, facts: TableFacts, name: str, to: JsonValue) -> object:
    """The new value as its column wants it."""
    if facts.column(name).generated:
        raise ParametersError(
            f"Column {name!r} of table {target.name!r} is written by the database alone, so no row can be moved by it"
        )
    if name in facts.unique_key(None).columns:
        raise ParametersError(f"Column {name!r} is part of the primary key that table {target.name!r} really has")
    validator = RowValidator(
        target.table, target.model, facts, source_columns=(name,), key=(), empty_is_text=False, inserts=False
    )
    judged = validator.validate(Batch([(to,)], [1], [], {}, last=True, fraction=None))
    if judged.faults:
        raise ParametersError(f"`to` does not fit table {target.name!r}: {judged.faults[0].reason}")
    return judged.values[0][0]
