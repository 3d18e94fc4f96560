"""From a tree of conditions to an expression over a registered table, with every value of its column's type.

Owns looking columns up, typing values and freezing ages at the run's start. Refuses SQL text: an identifier comes from
the registered table, a value is always bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, BigInteger, Column, ColumnElement, Date, DateTime, Table, and_, literal, not_, or_, true
from sqlalchemy.types import TypeEngine

from worker.core.errors import UnboundedError, UnknownColumnError, WhereError
from worker.core.options import RunOptions
from worker.core.table_facts import TableFacts
from worker.core.where import EXAMPLE, Compare, Condition, Either, Every, Not, comparisons, is_unbounded
from worker.source.column_types import implied_type, undecorated


def check_where(condition: Condition, table: Table) -> None:
    """Refuse at once, without asking a database, what the table cannot answer.

    Raises:
        UnknownColumnError: it has no such column.
        WhereError: a value does not fit its column, or the operator does not.
    """
    # any moment will do: ages are only checked for their column's type
    maker = _Maker(table, None, datetime.now(UTC))
    for comparison in comparisons(condition):
        maker.compare(comparison)


def check_bounded(condition: Condition, options: RunOptions, table: Table) -> None:
    """See that a job that changes rows was told which ones, or told that all are meant.

    Raises:
        UnboundedError: the condition means every row, and the options do not allow that.
    """
    if is_unbounded(condition) and not options.all:
        raise UnboundedError(
            f"Without a `where` every row of table {table.fullname!r} would be touched. Say which rows are meant, for "
            f'example {EXAMPLE}, or allow all of them with the run option "all" (--all on the command line)'
        )


def where_clause(condition: Condition, table: Table, facts: TableFacts, now: datetime) -> ColumnElement[bool]:
    """The conditions as an expression.

    Args:
        condition: as `worker.core.where.parse_where` returns it.
        table: the registered table.
        facts: what the database says of it: a model may be mistaken about time zones.
        now: what ages are counted from; the run's start, so that every attempt means the same rows.

    Raises:
        UnknownColumnError: it has no such column.
        WhereError: a value does not fit its column, or the operator does not.
    """
    return _Maker(table, facts, now).make(condition)


@dataclass(frozen=True, slots=True)
class _Maker:
    table: Table
    facts: TableFacts | None
    now: datetime

    def make(self, condition: Condition) -> ColumnElement[bool]:
        match condition:
            case Compare():
                return self.compare(condition)
            case Not(part):
                return not_(self.make(part))
            case Every(parts):
                return and_(true(), *(self.make(part) for part in parts))
            case Either(parts):
                return or_(*(self.make(part) for part in parts))

    def compare(self, asked: Compare) -> ColumnElement[bool]:
        column = self._column(asked.column)
        match asked.operator:
            case "is_null":
                return column.is_(None) if asked.value else column.is_not(None)
            case "older_than":
                return column < self._moment(column, asked)
            case "in":
                return column.in_(self._values(column, asked))
            case "between":
                low, high = self._values(column, asked)
                return and_(column >= low, column <= high)
            case "like" if implied_type(column.type) is not str:
                raise WhereError(
                    f'Column {column.name!r} of table {self.table.fullname!r} is no text: "like" needs some'
                )
            case _:
                return _COMPARISONS[asked.operator](column, self._value(column, asked, asked.value))

    def _place(self, column: Column[object]) -> str:
        return f"Column {column.name!r} of table {self.table.fullname!r}"

    def _column(self, name: str) -> Column[object]:
        found: Mapping[str, Column[object]] = {column.name: column for column in self.table.columns}
        if name not in found:
            raise UnknownColumnError(self.table.fullname, name, found)
        if isinstance(undecorated(found[name].type), JSON):
            raise WhereError(
                f"{self._place(found[name])} holds documents, which have no order, and no equality that all databases "
                "share. Ask about another column"
            )
        return found[name]

    def _values(self, column: Column[object], asked: Compare) -> list[ColumnElement[object]]:
        given = asked.value if isinstance(asked.value, list) else [asked.value]
        return [self._value(column, asked, value) for value in given]

    def _value(self, column: Column[object], asked: Compare, given: object) -> ColumnElement[object]:
        annotation = implied_type(column.type)
        try:
            # mypy knows type forms only as they stand in the source, and this one is made at run time
            value: object = TypeAdapter(annotation).validate_python(given)  # type: ignore[arg-type]
        except ValidationError as error:
            why = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise WhereError(f'{self._place(column)}: "{asked.operator}" with {given!r}: {why}') from None
        if isinstance(value, datetime):
            return self._literal_moment(column, value)
        if type(value) is int:
            # a model may say integer of a bigint; the wider one compares by the narrower one's index
            return literal(value, BigInteger())
        return literal(value, column.type)

    def _moment(self, column: Column[object], asked: Compare) -> ColumnElement[object]:
        plain = undecorated(column.type)
        age = asked.value if isinstance(asked.value, timedelta) else timedelta()
        cut_off = self.now.astimezone(UTC) - age
        if isinstance(plain, DateTime):
            return self._literal_moment(column, cut_off)
        if isinstance(plain, Date):
            return literal(cut_off.date(), _typed(Date()))
        raise WhereError(
            f'Column {column.name!r} of table {self.table.fullname!r} holds no date: "older_than" needs one'
        )

    def _literal_moment(self, column: Column[object], moment: datetime) -> ColumnElement[object]:
        """A moment as the database's own column has it: in UTC, with a zone or without."""
        # as everywhere in Heavylift, a moment without a zone is one in UTC
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if self._has_zone(column):
            return literal(aware, _typed(DateTime(timezone=True)))
        return literal(aware.astimezone(UTC).replace(tzinfo=None), _typed(DateTime()))

    def _has_zone(self, column: Column[object]) -> bool:
        if self.facts is not None:
            return self.facts.column(column.name).type_name == "timestamp with time zone"
        plain = undecorated(column.type)
        return isinstance(plain, DateTime) and plain.timezone


_COMPARISONS: Final[dict[str, Callable[[Column[object], ColumnElement[object]], ColumnElement[bool]]]] = {
    "eq": lambda column, value: column == value,
    "ne": lambda column, value: column != value,
    "lt": lambda column, value: column < value,
    "le": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "ge": lambda column, value: column >= value,
    # said everywhere: not every database has one by itself
    "like": lambda column, value: column.like(value, escape="\\"),
}


def _typed(type_: TypeEngine[datetime] | TypeEngine[date]) -> TypeEngine[object]:
    # a type of dates is one of objects to whoever only binds its values
    return type_  # type: ignore[return-value]
