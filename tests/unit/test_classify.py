"""How an error is judged and described, on errors built by hand: the order of evidence, and what may be stored."""

import asyncio
import errno
import gzip
import socket
import ssl
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import exc

from worker.core.errors import (
    AttemptTimeoutError,
    ErrorKind,
    HeavyliftError,
    LedgerVersionError,
    SourceError,
    UnknownTableError,
    UnreachableError,
)
from worker.database.classify import ErrorTable, classify, describe
from worker.database.postgres.errors import POSTGRES_ERRORS, kind_of_sqlstate

ALPHABET = string.ascii_uppercase + string.digits


class DriverError(Exception):
    """Stands where a driver's exception stands: it carries a code and says more in str() than may be kept."""

    def __init__(self, message: str, sqlstate: str | None = None, constraint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint_name = constraint

    def __str__(self) -> str:
        return f"{self.args[0]}\nDETAIL:  Failing row contains (somebody@example.org)."


def wrapped(driver: Exception, *, invalidated: bool = False) -> exc.DBAPIError:
    """A driver's error as SQLAlchemy on asyncpg hands it on: in two wrappers, parameters and all."""
    adapted = exc.EmulatedDBAPIException(str(driver.args[0]), driver)
    adapted.__cause__ = driver
    statement = "INSERT INTO hero (email) VALUES ($1)"
    error = exc.DBAPIError(statement, ("somebody@example.org",), adapted, connection_invalidated=invalidated)
    error.__cause__ = adapted
    return error


def kind_of(error: BaseException) -> ErrorKind:
    """The verdict with PostgreSQL's table."""
    return classify(error, POSTGRES_ERRORS)


def raised_from(outer: BaseException, cause: BaseException) -> BaseException:
    """The outer error as if it had been raised from the cause."""
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("40001", ErrorKind.CONTENTION),
        ("40P01", ErrorKind.CONTENTION),
        ("55P03", ErrorKind.CONTENTION),
        ("26000", ErrorKind.CONTENTION),
        ("42P05", ErrorKind.CONTENTION),
        ("72000", ErrorKind.CONTENTION),
        ("08000", ErrorKind.CONNECTION),
        ("08003", ErrorKind.CONNECTION),
        ("08006", ErrorKind.CONNECTION),
        ("08007", ErrorKind.CONNECTION),
        ("08P01", ErrorKind.CONNECTION),
        ("25006", ErrorKind.CONNECTION),
        ("25P03", ErrorKind.CONNECTION),
        ("25P04", ErrorKind.CONNECTION),
        ("40003", ErrorKind.CONNECTION),
        ("53300", ErrorKind.CONNECTION),
        ("57P01", ErrorKind.CONNECTION),
        ("57P02", ErrorKind.CONNECTION),
        ("57P03", ErrorKind.CONNECTION),
        ("57P04", ErrorKind.CONNECTION),
        ("57P05", ErrorKind.CONNECTION),
        ("53200", ErrorKind.OVERLOAD),
        ("54000", ErrorKind.OVERLOAD),
        ("54001", ErrorKind.OVERLOAD),
        ("57014", ErrorKind.OVERLOAD),
        ("53000", ErrorKind.EXHAUSTED),
        ("53100", ErrorKind.EXHAUSTED),
        ("53400", ErrorKind.EXHAUSTED),
        ("58000", ErrorKind.EXHAUSTED),
        ("58030", ErrorKind.EXHAUSTED),
        ("22000", ErrorKind.REFUSED_ROW),
        ("22001", ErrorKind.REFUSED_ROW),
        ("22P05", ErrorKind.REFUSED_ROW),
        ("23505", ErrorKind.REFUSED_ROW),
        ("23P01", ErrorKind.REFUSED_ROW),
        ("44000", ErrorKind.REFUSED_ROW),
        ("P0001", ErrorKind.REFUSED_ROW),
        ("0A000", ErrorKind.PERMANENT),
        ("21000", ErrorKind.PERMANENT),
        ("2201W", ErrorKind.PERMANENT),
        ("25001", ErrorKind.PERMANENT),
        ("25P02", ErrorKind.PERMANENT),
        ("28P01", ErrorKind.PERMANENT),
        ("3D000", ErrorKind.PERMANENT),
        ("42501", ErrorKind.PERMANENT),
        ("42P01", ErrorKind.PERMANENT),
        ("54011", ErrorKind.PERMANENT),
        ("XX001", ErrorKind.PERMANENT),
        ("P0004", None),
        ("ZZ999", None),
    ],
)
def test_sqlstate_has_its_kind(sqlstate: str, kind: ErrorKind | None) -> None:
    """A SQLSTATE stands for one kind, or for none where it says nothing."""
    assert kind_of_sqlstate(sqlstate) is kind


