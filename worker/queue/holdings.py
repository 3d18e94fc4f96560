"""Which runs Redis still knows: queued, claimed, or with a result that a client may yet ask for.

Owns the keys to look at. A run of these is never pruned from the ledger: its next delivery would find nothing there,
and do everything again.
"""

from collections.abc import Sequence

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, result_key_prefix
from redis.exceptions import RedisError

from worker.core.errors import UnreachableError

_KEYS = (job_key_prefix, in_progress_key_prefix, result_key_prefix)


async def held_runs(redis: ArqRedis, queue: str, run_ids: Sequence[str]) -> set[str]:
    """Those of some runs that Redis knows.

    Args:
        redis: any pool.
        queue: the queue's name.
        run_ids: their ids.

    Raises:
        UnreachableError: Redis did not answer, so nothing may be concluded; it is worth asking again.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for run_id in run_ids:
            pipe.exists(*(prefix + run_id for prefix in _KEYS))
            pipe.zscore(queue, run_id)
        try:
            found = await pipe.execute()
        except (RedisError, OSError) as error:
            raise UnreachableError(
                f"Redis did not say which runs it holds ({type(error).__name__}: {error}): runs are pruned once it does"
            ) from error
    return {run_id for at, run_id in enumerate(run_ids) if found[2 * at] or found[2 * at + 1] is not None}
