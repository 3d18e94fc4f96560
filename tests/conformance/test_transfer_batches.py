"""`transfer_funds` of many transfers: order, replays, what is put aside, and counts that always add up."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Column, Numeric

from tests.conftest import MakeRunner
from tests.support.bank import (
    ACCOUNT,
    PAYMENT,
    Row,
    balances,
    banker,
    batch,
    broken,
    counts,
    message,
    open_bank,
    row,
    single,
)
from tests.support.chosen import Backend
from tests.support.own_session import execute, put, rows_of
from tests.support.rebuild import rebuild
from tests.support.refused_as import refused_by
from worker.core.events import StartedOver
from worker.core.outcomes import Failed, Interrupted
from worker.core.settings import Settings
from worker.core.transfer_terms import TRANSFER_FIELDS
from worker.database.claims import Delivery
from worker.database.engine import Database
from worker.database.quarantine import QuarantinedRow, read_quarantine
from worker.run.runner import Runner

ACCOUNTS = ["a", "b", "c", "d"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with chunks of four rows, always."""
    return settings.model_copy(update={"chunk_start_rows": 4, "chunk_min_rows": 4, "chunk_max_rows": 4})


@pytest.fixture
async def teller(make_runner: MakeRunner, database: Database) -> Runner:
    """A runner of a bank whose four accounts hold a hundred each."""
    await open_bank(database, dict.fromkeys(ACCOUNTS, 100))
    return banker(make_runner())


def replay(run_id: str) -> Delivery:
    """A run that tries again what another one has put aside."""
    params: dict[str, object] = {"table": "account", "source": {"quarantine": run_id}}
    return Delivery(f"{run_id} again", "transfer_funds", params, {}, "arq:queue", 1)


async def aside(database: Database, run_id: str = "many") -> list[QuarantinedRow]:
    """The rows that a run has put aside."""
    async with database.engine.connect() as connection:
        return await read_quarantine(connection, run_id)


async def test_many_transfers_over_few_accounts(teller: Runner, database: Database) -> None:
    """Over several chunks each transfer sees what those before it left; all is counted, and the books are in order."""
    rows = [row(f"t{n}", ACCOUNTS[n % 4], ACCOUNTS[(n + 1) % 4], f"{n}.25") for n in range(1, 20)]
    assert counts(await teller.run(batch(*rows))) == (19, 0, 0, "194.75")
    assert sum((await balances(database)).values()) == 400
    assert await broken(database) == {}
    record = await teller.ledger.read("many")
    assert (record.done, record.counters) == (19, {"transfers": 19, "refused": 0, "replayed": 0})


async def test_order_counts_within_a_chunk(teller: Runner, database: Database) -> None:
    """Money that one row brings, the next may take; the same the other way round is refused."""
    await execute(database, "UPDATE account SET balance = 0 WHERE id = 'b'")
    brought_first = batch(row("1", "a", "b", 50), row("2", "b", "c", 50))
    assert counts(await teller.run(brought_first)) == (2, 0, 0, "100.00")
    taken_first = batch(row("3", "b", "c", 50), row("4", "a", "b", 50), run_id="other")
    assert counts(await teller.run(taken_first)) == (1, 1, 0, "50.00")
    assert await balances(database) == {"a": 0, "b": 50, "c": 150, "d": 100}


async def test_refusals_are_recorded_and_the_rest_goes_on(teller: Runner, database: Database) -> None:
    """Refused rows have their reason in the books, and not in the quarantine: there is nothing to try again."""
    rows = [row("1", "a", "b", 500), row("2", "a", "a", 1), row("3", "a", "zoe", 1), row("4", "a", "b", 1)]
    assert counts(await teller.run(batch(*rows))) == (1, 3, 0, "1.00")
    assert await rows_of(database, "SELECT idempotency_key, code FROM heavylift_refusals ORDER BY 1") == [
        ("1", "insufficient_funds"),
        ("2", "same_account"),
        ("3", "unknown_account"),
    ]
    assert await aside(database) == []


async def test_a_batch_sent_again_moves_nothing(teller: Runner, database: Database) -> None:
    """Each row of the same batch is a replay, those that were refused the first time too; a longer batch goes on."""
    rows = [row(f"t{n}", "a", "b", 30) for n in range(5)]
    assert counts(await teller.run(batch(*rows))) == (3, 2, 0, "90.00")
    longer = batch(*rows, row("new", "b", "c", 1), run_id="again")
    assert counts(await teller.run(longer)) == (1, 0, 5, "1.00")
    assert await balances(database) == {"a": 10, "b": 189, "c": 101, "d": 100}


