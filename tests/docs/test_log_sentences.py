"""The page of the log's sentences: none is missing, and each can be searched for."""

import re
import sys
from pathlib import Path

import pytest

from deeper_tasks.integrations.logs import level_of

_ROOT = Path(__file__).parents[2]
_LOGGER = r"(?:\b_?log(?:ger|ging)?|getLogger\([^)]*\))"
_CALL = re.compile(_LOGGER + r"\.(?:debug|info|warning|error|critical|exception|log)\(")
_EVENTS = "integrations/logs.py"


@pytest.fixture(scope="module")
def generated():
    sys.path.insert(0, str(_ROOT))
    from docs.generate import logs

    yield logs
    sys.path.remove(str(_ROOT))


def test_every_call_of_a_logger_in_the_source_is_on_the_page(generated):
    calling = {
        path.relative_to(generated.SOURCE).as_posix(): len(_CALL.findall(path.read_text("utf-8")))
        for path in generated.SOURCE.rglob("*.py")
    }
    listed = [module for _, _, module in generated.sentences()]
    assert {module for module, count in calling.items() if count} - {_EVENTS} == set(listed)
    assert [module for module, count in calling.items() if count > listed.count(module)] == [_EVENTS]
    page = generated.logs()
    for level, sentence, module in generated.sentences():
        assert f"| {level} | `{sentence}` | `{module}` |" in page


def test_every_event_that_is_logged_has_its_sentences_on_the_page(generated):
    words, page = generated.event_sentences(), generated.logs()
    assert words.keys() == {kind.__name__ for kind in generated.kinds() if level_of(kind) is not None}
    for sentences in words.values():
        assert sentences
        assert all(f"`{each}`" in page for each in sentences)


def test_a_sentence_begins_with_its_subject_and_has_fixed_words_to_search_for(generated):
    found = {sentence for _, sentence, _ in generated.sentences()}.union(*generated.event_sentences().values())
    for sentence in found:
        assert re.match(r"\w+", sentence), f"{sentence!r} begins with what differs from line to line"
        assert len(re.findall(r"[a-z]{3,}", sentence)) > 1, f"{sentence!r} has no fixed words"
