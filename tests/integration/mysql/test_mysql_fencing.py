"""Claims on MariaDB: what each finds, and many at once, which wait for each other and never in a circle."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial

import pytest
from sqlalchemy import text

from tests.support.mariadb_hand import hand_on
from worker.core.errors import StaleFenceError
from worker.core.outcomes import ErrorRecord, Failed, Interrupted, RetryAt, Status, Succeeded
from worker.core.settings import Settings
from worker.database.claims import UNREADABLE, Claimed, Delivery, NotClaimable, PutAside, Terms
from worker.database.engine import Database, open_database
from worker.database.ledger import Ledger
from worker.database.mysql.driver import WorkerConnection
from worker.database.session import carry_out

NASTY = "x\0\x01\"\\'`é😀\u2028 \t\n%s :a {}"


def delivery(
    run_id: str = "a", *, params: dict[str, object] | None = None, enqueued_ms: int = 1_700_000_000_123
) -> Delivery:
    """A run as the queue delivers it."""
    return Delivery(run_id, "job", params or {}, {}, "q", enqueued_ms)


async def claim_one(ledger: Ledger, run_id: str = "a") -> Claimed:
    """Claim one run, which is claimable."""
    (claimed,) = await ledger.claim([delivery(run_id)])
    assert isinstance(claimed, Claimed)
    return claimed


async def deadlocks(ledger: Ledger) -> int:
    """How many the server has met so far."""
    async with hand_on(ledger.database.engine.url.render_as_string(hide_password=False)) as hand:
        found = await hand.ask("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
    return int(found[0][1])


@pytest.fixture
async def ledgers(ledger: Ledger, settings: Settings) -> AsyncIterator[Sequence[Ledger]]:
    """Eight workers on one ledger, which is migrated."""
    del ledger
    async with AsyncExitStack() as stack:
        opened = []
        for number in range(8):
            database = open_database(settings.model_copy(update={"lock_timeout_ms": 5000}), f"worker {number}")
            stack.push_async_callback(database.dispose)
            opened.append(Ledger(database, settings, f"worker {number}"))
        yield opened


async def test_ids_are_told_apart_byte_by_byte(ledger: Ledger) -> None:
    """By case, accents and trailing spaces, though the database's own collation overlooks all of these."""
    ids = ["a", "A", "a ", "ä", "á", "\U0001f600", "b"]
    await ledger.enqueue([[delivery("a"), delivery("A")]], Terms())
    claims = await ledger.claim([delivery(run_id) for run_id in ids])
    assert [claim.fence.run_id for claim in claims if isinstance(claim, Claimed)] == sorted(ids, key=str.encode)


async def test_queues_and_jobs_are_told_apart_byte_by_byte(ledger: Ledger) -> None:
    """What the ledger compares beside ids is as exact."""
    async with ledger.database.engine.connect() as connection:
        await ledger.claim([delivery("a")])
        found = await connection.execute(text("SELECT COUNT(*) FROM heavylift_runs WHERE queue = 'Q' OR job = 'job '"))
        assert found.scalar_one() == 0


async def test_parameters_come_back_as_they_were_sent(ledger: Ledger) -> None:
    """Whatever characters they are made of, and in their order."""
    params: dict[str, object] = {"z": NASTY, "a": [1, 2.5, None, True, {NASTY: NASTY}], "long": "y" * 100_000}
    (claimed,) = await ledger.claim([delivery("a", params=params)])
    assert isinstance(claimed, Claimed)
    assert claimed.params == params
    assert list(claimed.params) == ["z", "a", "long"]
    assert list((await ledger.read("a")).params) == ["z", "a", "long"]


async def test_a_claim_after_a_crash_counts_it(ledger: Ledger) -> None:
    """A claim that finds the one before it open follows a crash; a committed chunk ends the streak."""
    first = await claim_one(ledger)
    second = await claim_one(ledger)
    assert (second.fence.number, second.crashes, second.crash_streak) == (2, 1, 1)
    advance = partial(ledger.database.dialect.advance, fence=second.fence, progress=second.progress)
    assert await carry_out(ledger.database, ledger._settings, advance) is not None
    third = await claim_one(ledger)
    assert (third.crashes, third.crash_streak, third.progress.chunk) == (2, 0, 1)
    assert third.started_at == first.started_at


