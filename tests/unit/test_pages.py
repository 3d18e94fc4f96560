"""How pages are read: which blocks are files, commands and outputs, and when what was printed is what is shown."""

import pytest

from tests.support.pages import Page, commands, fits, text_fits

PAGE = Page(
    """# A page

```python
# shop_models.py
class Order: ...
```

```python
# shop_models.py, continued
class Item: ...
```

```csv orders.csv
id
```

```sh
export WORKER_MODELS=shop_models   # and more
python tell.py
heavylift enqueue one \\
    --wait '{"table":
        "orders"}'
```

```json
{"status": "succeeded"}
```

```python
# tell.py
print(1)
```

Not an output, for a text stands between:

```text
heavylift
```
"""
)


def test_blocks_in_order() -> None:
    """Files have names, an output belongs to the commands right before it, and the rest is no part of either."""
    found = [(block.language, block.name, block.more, block.shown_as, block.runs) for block in PAGE.blocks]
    assert found == [
        ("python", "shop_models.py", False, "", True),
        ("python", "shop_models.py", True, "", True),
        ("csv", "orders.csv", False, "", True),
        ("sh", "", False, "json", True),
        ("python", "tell.py", False, "", True),
        ("text", "", False, "", False),
    ]


def test_commands_go_on_over_lines() -> None:
    """A backslash and an open quote continue a command; a comment is none."""
    assert list(commands(PAGE.blocks[3])) == [
        ["export", "WORKER_MODELS=shop_models"],
        ["python", "tell.py"],
        ["heavylift", "enqueue", "one", "--wait", '{"table":\n        "orders"}'],
    ]


def test_what_a_page_sets_up() -> None:
    """Programs that are started are no modules; what is exported is a setting."""
    assert PAGE.modules == ["shop_models"]
    assert PAGE.exports == {"WORKER_MODELS": "shop_models"}


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, True),
        ([1], [1, 2], False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        (1, True, False),
        (1, 1.0, False),
        (None, 0, False),
        ({"why": "no … here"}, {"why": "no such thing here"}, True),
        ({"why": "no … there"}, {"why": "no such thing here"}, False),
    ],
)
def test_of_an_object_the_shown_members_count(shown: object, found: object, same: bool) -> None:  # noqa: FBT001 - a table of cases
    """Lists are whole, types are the same, and nothing that is shown may be missing or other."""
    assert fits(shown, found) is same


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ("a b", "a\n  b\n", True),
        ("a b", "a b c", False),
        ("a … c", "a b c", True),
        ("a …", "a", True),
        ("1.0", "1x0", False),
        ("", "a", False),
    ],
)
def test_texts_are_whole(shown: str, found: str, same: bool) -> None:  # noqa: FBT001 - a table of cases
    """Only line breaks and what an ellipsis stands for may differ."""
    assert text_fits(shown, found) is same
