"""Array literals: PostgreSQL must read back the same texts, quoted all at once or one by one."""

from __future__ import annotations

import pytest

from deeper_tasks.backends.postgres.codec import text_array


@pytest.mark.parametrize(
    ("texts", "literal"),
    [
        ([], "{}"),
        (["a", "b c", ""], '{"a","b c",""}'),
        (["a", None], '{"a",NULL}'),
        (['say "x"', "y"], '{"say \\"x\\"","y"}'),
        (["a\\b"], '{"a\\\\b"}'),
        (["a\0b"], '{"a\N{REPLACEMENT CHARACTER}b"}'),
        (['","'], '{"\\",\\""}'),
    ],
)
def test_texts_are_quoted_the_same_with_and_without_special_characters(texts: list[str | None], literal: str) -> None:
    assert text_array(iter(texts)) == literal
