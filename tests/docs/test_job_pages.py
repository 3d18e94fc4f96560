"""A page per job: it names every parameter that the job has, and answers the four questions."""

import re

import pytest

import jobs
from tests.conftest import ROOT
from worker import REGISTRY, load_settings
from worker.main import load_declared

PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "jobs").glob("*.md"))}
QUESTIONS = ("What it locks", "What it costs", "How it resumes", "What bad input gets")
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_every_parameter(name: str) -> None:
    """The first table of a page has a row for each parameter of its job, and no other."""
    load_declared(load_settings(jobs="jobs"))
    rows = re.search(r"^\| parameter \| means \|\n\|---\|---\|\n((?:\|[^\n]*\n)+)", PAGES[name], re.MULTILINE)
    named = {
        parameter
        for cell in re.findall(r"^\| ([^|]*) \|", rows[1] if rows else "", re.MULTILINE)
        for parameter in re.findall(r"`(\w+)`", cell)
    }
    assert named == set(REGISTRY.get(name).names)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_answers_the_four_questions(name: str) -> None:
    """What a job locks and costs, how it resumes and what bad input gets are sections of its page."""
    assert [title for title in re.findall(r"^## (.*)$", PAGES[name], re.MULTILINE) if title in QUESTIONS] == [
        *QUESTIONS
    ]


def test_every_shipped_job_has_a_page() -> None:
    """No job is without one."""
    assert set(PAGES) == set(jobs.__all__)


def test_the_readme_has_a_line_a_job() -> None:
    """The README links to the page of every job that has one."""
    assert set(re.findall(r"^\| \[`(\w+)`\]\(docs/jobs/\1\.md\) \|", README, re.MULTILINE)) == set(PAGES)
