import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

from tabs.common import words
from tabs.common.words import T, say
from tabs.generate import tab as generate  # whichever is imported adds its words
from tabs.restore import tab as restore
from tabs.train import tab as train

TABS = Path(words.__file__).parent.parent
assert generate and restore and train


def asking(languages):
    return SimpleNamespace(headers={"accept-language": languages})


def test_every_key_has_words_in_both_languages():
    english, chinese = words.I18N.translations["en"], words.I18N.translations["zh"]
    assert english.keys() == chinese.keys()
    assert all(english.values()) and all(chinese.values())
    chinese_signs = [text for text in english.values() if any("一" <= sign <= "鿿" for sign in text)]
    assert not chinese_signs, "These are in the wrong column."


def test_every_key_the_tabs_use_exists():
    for file in [*TABS.rglob("*.py"), TABS.parent / "app.py"]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("T", "say"):
                for argument in node.args:
                    if isinstance(argument, ast.Constant):
                        assert argument.value in words.I18N.translations["en"], f"{file.name}: {argument.value}"


def test_toasts_speak_the_language_of_the_browser():
    assert say(asking("zh-CN,zh;q=0.9,en;q=0.8"), "no_pictures").startswith("请")
    assert say(asking("en-US,en;q=0.9,zh;q=0.1"), "no_pictures").startswith("Generate")
    assert say(None, "step", index=2, count=5) == "Step 2 of 5"


def test_an_unknown_key_is_an_error():
    with pytest.raises(KeyError):
        T("nonsense")
