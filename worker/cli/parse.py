"""From what was typed to values: parameters, durations, ids.

Owns what a mistyped argument is answered with. Refuses to know any job: its parameters are checked by the client.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NoReturn

import typer

from worker.core import durations
from worker.queue.bounds import DEFAULT_BOUNDS
from worker.queue.json_bounds import check_json

EXAMPLE = """heavylift enqueue bulk_upsert '{"table": "orders", "source": {"uri": "file:///data/orders.csv"}}'"""

LONGEST_DELAY = timedelta(days=3650)
"""Ten years: what is to start later was mistyped."""

_NEAR = 15
"""Characters shown on either side of the place where a JSON text goes wrong."""


def parse_params(text: str | None, pairs: Iterable[str]) -> dict[str, object]:
    """A job's parameters, from a JSON object and from `name=value` pairs.

    Args:
        text: a JSON object; None for none.
        pairs: `name=value`; a value that is JSON is read as JSON, any other is text.

    Raises:
        typer.BadParameter: it is not that, or a parameter is given twice.
        PayloadError: it is nested too deeply, holds too many values, or an integer beyond 64 bits.
    """
    params = _parse_object(text) if text is not None else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--param {pair!r} is not name=value; for example --param table=orders")
        if name in params:
            raise typer.BadParameter(f"The parameter {name!r} is given twice; leave one of them out")
        params[name] = _parse_value(value)
    _check(params)
    return params


def parse_duration(text: str) -> timedelta:
    """A duration such as `30s`, `5m`, `1h30m` or `2d`.

    Raises:
        typer.BadParameter: it is none, or longer than ten years.
    """
    try:
        return durations.parse_duration(text, longest=LONGEST_DELAY)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, for example --delay 5m") from None


def check_id(text: str) -> str:
    """A run id or a name as typed, if any could be that.

    Raises:
        typer.BadParameter: it is empty, or holds control characters or bytes that are no text.
    """
    if not text or not text.isprintable():
        raise typer.BadParameter(f"{text!r} cannot be one: it is empty or holds characters that cannot be printed")
    return text


def _parse_object(text: str) -> dict[str, object]:
    try:
        found: object = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(_explain(text, error)) from None
    except (ValueError, RecursionError) as error:
        # a name twice, NaN, an integer of thousands of digits, or nesting beyond what Python reads
        raise typer.BadParameter(f"The parameters cannot be read: {error}. For example {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(
            f"The parameters are to be one JSON object, not a {type(found).__name__}. For example {EXAMPLE}"
        )
    return found


def _parse_value(text: str) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _explain(text: str, error: json.JSONDecodeError) -> str:
    place = f"character {error.pos + 1}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
    near = text[max(0, error.pos - _NEAR) : error.pos + _NEAR]
    return f"The parameters are no JSON: {error.msg} at {place}, near {near!r}. For example {EXAMPLE}"


def _check(params: Mapping[str, object]) -> None:
    try:
        payload = json.dumps(params, ensure_ascii=False).encode()
    except RecursionError:
        raise typer.BadParameter(f"The parameters are nested too deeply. For example {EXAMPLE}") from None
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - _NEAR) : error.end]
        raise typer.BadParameter(f"The parameters hold text that is not UTF-8, near {near!r}") from None
    check_json(payload, DEFAULT_BOUNDS)
