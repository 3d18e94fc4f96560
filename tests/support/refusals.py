"""Every way in which each database refuses a row of the table of items that validation has let through.

Owns how each is provoked, and what is kept of it. A way that only some databases have is marked so.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import CheckConstraint, Column, Computed, ForeignKeyConstraint, SmallInteger, String, UniqueConstraint
from sqlalchemy.dialects.mysql import VARCHAR
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.types import JSON, TypeEngine, UserDefinedType

from tests.support.chosen import Backend
from tests.support.items import ITEM, Row, execute, put
from tests.support.rebuild import rebuild
from tests.support.refusal_codes import CHECK, FOREIGN_KEY, TRIGGER, UNIQUE
from tests.support.triggers import refuse
from worker.database.engine import Database

Prepare = Callable[[Database, Backend], Awaitable[None]]

_LATE: Final[Mapping[str, Any]] = {"deferrable": True, "initially": "DEFERRED"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way to be refused.

    Attributes:
        prepare: makes the table so that it refuses.
        bad: what a row has that is refused.
        code: what each database says.
        said: what the reason must name, by which a person finds what refused.
        constraint: the constraint's name as PostgreSQL alone tells it, apart from its words.
    """

    prepare: Prepare
    bad: Row
    code: Mapping[Backend, str]
    said: Mapping[Backend, str]
    constraint: str | None = None

    def constraint_on(self, backend: Backend) -> str | None:
        """The constraint that is kept with the row."""
        return self.constraint if backend == "postgresql" else None


class Inet6(UserDefinedType[str]):
    """MariaDB's type of addresses."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Its name."""
        return "inet6"


async def _taken_place(database: Database, _: Backend) -> None:
    await put(database, [{"sku": "Z", "shelf": 1, "slot": 2}])


async def _check(database: Database, _: Backend) -> None:
    await rebuild(database, ITEM, CheckConstraint("quantity < 9", name="few"))


def _reference(**late: Any) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["note"], ["item.sku"], name="kin", **late)


async def _foreign_key(database: Database, _: Backend) -> None:
    await rebuild(database, ITEM, _reference(), types={"note": String(40)})


async def _late_foreign_key(database: Database, _: Backend) -> None:
    await rebuild(database, ITEM, _reference(**_LATE), types={"note": String(40)})


async def _late_unique(database: Database, _: Backend) -> None:
    await rebuild(database, ITEM, UniqueConstraint("note", name="alone", **_LATE))
    await put(database, [{"sku": "Z", "note": "z"}])


async def _trigger(database: Database, backend: Backend) -> None:
    await execute(database, *refuse(backend, "NEW.quantity = 9"))


async def _trigger_that_empties(database: Database, backend: Backend) -> None:
    if backend == "mariadb":
        # by way of a function of the statement: a constant is refused when the trigger is made
        await execute(
            database,
            "CREATE TRIGGER empty_name BEFORE INSERT ON item FOR EACH ROW SET NEW.name = nullif(NEW.name, 'b')",
        )
        return
    await execute(
        database,
        "CREATE FUNCTION empty_name() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.name := nullif(NEW.name, 'b'); RETURN NEW; END $$",
        "CREATE TRIGGER empty_name BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION empty_name()",
    )


