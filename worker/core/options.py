"""Run options: what stands beside a job's parameters and holds for any job.

Owns their names and types. An option that this version does not know is refused, never ignored: somebody counts on it.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.core.errors import ParametersError, choices


class RunOptions(BaseModel):
    """The options of one run.

    Attributes:
        all: allow a job to touch every row of a table, by a `where` that is missing or empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    all: bool = False

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Self:
        """The options as given by a client.

        Raises:
            ParametersError: one is unknown or of the wrong type; the message names each.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            problems = "; ".join(
                _explain(str(found["loc"][0]), found["type"], found["msg"]) for found in error.errors()
            )
            raise ParametersError(f"Run options: {problems}") from None


def _explain(name: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown option {name!r}. {choices(name, RunOptions.model_fields)}"
    return f'option {name!r}: {message}; for example {{"{name}": true}}'
