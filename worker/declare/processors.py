"""The processors that exist: `@processor` registers a function of the user's own by name, for `stream_process`.

Owns names and signatures. Refuses to call any.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, overload

from worker.core.errors import DeclarationError, UnknownProcessorError
from worker.declare.context import JobContext

GivenRows = Sequence[Mapping[str, object]]
"""Some rows of a table: by column name, to be read only."""

ChangedRows = Iterable[Mapping[str, object]] | None
"""The rows that are to be changed, each with its primary key and its new values; None for none."""

Processor = Callable[[JobContext, GivenRows], Awaitable[ChangedRows]]

P = TypeVar("P", bound=Callable[..., Awaitable[object]])

_EXAMPLE = "for example: async def tidy(ctx: JobContext, rows: GivenRows) -> ChangedRows"


@dataclass(slots=True)
class Processors:
    """Processors by name. One process has one, `PROCESSORS`; tests may make their own."""

    found: dict[str, Processor] = field(default_factory=dict)

    def add(self, name: str, function: Processor) -> None:
        """Register a processor.

        Raises:
            DeclarationError: another function has that name already.
        """
        other = self.found.get(name)
        if other is not None and _place(other) != _place(function):
            raise DeclarationError(
                f"Two processors are called {name!r}: {_place(other)} and {_place(function)}. Give one another name, "
                'for example @processor(name="tidy_orders_eu")'
            )
        self.found[name] = function

    def get(self, name: str) -> Processor:
        """The processor of that name.

        Raises:
            UnknownProcessorError: there is none; the message lists those that exist.
        """
        try:
            return self.found[name]
        except KeyError:
            raise UnknownProcessorError(name, self.found) from None


PROCESSORS = Processors()
"""Where `@processor` registers unless told otherwise."""


@overload
def processor(function: P, /) -> P: ...


@overload
def processor(*, name: str | None = None, registry: Processors = PROCESSORS) -> Callable[[P], P]: ...


def processor(
    function: Callable[..., Awaitable[object]] | None = None,
    /,
    *,
    name: str | None = None,
    registry: Processors = PROCESSORS,
) -> object:
    """Declare an async function as a processor, to be named by runs of `stream_process`; it stays an ordinary function.

    It is given the `JobContext` and the rows of one chunk. What it writes on `ctx.session` commits with the chunk. It
    returns None, or the rows that are to be changed: mappings of the primary key and the new values. It is found like
    a job: in a module that WORKER_JOBS names.

    Args:
        function: the coroutine function, where the decorator stands without parentheses.
        name: what runs name it by; the function's own name unless given.
        registry: where to register.

    Raises:
        DeclarationError: it is no coroutine function of a context and rows, or its name is taken.
    """

    def declare(target: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        _check(target)
        registry.add(name or str(getattr(target, "__name__", repr(target))), target)  # type: ignore[arg-type]  # just checked
        return target

    return declare if function is None else declare(function)


def _check(function: Callable[..., Awaitable[object]]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"{_place(function)} is no coroutine function, so it cannot be a processor; {_EXAMPLE}")
    signature = inspect.signature(function)
    try:
        signature.bind("context", "rows")
    except TypeError as error:
        raise DeclarationError(
            f"{_place(function)}{signature} cannot be called with a context and rows ({error}), and so cannot be a "
            f"processor; {_EXAMPLE}"
        ) from None


def _place(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
