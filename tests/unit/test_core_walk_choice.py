"""Which column leads a walk: bounds from a `where`, and the choice among estimates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.table_facts import ColumnFacts
from worker.core.walk_choice import MOST_PER_VALUE, SPARSE, LeadingColumn, bounds, choose_lead, may_lead
from worker.core.where import Compare, Every, parse_where

MOMENT = ColumnFacts(
    "at", "timestamp with time zone", "timestamp with time zone", nullable=True, driver_type="timestamptz"
)


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ({}, {}),
        ({"a": {"lt": 1}}, {"a": ["lt"]}),
        ({"a": {"gt": 1, "le": 5}, "b": {"older_than": "1d"}}, {"a": ["gt", "le"], "b": ["older_than"]}),
        ({"and": [{"a": {"lt": 1}}, {"and": [{"a": {"between": [0, 9]}}]}]}, {"a": ["lt", "between"]}),
        ({"a": {"ne": 1}, "b": {"like": "x%"}, "c": {"is_null": True}}, {}),
        ({"or": [{"a": {"lt": 1}}, {"a": {"gt": 5}}], "b": {"in": [1]}}, {"b": ["in"]}),
        ({"not": {"a": {"lt": 1}}}, {}),
    ],
)
def test_bounds_are_what_every_meant_row_passes(where: dict[str, Any], columns: dict[str, list[str]]) -> None:
    """Only comparisons that are joined by `and` up to the top bound a walk, and only those that an index answers."""
    found = bounds(parse_where(where))
    assert {
        name: [part.operator for part in every.parts if isinstance(part, Compare)] for name, every in found.items()
    } == columns
    assert all(isinstance(every, Every) for every in found.values())


@pytest.mark.parametrize(
    ("estimates", "lead"),
    [
        ({"id": 1000}, "id"),
        ({"id": 1000, "at": 50}, "at"),
        ({"id": 1000, "at": 51}, "id"),
        ({"id": 1000, "at": 40, "day": 10}, "day"),
        ({"id": 100, "at": 50}, "id"),
        ({"id": 0, "at": 0}, "id"),
    ],
)
def test_the_fewest_rows_lead_where_they_are_few(estimates: dict[str, int], lead: str) -> None:
    """Another index leads where its rows are at most a twentieth of those that the primary key would visit."""
    assert choose_lead("id", estimates) == lead


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10**12)), st.integers(0, 10**12))
def test_a_choice_never_visits_more(estimates: dict[str, int], primary: int) -> None:
    """Whatever is estimated, the chosen column visits no more rows than the primary key, and another far fewer."""
    every = {**estimates, "id": primary}
    lead = choose_lead("id", every)
    assert every[lead] <= primary
    assert lead == "id" or every[lead] <= SPARSE * primary


@pytest.mark.parametrize(
    ("facts", "rows_per_value", "able"),
    [
        (MOMENT, 1, True),
        (MOMENT, MOST_PER_VALUE, True),
        (MOMENT, MOST_PER_VALUE + 1, False),
        (ColumnFacts("n", "numeric", "numeric", nullable=True, driver_type="numeric"), 1, False),
        (ColumnFacts("x", "double precision", "double precision", nullable=True, driver_type="float8"), 1, False),
        (ColumnFacts("t", "text", "text", nullable=True, text=True), 1, True),
        (ColumnFacts("t", "text", "text[]", nullable=True, text=True, array=True), 1, False),
    ],
)
def test_which_columns_may_lead(facts: ColumnFacts, rows_per_value: float, able: bool) -> None:  # noqa: FBT001 - expected
    """A column leads whose values have an exact place in an order, and not too many rows each."""
    assert may_lead(LeadingColumn(facts.name, rows_per_value), facts) is able
