"""The grammar of `where`: what it admits, what it means, and how it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import HeavyliftError, WhereError
from worker.core.where import (
    MOST_CHOICES,
    MOST_CONDITIONS,
    OPERATORS,
    UNBOUNDED,
    Compare,
    Either,
    Every,
    Not,
    comparisons,
    is_unbounded,
    parse_where,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "and", "not", "eq", "in"]), inner)
    ),
    max_leaves=12,
)


def test_members_of_one_object_hold_together() -> None:
    """Columns and operators side by side are joined by and."""
    found = parse_where({"age": {"ge": 18, "lt": 30}, "vip": {"eq": True}})
    assert found == Every((Compare("age", "ge", 18), Compare("age", "lt", 30), Compare("vip", "eq", True)))


def test_connectives_nest() -> None:
    """`and`, `or` and `not` take conditions, inside each other too."""
    found = parse_where({"or": [{"a": {"eq": 1}}, {"not": {"b": {"is_null": True}}}]})
    assert found == Either((Compare("a", "eq", 1), Not(Compare("b", "is_null", True))))


@pytest.mark.parametrize("given_where", [None, {}])
def test_nothing_means_every_row(given_where: dict[str, object] | None) -> None:
    """A missing or empty where is unbounded."""
    assert parse_where(given_where) == UNBOUNDED
    assert is_unbounded(parse_where(given_where))


@pytest.mark.parametrize(
    ("given_where", "said"),
    [
        ({"age": 30}, '{"age": {"eq": 1}}'),
        ({"age": {"lower": 30}}, "There are: between, eq"),
        ({"age": {"lt": None}}, "is_null"),
        ({"age": {"in": []}}, "list of values"),
        ({"age": {"in": list(range(MOST_CHOICES + 1))}}, "5,001"),
        ({"age": {"between": [1]}}, "list of two"),
        ({"age": {"is_null": 1}}, "true or false"),
        ({"age": {"older_than": 90}}, '"90d"'),
        ({"age": {"older_than": "90"}}, '"90d"'),
        ({"age": {"eq": {"a": 1}}}, "one value"),
        ({"or": {"a": {"eq": 1}}}, "list of conditions"),
        ({"not": {}}, "at least one member"),
        ({"and": [{"a": {"eq": 1}}] * (MOST_CONDITIONS + 1)}, "too large"),
    ],
)
def test_what_is_refused_says_why(given_where: dict[str, object], said: str) -> None:
    """Each mistake gets one line that says what would work."""
    with pytest.raises(WhereError) as caught:
        parse_where(given_where)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_depth_is_bounded() -> None:
    """Conditions nested beyond the bound are refused, not recursed into."""
    deep: dict[str, object] = {"a": {"eq": 1}}
    for _ in range(50):
        deep = {"not": deep}
    with pytest.raises(WhereError, match="deep"):
        parse_where(deep)


@given(given_where=st.dictionaries(st.text(max_size=4), json_values, max_size=3))
def test_any_json_is_read_or_refused_clearly(given_where: dict[str, object]) -> None:
    """Whatever JSON comes, the answer is a tree of known operators or an error of ours."""
    try:
        found = parse_where(given_where)
    except HeavyliftError:
        return
    assert all(comparison.operator in OPERATORS for comparison in comparisons(found))
    assert is_unbounded(found) == (not given_where)
