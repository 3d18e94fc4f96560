"""The slower path: rows judged one at a time by a model that has validators of its own.

Owns calling the model as its author expects it to be called, with whole rows. A validator may look at other fields or
change them, so no column can be judged alone. Here the model also decides where NULL may stand.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from sqlmodel import SQLModel

from worker.core.errors import RequestError
from worker.core.table_facts import TableFacts
from worker.source.batch import ABSENT, Absent
from worker.source.validate_columns import ColumnRule, Faults
from worker.source.validate_faults import details, message, one_line, refused

Fields = Mapping[str, tuple[str, FieldInfo]]
"""By column name: the attribute of the model, and its pydantic field."""

_BY_NAME: Final = ("validate_by_name", "populate_by_name")


def needs_rows(model: type[SQLModel], fields: Fields) -> bool:
    """Whether the model can only judge whole rows: it has validators, or a default made from other fields."""
    found = model.__pydantic_decorators__
    return bool(found.field_validators or found.validators or found.model_validators or found.root_validators) or any(
        field.default_factory_takes_validated_data for _, field in fields.values()
    )


def leave_to_model() -> Absent:
    """The default of a column on this path: the model makes it, from the row's other values where it wants them."""
    return ABSENT


class ModelRows:
    """Judges rows by a model's own validators.

    Args:
        model: a mapped SQLModel class.
        fields: the model's fields by column name.
        facts: the table.
        rules: the rules of the source's columns, in order.
        extra: the rules of the columns whose values the model's defaults make.

    Raises:
        RequestError: the model requires fields that the source does not carry.
    """

    def __init__(
        self,
        model: type[SQLModel],
        fields: Fields,
        facts: TableFacts,
        *,
        rules: Sequence[ColumnRule],
        extra: Sequence[ColumnRule],
    ) -> None:
        self._model = model
        self._rules = (*rules, *extra)
        self._attributes = {column: attribute for column, (attribute, _) in fields.items()}
        by_name = any(model.model_config.get(option) for option in _BY_NAME)
        self._members = {
            column: attribute if by_name else _member(attribute, field) for column, (attribute, field) in fields.items()
        }
        self._columns = {member: column for column, member in self._members.items()} | {
            attribute: column for column, attribute in self._attributes.items()
        }
        self._unsent = _unsent_members(model, fields, facts, self._members, {rule.facts.name for rule in rules})

    def validate(self, columns: Sequence[list[object]], faults: Faults) -> list[list[object]]:
        """Replace the values of each sound row by what the model makes of them.

        Args:
            columns: prepared values of the source's columns; `ABSENT` where the model makes the default.
            faults: reasons by row; rows that have some are left alone, rows that the model refuses gain some.

        Returns:
            Values of the source's columns, then of the extra ones; None in faulty rows.
        """
        count = len(columns[0]) if columns else 0
        result = [list(column) for column in columns]
        result += [[None] * count for _ in range(len(self._rules) - len(columns))]
        for index in range(count):
            if index in faults:
                continue
            try:
                instance = self._model.model_validate(self._data([column[index] for column in columns]))
            except ValidationError as error:
                faults[index] = self._reasons(error, [column[index] for column in columns])
                continue
            self._take(instance, index, result, faults)
        return result

    def _data(self, row: list[object]) -> dict[str, object]:
        data: dict[str, object] = dict.fromkeys(self._unsent)
        for rule, value in zip(self._rules, row, strict=False):
            # None in a NOT NULL column stands for the database's default: the model is not asked about it.
            left_out = value is ABSENT or (value is None and not rule.nullable)
            if rule.facts.name in self._members and not left_out:
                data[self._members[rule.facts.name]] = value
        return data

    def _take(self, instance: SQLModel, index: int, result: list[list[object]], faults: Faults) -> None:
        for rule, column in zip(self._rules, result, strict=True):
            if rule.facts.name not in self._attributes:
                continue
            given = column[index]
            column[index] = value = getattr(instance, self._attributes[rule.facts.name])
            if value is None and given is not None and not rule.nullable:
                faults[index].append(refused(rule.facts.name, "may not be null", given))

    def _reasons(self, error: ValidationError, row: list[object]) -> list[str]:
        given = {rule.facts.name: value for rule, value in zip(self._rules, row, strict=False)}
        reasons = []
        for item in details(error):
            column = self._columns.get(str(item["loc"][0])) if item["loc"] else None
            if column is None:
                reasons.append(one_line(item["msg"]))
            else:
                reasons.append(refused(column, message(item, skip=1), given.get(column, ABSENT)))
        return reasons


def _member(attribute: str, field: FieldInfo) -> str:
    alias = field.validation_alias or field.alias
    if isinstance(alias, AliasChoices):
        return next((choice for choice in alias.choices if isinstance(choice, str)), attribute)
    return alias if isinstance(alias, str) else attribute


def _unsent_members(
    model: type[SQLModel], fields: Fields, facts: TableFacts, members: Mapping[str, str], sent: set[str]
) -> list[str]:
    """The required members that are NULL in every row, as the source does not carry them."""
    unsent = [column for column, (_, field) in fields.items() if field.is_required() and column not in sent]
    missing = [column for column in unsent if not facts.column(column).nullable]
    if missing:
        raise RequestError(
            f"{model.__name__} has validators, which judge whole rows, and the source lacks required columns: "
            f"{', '.join(missing)}. Add them to the source, or give the model's fields defaults"
        )
    return [members[column] for column in unsent]
