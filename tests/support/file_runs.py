"""A run that makes one file, as a job would, and nothing else: its ledger is an attribute."""

import datetime as dt
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.output.open import open_output
from worker.output.segmented import SegmentedOutput
from worker.output.spec import OutputSpec

ROWS: Final = [(number, f"row {number}" * 3) for number in range(5)]
CONTENT: Final = "id,name\n" + "".join(f"{number},{name}\n" for number, name in ROWS)

_CHUNK_ROWS: Final = 2
_STARTED_AT: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class StaleError(Exception):
    """A newer claim holds the run."""


@dataclass
class FileRun:
    """One run, over all of its claims.

    Attributes:
        folder: the output folder.
        uri: the file that it makes, of `ROWS`.
        overwrite: whether over an existing one.
        run_id: its id.
        cursor: as its last committed chunk left it.
        fence: of its last claim.
        ended: whether a claim came to the end.
    """

    folder: Path
    uri: str = "x.csv"
    overwrite: bool = False
    run_id: str = "r"
    cursor: dict[str, object] | None = None
    fence: int = 0
    ended: bool = False

    def claim(self) -> Generator[str, None, None]:
        """Claim the run now; the steps of the claim's work are taken by iterating, each named before it is taken.

        Raises:
            StaleError: at a commit, where a newer claim was made.
        """
        self.fence += 1
        return self._steps(self.fence, self.cursor)

    def run(self) -> None:
        """Claim the run and take it to its end."""
        for _ in self.claim():
            pass

    def _steps(self, fence: int, cursor: dict[str, object] | None) -> Generator[str, None, None]:
        yield "open"
        output = open_output(
            OutputSpec(uri=self.uri, overwrite=self.overwrite),
            [self.folder],
            run_id=self.run_id,
            started_at=_STARTED_AT,
            fence=fence,
            columns=["id", "name"],
            cursor=cursor,
        )
        try:
            if output.phase == "write":
                yield from self._write(output, fence)
            if output.phase == "publish":
                yield "publish"
                output.publish()
                yield from self._commit(output, fence)
            yield "clear"
            output.clear()
            self.ended = True
        finally:
            output.close()

    def _write(self, output: SegmentedOutput, fence: int) -> Generator[str, None, None]:
        while output.rows < len(ROWS):
            yield "append"
            output.append(ROWS[output.rows : output.rows + _CHUNK_ROWS])
            yield "flush"
            output.flush()
            yield from self._commit(output, fence)
        yield "join"
        while not output.join(20):
            yield "join"
        yield from self._commit(output, fence)

    def _commit(self, output: SegmentedOutput, fence: int) -> Generator[str, None, None]:
        yield "commit"
        if fence != self.fence:
            raise StaleError
        self.cursor = json.loads(json.dumps(output.cursor()))


def left_in(folder: Path) -> list[str]:
    """The names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
