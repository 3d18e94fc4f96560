"""The statements over a user's table of accounts on MariaDB and MySQL: found by keys sent as text, in their order.

Owns them: reading what accounts hold, and setting it. Identifiers come from the registered table alone.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Subquery, Table, bindparam, literal_column, select, type_coerce
from sqlalchemy.types import NULLTYPE

from worker.core.transfer_terms import BookTerms, KeyKind
from worker.database.book_statements import account_columns
from worker.database.model_defaults import sql_expression, value_maker
from worker.database.mysql.casts import CastAs
from worker.database.mysql.exact_text import ExactText, account_text
from worker.database.mysql.nested_join import NestedJoin
from worker.database.mysql.plain_update import PlainUpdate
from worker.database.mysql.sent_rows import json_table
from worker.database.mysql.update_statement import ALL


class Accounts:
    """The statements over one table of accounts.

    Args:
        table: the registered table.
        terms: its key and its money column.
    """

    def __init__(self, table: Table, terms: BookTerms) -> None:
        self._table = table
        self._terms = terms
        self._key, self._money = account_columns(table, terms)

    def read(self) -> Select[str, Any]:
        """What accounts hold, in the order of their keys, as the books have these."""
        key = account_text(self._key).label("account")
        # past the model's type, which may round
        balance = type_coerce(self._money, NULLTYPE).label("balance")
        return select(key, balance).select_from(self._joined(_sorted(self._terms)))

    def update(self) -> tuple[PlainUpdate, Mapping[str, object]]:
        """The statement that sets balances, and its parameters beside the rows."""
        sent = json_table(2)
        joined = NestedJoin(sent, self._table, self._key == _key(sent.c.c0, self._terms), "PRIMARY")
        made: dict[str, object] = {}
        values: dict[Column[object], Any] = {self._money: sent.c.c1}
        for at, column in enumerate(self._table.columns):
            if column in {self._key, self._money}:
                continue
            if (make := value_maker(column.onupdate)) is not None:
                values[column] = bindparam(f"heavylift_touch_{at}", type_=column.type)
                made[f"heavylift_touch_{at}"] = make()
            elif (expression := sql_expression(column.onupdate)) is not None:
                values[column] = expression
        return PlainUpdate(joined, values, literal_column("TRUE")), made

    def _joined(self, accounts: Subquery) -> NestedJoin:
        return NestedJoin(accounts, self._table, self._key == accounts.c.account, "PRIMARY")


def _sorted(terms: BookTerms) -> Subquery:
    """The keys that were sent, in the order of the accounts' primary key."""
    sent = json_table(1)
    key = _key(sent.c.c0, terms)
    in_order = select(key.label("account")).order_by(key).limit(literal_column(str(ALL)))
    return in_order.subquery("heavylift_accounts")


def _key(sent: ColumnElement[Any], terms: BookTerms) -> ColumnElement[Any]:
    match terms.key_kind:
        case KeyKind.INTEGER:
            return CastAs(sent, "UNSIGNED" if terms.key_type.endswith(" unsigned") else "SIGNED")
        case KeyKind.UUID:
            return CastAs(sent, "UUID")
        case KeyKind.TEXT:
            return ExactText(sent)
