"""The repository's own promises: pins, packaging, process files, module docstrings, no trace of a machine."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field

TOP = Path(__file__).parents[2]
PIN_FILES = ("runtime.txt", "build.txt", "dev.txt", "demo.txt", "arq-tests.txt")
ADDRESS = re.compile(r"https?://[^ ]*/(?:simple|packages)/")
MACHINE_PATH = re.compile(r"(?:^|[\s\"'`=:(\[])/(?:work|root|home|Users)/")
LARGEST_SCANNED_BYTES = 2_000_000


class Project(BaseModel):
    """What these tests read of `[project]` in pyproject.toml."""

    requires_python: str = Field(alias="requires-python")
    classifiers: list[str]
    dependencies: list[str]
    scripts: dict[str, str]

    @property
    def pythons(self) -> list[str]:
        """The minor versions that the classifiers name, oldest first."""
        found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in self.classifiers]
        return sorted((match[1] for match in found if match), key=lambda version: int(version.split(".")[1]))


class HealthCheck(BaseModel):
    """A service's `healthcheck`."""

    test: list[str] = []
    disable: bool = False


class Condition(BaseModel):
    """One entry of a service's `depends_on`."""

    condition: str


class Service(BaseModel):
    """What these tests read of a service in docker-compose.yml."""

    command: list[str] = []
    depends_on: dict[str, Condition] = {}
    environment: dict[str, str] = {}
    healthcheck: HealthCheck
    volumes: list[str] = []


class Compose(BaseModel):
    """What these tests read of docker-compose.yml."""

    services: dict[str, Service]
    volumes: dict[str, None]


def project() -> Project:
    """`[project]` of pyproject.toml."""
    return Project.model_validate(tomllib.loads((TOP / "pyproject.toml").read_text())["project"])


def compose() -> Compose:
    """docker-compose.yml, its merges resolved."""
    return Compose.model_validate(yaml.safe_load((TOP / "docker-compose.yml").read_text()))


