"""What a failure calls for, decided in one place for every database, and what may be written down about it.

Owns the walk through an error and its causes, the order in which evidence counts, and the text of an error that is fit
to be stored. Refuses to know any database's codes (each dialect gives its `ErrorTable`), to look at message texts, and
to decide what follows from a kind (that is `worker.core.retry`).
"""

import errno
import gzip
import re
from asyncio import IncompleteReadError
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import indent
from traceback import TracebackException

from sqlalchemy import exc

from worker.core.errors import AttemptTimeoutError, ErrorKind, HeavyliftError, UnreachableError
from worker.core.outcomes import ErrorRecord

DATABASE_ERRORS: tuple[type[BaseException], ...] = (exc.SQLAlchemyError, OSError)
"""What database code raises, on any dialect, for reasons outside of this program. `TimeoutError` is an `OSError`.

A dialect's `ErrorTable.raw_errors` belong to them wherever its driver is used without SQLAlchemy in between."""

_MESSAGE_LIMIT = 1_000
_STATEMENT_LIMIT = 1_000
_TRACEBACK_HEAD = 8_000
_TRACEBACK_TAIL = 12_000
_SPENT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_WRAPPERS = (exc.StatementError, exc.EmulatedDBAPIException)
_SEVERITY = {kind: rank for rank, kind in enumerate(ErrorKind)}
# Bounded repeats keep the cost of a hostile message down; a cloud's token for a password has some 2,000 characters.
_SECRETS = re.compile(r"(?P<before>://[^\s:/@]{0,256}:)\S{1,4096}@|(?P<name>(?i:password)=)[^\s&'\"]{1,4096}")


