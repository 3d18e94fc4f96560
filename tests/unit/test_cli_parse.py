"""What was typed becomes values, or one line that says what is wrong with it."""

import json
from datetime import timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.parse import check_id, parse_duration, parse_params
from worker.core.errors import PayloadError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc_", min_size=1), JSON_VALUES, max_size=4))
def test_json_comes_back_as_it_was_written(params: dict[str, object]) -> None:
    """Any JSON object is read exactly, whether as one text or as name=value pairs."""
    pairs = [f"{name}={json.dumps(value)}" for name, value in params.items()]
    assert parse_params(json.dumps(params), []) == params
    assert parse_params(None, pairs) == params


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("orders", "orders"),
        ("7", 7),
        ("null", None),
        ('"7"', "7"),
        ("", ""),
        ("a=b", "a=b"),
        ("NaN", "NaN"),
        ("[1", "[1"),
    ],
)
def test_a_value_that_is_no_json_is_text(typed: str, value: object) -> None:
    """What parses as JSON is JSON, anything else is taken as it stands."""
    assert parse_params(None, [f"name={typed}"]) == {"name": value}


def test_object_and_pairs_add_up() -> None:
    """A JSON object and pairs make one set of parameters."""
    assert parse_params('{"a": 1}', ["b=2"]) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "pairs", "says"),
    [
        ('{"a": 1', [], "at character 8"),
        ('{\n"a": 1,\n}', [], "at line 3, column 1"),
        ("{'a': 1}", [], "near \"{'a': 1}\""),
        ("", [], "The parameters are no JSON"),
        ("[1]", [], "not a list"),
        ('{"a": NaN}', [], "NaN is no JSON"),
        ('{"a": 1, "a": 2}', [], "'a' stands twice"),
        ('{"a": 1}', ["a=2"], "'a' is given twice"),
        (None, ["a=1", "a=2"], "'a' is given twice"),
        (None, ["a"], "is not name=value"),
        (None, ["=1"], "is not name=value"),
        ("[" * 100_000, [], "cannot be read"),
        ('{"a": ' + "9" * 5_000 + "}", [], "cannot be read"),
        (r'{"a": "\ud800"}', [], "not UTF-8"),
        (None, ["a=\udcff"], "not UTF-8"),
    ],
)
def test_bad_parameters_are_usage_errors(text: str | None, pairs: list[str], says: str) -> None:
    """Each mistake is named, with the place where there is one."""
    with pytest.raises(typer.BadParameter) as caught:
        parse_params(text, pairs)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "text",
    ['{"a": ' + "[" * 80 + "]" * 80 + "}", '{"a": 123456789012345678901234567890}'],
    ids=["deep", "long integer"],
)
def test_what_the_wire_cannot_carry_is_refused(text: str) -> None:
    """Parameters beyond the bounds of a payload are refused before any server is asked."""
    with pytest.raises(PayloadError):
        parse_params(text, [])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7_200), ("1d", 86_400), ("1h30m", 5_400), ("0.5s", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    """A number and a unit, or several."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5x", "1.2.3s", "٣s", "4000d", "999999999999d"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else, or more than ten years, is a usage error with an example."""
    with pytest.raises(typer.BadParameter) as caught:
        parse_duration(text)
    assert "--delay 5m" in caught.value.message


@pytest.mark.parametrize("text", ["", "a\n", "\x1b[31m", "\udcff"])
def test_what_can_be_no_id(text: str) -> None:
    """Control characters and broken text never reach a server."""
    with pytest.raises(typer.BadParameter):
        check_id(text)
