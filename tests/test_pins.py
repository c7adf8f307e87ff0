"""The versions that everybody gets."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_space_is_given_the_gradio_that_the_tests_ran_with():
    pinned = re.search(r"^gradio==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)[1]
    assert f"\nsdk_version: {pinned}\n" in (ROOT / "README.md").read_text("utf-8")
