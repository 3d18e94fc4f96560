"""Whether every row of one table fits into another, its archive, and which columns the archive is given.

Pure. Refuses whatever could lose a part of a row: a row that is gone from its table is in the archive whole, or it is
not gone.
"""

from collections.abc import Collection

from worker.core.errors import RequestError
from worker.core.table_facts import ColumnFacts, TableFacts


def archive_columns(
    source: TableFacts, archive: TableFacts, *, known: Collection[str], known_there: Collection[str]
) -> tuple[str, ...]:
    """The columns that an archive is given of each row, in the table's order.

    A column that both tables compute is left out: it is computed anew. Whether a NULL, or a row as a whole, is taken by
    the archive's constraints is for the database to say, row by row.

    Args:
        source: what the database says of the table that rows are deleted from.
        archive: what the database says of the archive.
        known: the columns that the table's model has; without them no statement can name them.
        known_there: those that the archive's model has.

    Raises:
        RequestError: a part of a row would be lost, or the archive needs a column that no row has; the message names
            each such column.
    """
    faults = [fault for facts in source.columns.values() if (fault := _fault(facts, archive))]
    faults += [
        f"the model of {facts.table!r} lacks the column {name!r}, which its table has: add it"
        for facts, names in ((source, known), (archive, known_there))
        for name in source.columns
        if name in facts.columns and name not in names
    ]
    faults += [
        f"it has a column {extra.name!r}, NOT NULL and without a default, that {source.table!r} lacks"
        for extra in archive.columns.values()
        if extra.name not in source.columns and not (extra.nullable or extra.generated or extra.default is not None)
    ]
    if faults:
        raise RequestError(
            f"Table {archive.table!r} cannot be the archive of {source.table!r}: {'; '.join(faults)}. Nothing was done"
        )
    return tuple(name for name in source.columns if not archive.columns[name].generated)


def _fault(facts: ColumnFacts, archive: TableFacts) -> str | None:
    name, kept = facts.name, archive.columns.get(facts.name)
    if kept is None:
        return f"it has no column {name!r} ({facts.full_type})"
    if kept.generated:
        computed = facts.generated and not facts.identity and not kept.identity
        return None if computed else f"the database alone writes its column {name!r}, which must take the row's value"
    if not _fits(facts, kept):
        return f"its column {name!r} is {kept.full_type}, and {facts.full_type} does not always fit into that"
    return None


def _fits(given: ColumnFacts, kept: ColumnFacts) -> bool:
    """Whether every value of one column can be a value of another, and stays what it is."""
    if given.full_type == kept.full_type:
        return True
    if given.array or kept.array:
        return False
    if given.text and kept.text:
        return kept.max_length is None or (given.max_length is not None and given.max_length <= kept.max_length)
    if kept.full_type == "numeric":
        return given.minimum is not None or given.type_name == "numeric"
    return _within(given, kept)


def _within(given: ColumnFacts, kept: ColumnFacts) -> bool:
    """Whether one column of integers has no value beyond another's."""
    if given.minimum is None or given.maximum is None or kept.minimum is None or kept.maximum is None:
        return False
    return kept.minimum <= given.minimum and given.maximum <= kept.maximum
