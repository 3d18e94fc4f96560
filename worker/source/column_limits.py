"""What the database would refuse, or silently change, in values of the right Python type.

Owns choosing the checks that a column needs, from what the catalogue tells: so the database rarely refuses a row and
never rounds one. Refuses to look at a value itself: each kind of value has its own module.
"""

from collections.abc import Callable
from functools import partial

from sqlalchemy import JSON, Column, DateTime, Time
from sqlalchemy.types import TypeDecorator, TypeEngine

from worker.core.table_facts import ColumnFacts
from worker.source.column_numbers import (
    check_finite,
    check_integers,
    check_numerics,
    check_single_floats,
    numeric_limits,
)
from worker.source.column_text import check_arrays, check_documents, check_texts
from worker.source.column_times import make_aware, make_naive, make_time_aware, refuse_offset
from worker.source.column_types import takes_text, undecorated

Step = Callable[[list[object], dict[int, str]], list[object]]
"""Takes a column of validated values and the reasons by index; adds reasons; returns the column to go on with."""


def steps_for(column: Column[object], facts: ColumnFacts, annotation: object) -> tuple[Step, ...]:
    """The checks and conversions between a column's validated values and the database, in order.

    A type decorator's values are the program's own until it converts them, so times and documents under one pass as
    they are. SQLModel's decorator for date-times, like any over a type with a time zone, wants aware ones.

    Args:
        column: the table's column.
        facts: the same column as the database declares it.
        annotation: the type of its values, as `worker.source.column_types.annotation_of` returns it.
    """
    if facts.array:
        return (partial(check_arrays, max_length=facts.max_length),)
    if isinstance(column.type, JSON):
        return (check_documents,)
    if isinstance(undecorated(column.type), DateTime) or facts.type_name.startswith("timestamp "):
        return _moment_steps(column.type, facts)
    if isinstance(column.type, Time) or facts.type_name.startswith("time "):
        return (make_time_aware if facts.type_name == "time with time zone" else refuse_offset,)
    if facts.text or takes_text(annotation):
        return (partial(check_texts, max_length=facts.max_length),)
    return _number_steps(facts)


def _moment_steps(type_: TypeEngine[object], facts: ColumnFacts) -> tuple[Step, ...]:
    if not isinstance(type_, TypeDecorator):
        return (make_aware if facts.type_name == "timestamp with time zone" else make_naive,)
    plain = undecorated(type_)
    return (make_aware,) if isinstance(plain, DateTime) and plain.timezone else ()


def _number_steps(facts: ColumnFacts) -> tuple[Step, ...]:
    if facts.minimum is not None and facts.maximum is not None:
        return (partial(check_integers, minimum=facts.minimum, maximum=facts.maximum),)
    finite = (check_finite,) if facts.finite else ()
    if (limits := numeric_limits(facts)) is not None:
        return (*finite, partial(check_numerics, limits=limits))
    return (*finite, check_single_floats) if facts.type_name == "real" else finite
