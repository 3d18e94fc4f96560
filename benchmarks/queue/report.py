"""What was measured, as one table, and each goal beside what it got."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from sqlalchemy import text

from benchmarks.queue.backlog import Figures
from benchmarks.queue.pickup import Pickup, percentile
from benchmarks.queue.servers import Stores

Series = Mapping[str, Sequence[Figures]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that must not get worse.

    Attributes:
        what: in words.
        found: the figure.
        bound: what it is held to.
        at_least: whether the bound is the least that is allowed; the most otherwise.
        unit: of both.
    """

    what: str
    found: float
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def __str__(self) -> str:
        """One line."""
        word = "at least" if self.at_least else "at most"
        verdict = "holds " if self.holds else "MISSED"
        return f"{verdict}  {self.what}: {self.found:.3g}{self.unit}, {word} {self.bound:g}{self.unit}"


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, round by round: what a machine does to one round it does to both."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def rates(series: Sequence[Figures]) -> list[float]:
    """Jobs a second, round by round."""
    return [one.jobs_s for one in series]


def show_backlogs(title: str, series: Series, against: str) -> None:
    """One table of backlogs; `x` is against one of the rows."""
    print(
        f"\n{title:34} {'jobs/s':>8} {'min':>8} {'max':>8} {'x':>6} {'CPU us':>8} {'Redis us':>8} {'commands':>8}"
        f" {'round trips':>11}"
    )
    for way, found in series.items():
        speed = rates(found)
        print(
            f"{way:34} {median(speed):8,.0f} {min(speed):8,.0f} {max(speed):8,.0f} "
            f"{ratio(speed, rates(series[against])):6.2f} {median(one.cpu_us for one in found):8.0f} "
            f"{median(one.redis_us for one in found):8.0f} {median(one.commands for one in found):8.2f} "
            f"{median(one.round_trips for one in found):11.3f}"
        )


def show_pickups(found: Mapping[str, Pickup]) -> None:
    """One table of what an idle worker does."""
    print(f"\n{'picked up from idle':34} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'call p50':>8} {'idle CPU':>8}")
    for way, one in found.items():
        print(
            f"{way:34} {percentile(one.after_ms, 0.5):8.2f} {percentile(one.after_ms, 0.99):8.2f} "
            f"{one.after_ms[-1]:8.2f} {percentile(one.from_call_ms, 0.5):8.2f} {one.idle:8.2%}"
        )


def show_enqueues(found: Mapping[str, Sequence[float]], against: str) -> None:
    """One table of clients."""
    print(f"\n{'enqueued':34} {'jobs/s':>8} {'min':>8} {'max':>8} {'x':>6}")
    for way, speed in found.items():
        print(
            f"{way:34} {median(speed):8,.0f} {min(speed):8,.0f} {max(speed):8,.0f} {ratio(speed, found[against]):6.2f}"
        )


async def show_versions(stores: Stores) -> None:
    """What was measured with what."""
    redis = await stores.redis.info("server")
    async with stores.database.engine.connect() as connection:
        postgres = (await connection.execute(text("SHOW server_version"))).scalar_one()
    packages = ("arq", "redis", "hiredis", "sqlalchemy", "asyncpg", "uvloop")
    listed = ", ".join(f"{name} {version(name)}" for name in packages)
    print(
        f"Python {platform.python_version()}, {listed}, redis-server {redis['redis_version']}, "
        f"PostgreSQL {postgres}; {platform.machine()}, asyncio's own loop unless said"
    )
