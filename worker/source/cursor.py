"""What every source's cursor says first: which columns the source carries, and how its values stand there.

So a source goes on with the columns that it began with, and rows that it gave are read again as they were the first
time, when the source itself may be gone.
"""

from typing import Annotated

from pydantic import BaseModel, Field

Count = Annotated[int, Field(ge=0, strict=True)]
"""How many of something."""


class SourceCursor(BaseModel, extra="forbid", frozen=True):
    """Where reading a source goes on; each kind of source adds its own place.

    Attributes:
        columns: that the source carries.
        empty_is_text: whether every value is text and an absent one an empty cell, as in CSV.
    """

    columns: list[str]
    empty_is_text: bool = False