async def test_a_key_twice_in_one_source(teller: Runner, database: Database) -> None:
    """The second row of a key is a replay if it asks for the same, and put aside if it does not; in any chunk."""
    first = row("k", "a", "b", 1)
    rows = [first, first, {**first, "amount": 2}, row("x", "a", "b", 1), row("y", "a", "b", 1), first]
    assert counts(await teller.run(batch(*rows))) == (3, 1, 2, "3.00")
    (refused,) = await aside(database)
    assert refused.position == 3
    assert "earlier in this source" in refused.reason
    assert refused.payload == rows[2]


async def test_rows_that_are_no_transfers_are_put_aside(teller: Runner, database: Database) -> None:
    """Each with its place, its reason and what it held; the others are carried out, and all are counted."""
    rows: list[Row] = [
        row("1", "a", "b", 1),
        row("2", "a", "b", 1.5),
        row("3", "a", "b", "NaN"),
        row("4", "a", "b", "1.005"),
        row("5", "a", "b", -1),
        row("6", "a", "b", "one"),
        row("7", None, "b", 1),
        row("", "a", "b", 1),
        {"idempotency_key": "9", "from_account": "a", "amount": 1},
        *(row(f"ok{n}", "a", "b", 1) for n in range(8)),
    ]
    assert counts(await teller.run(batch(*rows))) == (9, 8, 0, "9.00")
    refused = await aside(database)
    assert [found.position for found in refused] == [2, 3, 4, 5, 6, 7, 8, 9]
    named = ["amount"] * 5 + ["from_account", "idempotency_key", "to_account"]
    assert all(found.reason.startswith(f"{name}: ") for name, found in zip(named, refused, strict=True))
    assert refused[0].payload == rows[1]


async def test_a_batch_from_a_file(teller: Runner, database: Database, tmp_path: Path) -> None:
    """A CSV's cells are text: amounts are exact, an empty reason is none, and an empty account is missing."""
    path = tmp_path / "transfers.csv"
    path.write_text(
        "idempotency_key,from_account,to_account,amount,reason\n"
        "1,a,b,10.10,rent\n2,a,b,0.20,\n3,a,,1,\n4,b,a,1e1,x\n5,b,c,110.30,all of it\n"
    )
    asked = Delivery("many", "transfer_funds", {"table": "account", "source": {"uri": path.as_uri()}}, {}, "q", 1)
    assert counts(await teller.run(asked)) == (3, 2, 0, "120.60")
    assert (await balances(database))["b"] == 0
    assert [found.position for found in await aside(database)] == [4, 5]


async def test_a_batch_from_a_table(teller: Runner, database: Database, backend: Backend) -> None:
    """A staging table's numerics are exact, whatever their scale; what does not fit is put aside and tried again."""
    staged = [
        ("1", "a", "b", "10.5000", "rent"),
        ("2", "b", "a", "0.0050", ""),
        ("3", "a", "b", "1.0000", None),
        # elsewhere every number is one
        ("4", "a", "b", "NaN" if backend == "postgresql" else "-1", ""),
        ("5", "b", "c", "111.5000", "all of it"),
    ]
    rows = [dict(zip(TRANSFER_FIELDS, found, strict=True)) for found in staged]
    await put(database, PAYMENT, [{**found, "amount": Decimal(str(found["amount"]))} for found in rows])
    asked = Delivery("many", "transfer_funds", {"table": "account", "source": {"table": "payment"}}, {}, "q", 1)
    assert counts(await teller.run(asked)) == (3, 2, 0, "123.00")
    assert (await balances(database))["b"] == 0
    assert [found.position for found in await aside(database)] == [2, 4]
    assert counts(await teller.run(replay("many"))) == (0, 2, 0, "0.00")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"idempotency_key": "1", "from": "a", "to": "b", "amount": 1}], "lacks from_account, to_account and carries"),
        ([{**row("1", "a", "b", 1), "currency": "EUR"}], "carries currency"),
    ],
)
async def test_a_source_of_something_else(teller: Runner, rows: list[Row], said: str) -> None:
    """A source that does not carry what a transfer says of itself is refused whole, with an example."""
    refusal = message(await teller.run(batch(*rows)))
    assert said in refusal
    assert '"idempotency_key": "order-17"' in refusal


async def test_no_transfers_at_all(teller: Runner) -> None:
    """An empty source is no work."""
    assert counts(await teller.run(batch())) == (0, 0, 0, "0.00")


