"""Every example of the docs is run, and what it is said to print is what it prints."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = sorted(
    [*_ROOT.glob("*.md"), *(page for page in (_ROOT / "docs").rglob("*.md") if "decisions" not in page.parts)]
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_examples_of_a_page_do_what_it_says(page, play):
    play(page)


def test_blocks_of_a_page_share_their_names_and_its_files(play):
    folder = play("""
```python title="shop.py"
price = 3
```
```python
import shop
total = shop.price * 2
```
```python
print("the total is", total)
```
```text output
the … is 6
```
```console
$ python -c 'import shop; print(shop.price)'
3
```
""")
    assert (folder / "shop.py").exists()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("```python\n1 / 0\n```", "ZeroDivisionError"),
        ("```python\nprint(1)\n```\n```text output\n2\n```", "'2' is not among"),
        ("```console\n$ false\n```", "ended with 1"),
        ("```console\n$ echo one\ntwo\n```", "'two' is not among"),
        ("```console background\n$ false\n```", "ended with 1"),
        ("```python test\ndef test_it():\n    assert False\n```", "1 failed"),
        ("```python no-run\nno Python\n```", "invalid syntax"),
    ],
)
def test_an_example_that_does_not_hold_fails(page, words, play):
    with pytest.raises((AssertionError, SyntaxError), match=words):
        play(page + "\n")
