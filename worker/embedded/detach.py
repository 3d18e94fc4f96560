"""The small program that becomes a keeper, of its own: no child of whoever started it, and small in memory.

Owns the way from a started interpreter to `worker.embedded.keeper`. It is run by path with a bare interpreter
(`python -I -S`), so that nothing in the present directory or the environment can steer it.
"""

import importlib
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path


def command(arguments: Sequence[str]) -> list[str]:
    """The command that starts a keeper and returns at once.

    Args:
        arguments: those of `worker.embedded.keeper.main`.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *arguments]


def main(arguments: Sequence[str]) -> None:
    """Leave the parent, then be a keeper."""
    if os.fork():
        os._exit(0)
    # A stand-in keeps out what the public names of `worker` import (an ORM, a queue): a keeper needs neither their
    # half a second nor their memory.
    package = types.ModuleType("worker")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["worker"] = package
    importlib.import_module("worker.embedded.keeper").main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
