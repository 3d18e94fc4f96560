"""What is known to go wrong, or to do more than was asked for, when a job changes many rows of a table.

Owns the verdict on what a database says of a table's surroundings: refused before the first chunk, or a warning that
goes into the run's record. Pure. Refuses to query anything: each dialect's own module does that.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Change = Literal["insert", "update", "delete"]
"""What is to be done to the rows."""

LARGE: Final = 100_000
"""Rows of a referring table that may be read for each deleted row: about 4 ms. Beyond it a run would take days."""

SHOWN: Final = 5
"""How many names a message lists."""

_A: Final[Mapping[Change, str]] = {"insert": "an insert", "update": "an update", "delete": "a delete"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that points at the table, or at one that loses rows with it.

    Attributes:
        name: the constraint's.
        table: the referring table.
        columns: its columns.
        target: the table that it points at.
        targets: the columns there.
        on_delete: what becomes of a referring row: `no action`, `restrict`, `cascade`, `set null` or `set default`.
        on_update: likewise, when the target's columns change.
        indexed: whether an index of the referring table starts with one of the columns.
        rows: about how many rows the referring table has.
        remedy: the statement that creates the missing index.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    targets: tuple[str, ...]
    on_delete: str
    on_update: str
    indexed: bool
    rows: int
    remedy: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on the table for the change in question.

    Attributes:
        name: its name.
        each_row: whether it runs for each row rather than for each statement.
        columns: those whose update it waits for; empty for any.
    """

    name: str
    each_row: bool
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a table and has a say when its rows change.

    Attributes:
        table: its name.
        references: foreign keys that point at it, and at the tables that a cascade reaches from it.
        triggers: those that the change sets off.
        rules: names of rules that rewrite the change.
        lacking: privileges that this role lacks, as the statement that grants them.
        policies: whether row-level security hides rows from this role.
        partitioned: whether it is a partitioned table.
        heirs: tables that inherit from it, its partitions among them: their rows are its rows too.
        deferred: whether a constraint that the change may violate waits for the end of the transaction.
    """

    table: str
    references: tuple[Reference, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    rules: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    policies: bool = False
    partitioned: bool = False
    heirs: tuple[str, ...] = ()
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of looking around.

    Attributes:
        refusals: why the change must not begin; each says what to do.
        warnings: what a person should know.
    """

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def judge(around: Surroundings, change: Change, columns: Collection[str] | None = None) -> Verdict:
    """The verdict on a change of many rows.

    Args:
        around: what the database says.
        change: what is to be done.
        columns: those that an update changes; None for any.
    """
    verdict = Verdict()
    verdict.refusals.extend(_locked(around, change))
    for reference in around.references:
        _judge_reference(reference, change, columns, around.table, verdict)
    verdict.warnings.extend(_bystanders(around, change, columns))
    return verdict


def _locked(around: Surroundings, change: Change) -> Iterator[str]:
    if around.lacking:
        yield (
            f"This role lacks privileges on table {around.table!r} that {_A[change]} in locked chunks needs. As the "
            f"table's owner: {'; '.join(around.lacking)}"
        )
    if around.rules:
        yield (
            f"Table {around.table!r} has rules that rewrite {_A[change]} ({_names(around.rules)}), so what became of "
            "its rows could not be counted. Drop them, or use triggers"
        )


def _judge_reference(
    reference: Reference, change: Change, columns: Collection[str] | None, table: str, verdict: Verdict
) -> None:
    if change == "insert" or (change == "update" and not _moves(reference, columns, table)):
        return
    said = f"Table {reference.table!r} refers to {reference.target!r} by {reference.name}"
    if not reference.indexed:
        text = (
            f"{said}, and none of its indexes starts with {' or '.join(reference.columns)}: all of its about "
            f"{reference.rows:,} rows are read for each row that is gone from {reference.target!r}. Create one: "
            f"{reference.remedy}"
        )
        (verdict.refusals if reference.rows >= LARGE else verdict.warnings).append(text)
    action = reference.on_delete if change == "delete" else reference.on_update
    what = _CONSEQUENCES[change].get(action)
    if what:
        verdict.warnings.append(f"{said}: {what.format(table=reference.table)}")
    elif change == "delete" and reference.table == reference.target:
        verdict.warnings.append(
            f"{said}, itself: a row to which another still refers is refused and put aside, even if the other is "
            "deleted later in the run. Run the job again for those"
        )


_CONSEQUENCES: Final = {
    "delete": {
        "cascade": "its rows that refer to deleted ones are deleted with them, uncounted and in the same chunk",
        "set null": "its rows that refer to deleted ones lose their reference (SET NULL), uncounted",
        "set default": "its rows that refer to deleted ones get the default instead (SET DEFAULT), uncounted",
    },
    "update": {
        "cascade": "its rows change along with those that they refer to, uncounted and in the same chunk",
        "set null": "its rows that refer to changed ones lose their reference (SET NULL), uncounted",
        "set default": "its rows that refer to changed ones get the default instead (SET DEFAULT), uncounted",
    },
}


def _moves(reference: Reference, columns: Collection[str] | None, table: str) -> bool:
    """Whether an update can change what a foreign key points at."""
    return reference.target == table and (columns is None or not set(columns).isdisjoint(reference.targets))


def _bystanders(around: Surroundings, change: Change, columns: Collection[str] | None) -> Iterator[str]:
    fired = [
        trigger
        for trigger in around.triggers
        if change != "update" or columns is None or not trigger.columns or not set(columns).isdisjoint(trigger.columns)
    ]
    for each, by_row in (("row", True), ("statement", False)):
        names = [trigger.name for trigger in fired if trigger.each_row is by_row]
        if names:
            yield f"Table {around.table!r} has triggers that run for each {each} of {_A[change]}: {_names(names)}"
    if around.policies:
        yield (
            f"Row-level security hides rows of table {around.table!r} from this role: what its policies do not show is "
            "left as it is, uncounted"
        )
    if around.heirs and not around.partitioned and change != "insert":
        yield f"Tables inherit from {around.table!r}, and their rows count as its own: {_names(around.heirs)}"
    if around.partitioned and change == "delete":
        yield (
            f"Table {around.table!r} is partitioned. Where all rows of a partition are meant, detach it and drop it: "
            "that takes a moment and leaves no dead rows behind"
        )


def _names(names: Collection[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
