"""arq's own log lines, as far as they say more than our events do.

Owns the choice. arq's lines on a job's start and end carry its parameters, which are never logged here.
"""

import logging


def quieten() -> None:
    """Leave only warnings of arq's, and none on a single job's end: our events tell of that."""
    logger = logging.getLogger("arq.worker")
    logger.setLevel(logging.WARNING)
    # a filter that is there already is not added again
    logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("%6.2fs")
