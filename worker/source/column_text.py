"""The limits of text, alone, in arrays and in JSON documents: characters, lengths, and what JSON cannot say.

Owns the cheap test of a whole column and the exact test of one value that follows only where the cheap one fails.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Final

import orjson

_NUL: Final = "holds a NUL character, which the database cannot store"
_SURROGATE: Final = "holds half of a surrogate pair, which is no character"


def check_texts(column: list[object], faults: dict[int, str], *, max_length: int | None) -> list[object]:
    """Refuse text that is too long or that holds what is no storable character.

    Args:
        column: validated values; other than plain `str` pass.
        faults: where reasons go, by index.
        max_length: the most characters the column takes, None where unbounded.

    Returns:
        The same column.
    """
    # Exactly str: a member of a str enumeration is stored by its name.
    texts = [value for value in column if type(value) is str]
    if _texts_fault(texts, max_length) is not None:
        for index, value in enumerate(column):
            if type(value) is str and (why := _text_fault(value, max_length)) is not None:
                faults[index] = why
    return column


def check_arrays(column: list[object], faults: dict[int, str], *, max_length: int | None) -> list[object]:
    """Refuse arrays with an element that `check_texts` would refuse.

    Args:
        column: validated values.
        faults: where reasons go, by index.
        max_length: the most characters an element takes, None where unbounded.

    Returns:
        The same column.
    """
    for index, value in enumerate(column):
        texts = [leaf for leaf in _leaves(value) if isinstance(leaf, str)]
        if texts and (why := _texts_fault(texts, max_length)) is not None:
            faults[index] = why
    return column


def check_documents(column: list[object], faults: dict[int, str]) -> list[object]:
    """Refuse documents that are no storable JSON; NULLs pass.

    Args:
        column: validated values.
        faults: where reasons go, by index.

    Returns:
        The same column.
    """
    if _document_fault([value for value in column if value is not None]) is not None:
        for index, value in enumerate(column):
            if value is not None and (why := _document_fault(value)) is not None:
                faults[index] = why
    return column


def _texts_fault(texts: list[str], max_length: int | None) -> str | None:
    if max_length is not None and max(map(len, texts), default=0) > max_length:
        return f"is longer than {max_length} characters"
    return _text_fault("".join(texts), None)


def _text_fault(text: str, max_length: int | None) -> str | None:
    if max_length is not None and len(text) > max_length:
        return f"has {len(text)} characters where the column takes {max_length}"
    if "\x00" in text:
        return _NUL
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _SURROGATE
    return None


def _document_fault(document: object) -> str | None:
    try:
        # As the engine writes it, so that what passes here passes there.
        written = orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        return f"cannot be written as JSON: {error}"
    # In JSON an escaped backslash may stand before a harmless "u0000".
    if b"\\u0000" in written and b"\\u0000" in written.replace(b"\\\\", b""):
        return _NUL
    # orjson writes NaN as null: another value than was given.
    if b"null" in written and any(isinstance(leaf, float) and not isfinite(leaf) for leaf in _leaves(document)):
        return "holds NaN or an infinity, which JSON cannot say"
    return None


def _leaves(value: object) -> Iterator[object]:
    # A stack, not recursion: how deep a value is nested is up to whoever sent it.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        else:
            yield item
