"""Jobs as declared: signatures, parameters and results."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from worker.core.errors import DeclarationError, ParametersError, ResultError, UnknownJobError
from worker.declare.context import JobContext
from worker.declare.registry import DEFAULT_TIMEOUT_S, JobSpec, Registry, job


@pytest.fixture
def spec() -> JobSpec:
    """A job with a required and an optional parameter and a typed result."""
    registry = Registry()

    @job(registry=registry, max_attempts=2)
    async def move(ctx: JobContext, rows: int, label: str = "none") -> list[int]:
        del ctx, label
        return [rows]

    return registry.get("move")


def test_the_declaration_is_the_spec(spec: JobSpec) -> None:
    """Name, parameters and options come from the function and the decorator."""
    assert (spec.name, spec.names, spec.max_attempts) == ("move", ("rows", "label"), 2)


def test_parameters_are_typed(spec: JobSpec) -> None:
    """Text from a wire becomes what the signature says; what was not given stays out of the dump."""
    assert spec.dump(spec.validate({"rows": "3"})) == {"rows": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": 1, "lable": "x"}, "Did you mean 'label'"),
        ({}, "'rows' is missing"),
        ({"rows": "three"}, "'rows'"),
        ({"rows": 1, "argument_3": 2}, "argument_3"),
    ],
)
def test_wrong_parameters_are_named(spec: JobSpec, given: dict[str, object], said: str) -> None:
    """Unknown, missing and badly typed parameters each get their name into the message."""
    with pytest.raises(ParametersError, match=said):
        spec.validate(given)


def test_positions_are_names(spec: JobSpec) -> None:
    """Positional arguments fall into the parameters' order; those that do not fit keep their number."""
    assert spec.bind((1, "x"), {}) == {"rows": 1, "label": "x"}
    assert spec.bind((1,), {"rows": 2}) == {"rows": 2, "argument_1": 1}
    assert spec.bind((1, "x", 3), {}) == {"rows": 1, "label": "x", "argument_3": 3}


def test_results_are_checked(spec: JobSpec) -> None:
    """A result of another type than declared is refused."""
    assert spec.serialise_result([1, 2]) == [1, 2]
    with pytest.raises(ResultError, match="move"):
        spec.serialise_result("nothing")


def test_an_unknown_job_lists_those_that_exist() -> None:
    """The nearest name is offered."""
    with pytest.raises(UnknownJobError, match="There are none"):
        Registry().get("x")


def test_a_taken_name_is_refused(spec: JobSpec) -> None:
    """Two functions cannot answer to one name."""
    registry = Registry({"move": spec})

    async def other(ctx: JobContext) -> None:
        del ctx

    with pytest.raises(DeclarationError, match="Two jobs are called 'move'"):
        job(registry=registry, name="move")(other)


def test_what_cannot_be_a_job_is_refused_at_import() -> None:
    """Plain functions, functions without a context, and untyped parameters are refused with an example."""

    def plain(ctx: JobContext) -> None:
        del ctx

    async def lonely() -> None: ...

    async def untyped(ctx: JobContext, value) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - the point
        del ctx, value

    for function in (plain, lonely, untyped):
        with pytest.raises(DeclarationError, match="for example"):
            job(registry=Registry())(function)  # type: ignore[arg-type]  # likewise


def declared(function: Callable[..., Awaitable[object]]) -> JobSpec:
    """The function as a job of a registry of its own."""
    registry = Registry()
    job(registry=registry)(function)
    (spec,) = registry
    return spec


async def starred(ctx: JobContext, *rows: int) -> None:
    """No job: its parameters have no names."""
    del ctx, rows


async def double_starred(ctx: JobContext, **options: int) -> None:
    """No job: any name would do."""
    del ctx, options


async def keyed(ctx: JobContext, *, since: datetime, limit: int = 10) -> None:
    """A job whose parameters are given by name."""
    del ctx, since, limit


async def idle(ctx: JobContext) -> None:
    """A job without parameters, that returns nothing."""
    del ctx


async def untold(ctx: JobContext):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the point
    """A job that does not say what it returns."""
    del ctx


async def counted(ctx: JobContext) -> dict[str, datetime]:
    """A job with a result that JSON has no type for."""
    del ctx
    return {}


@pytest.mark.parametrize(("function", "name"), [(starred, "rows"), (double_starred, "options")])
def test_parameters_without_names_are_refused(function: Callable[..., Awaitable[object]], name: str) -> None:
    """The message has the function, the parameter and a signature that would do."""
    with pytest.raises(DeclarationError, match=rf"{function.__name__} takes \*{name}; .*for example: async def"):
        declared(function)


def test_a_job_stays_a_function() -> None:
    """The decorator returns what it was put on, so a job can be called in a test."""
    assert job(registry=Registry())(idle) is idle


def test_a_job_can_have_another_name() -> None:
    """`name` is what it is enqueued by."""
    registry = Registry()
    job(registry=registry, name="close_orders")(idle)
    assert [spec.name for spec in registry] == ["close_orders"]


