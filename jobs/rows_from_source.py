"""From a source to committed chunks: what every job does that writes the rows of one into a table.

Owns the order of it: validate, write, put aside what is refused, count, commit, and stop where most is refused. Refuses
to know what writing is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Generic, Literal, Protocol, TypeVar

from worker import (
    Feed,
    InvalidRowError,
    Isolated,
    JobContext,
    MergeCounts,
    Portion,
    RowValidator,
    Source,
    TableFacts,
    UpdateCounts,
)

OnInvalid = Literal["quarantine", "fail"]
"""What becomes of a row that does not fit its table or that the database refuses: see `write_rows`."""

SHOWN_FAULTS = 3
"""How many faulty rows an error message shows."""

Counts = TypeVar("Counts", MergeCounts, UpdateCounts)
Counts_co = TypeVar("Counts_co", MergeCounts, UpdateCounts, covariant=True)
Values = Sequence[Sequence[object]]


class Writer(Protocol[Counts_co]):
    """What writes rows: a prepared upsert or update."""

    async def apply(self, values: Values) -> Counts_co:
        """Write some rows in the chunk's transaction, given as one sequence a column."""
        ...

    async def in_key_order(self, values: Values) -> list[list[int]]:
        """The indexes of some rows in the order of their keys, those of one key together, in their own order."""
        ...


@dataclass(frozen=True, slots=True)
class RowWork(Generic[Counts]):
    """What is to be done with the rows of a source.

    Attributes:
        facts: of the table that they are for.
        validator: judges them.
        writer: writes the sound ones.
    """

    facts: TableFacts
    validator: RowValidator
    writer: Writer[Counts]


async def write_rows(ctx: JobContext, source: Source, work: RowWork[Counts], on_invalid: OnInvalid) -> None:
    """Write the rows of a source, from the run's cursor to its end, one transaction a chunk.

    Args:
        ctx: the run; `read`, `quarantined` and what the writer counts are counted on its progress.
        source: as `open_source` opened it for this run.
        work: what is to be done.
        on_invalid: `quarantine` puts a row aside that does not fit the table, or that the database refuses; `fail`
            stops at the first chunk that has one.

    Raises:
        InvalidRowError: a row does not fit the table, and `on_invalid` is "fail"; nothing of its chunk is kept.
        TooManyRefusedError: more than half of at least fifty rows were refused; all chunks so far are kept.
    """
    async with Feed(ctx, source, work.validator) as feed:
        async for portion in feed:
            if on_invalid == "fail":
                await _commit_whole(ctx, work, feed, portion)
            else:
                await _commit_sound(ctx, work, feed, portion)


async def _commit_whole(ctx: JobContext, work: RowWork[Counts], feed: Feed, portion: Portion) -> None:
    """All rows of a chunk, or none and the run fails."""

    async def apply(portion: Portion) -> None:
        rows = portion.rows
        if rows.faults:
            raise InvalidRowError(_describe(portion))
        ctx.progress.count(read=portion.batch.read)
        if rows.positions:
            await ctx.session.connection()
            feed.read_ahead()
            ctx.progress.count(**asdict(await work.writer.apply(rows.values)))

    await feed.commit(portion, apply)


async def _commit_sound(ctx: JobContext, work: RowWork[Counts], feed: Feed, portion: Portion) -> None:
    """The rows of a chunk that validation and the database take; the others go to the quarantine with it."""

    async def apply(portion: Portion) -> None:
        found = await _write_sound(ctx, work, feed, portion.rows.values) if portion.rows.positions else Isolated()
        refused = portion.quarantine(found.refused)
        await ctx.tools.quarantine(refused)
        ctx.progress.count(read=portion.batch.read, quarantined=len(refused))
        for counts in found.results:
            ctx.progress.count(**asdict(counts))

    await feed.commit(portion, apply)
    counters = ctx.progress.counters
    await feed.check_refused(portion, read=counters["read"], refused=counters["quarantined"])


async def _write_sound(ctx: JobContext, work: RowWork[Counts], feed: Feed, values: Values) -> Isolated[int, Counts]:
    """Write the rows that the database takes: all at once, and only after a refusal in parts."""

    async def apply(columns: Values) -> Counts:
        feed.read_ahead()
        counts = await work.writer.apply(columns)
        await ctx.tools.check_deferred(work.facts)
        return counts

    whole = await ctx.tools.isolate([values], lambda chunk: apply(chunk[0]))
    if not whole.refused:
        return Isolated(whole.results)
    # parts lock rows in the key's order as the whole does; of rows with one key, none may come after a later one
    groups = await work.writer.in_key_order(values)
    alone = {group[0] for group in groups if len(group) == 1}
    return await ctx.tools.isolate(
        [row for group in groups for row in group],
        lambda rows: apply([[column[row] for row in rows] for column in values]),
        again=alone.__contains__,
    )


def _describe(portion: Portion) -> str:
    faults = portion.rows.faults
    shown = "; ".join(f"line {fault.position}: {fault.reason}" for fault in faults[:SHOWN_FAULTS])
    more = f" and {len(faults) - SHOWN_FAULTS} more in this chunk" if len(faults) > SHOWN_FAULTS else ""
    return f'Rows do not fit the table and on_invalid is "fail": {shown}{more}. Nothing of this chunk was kept'
