"""How far a file has come: what the run's cursor carries from claim to claim.

Owns its shape. What it lists is on the disk: bytes are synced before the chunk that commits them.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from worker.core.errors import OutputError

Phase = Literal["write", "publish", "published"]
"""`write` until the whole file is on the disk, `publish` until it has its name, `published` from then on."""

Count = Annotated[int, Field(ge=0, strict=True)]


class Piece(BaseModel, extra="forbid", frozen=True):
    """The bytes of one file that count, from its beginning.

    Attributes:
        fence: of the claim that wrote it; part of the file's name.
        bytes: how many. What follows them was never committed.
        crc32: of these bytes.
    """

    fence: Count
    bytes: Count
    crc32: Annotated[int, Field(ge=0, lt=2**32, strict=True)]


class OutputCursor(BaseModel, extra="forbid", frozen=True):
    """Where making a file goes on.

    Attributes:
        key: part of the names of this run's files, so that no other run's are taken for them.
        columns: what the file carries, as the run began it.
        rows: how many rows are in the segments.
        segments: the pieces that make up the file, in order.
        whole: the joined file; None before there is one.
        phase: what is done next.
    """

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    columns: Annotated[list[str], Field(min_length=1)]
    rows: Count = 0
    segments: list[Piece] = []
    whole: Piece | None = None
    phase: Phase = "write"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        fences = [segment.fence for segment in self.segments]
        if sorted(set(fences)) != fences:
            raise ValueError(f"the segments' fences do not ascend: {fences}")
        if (self.whole is None) != (self.phase == "write"):
            raise ValueError(f"a joined file belongs to the later phases, and this one is {self.phase!r}")
        return self

    @classmethod
    def parse(cls, cursor: object) -> "OutputCursor":
        """A cursor out of its JSON form.

        Raises:
            OutputError: it is not one of a file that is being written.
        """
        try:
            return cls.model_validate(cursor)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
            raise OutputError(
                f"The saved cursor is not one of a file that is being written ({wrong}), so this run cannot go on; "
                "start a new run"
            ) from error
