"""What one payload may cost its reader: the limits that both codecs keep.

Owns the numbers and their reasons. Refuses to read anything: `json_bounds` and `pickle_opcodes` apply them.
"""

from dataclasses import dataclass
from typing import Final

MAX_INTEGER_BITS: Final = 14_280
"""About 4,300 digits: what Python itself converts to text. Conversion costs the square of the length."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one payload, checked before anything is built from it.

    Args:
        max_bytes: length of the payload. Eight times the rows that a job accepts inline (`WORKER_MAX_INLINE_BYTES`),
            so that ids, escapes and a result beside the parameters fit, and small enough to be read in a second or two.
        max_depth: containers within containers, the message itself included. Rows and filters need about ten;
            every walk over a value (validation, comparison, logging) recurses once a level.
        max_nodes: values and keys, each taking some 100 bytes of memory whatever its length on the wire. In a
            pickle a shared value counts each time that it is referred to.
    """

    max_bytes: int = 8 * 1024 * 1024
    max_depth: int = 64
    max_nodes: int = 500_000


DEFAULT_BOUNDS: Final = Bounds()