def test_a_job_may_be_declared_again() -> None:
    """A module that is imported twice declares the same function, which is no second job."""
    registry = Registry()
    job(registry=registry)(idle)
    job(registry=registry, max_attempts=3)(idle)
    assert [spec.max_attempts for spec in registry] == [3]


@pytest.mark.parametrize("timeout", [90, 90.0, timedelta(minutes=1, seconds=30)])
def test_a_timeout_is_kept_in_seconds(timeout: float | timedelta) -> None:
    """Seconds and durations mean the same."""
    registry = Registry()
    job(registry=registry, timeout=timeout)(idle)
    assert registry.get("idle").timeout_s == 90


def test_without_options_a_job_has_the_defaults() -> None:
    """Attempts are left to the settings, and the timeout is long but there."""
    spec = declared(idle)
    assert (spec.max_attempts, spec.timeout_s, spec.check) == (None, DEFAULT_TIMEOUT_S, None)


def test_a_parameter_far_from_all_others_gets_no_guess(spec: JobSpec) -> None:
    """All names are listed, and none is suggested."""
    with pytest.raises(ParametersError, match=r"unknown parameter 'zzz'\. There are: label, rows\.\Z"):
        spec.validate({"rows": 1, "zzz": 1})


def test_a_parameter_of_a_job_without_any_is_unknown() -> None:
    """The message says that there are none."""
    with pytest.raises(ParametersError, match=r"'idle': unknown parameter 'rows'\. There are none\."):
        declared(idle).validate({"rows": 1})


def test_every_wrong_parameter_is_named_at_once(spec: JobSpec) -> None:
    """One message has the badly typed and the unknown one."""
    with pytest.raises(ParametersError, match=r"'move': parameter 'rows': .*; unknown parameter 'lable'"):
        spec.validate({"rows": "three", "lable": "x"})


def test_a_position_too_many_is_refused_by_its_number(spec: JobSpec) -> None:
    """What `bind` cannot place is what validation refuses."""
    with pytest.raises(ParametersError, match="unknown parameter 'argument_3'"):
        spec.validate(spec.bind((1, "x", 3), {}))


def test_a_parameter_given_twice_is_refused(spec: JobSpec) -> None:
    """Neither of two values for one parameter wins in silence."""
    with pytest.raises(ParametersError, match="unknown parameter 'argument_1'"):
        spec.validate(spec.bind((1,), {"rows": 2}))


@pytest.mark.parametrize("kwargs", [{}, {"rows": 1}, {"rows": 1, "label": "x"}])
def test_binding_leaves_what_was_given_alone(spec: JobSpec, kwargs: Mapping[str, object]) -> None:
    """The caller's mapping is copied, and names are taken as they are."""
    bound = spec.bind((), kwargs)
    assert bound == kwargs
    assert bound is not kwargs


def test_keyword_parameters_are_parameters() -> None:
    """A star in the signature changes nothing for a payload."""
    assert declared(keyed).names == ("since", "limit")


def test_parameters_are_dumped_as_json_has_them() -> None:
    """A moment becomes text that validates to the same moment."""
    spec = declared(keyed)
    since = datetime(2026, 3, 1, tzinfo=UTC)
    dumped = spec.dump(spec.validate({"since": since}))
    assert dumped == {"since": "2026-03-01T00:00:00Z"}
    assert spec.validate(dumped) == spec.validate({"since": since})


def test_a_default_is_used_where_nothing_is_given() -> None:
    """The signature's default is the parameter's."""
    parameters = declared(keyed).validate({"since": "2026-03-01T00:00:00Z"})
    assert parameters.model_dump()["limit"] == 10


def test_a_result_becomes_json() -> None:
    """What JSON has no type for becomes text."""
    result = declared(counted).serialise_result({"at": datetime(2026, 3, 1, tzinfo=UTC)})
    assert result == {"at": "2026-03-01T00:00:00Z"}


def test_a_job_that_returns_nothing_may_not_return_something() -> None:
    """The message has the job and the type that it returned."""
    with pytest.raises(ResultError, match="Job 'idle' returned a int"):
        declared(idle).serialise_result(3)


def test_a_result_without_a_declared_type_is_taken_as_it_is() -> None:
    """An unannotated job may return whatever JSON can hold."""
    assert declared(untold).serialise_result({"rows": [1, None]}) == {"rows": [1, None]}


def test_a_result_that_json_cannot_hold_is_refused() -> None:
    """An arbitrary object is refused before the run's last transaction commits."""
    with pytest.raises(ResultError, match="Job 'untold' returned a object"):
        declared(untold).serialise_result(object())


def test_an_unknown_job_gets_the_nearest_name(spec: JobSpec) -> None:
    """The message says which job was probably meant, and lists all."""
    with pytest.raises(UnknownJobError, match=r"No job is called 'moev'\. Did you mean 'move'\? There are: move\."):
        Registry({"move": spec}).get("moev")
