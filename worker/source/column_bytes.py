r"""Bytes in written form: text has no place for them, so `\x` and pairs of hexadecimal digits stand for any.

Owns that notation, PostgreSQL's own, which exports write. Other text is the bytes of its UTF-8, as before.
"""

import operator
from types import UnionType
from typing import Annotated, Final, Union, get_args, get_origin

from pydantic import BeforeValidator

MARK: Final = r"\x"


def hold_bytes(annotation: object) -> bool:
    """Whether values of the annotation are bytes, or lists of them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return hold_bytes(get_args(annotation)[0])
    if origin in {Union, UnionType, list}:
        return any(map(hold_bytes, get_args(annotation)))
    return isinstance(annotation, type) and issubclass(annotation, bytes)


def from_written(annotation: object) -> object:
    """The annotation, after turning what is written with the mark into bytes."""
    return operator.getitem(Annotated, (annotation, BeforeValidator(_decoded)))


def _decoded(value: object) -> object:
    if isinstance(value, str) and value.startswith(MARK):
        try:
            return bytes.fromhex(value.removeprefix(MARK))
        except ValueError:
            raise ValueError(r"begins with \x, after which only pairs of hexadecimal digits may stand") from None
    return [_decoded(item) for item in value] if isinstance(value, list) else value
