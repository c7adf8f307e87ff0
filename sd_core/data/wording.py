"""Small words in captions."""

from __future__ import annotations


def with_article(noun: str) -> str:
    """ "airplane" -> "an airplane", "red hat" -> "a red hat"; by spelling, which is right for plain nouns."""
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o", "u") else f"a {noun}"
