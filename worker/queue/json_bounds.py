"""Whether a JSON text is small enough to build, told from its punctuation without building anything.

Owns the scan for nesting, number of values and integers too long to be kept exactly. Refuses to parse: a text that
passes may still not be JSON, which is for the parser to say. Everything runs in C over the whole text: no Python
step per character.
"""

import re
from typing import Final

from worker.core.errors import PayloadError
from worker.queue.bounds import Bounds

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_LONG_INTEGER: Final = re.compile(rb"(?<![\d.eE+-])-?\d{19,}+(?![.eE])")
_PIECE: Final = 64 * 1024
_LONGEST_64_BIT: Final = 20
_SMALLEST_64_BIT: Final = -(2**63)
_LARGEST_64_BIT: Final = 2**64 - 1


def check_json(payload: bytes, bounds: Bounds) -> None:
    """Refuse a JSON text that would cost more than the bounds, or be read inexactly.

    Args:
        payload: the text, already within `bounds.max_bytes`.
        bounds: the limits.

    Raises:
        PayloadError: too many values, nested too deeply, brackets that do not match, or an integer beyond 64 bits,
            which the parser would round to a float.
    """
    outside = _without_strings(payload)
    nodes = sum(outside.count(mark) for mark in (b",", b":", b"[", b"{")) + 1
    if nodes > bounds.max_nodes:
        raise _too_many(nodes, bounds)
    _check_depth(outside, bounds)
    _check_integers(outside)


def _without_strings(payload: bytes) -> bytes:
    # Escaped backslashes go first: only then is a backslash before a quotation mark known to escape it. A backslash
    # outside a string could mislead this, but the parser stops there before it builds what follows.
    bare = payload.replace(rb"\\", b"").replace(rb"\"", b"")
    outside, inside = [], 0
    # In pieces, because splitting makes an object of each string.
    for at in range(0, len(bare), _PIECE):
        parts = bare[at : at + _PIECE].split(b'"')
        outside.append(b"".join(parts[inside::2]))
        inside = (inside + len(parts) - 1) % 2
    return b"".join(outside)


def _check_depth(outside: bytes, bounds: Bounds) -> None:
    rest = outside.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(bounds.max_depth):
        # Each round takes away the innermost level everywhere.
        peeled = rest.replace(b"[]", b"")
        if len(peeled) == len(rest):
            break
        rest = peeled
    if b"[]" in rest:
        raise PayloadError(f"The JSON is nested deeper than {bounds.max_depth} levels; send a flatter message")
    if rest:
        raise PayloadError("The JSON has brackets that do not match; it may have been truncated")


def _check_integers(outside: bytes) -> None:
    for found in _LONG_INTEGER.finditer(outside):
        digits = found.group().lstrip(b"-")
        if len(digits) > _LONGEST_64_BIT or not _SMALLEST_64_BIT <= int(found.group()) <= _LARGEST_64_BIT:
            raise PayloadError(
                f"The JSON holds an integer of {len(digits)} digits, beyond 64 bits, which would be rounded; "
                'send it as text, for example "18446744073709551616"'
            )


def _too_many(nodes: int, bounds: Bounds) -> PayloadError:
    return PayloadError(
        f"The JSON holds at least {nodes:,} values, more than the {bounds.max_nodes:,} allowed; "
        'send the rows as a file or table, for example {"uri": "file:///data/rows.ndjson"}'
    )