def pins(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """The pinned requirement and the hashes of each distribution in `requirements/<name>`."""
    text = re.sub(r"^ *#.*\n?", "", (TOP / "requirements" / name).read_text(), flags=re.MULTILINE)
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split(" --hash=")
        parsed = Requirement(requirement.strip())
        found[canonicalize_name(parsed.name)] = (parsed, [entry.strip() for entry in hashes])
    return found


def kept_files() -> Iterator[Path]:
    """Every file of the working tree that .gitignore does not leave out, the newly written included."""
    ignored = [line.rstrip("/") for line in (TOP / ".gitignore").read_text().split()]
    for folder, folders, files in os.walk(TOP):
        folders[:] = [name for name in folders if name != ".git" and not any(fnmatch(name, glob) for glob in ignored)]
        yield from (Path(folder, name) for name in files if not any(fnmatch(name, glob) for glob in ignored))


def image_lines() -> list[str]:
    """The instructions of the Dockerfile, continuation lines joined and comments dropped."""
    text = re.sub(r"^#.*\n", "", (TOP / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def procfile() -> dict[str, list[str]]:
    """The command of each process type."""
    lines = (TOP / "Procfile").read_text().splitlines()
    return {name: shlex.split(command) for name, _, command in (line.partition(":") for line in lines)}


def started_commands() -> dict[str, list[str]]:
    """Every `heavylift` command that the Procfile and docker-compose.yml start, by where it stands."""
    from_compose = {f"compose {name}": service.command for name, service in compose().services.items()}
    commands = from_compose | {f"Procfile {name}": command for name, command in procfile().items()}
    return {where: command for where, command in commands.items() if command[:1] == ["heavylift"]}


@pytest.mark.parametrize("name", PIN_FILES)
def test_every_pin_is_exact_and_hashed(name: str) -> None:
    """A pin admits one version and only files whose SHA-256 is known."""
    found = pins(name)
    assert found
    for requirement, hashes in found.values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", entry) for entry in hashes), requirement


@pytest.mark.parametrize("name", PIN_FILES)
def test_pins_name_no_address(name: str) -> None:
    """No pin file says where packages come from, or where the one who wrote it stood."""
    text = (TOP / "requirements" / name).read_text()
    assert not re.search(r"://|--(?:index|extra-index|find-links|trusted)| @ |(?m:^\s*-[a-z])", text)


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_every_runtime_dependency_is_pinned_within_its_bounds(name: str) -> None:
    """What pyproject.toml requires of a worker is pinned to a version that it admits."""
    found = pins(name)
    for line in project().dependencies:
        wanted = Requirement(line)
        pinned, _ = found[canonicalize_name(wanted.name)]
        version = str(pinned.specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{line} does not admit the pinned {version}"


@pytest.mark.parametrize("name", ["runtime.txt", "build.txt"])
def test_what_ships_is_what_is_tested(name: str) -> None:
    """The image is built from the versions that the tests run with."""
    tested = pins("dev.txt")
    differing = {key for key, (pin, _) in pins(name).items() if tested[key][0].specifier != pin.specifier}
    assert not differing


def test_arqs_tests_are_those_of_the_arq_in_use() -> None:
    """The source distribution whose tests are run is of the version that everything runs on."""
    assert pins("arq-tests.txt")["arq"][0].specifier == pins("runtime.txt")["arq"][0].specifier


def test_classifiers_match_the_required_python() -> None:
    """The oldest Python that the classifiers name is the one required, and none in between is left out."""
    declared = project()
    minors = [int(version.split(".")[1]) for version in declared.pythons]
    assert declared.requires_python == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_ci_runs_the_oldest_and_the_newest_python() -> None:
    """The workflow's matrix is the two ends of the classifiers, and it asks for no permission it does not need."""
    workflow = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())
    versions = project().pythons
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]
    assert workflow["permissions"] == {}


def test_ci_runs_make_check() -> None:
    """`.ci/run` can be executed, stops at the first failure and runs what a developer runs."""
    script = TOP / ".ci" / "run"
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in lines
    assert lines[-1] == "run make check"


def test_check_runs_lint_types_imports_and_tests_in_that_order() -> None:
    """`make check` fails on the cheapest check first."""
    makefile = (TOP / "Makefile").read_text()
    assert re.search(r"^check: lint types imports test arqtests endurance chaos ##", makefile, re.MULTILINE)
    assert re.search(r"^\.NOTPARALLEL:$", makefile, re.MULTILINE)


def test_procfile_declares_worker_and_release() -> None:
    """A platform that reads Procfiles migrates on release and then runs workers."""
    assert procfile() == {"release": ["heavylift", "migrate"], "worker": ["heavylift", "run"]}


@pytest.mark.parametrize("where", sorted(started_commands()))
def test_started_commands_exist(where: str) -> None:
    """Each command that a process file starts is one that the console script knows."""
    program, subcommand = started_commands()[where]
    module, _, function = project().scripts[program].partition(":")
    call = f"import sys; from {module} import {function} as main; sys.argv[0] = {program!r}; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", call, subcommand, "--help"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert subcommand in done.stdout


def test_compose_redis_keeps_what_it_is_given() -> None:
    """Redis writes an append-only file to a volume and evicts nothing."""
    redis = compose().services["redis"]
    flags = dict(zip(redis.command[1::2], redis.command[2::2], strict=True))
    assert flags == {"--appendonly": "yes", "--maxmemory-policy": "noeviction"}
    assert redis.volumes == ["redis:/data"]


def test_compose_worker_waits_for_migration_and_servers() -> None:
    """A worker starts only after the ledger is migrated and both servers answer."""
    services = compose().services
    assert {name: needed.condition for name, needed in services["worker"].depends_on.items()} == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert services["migrate"].depends_on["postgres"].condition == "service_healthy"


def test_compose_checks_the_health_of_what_keeps_running() -> None:
    """Every service has a health check but the migration, which ends."""
    services = compose().services
    assert {name for name, service in services.items() if service.healthcheck.test} == {"postgres", "redis", "worker"}
    assert services["migrate"].healthcheck.disable


def test_compose_declares_its_volumes() -> None:
    """Each named volume that a service mounts is declared, and none is left over."""
    parsed = compose()
    mounted = {mount.partition(":")[0] for service in parsed.services.values() for mount in service.volumes}
    assert {name for name in mounted if re.fullmatch(r"\w+", name)} == set(parsed.volumes)


def test_compose_commits_no_password() -> None:
    """A password comes from the environment, with a default fit for development alone."""
    parsed = compose()
    assert parsed.services["postgres"].environment["POSTGRES_PASSWORD"] == "${POSTGRES_PASSWORD:-development}"
    assert ":${POSTGRES_PASSWORD:-development}@" in parsed.services["worker"].environment["DATABASE_URL"]


def test_image_runs_as_nobody_in_particular() -> None:
    """The final stage runs the worker as its own user, checks its health and holds no build or test tools."""
    lines = image_lines()
    stages = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    final = lines[stages[-1] :]
    assert len(stages) > 1
    assert [line.split()[1] for line in final if line.startswith("USER ")] == ["heavylift"]
    assert any(line.startswith("HEALTHCHECK ") for line in final)
    assert final[-1] == 'CMD ["heavylift", "run"]'
    assert not any("dev.txt" in line for line in lines)
    assert not any("/opt/build" in line for line in final)


def test_pre_commit_needs_no_network() -> None:
    """Hooks run the tools of `.venv`, so they are the versions that `make check` uses."""
    sources = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text())["repos"]
    assert {source["repo"] for source in sources} == {"local"}
    hooks = [hook for source in sources for hook in source["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert tools == {"ruff", "mypy", "lint-imports"}


def test_no_file_names_an_index_or_a_machine() -> None:
    """What is committed holds no package index's address and no path of the machine it was written on."""
    found = [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in kept_files()
        if path.stat().st_size <= LARGEST_SCANNED_BYTES
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if ADDRESS.search(line) or MACHINE_PATH.search(line)
    ]
    assert not found


def test_the_scan_finds_what_it_looks_for() -> None:
    """The two patterns recognise an address and a path, so that an empty result means something."""
    assert ADDRESS.search("--index-url " + "https://example.org/pypi" + "/simple" + "/")
    assert MACHINE_PATH.search("cd " + "/home" + "/somebody/project")
    assert (TOP / "pyproject.toml") in set(kept_files())


@pytest.mark.parametrize(
    "path",
    sorted(path.relative_to(TOP).as_posix() for folder in ("worker", "jobs") for path in TOP.glob(f"{folder}/**/*.py")),
)
def test_every_module_says_what_it_owns(path: str) -> None:
    """A module's docstring is at least one whole sentence."""
    text = ast.get_docstring(ast.parse((TOP / path).read_text())) or ""
    first = text.partition("\n\n")[0]
    assert first.endswith("."), f"{path} should begin with a docstring saying what it owns and what it refuses"
    assert len(first.split()) >= 4, f"{path}: {first!r} says too little"