async def _late_trigger(database: Database, _: Backend) -> None:
    await execute(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.quantity = 9 THEN RAISE 'too many'; END IF; RETURN NEW; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


async def _computed(database: Database, _: Backend) -> None:
    await rebuild(database, ITEM, Column("far", SmallInteger, Computed("quantity * 9", persisted=True)))


async def _characters(database: Database, backend: Backend) -> None:
    if backend == "mariadb":
        await rebuild(database, ITEM, types={"name": VARCHAR(40, charset="latin1")})
        return
    await rebuild(database, ITEM, CheckConstraint("convert_to(name, 'LATIN1') IS NOT NULL"))


async def _address(database: Database, backend: Backend) -> None:
    await rebuild(database, ITEM, types={"note": Inet6() if backend == "mariadb" else INET()})


async def _document(database: Database, backend: Backend) -> None:
    if backend == "sqlite":
        await rebuild(database, ITEM, CheckConstraint("note IS NULL OR json_valid(note)", name="document"))
        return
    types: Mapping[str, TypeEngine[Any]] = {"postgresql": JSONB(none_as_null=True), "mariadb": JSON(none_as_null=True)}
    await rebuild(database, ITEM, types={"note": types[backend]})


def _only(*backends: Backend, why: str) -> pytest.MarkDecorator:
    return pytest.mark.only_on(*backends, why=why)


_NO_OVERFLOW = _only("postgresql", "mariadb", why="SQLite's columns take numbers and texts of any kind and size")
_AT_COMMIT = _only("postgresql", why="no other database has one that is checked at COMMIT")
_KIN: Final[Mapping[Backend, str]] = {"postgresql": "kin", "sqlite": "FOREIGN KEY", "mariadb": "kin"}
_PLACE: Final[Mapping[Backend, str]] = {
    "postgresql": "item_place_key",
    "sqlite": "item.shelf, item.slot",
    "mariadb": "item_place_key",
}

REFUSALS: Final = (
    pytest.param(
        Refusal(_taken_place, {"shelf": 1, "slot": 2}, UNIQUE, _PLACE, "item_place_key"),
        id="unique",
    ),
    pytest.param(Refusal(_check, {"quantity": 9}, CHECK, dict.fromkeys(CHECK, "few"), "few"), id="check"),
    pytest.param(Refusal(_foreign_key, {"note": "?"}, FOREIGN_KEY, _KIN, "kin"), id="foreign key"),
    pytest.param(Refusal(_trigger, {"quantity": 9}, TRIGGER, dict.fromkeys(TRIGGER, "too many")), id="trigger"),
    pytest.param(
        Refusal(
            _trigger_that_empties,
            {},
            {"postgresql": "23502", "mariadb": "1048"},
            {"postgresql": '"name"', "mariadb": "'name'"},
        ),
        id="null by a trigger",
        marks=_only("postgresql", "mariadb", why="SQLite's triggers cannot change the row that is written"),
    ),
    pytest.param(
        Refusal(
            _computed,
            {"quantity": 9999},
            {"postgresql": "22003", "mariadb": "1264"},
            {"postgresql": "smallint", "mariadb": "'far'"},
        ),
        id="computed number",
        marks=_NO_OVERFLOW,
    ),
    pytest.param(
        Refusal(
            _characters,
            {"name": "\u0142"},
            {"postgresql": "22P05", "mariadb": "1366"},
            {"postgresql": "LATIN1", "mariadb": "name"},
        ),
        id="characters",
        marks=_only("postgresql", "mariadb", why="SQLite has one encoding for all"),
    ),
    pytest.param(
        Refusal(
            _address,
            {"note": "10.0.0.999"},
            {"postgresql": "22000", "mariadb": "1292"},
            {"postgresql": "10.0.0.999", "mariadb": "10.0.0.999"},
        ),
        id="address",
        marks=_only("postgresql", "mariadb", why="SQLite has no type of addresses"),
    ),
    pytest.param(
        Refusal(
            _document,
            {"note": "{"},
            {"postgresql": "22P02", "sqlite": CHECK["sqlite"], "mariadb": CHECK["mariadb"]},
            {"postgresql": "json", "sqlite": "document", "mariadb": "item.note"},
        ),
        id="document",
    ),
    # what is checked at COMMIT only, where no row could be told from its neighbours any more
    pytest.param(
        Refusal(_late_foreign_key, {"note": "?"}, FOREIGN_KEY, _KIN, "kin"),
        id="late foreign key",
        marks=_only("postgresql", why="MariaDB checks every reference with its row, SQLite cannot before COMMIT"),
    ),
    pytest.param(
        Refusal(_late_unique, {"note": "z"}, UNIQUE, {"postgresql": "alone"}, "alone"),
        id="late unique",
        marks=_AT_COMMIT,
    ),
    pytest.param(
        Refusal(_late_trigger, {"quantity": 9}, TRIGGER, {"postgresql": "too many"}),
        id="late trigger",
        marks=_AT_COMMIT,
    ),
)
"""Parameters of tests; the refused row is the one named B."""
