"""`cleanup`: let the ledger forget what is older than its periods.

Refused rows go after WORKER_KEEP_QUARANTINE_DAYS, finished runs after WORKER_KEEP_RUNS_DAYS, once none of their refused
rows is left. A run that Redis still knows stays, and so do audit trails: transfers and moves are never pruned. Safe to
run at any time, any number of times, by several workers at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker import JobContext, LedgerPage, job


@dataclass(frozen=True, slots=True)
class Policy:
    """What is forgotten, and when.

    Attributes:
        name: what the result counts it by.
        keep_days: how old it may become, in days.
        find: finds a page of what is older.
    """

    name: str
    keep_days: float
    find: Callable[[datetime, Mapping[str, object], int], Awaitable[LedgerPage]]


@job
async def cleanup(ctx: JobContext) -> dict[str, int]:
    """Prune refused rows and finished runs after their periods.

    Args:
        ctx: the run.

    Returns:
        Rows deleted, by policy.
    """
    policies = _policies(ctx)
    ctx.progress.count(**dict.fromkeys((policy.name for policy in policies), 0))
    reached, after = _place(ctx)
    for policy in policies[reached:]:
        await _apply(ctx, policy, policies.index(policy), after)
        after = {}
    return ctx.progress.counters


def _policies(ctx: JobContext) -> list[Policy]:
    upkeep, settings = ctx.tools.upkeep, ctx.settings
    # refused rows first: they hold back the runs that they belong to
    return [
        Policy("quarantine", settings.keep_quarantine_days, upkeep.old_refused_rows),
        Policy("runs", settings.keep_runs_days, upkeep.old_runs),
    ]


def _place(ctx: JobContext) -> tuple[int, Mapping[str, object]]:
    match ctx.progress.cursor:
        case {"policy": int(at), "after": dict(after)}:
            return at, after
        case _:
            return 0, {}


async def _apply(ctx: JobContext, policy: Policy, at: int, after: Mapping[str, object]) -> None:
    before = ctx.started_at - timedelta(days=policy.keep_days)
    while (page := await policy.find(before, after, ctx.progress.chunk_rows)).seen:
        after = page.after
        await ctx.commit_chunk(_forgetting(ctx, policy, page), cursor={"policy": at, "after": after}, rows=page.seen)


def _forgetting(ctx: JobContext, policy: Policy, page: LedgerPage) -> Callable[[], Awaitable[None]]:
    async def forget() -> None:
        ctx.progress.count(**{policy.name: await page.forget()})

    return forget
