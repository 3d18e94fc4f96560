"""Fields judged one by one by a model's own validators: for rows that carry only what they change.

Owns calling field validators as an assignment to a model's field would. Refuses what judges a whole row: a row that is
not all there cannot be judged so.
"""

from collections.abc import Sequence

from pydantic import ValidationError
from sqlmodel import SQLModel

from worker.source.validate_columns import ColumnRule, Faults
from worker.source.validate_faults import details, message, refused
from worker.source.validate_rows import Fields


def judges_fields(model: type[SQLModel]) -> bool:
    """Whether a model has validators, all of them of single fields."""
    found = model.__pydantic_decorators__
    return bool(found.field_validators) and not (found.validators or found.model_validators or found.root_validators)


class ModelFields:
    """Judges the fields that rows carry by a model's field validators.

    A validator that looks at other fields finds those to the left of its own in the source that passed, as pydantic
    would show them, and no defaults: what a row does not carry, it does not change.

    Args:
        model: a mapped SQLModel class, for which `judges_fields` holds.
        fields: the model's fields by column name.
        rules: the rules of the source's columns, in order.
    """

    def __init__(self, model: type[SQLModel], fields: Fields, *, rules: Sequence[ColumnRule]) -> None:
        self._model = model
        self._rules = rules
        self._attributes = [fields[rule.facts.name][0] if rule.facts.name in fields else None for rule in rules]

    def validate(self, columns: Sequence[list[object]], faults: Faults) -> list[list[object]]:
        """Replace the values of each sound row by what the model makes of them.

        Args:
            columns: prepared values of the source's columns.
            faults: reasons by row; rows that have some are left alone, rows that the model refuses gain some.

        Returns:
            Values of the source's columns; in faulty rows they mean nothing.
        """
        result = [list(column) for column in columns]
        for index in range(len(columns[0]) if columns else 0):
            if index not in faults:
                self._judge(index, result, faults)
        return result

    def _judge(self, index: int, result: list[list[object]], faults: Faults) -> None:
        instance = self._model.model_construct()
        for name in self._model.model_fields:
            vars(instance).pop(name, None)
        for rule, attribute, column in zip(self._rules, self._attributes, result, strict=True):
            if attribute is None:
                continue
            given = column[index]
            try:
                self._model.__pydantic_validator__.validate_assignment(instance, attribute, given)
            except ValidationError as error:
                faults[index] += [refused(rule.facts.name, message(item, skip=1), given) for item in details(error)]
                continue
            column[index] = value = getattr(instance, attribute)
            if value is None and not rule.nullable:
                faults[index].append(refused(rule.facts.name, "may not be null", given))
