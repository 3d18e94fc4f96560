"""Jobs as declared: signatures, parameters and results."""

import pytest

from worker.core.errors import DeclarationError, ParametersError, ResultError, UnknownJobError
from worker.declare.context import JobContext
from worker.declare.registry import JobSpec, Registry, job


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
