"""What came of one act of the demonstration.

Owns that value alone: `worker.demo.run` makes it, `worker.demo.report` shows it.
"""

from dataclasses import dataclass

from worker.database.quarantine import QuarantinedRow
from worker.database.records import RunRecord
from worker.demo.check import Check


@dataclass(frozen=True, slots=True)
class Played:
    """An act that was played.

    Attributes:
        number: which act it was, from 1.
        record: its run, ended.
        checks: what was compared.
        refused: the first of the rows in quarantine.
        table_rows: the table's rows after it, by plain SQL.
    """

    number: int
    record: RunRecord
    checks: list[Check]
    refused: list[QuarantinedRow]
    table_rows: int

    @property
    def right(self) -> bool:
        """Whether every check agrees."""
        return all(check.right for check in self.checks)
