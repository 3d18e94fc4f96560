"""Rows of a source read as transfers.

Owns `TransferValidator`, in the place that `RowValidator` has for rows of a table. Refuses a source that does not carry
what a transfer says of itself.
"""

from collections.abc import Sequence

from worker.core.errors import SourceError
from worker.core.transfer_terms import TRANSFER_FIELDS, BookTerms
from worker.core.transfers import Transfer
from worker.source.batch import ABSENT, Batch, RowFault
from worker.source.validate import ValidatedBatch
from worker.source.validate_faults import row_payload

OPTIONAL = frozenset({"reason"})


class TransferValidator:
    """Reads rows as transfers on a table's terms, and leaves out those that are none.

    Args:
        terms: of the accounts' table.
        columns: that the source carries.
        empty_is_text: whether an absent value is an empty cell, as in CSV.

    Raises:
        SourceError: it carries other columns than a transfer's, or lacks one.
    """

    def __init__(self, terms: BookTerms, columns: tuple[str, ...], *, empty_is_text: bool) -> None:
        _check_columns(columns)
        self._terms = terms
        self._columns = columns
        self._empty_is_text = empty_is_text

    def validate(self, batch: Batch) -> ValidatedBatch:
        """Judge a batch. Blocks while it computes: call it in a thread.

        Returns:
            One column of `Transfer`s, and all faults; together as many as `batch.read`.
        """
        transfers: list[object] = []
        positions: list[int] = []
        faults = list(batch.faults)
        for position, row in zip(batch.positions, batch.rows, strict=True):
            try:
                transfers.append(self._read(row))
            except ValueError as problem:
                faults.append(RowFault(position, str(problem), self._payload(row)))
            else:
                positions.append(position)
        return ValidatedBatch([transfers], positions, sorted(faults, key=lambda fault: fault.position))

    def _payload(self, row: tuple[object, ...]) -> dict[str, object]:
        return row_payload(self._columns, row, empty_is_text=self._empty_is_text)

    def _read(self, row: Sequence[object]) -> Transfer:
        named = zip(self._columns, row, strict=True)
        return self._terms.read({name: value for name, value in named if value is not ABSENT})


def _check_columns(columns: tuple[str, ...]) -> None:
    unknown = [name for name in columns if name not in TRANSFER_FIELDS]
    missing = [name for name in TRANSFER_FIELDS if name not in columns and name not in OPTIONAL]
    if columns and (unknown or missing):
        problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"carries {', '.join(unknown)}"] * bool(unknown)
        raise SourceError(
            f"The source {' and '.join(problems)}. A row of transfers has {', '.join(TRANSFER_FIELDS)}, for example "
            '{"idempotency_key": "order-17", "from_account": "alice", "to_account": "bob", "amount": "12.50", '
            '"reason": "order 17"}'
        )
