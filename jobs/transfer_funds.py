"""`transfer_funds`: move money between the accounts of a table, each transfer once and on record for good.

Safe to run again at any point, and safe to send again: an idempotency key has one transfer, ever. It locks the
accounts of one chunk at a time, in key order, after the chunk's idempotency keys. What cannot be carried out for want
of money or of an account is recorded as refused, which is its final result.
"""

from collections import Counter
from decimal import Decimal

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from worker import (
    TRANSFER_FIELDS,
    AccountText,
    AmountText,
    Books,
    BooksError,
    ConflictError,
    Feed,
    JobContext,
    ParametersError,
    Portion,
    ReasonText,
    Refused,
    RunOptions,
    Settings,
    SourceSpec,
    Tables,
    Transfer,
    TransferEnd,
    TransferKey,
    TransferValidator,
    Verdict,
    check_source,
    exact_sum,
    job,
    open_source,
)

COUNTERS = ("transfers", "refused", "replayed")
"""What is counted; the rows that were read are always their sum."""

REQUIRED = TRANSFER_FIELDS[:-1]
"""What a single transfer needs: all but a reason."""

COUNTED_AS = {
    TransferEnd.APPLIED: "transfers",
    TransferEnd.REFUSED: "refused",
    TransferEnd.REPLAYED: "replayed",
}
"""The final ends. The others leave nothing behind, and can be tried again once their cause is gone."""


class TransferCounts(BaseModel):
    """What became of the transfers: `transfers` were carried out by this run, `replayed` had been decided before.

    `total` is the money that this run moved, as text. `refusal` is there where a single transfer was refused, now or
    when its key was first used.
    """

    transfers: int
    refused: int
    replayed: int
    total: str
    refusal: str | None = None

    @model_serializer(mode="wrap")
    def _say_only_what_is(self, serialise: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in serialise(self).items() if value is not None}


def check_transfers(parameters: BaseModel, tables: Tables, settings: Settings, _: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: an unknown table, one without a money column, neither one transfer nor a source, or both.
    """
    given = dict(parameters)
    tables.for_transfers(given["table"])
    source: SourceSpec | None = given["source"]
    said = [name for name in TRANSFER_FIELDS if given[name] is not None]
    if source is None:
        missing = [name for name in REQUIRED if given[name] is None]
        if missing:
            raise ParametersError(
                f"A transfer needs {', '.join(REQUIRED)}, and {', '.join(missing)} is missing. Give them all, or a "
                'source of transfers, such as {"uri": "file:///data/transfers.csv"}'
            )
    elif said:
        raise ParametersError(
            f"Give one transfer or a source of them, not both: leave out source, or {', '.join(said)}"
        )
    else:
        check_source(source, tables, settings)


@job(check=check_transfers)
async def transfer_funds(
    ctx: JobContext,
    table: str,
    idempotency_key: TransferKey | None = None,
    from_account: AccountText | None = None,
    to_account: AccountText | None = None,
    amount: AmountText | None = None,
    reason: ReasonText | None = None,
    source: SourceSpec | None = None,
) -> TransferCounts:
    """Move money between accounts: one transfer, or a source of them.

    Args:
        ctx: the run.
        table: of the accounts. WORKER_ALLOW names its money column: `"transfer:balance"`.
        idempotency_key: names the transfer. The same again does nothing; with anything else changed it is an error.
        from_account: the key of the account that pays. It may not be left with less than nothing.
        to_account: the key of the account that is paid.
        amount: more than 0, an integer or a decimal number as text.
        reason: why, for whoever reads the books.
        source: rows with these five columns; a row that is no transfer is put aside, and the rest goes on.

    Returns:
        The counts, over all attempts.
    """
    target, column = ctx.tables.for_transfers(table)
    ctx.works_on(target.table)
    facts = await ctx.tools.table_facts(target.table)
    books = ctx.tools.books(target.table, facts, column, ctx.actor)
    ctx.progress.count(**dict.fromkeys(COUNTERS, 0))
    if source is not None:
        return await _transfer_all(ctx, books, source)
    given = {
        "idempotency_key": idempotency_key,
        "from_account": from_account,
        "to_account": to_account,
        "amount": amount,
        "reason": reason,
    }
    try:
        transfer = books.terms.read(given)
    except ValueError as problem:
        raise ParametersError(f"This is no transfer that table {table!r} can have. {problem}") from None
    return await _transfer(ctx, books, transfer)


async def _transfer(ctx: JobContext, books: Books, transfer: Transfer) -> TransferCounts:
    """One transfer, in one transaction, which the runner commits with the result."""
    (verdict,) = await books.post([transfer])
    if verdict.end is TransferEnd.CONFLICT:
        raise ConflictError(verdict.message)
    if verdict.end is TransferEnd.UNSOUND:
        raise BooksError(verdict.message)
    ctx.progress.count(**{COUNTED_AS[verdict.end]: 1})
    ctx.progress.done = 1
    moved = transfer.amount if verdict.end is TransferEnd.APPLIED else books.terms.zero
    return TransferCounts.model_validate(
        {**ctx.progress.counters, "total": f"{moved:f}", "refusal": verdict.message or None}
    )


async def _transfer_all(ctx: JobContext, books: Books, source: SourceSpec) -> TransferCounts:
    async with open_source(ctx, source, dict.fromkeys(TRANSFER_FIELDS)) as rows:
        validator = TransferValidator(books.terms, rows.columns, empty_is_text=rows.empty_is_text)
        async with Feed(ctx, rows, validator) as feed:
            # beside the counters: an amount is no integer, and of the refused only some may fill the quarantine
            feed.keep = {"total": f"{books.terms.zero:f}", "quarantined": 0} | feed.keep
            async for portion in feed:
                await _commit(ctx, books, feed, portion)
            return TransferCounts.model_validate({**ctx.progress.counters, "total": feed.keep["total"]})


async def _commit(ctx: JobContext, books: Books, feed: Feed, portion: Portion) -> None:
    quarantined = int(str(feed.keep["quarantined"]))

    async def apply(portion: Portion) -> None:
        transfers = [transfer for transfer in portion.rows.values[0] if isinstance(transfer, Transfer)]
        verdicts: list[Verdict] = []
        if transfers:
            await ctx.session.connection()
            feed.read_ahead()
            verdicts = await books.post_each(transfers)
        ended = Counter(COUNTED_AS[verdict.end] for verdict in verdicts if verdict.end in COUNTED_AS)
        aside = portion.quarantine(
            [Refused(at, verdict.error) for at, verdict in enumerate(verdicts) if verdict.end not in COUNTED_AS]
        )
        await ctx.tools.quarantine(aside)
        ctx.progress.count(**ended)
        ctx.progress.count(refused=len(aside))
        paired = zip(transfers, verdicts, strict=True)
        moved = [transfer.amount for transfer, verdict in paired if verdict.end is TransferEnd.APPLIED]
        feed.keep["total"] = f"{exact_sum(Decimal(str(feed.keep['total'])), moved):f}"
        feed.keep["quarantined"] = quarantined + len(aside)

    await feed.commit(portion, apply)
    await feed.check_refused(portion, read=ctx.progress.done, refused=int(str(feed.keep["quarantined"])))