@given(st.text(ALPHABET, min_size=5, max_size=5), st.booleans())
def test_known_code_outweighs_the_state_of_the_connection(sqlstate: str, invalidated: bool) -> None:  # noqa: FBT001  (Hypothesis passes by name)
    """A code of the table decides; only where it is unknown does a lost connection count."""
    otherwise = ErrorKind.CONNECTION if invalidated else ErrorKind.PERMANENT
    expected = kind_of_sqlstate(sqlstate) or otherwise
    assert kind_of(wrapped(DriverError("refused", sqlstate), invalidated=invalidated)) is expected


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: ConnectionResetError(104, "reset"), ErrorKind.CONNECTION),
        (lambda: ConnectionRefusedError(111, "refused"), ErrorKind.CONNECTION),
        (lambda: FileNotFoundError(2, "no such socket"), ErrorKind.CONNECTION),
        (lambda: OSError("Multiple exceptions: refused on ::1, refused on 127.0.0.1"), ErrorKind.CONNECTION),
        (lambda: socket.gaierror(-2, "Name or service not known"), ErrorKind.CONNECTION),
        (TimeoutError, ErrorKind.CONNECTION),
        (lambda: asyncio.IncompleteReadError(b"", 8), ErrorKind.CONNECTION),
        (lambda: exc.TimeoutError("QueuePool limit reached"), ErrorKind.CONTENTION),
        (MemoryError, ErrorKind.OVERLOAD),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), ErrorKind.EXHAUSTED),
        (lambda: OSError(errno.ENOSPC, "No space left on device", "out/x.part"), ErrorKind.EXHAUSTED),
        (lambda: OSError(errno.EMFILE, "Too many open files"), ErrorKind.EXHAUSTED),
        (lambda: FileNotFoundError(2, "No such file or directory", "orders.csv"), ErrorKind.PERMANENT),
        (lambda: PermissionError(13, "Permission denied", "orders.csv"), ErrorKind.PERMANENT),
        (lambda: ssl.SSLCertVerificationError(1, "certificate verify failed"), ErrorKind.PERMANENT),
        (lambda: gzip.BadGzipFile("Not a gzipped file"), ErrorKind.PERMANENT),
        (lambda: EOFError("Compressed file ended early"), ErrorKind.PERMANENT),
        (lambda: ZeroDivisionError("division by zero"), ErrorKind.PERMANENT),
        (lambda: exc.InvalidRequestError("no such thing"), ErrorKind.PERMANENT),
    ],
)
def test_builtin_type_decides_where_no_code_does(build: Callable[[], BaseException], kind: ErrorKind) -> None:
    """An error without a code is judged by its type and errno; a file's trouble is not the connection's."""
    assert kind_of(build()) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnreachableError("nobody there"), ErrorKind.CONNECTION),
        (AttemptTimeoutError("took 61 s, 60 s are allowed"), ErrorKind.OVERLOAD),
        (UnknownTableError("ordrs", ["orders"]), ErrorKind.PERMANENT),
        (LedgerVersionError("run heavylift migrate"), ErrorKind.PERMANENT),
        (HeavyliftError("anything else"), ErrorKind.PERMANENT),
    ],
)
def test_own_error_has_its_kind(error: HeavyliftError, kind: ErrorKind) -> None:
    """Each family of our own exceptions has one kind."""
    assert kind_of(error) is kind


def test_own_error_outweighs_its_cause() -> None:
    """A source that cannot be read is permanent, though an OSError without a file name led to it."""
    assert kind_of(raised_from(SourceError("truncated"), OSError(5, "Input/output error"))) is ErrorKind.PERMANENT


def test_cause_of_a_users_error_counts() -> None:
    """A job that raises its own exception from a deadlock is retried as the deadlock would be."""
    error = raised_from(LookupError("could not settle"), wrapped(DriverError("deadlock detected", "40P01")))
    assert kind_of(error) is ErrorKind.CONTENTION


def test_context_does_not_count() -> None:
    """An error raised while another was handled, but not from it, is judged alone."""
    error = ZeroDivisionError("a bug in an except clause")
    error.__context__ = wrapped(DriverError("deadlock detected", "40P01"))
    assert kind_of(error) is ErrorKind.PERMANENT


def test_circle_of_causes_ends() -> None:
    """Causes that go round in a circle are each looked at once."""
    first, second = ValueError("first"), DriverError("second", "40001")
    first.__cause__, second.__cause__ = second, first
    assert (kind_of(first), describe(first).sqlstate) == (ErrorKind.CONTENTION, "40001")


def test_group_counts_as_its_gravest_member() -> None:
    """A group with one permanent failure is permanent; one of transient failures alone is not."""
    contention, lost = DriverError("deadlock", "40P01"), ConnectionResetError(104, "reset")
    assert kind_of(ExceptionGroup("two", [contention, lost])) is ErrorKind.CONNECTION
    assert kind_of(ExceptionGroup("three", [contention, lost, ZeroDivisionError()])) is ErrorKind.PERMANENT