async def test_what_a_claim_finds_after_each_ending(ledger: Ledger) -> None:
    """Failures in a row count, interruptions do not, and what is over is not claimed again."""
    error = ErrorRecord("ValueError", NASTY.replace("\0", ""), None, "a traceback")
    claimed = await claim_one(ledger)
    assert await ledger.end(claimed, RetryAt(claimed.claimed_at, error))
    claimed = await claim_one(ledger)
    assert (claimed.failures, claimed.attempts, claimed.crashes) == (1, 1, 0)
    assert await ledger.end(claimed, Interrupted())
    claimed = await claim_one(ledger)
    assert (claimed.failures, claimed.attempts) == (1, 1)
    assert await ledger.end(claimed, Failed(error))
    (found,) = await ledger.claim([delivery()])
    assert isinstance(found, NotClaimable)
    assert (found.status, found.error) == (Status.FAILED, error.as_json())
    (again,) = await ledger.claim([delivery(enqueued_ms=1_800_000_000_000)])
    assert isinstance(again, Claimed)
    assert (await ledger.read("a~1")).status is Status.FAILED
    record = await ledger.read("a~1")
    assert (record.interruptions, record.attempts, record.fence) == (1, 2, 3)


async def test_an_older_fence_may_do_nothing(ledger: Ledger) -> None:
    """Neither move the run on, nor tell of it, nor end it, nor claim it again."""
    old = await claim_one(ledger)
    new = await claim_one(ledger)
    dialect = ledger.database.dialect
    for work in (
        partial(dialect.advance, fence=old.fence, progress=old.progress),
        partial(dialect.tell, fence=old.fence, status=Status.WAITING, waiting_for="?"),
        partial(dialect.reclaim, held=old.fence),
    ):
        assert await carry_out(ledger.database, ledger._settings, work) is None
    assert not await ledger.end(old, Succeeded(None))
    with pytest.raises(StaleFenceError):
        await ledger.settle(old)
    assert await ledger.end(new, Succeeded({"n": 1}))
    assert not await ledger.end(new, Succeeded({"n": 1}))
    assert (await ledger.read("a")).result == {"n": 1}