async def test_rows_that_the_database_refuses_stand_alone(teller: Runner, database: Database, backend: Backend) -> None:
    """A row that a constraint of the table refuses is found, put aside with the constraint, and costs no other one."""
    await execute(database, "UPDATE account SET balance = 999999 WHERE id = 'd'")
    rows = [row(f"t{n}", "a", "d" if n == 6 else "b", 5) for n in range(10)]
    assert counts(await teller.run(batch(*rows))) == (9, 1, 0, "45.00")
    (refused,) = await aside(database)
    assert refused.position == 7
    assert (refused.sqlstate, refused.constraint) == refused_by(backend, "check", "account_limit")
    assert refused.payload == rows[6]
    assert await broken(database) == {}
    await rebuild(database, ACCOUNT, without={"account_limit"})
    assert counts(await teller.run(replay("many"))) == (1, 0, 0, "5.00")


@pytest.mark.only_on("postgresql", why="no other database has triggers that wait for the COMMIT")
async def test_constraints_that_are_checked_late_refuse_single_rows_too(teller: Runner, database: Database) -> None:
    """A deferred constraint of the table is checked while the row that it refuses can still be told from the others."""
    await execute(
        database,
        "CREATE FUNCTION no_odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.balance = 95 THEN RAISE EXCEPTION 'odd' USING ERRCODE = '23514'; END IF; RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER no_odd AFTER UPDATE ON account DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "EXECUTE FUNCTION no_odd()",
    )
    rows = [row("1", "a", "b", 5), row("2", "c", "d", 10)]
    assert counts(await teller.run(batch(*rows))) == (1, 1, 0, "10.00")
    assert [found.reason for found in await aside(database)] == ["odd"]


async def test_accounts_changed_from_outside_are_left_alone(teller: Runner, database: Database) -> None:
    """Rows that need such an account are put aside and can be tried again; the others go on, replays too."""
    await teller.run(batch(row("0", "a", "b", 1)))
    await execute(database, "UPDATE account SET balance = balance + 1 WHERE id = 'a'")
    rows = [
        row("0", "a", "b", 1),
        row("1", "a", "b", 1),
        row("1", "a", "b", 1),
        row("4", "b", "c", 1),
        row("2", "b", "c", 1),
        row("3", "c", "a", 1),
    ]
    assert counts(await teller.run(batch(*rows, run_id="other"))) == (2, 3, 1, "2.00")
    refused = await aside(database, "other")
    assert [found.position for found in refused] == [2, 3, 6]
    assert all("heavylift verify transfers" in found.reason for found in refused)
    await execute(database, "UPDATE account SET balance = balance - 1 WHERE id = 'a'")
    assert counts(await teller.run(replay("other"))) == (2, 0, 1, "2.00")
    assert await broken(database) == {}


@pytest.mark.parametrize(
    "balance",
    [
        "NULL",
        pytest.param("'NaN'", marks=pytest.mark.only_on("postgresql", why="only its numbers can be NaN")),
    ],
)
async def test_an_account_without_a_number(teller: Runner, database: Database, balance: str) -> None:
    """NULL and NaN are no amounts of money, and are not taken for nothing."""
    await rebuild(database, ACCOUNT, Column("balance", Numeric(12, 2), nullable=True), without={"account_limit"})
    await execute(database, f"UPDATE account SET balance = {balance} WHERE id = 'a'")
    assert counts(await teller.run(batch(row("1", "a", "b", 1), row("2", "b", "c", 1)))) == (1, 1, 0, "1.00")
    (refused,) = await aside(database)
    assert "no amount of money" in refused.reason


async def test_a_source_that_does_not_fit_is_stopped(teller: Runner, database: Database) -> None:
    """Once more than half of fifty rows are no transfers, the run fails; what it did before stays."""
    rows = [row(f"t{n}", "a", "b", "1" if n < 20 else "many") for n in range(100)]
    outcome = await teller.run(batch(*rows))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "TooManyRefusedError"
    record = await teller.ledger.read("many")
    assert record.counters["transfers"] == 20
    assert (await balances(database))["a"] == 80


async def test_refusals_for_want_of_money_stop_nothing(teller: Runner) -> None:
    """Refusals are results, however many: the run goes on to its end."""
    rows = [row(f"t{n}", "a", "b", "1000") for n in range(100)]
    assert counts(await teller.run(batch(*rows))) == (0, 100, 0, "0.00")


async def test_an_interrupted_batch_goes_on_at_its_cursor(
    teller: Runner, make_runner: MakeRunner, database: Database
) -> None:
    """Stopped after its first chunk, a run goes on with the next row, and its counts and total are of both parts."""
    rows = [row(f"t{n}", "a", "b", 1 if n else "bad") for n in range(10)]
    stopping = replace(teller, emit=lambda event: teller.stop.set() if "Chunk" in type(event).__name__ else None)
    assert isinstance(await stopping.run(batch(*rows)), Interrupted)
    assert (await balances(database))["a"] == 97
    other = banker(make_runner("two"))
    assert counts(await other.run(batch(*rows))) == (9, 1, 0, "9.00")
    record = await other.ledger.read("many")
    assert (record.done, record.interruptions) == (10, 1)


