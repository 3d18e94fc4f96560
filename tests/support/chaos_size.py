"""How much is broken, and by which chance: the seed, and whether all of it is done or a part.

`make chaos` does all, with another seed each time; `make check` a part, with the same one. A test that fails can so be
repeated: with the seed and the size that are printed with its failure.
"""

import os
import random
from typing import TypeVar

SEED = os.environ.get("HEAVYLIFT_SEED", "20")
"""What all chance comes from."""

SIZE = os.environ.get("HEAVYLIFT_CHAOS", "part")
"""`all` or `part`."""

assert SIZE in {"all", "part"}, f"HEAVYLIFT_CHAOS={SIZE}: it is `all` or `part`, for example HEAVYLIFT_CHAOS=all"

Size = TypeVar("Size", int, float, str)


def chance(name: str) -> random.Random:
    """The chance of one test, by its name: the same with the same seed, whichever tests run beside it."""
    return random.Random(f"{SEED} {name}")


def sized(part: Size, whole: Size) -> Size:
    """How much: the one where a part is done, the other where all is."""
    return whole if SIZE == "all" else part
