"""Documentation pages as what they tell a reader to do: files to write, commands to type, statements to send.

The conventions of a page's fenced blocks, in order:

- `python` that begins with `# name.py`, and `csv name.csv`, `json name.ndjson` or the like, are files; one that begins
  with `# name.py, continued` is the rest of one.
- `sh` holds commands, typed one after the other; `sql` holds one statement.
- `json` or `text` right after one of these is what it prints. Of an object only the members that are shown count, and
  `…` stands for any text, so that ids, moments and durations can be left out.

Owns reading pages and comparing outputs. Refuses to run anything: `tests.support.reader` does.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

OUTPUTS: Final = frozenset({"json", "text"})
"""Languages of blocks that show what was printed."""

_FENCE: Final = re.compile(r"^```(\w*)(?: ([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED: Final = re.compile(r"# ([\w./-]+\.py)(, continued)?\n")
_TESTS: Final = re.compile(r"((?:`test_\w+`(?:\s+and\s+)?)+)\s+in\s+`(tests/[\w/]+\.py)`")
_COMMENT: Final = re.compile(r"(?:^|\s+)#\s.*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: as the fence says.
        name: of the file that it is; empty for none.
        code: what it holds.
        line: where it begins in its page.
        shown: the output that stands right after it; None for none.
        shown_as: that one's language.
        more: whether it is the rest of a file.
    """

    language: str
    name: str
    code: str
    line: int
    shown: str | None = None
    shown_as: str = ""
    more: bool = False

    @property
    def runs(self) -> bool:
        """Whether a reader does anything with it: a file, commands or a statement."""
        return bool(self.name) or self.language in {"sh", "sql"}

    @property
    def fails(self) -> bool:
        """Whether the page shows a command that does not end well."""
        if self.shown_as == "json":
            shown = json.loads(self.shown or "null")
            return isinstance(shown, dict) and shown.get("status") in {"failed", "cancelled"}
        return re.search("^error: ", self.shown or "", re.MULTILINE) is not None


@dataclass(frozen=True)
class Page:
    """A page, as text."""

    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        """Its blocks in order; an output is part of the block that prints it."""
        found: list[Block] = []
        ended = 0
        for match in _FENCE.finditer(self.text):
            language, name, code = match[1], match[2] or "", match[3]
            between = self.text[ended : match.start()]
            ended = match.end()
            before = found[-1] if found else None
            if before and language in OUTPUTS and not name and before.runs and not before.name and not between.strip():
                found[-1] = Block(before.language, "", before.code, before.line, code, language)
                continue
            named = _NAMED.match(code) if language == "python" else None
            line = self.text.count("\n", 0, match.start()) + 1
            found.append(Block(language, named[1] if named else name, code, line, more=bool(named and named[2])))
        return found

    @property
    def modules(self) -> list[str]:
        """Its modules of Python, without the programs that its commands start."""
        named = [block.name for block in self.blocks if block.name.endswith(".py") and not block.more]
        started = {word for words in self.commands for word in words}
        return [name.removesuffix(".py") for name in named if name not in started]

    @property
    def exports(self) -> dict[str, str]:
        """The settings that it exports."""
        told = [words[1:] for words in self.commands if words[0] == "export"]
        return dict(word.split("=", 1) for words in told for word in words)

    @property
    def commands(self) -> list[list[str]]:
        """Its commands, in order, each as words."""
        return [words for block in self.blocks for words in commands(block)]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a `sh` block, each as words; quotes and a backslash at a line's end go on. Others have none."""
    waiting = ""
    for line in block.code.splitlines() if block.language == "sh" else ():
        waiting += line if waiting else _COMMENT.sub("", line)
        if waiting.endswith("\\"):
            waiting = waiting[:-1]
            continue
        try:
            words = shlex.split(waiting)
        except ValueError:  # a quote is open
            waiting += "\n"
            continue
        waiting = ""
        if words:
            yield words


def named_tests(text: str) -> list[tuple[str, str]]:
    """Each test that a text names, as "`test_one` and `test_two` in `tests/unit/test_x.py`", with its file."""
    return [(test, path) for names, path in _TESTS.findall(text) for test in re.findall(r"`(test_\w+)`", names)]


def fits(shown: object, found: object) -> bool:
    """Whether what was found is what a page shows of it: of an object its shown members, of a text the rest."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(name in found and fits(shown[name], found[name]) for name in shown)
    if isinstance(shown, list):
        return (
            isinstance(found, list)
            and len(shown) == len(found)
            and all(fits(one, other) for one, other in zip(shown, found, strict=True))
        )
    if isinstance(shown, str) and isinstance(found, str):
        return text_fits(shown, found)
    return shown == found and type(shown) is type(found)


def text_fits(shown: str, found: str) -> bool:
    """Whether a text is what a page shows of it, however lines are broken; `…` stands for any text."""
    parts = (re.escape(" ".join(part.split())) for part in shown.split("…"))
    pattern = r"\s*.*?\s*".join(parts)
    return re.fullmatch(pattern, " ".join(found.split()), re.DOTALL) is not None
