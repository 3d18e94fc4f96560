"""Which databases the tests run on that must pass on each, and which of these one test is for.

Owns the variable HEAVYLIFT_DATABASES and the marker `only_on`. Refuses to start anything.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import pytest

Backend = Literal["postgresql", "sqlite", "mariadb"]

BACKENDS: Final[Mapping[str, Backend]] = {
    "18": "postgresql",
    "older": "postgresql",
    "sqlite": "sqlite",
    "mariadb": "mariadb",
}
"""What HEAVYLIFT_DATABASES may name: the newest PostgreSQL, the oldest there is, SQLite and MariaDB."""


def chosen(written: str) -> tuple[str, ...]:
    """The databases of a comma list.

    Raises:
        UsageError: it names one that there is not, or none.
    """
    names = tuple(dict.fromkeys(name.strip() for name in written.split(",") if name.strip()))
    unknown = [name for name in names if name not in BACKENDS]
    if unknown or not names:
        raise pytest.UsageError(
            f"HEAVYLIFT_DATABASES is {written!r}; it takes {', '.join(BACKENDS)}, separated by commas. "
            "For example HEAVYLIFT_DATABASES=18,sqlite"
        )
    return names


CHOSEN: Final = chosen(os.environ.get("HEAVYLIFT_DATABASES", "18,sqlite,mariadb"))

POSTGRES_VERSIONS: Final = tuple(name for name in CHOSEN if BACKENDS[name] == "postgresql") or ("18",)
"""The servers that tests of PostgreSQL's own package run on: those chosen, or the newest where none is."""


def databases_of(markers: Iterable[pytest.Mark], names: Iterable[str] = CHOSEN) -> list[str]:
    """The databases that a test with these marks `only_on` runs on; all that are chosen where it has none.

    Raises:
        UsageError: a mark names no database, or one that there is not, or does not say why.
    """
    kept = list(names)
    for marker in markers:
        wrong = [backend for backend in marker.args if backend not in BACKENDS.values()]
        if wrong or not marker.args or not str(marker.kwargs.get("why", "")).strip():
            raise pytest.UsageError(
                f"only_on{marker.args!r} is not of the form only_on('sqlite', 'mariadb', why='what the other lacks')"
            )
        kept = [name for name in kept if BACKENDS[name] in marker.args]
    return kept


def one_of_each(names: Iterable[str]) -> list[str]:
    """Of several versions of one database the first."""
    firsts: dict[Backend, str] = {}
    for name in names:
        firsts.setdefault(BACKENDS[name], name)
    return list(firsts.values())