def test_dialect_may_bring_its_own_codes() -> None:
    """A driver that keeps numbers in args[0] plugs in by `code_of`."""
    table = ErrorTable(
        kind_of_code={"1213": ErrorKind.CONTENTION}.get,
        kind_of_class=lambda _: None,
        raw_errors=(LookupError,),
        code_of=lambda error: str(error.args[0]) if isinstance(error, LookupError) else None,
    )
    error = wrapped(LookupError(1213, "Deadlock found"))
    assert classify(error, table) is ErrorKind.CONTENTION
    assert describe(error, table.code_of).sqlstate == "1213"


def test_record_speaks_with_the_drivers_name_and_code() -> None:
    """The record of a refused row names the driver's class, the code and the constraint."""
    record = describe(wrapped(DriverError("duplicate key value", "23505", "hero_email_key")))
    assert (record.type, record.message, record.sqlstate, record.constraint) == (
        "DriverError",
        "duplicate key value",
        "23505",
        "hero_email_key",
    )


def test_record_keeps_a_users_own_words() -> None:
    """An exception of the job's own is what a person reads; the code of its cause is kept."""
    record = describe(raised_from(LookupError("hero 7 has no team"), wrapped(DriverError("refused", "23503"))))
    assert (record.type, record.message, record.sqlstate) == ("LookupError", "hero 7 has no team", "23503")


def test_record_holds_no_row() -> None:
    """Neither message nor traceback shows statement parameters or the server's detail; the SQL text stays."""
    record = describe(raised_from(RuntimeError("upsert failed"), wrapped(DriverError("duplicate key value", "23505"))))
    assert "somebody@example.org" not in record.message + record.traceback
    assert "INSERT INTO hero (email) VALUES ($1)" in record.traceback


def test_record_has_no_link_to_a_manual() -> None:
    """SQLAlchemy's "Background on this error" is left out."""
    record = describe(exc.TimeoutError("QueuePool limit of size 1 reached", code="3o7r"))
    assert record.message == "QueuePool limit of size 1 reached"
    assert "Background" not in record.traceback


def test_record_hides_passwords() -> None:
    """A password in a database URL is hidden wherever the text holds it, with odd characters in it too."""
    urls = "postgresql://app:s3/cr@et@db/app redis://:s3/cr@et@cache:6379 postgresql://db/app?user=x&password=s3/cr@et"
    record = describe(ValueError(f"cannot use {urls} as it is"))
    assert "s3" not in record.message + record.traceback
    assert record.message.startswith("cannot use postgresql://app:***@db/app redis://:***@cache:6379 ")
    assert record.message.endswith("password=*** as it is")


def test_traceback_tells_the_whole_story() -> None:
    """Stacks, causes, contexts, notes and the members of a group are all there, the cause before its effect."""
    try:
        try:
            try:
                raise KeyError("missing")  # noqa: TRY301  (a chain is what this test needs)
            except KeyError:
                int("seven")
        except ValueError as error:
            error.add_note("while reading line 7")
            raise ExceptionGroup("chunk", [OSError("member")]) from error
    except ExceptionGroup as error:
        text = describe(error).traceback
    marks = [
        "KeyError: 'missing'",
        "and while handling that:",
        'int("seven")',
        "ValueError: invalid literal",
        "while reading line 7",
        "which led to:",
        "ExceptionGroup: chunk",
        "  | builtins.OSError: member",
    ]
    places = [text.find(mark) for mark in marks]
    assert -1 not in places
    assert places == sorted(places)


def test_message_is_one_line() -> None:
    """Line breaks become spaces, and what is too long ends in dots."""
    assert describe(ValueError("one\n  two\r\nthree")).message == "one two three"
    assert describe(ValueError("x" * 5_000)).message == "x" * 1_000 + " ..."


def test_message_is_never_empty() -> None:
    """An error without words is named by its class."""
    assert describe(TimeoutError()).message == "TimeoutError"


def test_error_that_cannot_speak_is_described() -> None:
    """An exception whose own __str__ fails is recorded all the same."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert describe(MuteError()).type == "MuteError"


def test_long_traceback_keeps_head_and_tail() -> None:
    """The middle of a very long traceback goes, and the text says how much of it."""
    text = describe(raised_from(ValueError("the end"), ValueError("the start" + "-" * 90_000))).traceback
    assert len(text) < 20_100
    assert text.startswith("builtins.ValueError: the start")
    assert text.endswith("builtins.ValueError: the end\n")
    assert "characters left out" in text


def test_very_long_chain_of_causes_is_described() -> None:
    """Thousands of errors raised while handling one another are no reason to fail."""
    error: BaseException = ValueError("first")
    for number in range(5_000):
        error = raised_from(ValueError(number), error)
    assert describe(error).message == "4999"


@given(st.text(st.characters(exclude_categories=())))
def test_texts_can_be_stored(text: str) -> None:
    """Whatever an error says, its record is valid UTF-8 without the NUL that PostgreSQL refuses."""
    record = describe(ValueError(text))
    assert b"\0" not in (record.message + record.traceback).encode()
