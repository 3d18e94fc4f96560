"""The jobs that exist: `@job` makes a spec of a function, the registry finds it by name.

Owns names, signatures, validation of parameters and results. Refuses to run anything.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from worker.core.errors import DeclarationError, ParametersError, ResultError, UnknownJobError, choices
from worker.core.options import RunOptions
from worker.core.settings import Settings
from worker.declare.tables import Tables

P = ParamSpec("P")
R = TypeVar("R")

JobFunction = Callable[..., Awaitable[object]]
Check = Callable[[BaseModel, Tables, Settings, RunOptions], None]

DEFAULT_TIMEOUT_S = 24 * 3600.0
"""One attempt's length at most. Long, because chunks are what is bounded; not endless, so that a hung job is seen."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A declared job.

    Attributes:
        name: what it is enqueued by.
        function: the coroutine function; its first parameter is the context.
        parameters: the pydantic model of its other parameters; unknown ones are refused.
        result: checks and serialises what it returns.
        max_attempts: attempts that may fail without a committed chunk between; None for the setting's.
        timeout_s: how long one attempt may take, in seconds.
        check: given validated parameters, the registered tables, the settings and the run's options before a run is
            enqueued; raises a `RequestError` on what is known to fail without asking a database.
    """

    name: str
    function: JobFunction
    parameters: type[BaseModel]
    result: TypeAdapter[object]
    max_attempts: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    check: Check | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return tuple(self.parameters.model_fields)

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Positional and named arguments as one mapping by name, not yet validated.

        A positional argument too many, or of a name that is given as well, comes under `argument_<n>`, which
        validation refuses by that name: the run then fails with its parameters on record.
        """
        bound = dict(kwargs)
        for number, value in enumerate(args):
            fits = number < len(self.names) and self.names[number] not in kwargs
            bound[self.names[number] if fits else f"argument_{number + 1}"] = value
        return bound

    def validate(self, given: Mapping[str, object]) -> BaseModel:
        """The parameters as the signature types them.

        Raises:
            ParametersError: some are unknown, missing or of the wrong type; the message names each.
        """
        try:
            return self.parameters.model_validate(dict(given))
        except ValidationError as error:
            problems = "; ".join(
                self._explain(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()
            )
            raise ParametersError(f"Job {self.name!r}: {problems}") from None

    def dump(self, parameters: BaseModel) -> dict[str, object]:
        """Validated parameters as JSON-safe values, without the ones that were not given."""
        return parameters.model_dump(mode="json", exclude_unset=True)

    def serialise_result(self, value: object) -> object:
        """What the job returned, checked against its declared type, as JSON-safe values.

        Raises:
            ResultError: it does not fit. The run's last transaction is not committed then.
        """
        try:
            return self.result.dump_python(self.result.validate_python(value), mode="json")
        except (ValidationError, PydanticUserError, ValueError) as error:
            raise ResultError(
                f"Job {self.name!r} returned a {type(value).__name__} that its declared result does not admit: {error}"
            ) from error

    def _explain(self, location: tuple[int | str, ...], kind: str, message: str) -> str:
        where = ".".join(str(part) for part in location)
        if kind == "extra_forbidden" and len(location) == 1:
            return f"unknown parameter {where!r}. {choices(where, self.names)}"
        if kind == "missing" and len(location) == 1:
            return f"parameter {where!r} is missing"
        return f"parameter {where!r}: {message.removeprefix('Value error, ')}"


@dataclass(slots=True)
class Registry:
    """Jobs by name. One process has one, `REGISTRY`; tests may make their own."""

    specs: dict[str, JobSpec] = field(default_factory=dict)

    def add(self, spec: JobSpec) -> None:
        """Register a job.

        Raises:
            DeclarationError: another function has that name already.
        """
        other = self.specs.get(spec.name)
        if other is not None and _place(other.function) != _place(spec.function):
            raise DeclarationError(
                f"Two jobs are called {spec.name!r}: {_place(other.function)} and {_place(spec.function)}. "
                'Give one another name, for example @job(name="close_orders_eu")'
            )
        self.specs[spec.name] = spec

    def get(self, name: str) -> JobSpec:
        """The job of that name.

        Raises:
            UnknownJobError: there is none; the message lists those that exist.
        """
        try:
            return self.specs[name]
        except KeyError:
            raise UnknownJobError(name, self.specs) from None

    def __iter__(self) -> Iterator[JobSpec]:
        return iter(self.specs.values())


REGISTRY = Registry()
"""Where `@job` registers unless told otherwise."""


@overload
def job(function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...


@overload
def job(
    *,
    name: str | None = None,
    max_attempts: int | None = None,
    timeout: float | timedelta = DEFAULT_TIMEOUT_S,
    check: Check | None = None,
    registry: Registry = REGISTRY,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]: ...


def job(
    function: JobFunction | None = None,
    /,
    *,
    name: str | None = None,
    max_attempts: int | None = None,
    timeout: float | timedelta = DEFAULT_TIMEOUT_S,
    check: Check | None = None,
    registry: Registry = REGISTRY,
) -> object:
    """Declare an async function as a job; it stays an ordinary function.

    Its first parameter is the `JobContext`; the others, typed, are the job's parameters; its return type is the
    type of the result.

    Args:
        function: the coroutine function, where the decorator stands without parentheses.
        name: what it is enqueued by; the function's own name unless given.
        max_attempts: attempts that may fail without a committed chunk between them; WORKER_MAX_ATTEMPTS unless given.
        timeout: how long one attempt may take, in seconds or as a timedelta.
        check: called with validated parameters, tables, settings and options before a run is enqueued; raises a
            `RequestError`.
        registry: where to register.

    Raises:
        DeclarationError: it is no coroutine function, has an untyped parameter or no context, or its name is taken.
    """

    def declare(target: JobFunction) -> JobFunction:
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
        parameters, result = _signature(target)
        registry.add(JobSpec(name or _name(target), target, parameters, result, max_attempts, seconds, check))
        return target

    return declare if function is None else declare(function)


def _signature(function: JobFunction) -> tuple[type[BaseModel], TypeAdapter[object]]:
    place = _place(function)
    example = "for example: async def close_orders(ctx: JobContext, older_than_days: int = 30) -> int"
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"{place} is no coroutine function, so it cannot be a job; {example}")
    declared = list(inspect.signature(function).parameters.values())
    if not declared:
        raise DeclarationError(f"{place} takes no context; a job's first parameter is the context, {example}")
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in declared[1:]:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise DeclarationError(f"{place} takes *{parameter.name}; name and type each parameter, {example}")
        if parameter.name not in hints:
            raise DeclarationError(f"{place}: parameter {parameter.name!r} has no type, {example}")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    model = create_model(f"{_name(function)}_parameters", __config__=ConfigDict(extra="forbid"), **fields)
    return model, TypeAdapter(hints.get("return", object))


def _name(function: JobFunction) -> str:
    return str(getattr(function, "__name__", repr(function)))


def _place(function: JobFunction) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"