@pytest.mark.usefixtures("teller")
async def test_two_batches_with_the_same_keys_at_once(make_runner: MakeRunner, database: Database) -> None:
    """Two runs of the same rows, one in reverse order: one carries each key out, and the other has a replay."""
    rows = [row(f"t{n:02}", ACCOUNTS[n % 4], ACCOUNTS[(n + 1) % 4], 1) for n in range(24)]
    troubles: list[StartedOver] = []
    runners = [
        replace(
            banker(make_runner(name)),
            emit=lambda event: troubles.append(event) if isinstance(event, StartedOver) else None,
        )
        for name in ("one", "two")
    ]
    outcomes = await asyncio.gather(
        runners[0].run(batch(*rows, run_id="forth")), runners[1].run(batch(*reversed(rows), run_id="back"))
    )
    totals = [sum(int(str(counts(outcome)[place])) for outcome in outcomes) for place in range(3)]
    assert totals == [24, 0, 24]
    # no deadlock
    assert {"40P01", "1213"}.isdisjoint({trouble.sqlstate for trouble in troubles})
    assert await balances(database) == dict.fromkeys(ACCOUNTS, 100)
    assert await broken(database) == {}


async def test_a_single_transfer_and_a_batch_share_keys(teller: Runner) -> None:
    """A key is a key, however it was sent."""
    await teller.run(single(row("k", "a", "b", 1)))
    assert counts(await teller.run(batch(row("k", "a", "b", "1.0")))) == (0, 0, 1, "0.00")


asked = st.fixed_dictionaries(
    {
        "idempotency_key": st.sampled_from([f"k{n}" for n in range(12)]),
        "from_account": st.sampled_from([*ACCOUNTS, "zoe"]),
        "to_account": st.sampled_from(ACCOUNTS),
        "amount": st.sampled_from(["1", "1.00", "60.5", "99.99", "0.01", "0.001", "x"]) | st.integers(-1, 50),
        "reason": st.sampled_from(["", "x"]),
    }
)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(asked, min_size=1, max_size=25), chunk=st.integers(1, 9))
async def test_any_rows_against_a_model(
    make_runner: MakeRunner, database: Database, rows: list[Row], chunk: int
) -> None:
    """Whatever rows come, in chunks of any size, balances, counts and total are those of a plain dictionary."""
    # books cannot be emptied: each example has accounts and keys of its own
    tag = uuid4().hex
    await open_bank(database, {f"{name}{tag}": 100 for name in ACCOUNTS})
    named = [
        {name: f"{value}{tag}" if "account" in name or "key" in name else value for name, value in given_row.items()}
        for given_row in rows
    ]
    runner = banker(make_runner())
    sized = {"chunk_start_rows": chunk, "chunk_min_rows": chunk, "chunk_max_rows": chunk}
    runner = replace(runner, settings=runner.settings.model_copy(update=sized))
    outcome = await runner.run(batch(*named, run_id=tag))
    await runner.ledger.database.dispose()
    model, expected = model_of(rows)
    assert counts(outcome) == expected
    assert {name: balance for name, balance in (await balances(database)).items() if name.endswith(tag)} == {
        f"{name}{tag}": balance for name, balance in model.items()
    }
    assert await broken(database) == {}


def model_of(rows: list[Row]) -> tuple[dict[str, Decimal], tuple[int, int, int, str]]:
    """What the accounts should hold, and what should be counted."""
    model = dict.fromkeys(ACCOUNTS, Decimal(100))
    known: dict[object, tuple[object, ...]] = {}
    transfers, refused, replayed, total = 0, 0, 0, Decimal("0.00")
    for given_row in rows:
        key, source, target, written, reason = (str(given_row[name]) for name in TRANSFER_FIELDS)
        if written in {"x", "0.001", "0", "-1"}:
            refused += 1
            continue
        request = (source, target, Decimal(written), reason)
        if key in known:
            replayed += known[key] == request
            refused += known[key] != request
            continue
        known[key] = request
        if source != target and source in model and model[source] >= Decimal(written):
            model[source] -= Decimal(written)
            model[target] += Decimal(written)
            transfers, total = transfers + 1, total + Decimal(written)
        else:
            refused += 1
    return model, (transfers, refused, replayed, str(total))
