"""JSON objects whose numbers are exactly what the text says.

Owns telling whether a fast parser, which makes floats of what is longer, could have rounded. A number that a double
cannot hold to its last digit becomes an `int` or a `Decimal`; inside a nested value of a line, where no column's type
says what it is for, it is refused. A magnitude below what a double holds (`1e-400`) reads as 0, and one above it is
refused.
"""

import json
import re
from decimal import Decimal
from typing import Final

import orjson

_DIGITS: Final = bytes(ord("0") if chr(byte) in ".0123456789" else byte for byte in range(256))
_MANY: Final = b"0" * 16
_SUSPECT: Final = re.compile(rb"-\d{19}|\d{20}|\d{16}\d*[eE]|(?=[\d.]{17})\d+\.\d")


def has_many_digits(text: bytes) -> bool:
    """Whether somewhere stands a row of 16 digits and points, without which every number fits a double. Very cheap."""
    return _MANY in text.translate(_DIGITS)


def parse_object(line: bytes) -> dict[str, object] | str:
    """A JSON object with exact numbers, or what is wrong with the line.

    Args:
        line: one line of NDJSON, known to be UTF-8.
    """
    try:
        quick = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    if not isinstance(quick, dict):
        return 'JSON, and not an object such as {"id": 1}'
    if not has_many_digits(line) or _SUSPECT.search(line) is None:
        return quick
    return _exactly(line, quick)


def parse_document(text: str) -> object:
    """Any JSON, with numbers that a double cannot hold to the last digit as `int` and `Decimal`, at any depth.

    Raises:
        ValueError: it is no JSON that Python reads.
    """
    written = text.encode()
    if has_many_digits(written) and _SUSPECT.search(written) is not None:
        exact: object = json.loads(text, parse_float=_exact_float)
        return exact
    return orjson.loads(written)


def _exactly(line: bytes, quick: dict[str, object]) -> dict[str, object] | str:
    try:
        exact = json.loads(line, parse_float=_exact_float)
    except (ValueError, ArithmeticError, RecursionError) as error:
        return f"JSON whose numbers cannot be kept exactly: {error}"
    for name, value in exact.items():
        if isinstance(value, dict | list):
            if value != quick[name]:
                return f"a number inside {name!r} has more digits than a double holds; give it as a string"
            exact[name] = quick[name]
    return {name: exact[name] for name in quick}


def _exact_float(text: str) -> float | Decimal:
    exact, rounded = Decimal(text), float(text)
    return rounded if Decimal(repr(rounded)) == exact else exact
