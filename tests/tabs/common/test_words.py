import json
import re
from types import SimpleNamespace

import pytest

from tabs.common.words import T, catalogue, say


@pytest.fixture(scope="module")
def page(built):
    """What a browser is told of the whole page, as text."""
    with built() as (_, page):
        return json.dumps(page.get_config_file(), ensure_ascii=False, default=str)


def asking(languages):
    return SimpleNamespace(headers={"accept-language": languages})


def test_every_word_has_both_languages(page):
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() <= chinese.keys()  # which also has the library's sentences, by their English
    assert all(english.values()) and all(chinese.values())
    chinese_signs = [text for text in english.values() if any("一" <= sign <= "鿿" for sign in text)]
    assert not chinese_signs, "These are in the wrong column."


def test_all_that_the_page_leaves_to_the_browser_to_translate_has_words(page):
    keys = set(re.findall(r"translation_metadata\W+key\W+(\w+)", page))
    assert len(keys) > 100 and keys <= catalogue("en").keys()


def test_the_page_shows_no_bare_keys(page):
    config = json.loads(page)
    shown = {"label", "info", "placeholder", "value"}
    texts = {
        text
        for part in config["components"]
        for name, text in part["props"].items()
        if name in shown and isinstance(text, str) and part["type"] not in ("radio", "dropdown")  # their values are
    }
    assert not texts & {key for key in catalogue("en") if "_" in key}


def test_toasts_speak_the_language_of_the_browser():
    assert say(asking("zh-CN,zh;q=0.9,en;q=0.8"), "no_pictures").startswith("请")
    assert say(asking("en-US,en;q=0.9,zh;q=0.1"), "no_pictures").startswith("Generate")
    assert say(None, "step", index=2, count=5) == "Step 2 of 5"


def test_an_unknown_key_is_an_error():
    for words in (T, lambda key: say(None, key)):
        with pytest.raises(KeyError):
            words("nonsense")
