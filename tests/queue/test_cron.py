"""When arq's cron jobs come due on our queue worker, where clocks are changed."""

from datetime import UTC, datetime

from arq.connections import ArqRedis

from tests.support.cron_ticks import ticks


async def test_a_cron_in_the_hour_that_autumn_repeats(client: ArqRedis, redis_url: str) -> None:
    """A time that exists twice on a day is run once, the first time: in New York's summer time."""
    assert await ticks(client, redis_url, datetime(2031, 11, 1, 4, tzinfo=UTC), hour=1, minute=30) == [
        datetime(2031, 11, 1, 5, 30, tzinfo=UTC),
        datetime(2031, 11, 2, 5, 30, tzinfo=UTC),
        datetime(2031, 11, 3, 6, 30, tzinfo=UTC),
    ]


async def test_a_cron_beside_the_change(client: ArqRedis, redis_url: str) -> None:
    """A time that exists once on each day is run at that time, before and after the change."""
    assert await ticks(client, redis_url, datetime(2031, 3, 8, 5, tzinfo=UTC), hour=3, minute=0) == [
        datetime(2031, 3, 8, 8, 0, tzinfo=UTC),
        datetime(2031, 3, 9, 7, 0, tzinfo=UTC),
        datetime(2031, 3, 10, 7, 0, tzinfo=UTC),
    ]
