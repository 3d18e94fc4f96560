"""Rows of a source made ready for their table: typed, complete, and within the database's limits.

Owns `RowValidator`, which judges a batch column by column, or row by row where the model has validators of its own,
and leaves out the rows that are at fault. Refuses to read sources and to write anything.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pydantic.fields import FieldInfo
from sqlalchemy import Column, Table
from sqlmodel import SQLModel

from worker.core.errors import RequestError, UnknownColumnError
from worker.core.table_facts import TableFacts
from worker.source.batch import Batch, RowFault
from worker.source.column_bytes import from_written, hold_bytes
from worker.source.column_defaults import has_default, python_default
from worker.source.column_limits import steps_for
from worker.source.column_types import Written, adapter_of, annotation_of, model_fields, takes_text, written_in_text
from worker.source.validate_columns import ColumnRule, Faults
from worker.source.validate_faults import row_payload
from worker.source.validate_fields import ModelFields, judges_fields
from worker.source.validate_rows import Fields, ModelRows, leave_to_model, needs_rows


@dataclass(frozen=True, slots=True)
class ValidatedBatch:
    """The sound rows of a batch as columns, and the faults of all others.

    Attributes:
        values: one list a column, aligned with `RowValidator.columns`; each has one value a sound row.
        positions: for each sound row, its line or index in the source, 1-based, ascending.
        faults: the rows that cannot be used, unreadable ones included, by position.
    """

    values: list[list[object]]
    positions: list[int]
    faults: list[RowFault]


class RowValidator:
    """Judges rows of a source by what their table's model and database demand.

    Types are pydantic's in lax mode (`"12"` is an integer), from the model's annotations and constraints; without a
    model, from the table's types. The database decides where NULL may stand. A naive date-time is taken as UTC where
    the column has a time zone, and an aware one is stored in UTC where it has none. Text for a column of bytes is
    their UTF-8, or their hexadecimal digits after the mark that `worker.source.column_bytes` knows. A model with
    validators of its own judges whole rows, which is slower by an order of magnitude. What a validator or a default
    factory raises other than ValueError and AssertionError is a mistake in the program, not in the row, and is not
    caught.

    Args:
        table: the registered table.
        model: its SQLModel class; None for a reflected table.
        facts: the table as the database declares it.
        source_columns: the columns that the source carries, in its order.
        key: the columns that tell rows apart; each must be in the source and not NULL.
        empty_is_text: True for a source whose values are text and whose absent values are empty cells (CSV): then an
            absent value is `''` in a NOT NULL text column, and text in a column of documents is JSON, and in one of
            arrays a JSON list or the database's own notation (`{1,2}`).
        inserts: whether a row may become a new one of the table. False where rows only change what is there: then no
            default stands for anything, an absent value of a NOT NULL column is refused (of a nullable one it is
            NULL, as everywhere), and what the source does not carry is not asked for. A model with validators of its
            own judges single fields where it can, see `worker.source.validate_fields`.

    Attributes:
        source_columns: as given.
        columns: the columns that values are produced for: the source's, then, for rows that may be inserted, those
            that the source lacks and that have a Python-side default and none in the database.

    Raises:
        UnknownColumnError: the table has no such column.
        RequestError: the source carries a column that the database alone writes, or lacks one of the key, or lacks
            one that a model with validators requires.
    """

    def __init__(
        self,
        table: Table,
        model: type[SQLModel] | None,
        facts: TableFacts,
        *,
        source_columns: tuple[str, ...],
        key: tuple[str, ...],
        empty_is_text: bool,
        inserts: bool = True,
    ) -> None:
        known: dict[str, Column[object]] = {c.name: c for c in table.columns if c.name in facts.columns}
        _check_columns(facts, known, source_columns, key)
        fields = {} if model is None else model_fields(model, table)
        judged = model is not None and needs_rows(model, fields)
        build = _RuleBuilder(model, fields, facts, key, judged=judged, empty_is_text=empty_is_text, inserts=inserts)
        self._rules = [build.rule(known[name]) for name in source_columns]
        lacking = [column for name, column in known.items() if name not in source_columns]
        extra = [rule for rule in map(build.rule, lacking) if _completes_rows(rule)]
        self._empty_is_text = empty_is_text
        self._made = [rule for rule in extra if rule.default is not leave_to_model]
        by_model = [rule for rule in extra if rule.default is leave_to_model]
        self._judge: ModelRows | ModelFields | None = None
        if model is not None and judged:
            self._judge = (
                ModelRows(model, fields, facts, rules=self._rules, extra=by_model)
                if inserts or not judges_fields(model)
                else ModelFields(model, fields, rules=self._rules)
            )
        self.source_columns = source_columns
        self.columns = source_columns + tuple(rule.facts.name for rule in (*by_model, *self._made))
        self._judged = (*self._rules, *by_model)

    def validate(self, batch: Batch) -> ValidatedBatch:
        """Judge a batch. Blocks while it computes: call it in a thread.

        Args:
            batch: rows aligned with `source_columns`.

        Returns:
            The sound rows and all faults; together as many as `batch.read`.
        """
        faults: Faults = defaultdict(list)
        values = self._values(batch.rows, faults)
        positions = batch.positions
        if faults:
            sound = [index for index in range(len(positions)) if index not in faults]
            values = [[column[index] for index in sound] for column in values]
            positions = [positions[index] for index in sound]
        refused = [
            RowFault(
                batch.positions[index],
                "; ".join(reasons),
                row_payload(self.source_columns, batch.rows[index], empty_is_text=self._empty_is_text),
            )
            for index, reasons in faults.items()
        ]
        return ValidatedBatch(values, positions, sorted((*batch.faults, *refused), key=lambda fault: fault.position))

    def _values(self, rows: list[tuple[object, ...]], faults: Faults) -> list[list[object]]:
        cells: list[Sequence[object]] = list(zip(*rows, strict=True)) if rows else [() for _ in self._rules]
        if self._judge is None:
            values = [rule.validate(column, faults) for rule, column in zip(self._rules, cells, strict=True)]
        else:
            values = self._by_model(self._judge, cells, faults)
        return values + [rule.make_defaults(len(rows), faults) for rule in self._made]

    def _by_model(
        self, judge: ModelRows | ModelFields, cells: list[Sequence[object]], faults: Faults
    ) -> list[list[object]]:
        prepared = [rule.prepare(column, faults) for rule, column in zip(self._rules, cells, strict=True)]
        judged = judge.validate(prepared, faults)
        # A column that the source lacks has no raw value to quote but the one that the model made.
        raw = [*cells, *judged[len(cells) :]]
        return [
            rule.finish(column, quoted, faults) for rule, column, quoted in zip(self._judged, judged, raw, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _RuleBuilder:
    model: type[SQLModel] | None
    fields: Fields
    facts: TableFacts
    key: tuple[str, ...]
    judged: bool
    empty_is_text: bool
    inserts: bool

    def rule(self, column: Column[object]) -> ColumnRule:
        facts = self.facts.column(column.name)
        in_key = column.name in self.key
        field = self.fields[column.name][1] if column.name in self.fields else None
        by_model = self.judged and field is not None
        annotation = annotation_of(column, facts, field)
        judged = object if by_model else annotation
        return ColumnRule(
            facts=facts,
            in_key=in_key,
            empty_text=self.empty_is_text and facts.text and not facts.array and takes_text(annotation),
            inserts=self.inserts,
            default=self._default(column, field) if self.inserts else None,
            adapter=adapter_of(
                from_written(judged) if hold_bytes(annotation) else judged,
                nullable=facts.nullable and not in_key,
                written=written_in_text(column, facts) if self.empty_is_text else Written.AS_IS,
                config=self.model.model_config if self.model else None,
            ),
            steps=steps_for(column, facts, annotation),
        )

    def _default(self, column: Column[object], field: FieldInfo | None) -> Callable[[], object] | None:
        return leave_to_model if self.judged and field and has_default(field) else python_default(column, field)


def _completes_rows(rule: ColumnRule) -> bool:
    return rule.default is not None and rule.facts.default is None and not rule.facts.generated


def _check_columns(
    facts: TableFacts, known: Collection[str], source_columns: tuple[str, ...], key: tuple[str, ...]
) -> None:
    for name in (*source_columns, *key):
        if name not in known:
            raise UnknownColumnError(facts.table, name, known)
        if facts.column(name).generated and name in source_columns:
            raise RequestError(
                f"Column {name!r} of table {facts.table!r} is written by the database alone, so no source can give "
                f"its values. Leave it out of the source, whose columns are: {', '.join(source_columns)}"
            )
    lacking = [name for name in key if name not in source_columns]
    if lacking:
        raise RequestError(
            f"The source lacks key columns of table {facts.table!r}, so its rows could not be told apart: "
            f"{', '.join(lacking)}. It has: {', '.join(source_columns)}. Add them, or name another `key`"
        )
