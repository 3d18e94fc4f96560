"""The verdict on what stands around a table, for each change."""

from dataclasses import replace

import pytest

from worker.core.preflight import LARGE, Change, Reference, Surroundings, Trigger, judge

REFERENCE = Reference(
    name="line_order_fkey",
    table="line",
    columns=("order_id",),
    target="orders",
    targets=("id",),
    on_delete="no action",
    on_update="no action",
    indexed=True,
    rows=10,
    remedy="CREATE INDEX CONCURRENTLY ON line (order_id)",
)


def around(*references: Reference, triggers: tuple[Trigger, ...] = ()) -> Surroundings:
    """A table with foreign keys that point at it."""
    return Surroundings("orders", references=references, triggers=triggers)


@pytest.mark.parametrize("change", ["insert", "update", "delete"])
def test_nothing_around(change: Change) -> None:
    """A table that stands alone gives no cause for anything."""
    verdict = judge(Surroundings("orders"), change)
    assert (verdict.refusals, verdict.warnings) == ([], [])


def test_a_missing_index_is_refused_from_a_size_on() -> None:
    """A small child is read again and again with a warning, a large one is not."""
    missing = replace(REFERENCE, indexed=False, rows=LARGE - 1)
    verdict = judge(around(missing), "delete")
    assert not verdict.refusals
    assert "99,999 rows are read for each row that is gone" in verdict.warnings[0]
    verdict = judge(around(replace(missing, rows=LARGE)), "delete")
    assert not verdict.warnings
    assert verdict.refusals[0].endswith("Create one: CREATE INDEX CONCURRENTLY ON line (order_id)")


@pytest.mark.parametrize(
    ("change", "columns", "warned"),
    [
        ("delete", None, True),
        ("insert", None, False),
        ("update", None, True),
        ("update", {"id"}, True),
        ("update", {"status"}, False),
    ],
)
def test_a_reference_matters_to_what_moves_its_target(
    change: Change,
    columns: set[str] | None,
    warned: bool,  # noqa: FBT001 - what is expected
) -> None:
    """A foreign key has a say in deletes, and in updates of the columns that it points at."""
    cascading = replace(REFERENCE, on_delete="cascade", on_update="cascade")
    assert bool(judge(around(cascading), change, columns).warnings) is warned


def test_a_cascade_further_down_does_not_matter_to_an_update() -> None:
    """What refers to a table that only a delete would reach is no matter of an update."""
    further = replace(REFERENCE, target="line", table="part", on_update="cascade")
    assert not judge(around(further), "update").warnings


@pytest.mark.parametrize(
    ("action", "said"),
    [("cascade", "deleted with them"), ("set null", "(SET NULL)"), ("set default", "(SET DEFAULT)")],
)
def test_what_happens_to_referring_rows(action: str, said: str) -> None:
    """Each action that changes another table's rows is named with that table."""
    (warning,) = judge(around(replace(REFERENCE, on_delete=action)), "delete").warnings
    assert said in warning
    assert "'line'" in warning


@pytest.mark.parametrize("action", ["restrict", "no action"])
def test_a_reference_that_refuses_needs_no_warning(action: str) -> None:
    """Rows that are refused are put aside one by one; the run's record has them."""
    assert not judge(around(replace(REFERENCE, on_delete=action)), "delete").warnings


@pytest.mark.parametrize(("columns", "fired"), [(None, True), ({"status"}, True), ({"id"}, False)])
def test_triggers_of_some_columns(columns: set[str] | None, fired: bool) -> None:  # noqa: FBT001 - what is expected
    """A trigger for the update of some columns is no matter where these stay."""
    warnings = judge(around(triggers=(Trigger("t", each_row=True, columns=("status",)),)), "update", columns).warnings
    assert bool(warnings) is fired


def test_many_names_are_cut() -> None:
    """A table with a trigger for everything does not drown the record."""
    triggers = tuple(Trigger(f"t{n}", each_row=False) for n in range(8))
    (warning,) = judge(around(triggers=triggers), "delete").warnings
    assert warning.endswith("each statement of a delete: t0, t1, t2, t3, t4 and 3 more")


def test_privileges_and_rules_are_refused_together() -> None:
    """Everything that is wrong is said at once."""
    locked = replace(Surroundings("orders"), lacking=("GRANT DELETE ON orders TO app",), rules=("r",))
    refusals = judge(locked, "delete").refusals
    assert len(refusals) == 2
    assert "GRANT DELETE ON orders TO app" in refusals[0]
    assert "(r)" in refusals[1]