CodeReader = Callable[[BaseException], str | None]
"""Reads the database's code that one error itself carries; None where it carries none."""


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that an exception itself carries, as the drivers of most databases attach it.

    Args:
        error: one exception: a driver's, or SQLAlchemy's rendering of it.

    Returns:
        Five characters such as `40P01`, None where it carries none.
    """
    sqlstate = getattr(error, "sqlstate", None)
    return sqlstate if isinstance(sqlstate, str) else None


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """What a dialect knows of its errors; each function looks at one error only, never at its causes.

    Attributes:
        kind_of_code: the kind that a code stands for, None where the code says nothing.
        kind_of_class: the kind that an error's class stands for, for those whose code says nothing or too little.
        raw_errors: the driver's own exceptions, as raised where SQLAlchemy does not stand in between.
        code_of: the code that an error carries, for drivers that do not attach it as `sqlstate`.
    """

    kind_of_code: Callable[[str], ErrorKind | None]
    kind_of_class: Callable[[BaseException], ErrorKind | None]
    raw_errors: tuple[type[BaseException], ...]
    code_of: CodeReader = sqlstate_of


def classify(error: BaseException, table: ErrorTable) -> ErrorKind:
    """The one kind of an error, judged by the best evidence among the error and its explicit causes.

    In this order: our own exceptions, classes that the dialect names, the database's code, SQLAlchemy's word that the
    connection is gone, builtin types. A group counts as the gravest of its members.

    Args:
        error: a failure. Control exceptions and cancellation are not failures; they would come out as permanent.
        table: the errors of the database in use.

    Returns:
        The kind; `PERMANENT` where nothing says otherwise.
    """
    if isinstance(error, BaseExceptionGroup):
        return max((classify(member, table) for member in error.exceptions), key=_SEVERITY.__getitem__)
    links = tuple(_links(error))

    def by_code(link: BaseException) -> ErrorKind | None:
        code = table.code_of(link)
        return None if code is None else table.kind_of_code(code)

    for judge in (_by_family, table.kind_of_class, by_code, _by_connection, _by_builtin_type):
        for link in links:
            if (kind := judge(link)) is not None:
                return kind
    return ErrorKind.PERMANENT


def describe(error: BaseException, code_of: CodeReader = sqlstate_of) -> ErrorRecord:
    """What to keep of an error.

    Args:
        error: any exception.
        code_of: the dialect's way to read an error's code.

    Returns:
        The record, fit to be stored in any database: no NUL characters, no lone surrogates; a message of about 1,000
        characters at most, a traceback of 20,000 (its head and its tail). Statement parameters, the detail that a
        server adds about the row, and passwords in URLs are left out; a message may quote the one refused value.
    """
    links = tuple(_links(error))
    speaker = _speaker(error, links)
    name = type(speaker).__name__
    text = "".join(_rendered(error, TracebackException.from_exception(error), code_of))
    return ErrorRecord(
        type=name,
        message=_one_line(_storable(_message(speaker, code_of)), _MESSAGE_LIMIT) or name,
        sqlstate=next((code for link in links if (code := code_of(link)) is not None), None),
        constraint=next((found for link in links if (found := getattr(link, "constraint_name", None))), None),
        traceback=_trimmed(_storable(text)),
    )


def _links(error: BaseException) -> Iterator[BaseException]:
    # What an error wraps and what it was raised from, outermost first. Not __context__: an error raised while handling
    # another need have nothing to do with it.
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, getattr(link, "orig", None))
        waiting.extend(candidate for candidate in inner if isinstance(candidate, BaseException))


def _by_family(error: BaseException) -> ErrorKind | None:
    if isinstance(error, UnreachableError):
        return ErrorKind.CONNECTION
    if isinstance(error, AttemptTimeoutError):
        # Its committed chunks stay, so that another attempt gets further; a smaller chunk fits the time left better.
        return ErrorKind.OVERLOAD
    # Ours are raised on purpose, knowing their cause: what they say outweighs it.
    return ErrorKind.PERMANENT if isinstance(error, HeavyliftError) else None


def _by_connection(error: BaseException) -> ErrorKind | None:
    return ErrorKind.CONNECTION if getattr(error, "connection_invalidated", False) else None


def _by_builtin_type(error: BaseException) -> ErrorKind | None:
    if isinstance(error, exc.TimeoutError):
        # The pool is empty because this worker's other runs hold its connections: to reconnect would only take more.
        return ErrorKind.CONTENTION
    if isinstance(error, MemoryError):
        return ErrorKind.OVERLOAD
    # Its parent EOFError is no evidence: a truncated gzip file raises it.
    if isinstance(error, IncompleteReadError):
        return ErrorKind.CONNECTION
    return _by_errno(error) if isinstance(error, OSError) else None


def _by_errno(error: OSError) -> ErrorKind | None:
    if error.errno in _SPENT:
        return ErrorKind.EXHAUSTED
    # A file's error names its file, a socket's names none. A malformed gzip, and those that are ValueErrors too (a
    # refused certificate, a mode that a file lacks), are about contents.
    if error.filename is not None or isinstance(error, ValueError | gzip.BadGzipFile):
        return None
    return ErrorKind.CONNECTION


def _speaker(error: BaseException, links: tuple[BaseException, ...]) -> BaseException:
    # SQLAlchemy's wrappers say less than what they wrap; anybody else's exception was raised to be read.
    if not isinstance(error, _WRAPPERS):
        return error
    return next((link for link in links if not isinstance(link, _WRAPPERS)), error)


def _message(error: BaseException, code_of: CodeReader, told: TracebackException | None = None) -> str:
    if isinstance(error, exc.StatementError) and error.orig is not None:
        return _message(error.orig, code_of)
    # str() of these adds the statement's parameters, a link to a manual, or the DETAIL that quotes the whole row.
    bare = isinstance(error, exc.SQLAlchemyError | exc.EmulatedDBAPIException) or code_of(error) is not None
    if bare and error.args:
        # some drivers put a number before the text
        return str(next((part for part in error.args if isinstance(part, str)), error.args[0]))
    # This survives an exception whose own __str__ fails.
    return str(told or TracebackException(type(error), error, None))


def _rendered(error: BaseException, told: TracebackException, code_of: CodeReader) -> Iterator[str]:
    # `told.format()` would print str(error), and with it the parameters of the statement.
    chain: list[tuple[BaseException, TracebackException]] = []
    link: BaseException | None = error
    telling: TracebackException | None = told
    while link is not None and telling is not None:  # an error that comes round again is told once
        chain.append((link, telling))
        if link.__cause__ is not None or link.__suppress_context__:
            link, telling = link.__cause__, telling.__cause__
        else:
            link, telling = link.__context__, telling.__context__
    for link, telling in reversed(chain):
        if link is not chain[-1][0]:
            yield "\nand while handling that:\n\n" if link.__cause__ is None else "\nwhich led to:\n\n"
        yield from _entry(link, telling, code_of)


def _entry(error: BaseException, told: TracebackException, code_of: CodeReader) -> Iterator[str]:
    yield from told.stack.format()
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_message(error, code_of, told)}\n"
    if isinstance(error, exc.StatementError) and error.statement:
        yield f"[SQL: {_one_line(error.statement, _STATEMENT_LIMIT)}]\n"
    yield from (f"{note}\n" for note in getattr(error, "__notes__", ()))
    if isinstance(error, BaseExceptionGroup):
        for member, telling in zip(error.exceptions, told.exceptions or (), strict=False):
            yield indent("".join(_rendered(member, telling, code_of)), "  | ")


def _one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]} ..."


def _storable(text: str) -> str:
    hidden = _SECRETS.sub(lambda found: f"{found['before']}***@" if found["before"] else f"{found['name']}***", text)
    return hidden.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def _trimmed(text: str) -> str:
    spare = len(text) - _TRACEBACK_HEAD - _TRACEBACK_TAIL
    if spare <= 0:
        return text
    return f"{text[:_TRACEBACK_HEAD]}\n... {spare} characters left out ...\n{text[-_TRACEBACK_TAIL:]}"
