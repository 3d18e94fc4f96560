"""The bounds of a source, from the settings of the same names."""

from worker.core.settings import Settings
from worker.source.spec import SourceLimits


def source_limits(settings: Settings) -> SourceLimits:
    """What a source may reach and how large it may be, on the worker with these settings."""
    return SourceLimits(
        data_dirs=settings.data_dirs,
        max_inline_bytes=settings.max_inline_bytes,
        max_row_bytes=settings.max_row_bytes,
        max_decompressed_bytes=settings.max_decompressed_bytes,
    )
