"""What may be asked of `batch_update`: one of two forms, on columns that exist and may change.

Owns the refusals that need no database. Refuses to look at values: their columns are known when the run starts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel

from worker import (
    ParametersError,
    RegisteredTable,
    RunOptions,
    Settings,
    SourceSpec,
    Tables,
    UnknownColumnError,
    check_bounded,
    check_source,
    check_where,
    parse_where,
)

_FORMS: Final = (
    "batch_update takes either `set`, with `where` to say which rows are meant, for example "
    '{"table": "orders", "where": {"status": {"eq": "held"}}, "set": {"status": "open"}}; or `source`, with `key` '
    'unless the primary key tells its rows apart, for example {"table": "orders", "source": {"rows": [{"id": 1, '
    '"status": "open"}]}}'
)


def check_update(parameters: BaseModel, tables: Tables, settings: Settings, options: RunOptions) -> None:
    """Refuse at once what is known to fail without asking the database.

    Raises:
        RequestError: neither form or both, an unknown table or column, an operation that is not allowed, a column of
            the primary key to be set, a `where` that the table cannot answer or that is missing, too many inline rows.
    """
    given = dict(parameters)
    _check_form(given)
    target = tables.allowed(given["table"], "update")
    source: SourceSpec | None = given["source"]
    if source is not None:
        check_source(source, tables, settings)
        _check_columns(target, [*(given["key"] or ()), *sorted({name for row in source.rows or [] for name in row})])
        return
    condition = parse_where(given["where"])
    check_where(condition, target.table)
    check_bounded(condition, options, target.table)
    _check_set(target, given["set"])


def _check_form(given: Mapping[str, object]) -> None:
    named = [name for name in ("where", "set", "source", "key") if given[name] is not None]
    by_rows, by_where = {"source", "key"}, {"where", "set"}
    if not (("set" in named and by_where.issuperset(named)) or ("source" in named and by_rows.issuperset(named))):
        raise ParametersError(f"{_FORMS}. Given were: {', '.join(named) or 'neither'}")


def _check_columns(target: RegisteredTable, names: Sequence[str]) -> None:
    existing = [column.name for column in target.table.columns]
    for name in names:
        if name not in existing:
            raise UnknownColumnError(target.name, name, existing)


def _check_set(target: RegisteredTable, given: Mapping[str, object]) -> None:
    if not given:
        raise ParametersError('`set` names no column. Give at least one, for example {"status": "open"}')
    _check_columns(target, list(given))
    for column in target.table.primary_key:
        if column.name in given:
            raise ParametersError(
                f"`set` names column {column.name!r}, which is part of the primary key of table {target.name!r}: many "
                "rows cannot be given one value of it. Leave it out"
            )
