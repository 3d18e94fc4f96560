"""Values as text that MariaDB and MySQL compare byte by byte: how the books write an account, and their fingerprints.

Owns that form, which agrees with `worker.core.transfers` to the byte.
"""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Text, func, literal, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from worker.database.mysql.casts import CastAs, in_collation
from worker.database.mysql.column_types import exact_collation


class ExactText(ColumnElement[str]):
    """A value as text that is compared byte by byte, as the books' own is.

    Args:
        value: of any type.
    """

    __visit_name__ = "heavylift_exact_text"
    inherit_cache = True
    type = Text()
    _traverse_internals = [("value", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - as SQLAlchemy declares it

    def __init__(self, value: ColumnElement[Any]) -> None:
        self.value = value

    @property
    def _from_objects(self) -> list[Any]:
        # from which tables a SELECT of it reads
        return list(self.value._from_objects)  # noqa: SLF001 - as each of SQLAlchemy's own elements does


@compiles(ExactText, "mysql", "mariadb")
def _exact_text(element: ExactText, compiler: SQLCompiler, **options: object) -> str:
    collation = exact_collation(compiler.dialect)
    return str(compiler.process(in_collation(CastAs(element.value, "CHAR"), collation), **options))


def account_text(key: ColumnElement[object]) -> ColumnElement[str]:
    """An account's key as the books write it, comparable with theirs."""
    return ExactText(key)


def request_hash(transfers: FromClause) -> ColumnElement[str]:
    """The fingerprint of each row of the transfers' table, as `worker.core.transfers.request_hash` takes it."""
    columns = transfers.c
    named = [columns[name] for name in ("accounts_table", "money_column", "from_account", "to_account")]
    # there are 30 decimals, and so a point
    amount = _without_last(".", _without_last("0", CastAs(columns.amount, "CHAR")))
    measured: list[ColumnElement[Any]] = []
    for part in (*named, amount, columns.reason):
        written = CastAs(part, "BINARY")
        measured += [func.octet_length(written), literal(":", Text()), written]
    return ExactText(func.sha2(func.concat(*measured), 256))


def _without_last(character: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.trim(literal_column(f"TRAILING '{character}'").op("FROM")(value))