@pytest.mark.parametrize("wanted", ["pause", "cancel", None])
async def test_a_chunk_hears_what_is_wanted_in_its_one_statement(
    ledger: Ledger, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving a run on is one packet, and tells what somebody wants of the run."""
    claimed = await claim_one(ledger)
    if wanted is not None:
        await ledger.ask_for("a", wanted)
    sent: list[object] = []
    plain = WorkerConnection._execute_command

    async def noted(self: WorkerConnection, command: int, sql: object) -> None:
        sent.append(sql)
        await plain(self, command, sql)

    advance = partial(ledger.database.dialect.advance, fence=claimed.fence, progress=claimed.progress)
    monkeypatch.setattr(WorkerConnection, "_execute_command", noted)
    held = await carry_out(ledger.database, ledger._settings, advance)
    assert held is not None
    assert held.wanted == wanted
    assert len(sent) == 2  # and COMMIT


async def test_a_hold_is_told_and_ends(ledger: Ledger) -> None:
    """What is said of a held run goes with the next claim of it."""
    claimed = await claim_one(ledger)
    await ledger.ask_for("a", "pause")
    assert await ledger.tell(claimed.fence, Status.WAITING, "the database is busy") == "pause"
    assert (await ledger.read("a")).waiting_for == "the database is busy"
    settled = await ledger.settle(claimed)
    assert isinstance(settled, Claimed)
    record = await ledger.read("a")
    assert (record.status, record.waiting_for, record.fence) == (Status.RUNNING, None, 2)


async def test_a_doubtful_end_is_found(ledger: Ledger) -> None:
    """A COMMIT whose reply was lost, and that ended the run, is settled as what it ended as."""
    claimed = await claim_one(ledger)
    assert await ledger.end(claimed, Succeeded({"n": 1}))
    settled = await ledger.settle(claimed)
    assert isinstance(settled, NotClaimable)
    assert settled.result == {"n": 1}


async def test_a_settling_claim_waits_for_the_doubtful_transaction(ledger: Ledger, database: Database) -> None:
    """It goes behind the lock, and so never before what it is to find out."""
    claimed = await claim_one(ledger)
    async with database.engine.connect() as doubtful:
        assert await doubtful.run_sync(database.dialect.advance, claimed.fence, claimed.progress) is not None
        settling = asyncio.create_task(ledger.settle(claimed))
        async with hand_on(database.engine.url.render_as_string(hide_password=False)) as hand:
            await hand.until_lock_is_awaited()
        assert not settling.done()
        await doubtful.commit()
    settled = await settling
    assert isinstance(settled, Claimed)
    assert settled.progress.chunk == 1


async def test_many_claim_the_same_new_runs_at_once(ledgers: Sequence[Ledger]) -> None:
    """Each has its turn: fences have no gap, the last claim alone holds, and nobody dead-locks."""
    before = await deadlocks(ledgers[0])
    rand = random.Random(5)
    for turn in range(15):
        ids = [f"{turn}-{number}" for number in range(12)]
        asked = [rand.sample(ids, rand.randint(4, 12)) for _ in ledgers]
        if turn % 2:
            # a client wrote some of them down before
            await ledgers[0].enqueue([[delivery(run_id) for run_id in ids[::2]]], Terms())
        claims = await asyncio.gather(
            *(ledger.claim([delivery(run_id) for run_id in own]) for ledger, own in zip(ledgers, asked, strict=True))
        )
        fences: dict[str, list[int]] = {}
        for found in claims:
            for claim in found:
                assert isinstance(claim, Claimed)
                fences.setdefault(claim.fence.run_id, []).append(claim.fence.number)
        for run_id, numbers in fences.items():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
            assert (await ledgers[0].read(run_id)).crashes == len(numbers) - 1
    assert await deadlocks(ledgers[0]) == before


async def test_claims_chunks_and_endings_at_once(ledgers: Sequence[Ledger]) -> None:
    """Workers that claim, move on and end the same few runs, in batches, never dead-lock, and no chunk is lost."""
    before = await deadlocks(ledgers[0])
    ids = [f"run {number}" for number in range(6)]
    moved = dict.fromkeys(ids, 0)

    async def work(ledger: Ledger, rand: random.Random) -> None:
        for _ in range(12):
            claims = await ledger.claim([delivery(run_id) for run_id in rand.sample(ids, rand.randint(1, 6))])
            for claim in claims:
                assert isinstance(claim, Claimed)
                await _move_on(ledger, claim, rand, moved)

    await asyncio.gather(*(work(ledger, random.Random(number)) for number, ledger in enumerate(ledgers)))
    assert await deadlocks(ledgers[0]) == before
    async with ledgers[0].database.engine.connect() as connection:
        found = await connection.execute(text("SELECT run_id, chunk FROM heavylift_progress"))
        assert {row.run_id: row.chunk for row in found} == moved


async def _move_on(ledger: Ledger, claim: Claimed, rand: random.Random, moved: dict[str, int]) -> None:
    advance = partial(ledger.database.dialect.advance, fence=claim.fence, progress=claim.progress)
    if rand.random() < 0.7 and await carry_out(ledger.database, ledger._settings, advance) is not None:
        moved[claim.fence.run_id] += 1
    if rand.random() < 0.5:
        tell = partial(ledger.database.dialect.tell, fence=claim.fence, status=Status.WAITING, waiting_for="a hold")
        await carry_out(ledger.database, ledger._settings, tell)
    if rand.random() < 0.5:
        await ledger.end(claim, Interrupted())


async def test_many_enqueue_the_same_runs_at_once(ledgers: Sequence[Ledger]) -> None:
    """Each is made once, and each client finds all of them."""
    before = await deadlocks(ledgers[0])
    rand = random.Random(6)
    for turn in range(10):
        ids = [f"{turn}-{number}" for number in range(40)]
        asked = [rand.sample(ids, 25) for _ in ledgers]
        found = await asyncio.gather(
            *(
                ledger.enqueue([[delivery(run_id) for run_id in own]], Terms())
                for ledger, own in zip(ledgers, asked, strict=True)
            )
        )
        assert [set(records) for records in found] == [set(own) for own in asked]
    assert await deadlocks(ledgers[0]) == before


async def test_a_batch_may_name_a_run_twice(ledger: Ledger) -> None:
    """It is made once."""
    found = await ledger.enqueue([[delivery("a"), delivery("b"), delivery("a")]], Terms())
    assert found.keys() == {"a", "b"}


async def test_what_cannot_begin_is_shown_as_waiting(ledger: Ledger, database: Database) -> None:
    """New or known, but for what is paused or over, and for a word that comes too late."""
    later = (await claim_one(ledger, "over")).claimed_at.replace(year=2100)
    await ledger.end(await claim_one(ledger, "over"), Succeeded(None))
    await ledger.enqueue([[delivery("known", params={"of": "a client"})]], Terms(enqueued_by="somebody"))
    asides = [
        PutAside(Delivery(run_id, UNREADABLE, {}, {}, "q", 5), "unreadable") for run_id in ("over", "new", "known")
    ]
    put = partial(database.dialect.put_aside, asides=asides, due_at=later)
    assert await carry_out(database, ledger._settings, put) == {"new", "known"}
    record = await ledger.read("known")
    assert (record.status, record.job, record.params) == (Status.WAITING, "job", {"of": "a client"})
    assert record.waiting_for == f"unreadable; tried again at {later.isoformat(timespec='seconds')}"
    # a readable delivery says what the unreadable one was
    put = partial(database.dialect.put_aside, asides=[PutAside(delivery("new"), "unknown job")], due_at=later)
    assert await carry_out(database, ledger._settings, put) == {"new"}
    assert (await ledger.read("new")).job == "job"
    put = partial(database.dialect.put_aside, asides=asides, due_at=later.replace(year=2001))
    assert await carry_out(database, ledger._settings, put) == set()
