"""Captions: where they are found beside pictures, and how words are put together."""

import json
import re
from pathlib import PurePosixPath

from sd_core.pictures.archive import Files, Skipped

METADATA = "metadata.jsonl"
MOST_CAPTION = 5_000  # characters: models read a few hundred
MOST_LABEL = 200  # of the name of a class
MOST_CAPTION_BYTES, MOST_METADATA_BYTES = 64 * 2**10, 64 * 2**20  # read of a file, and of all such files
MOST_LINES, MOST_NAMED = 1_000_000, 1_000  # in a metadata.jsonl, and of those that are of no use
_NOT_CLASSES = {"train", "training", "test", "val", "valid", "validation", "images", "image", "img", "imgs", "pictures"}
_HANDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def _caption(files: Files, name: str, texts: dict[str, str], template: str) -> str:
    if name in texts:
        return texts[name]
    path = PurePosixPath(name)
    beside = path.with_suffix(".txt").as_posix()
    if beside in files.name_set:
        return _one_line(_text(files, beside, MOST_CAPTION_BYTES))[:MOST_CAPTION]
    for folder in path.parts[-2::-1]:
        if folder.lower() not in _NOT_CLASSES:
            return _of_class(_one_line(re.sub(r"[_-]", " ", folder))[:MOST_LABEL], template[:MOST_CAPTION])
    return ""


def _of_class(label: str, template: str) -> str:
    """The caption of a class. Both signs at once, since a label may have such signs, too."""
    named = {"{a}": with_article(label), "{}": label}
    return re.sub(r"\{a?\}", lambda sign: named[sign[0]], template)[:MOST_CAPTION]


def _metadata(files: Files) -> tuple[dict[str, str], list[Skipped]]:
    """The captions in every metadata.jsonl, by picture, and the lines that are of no use, of which some are named."""
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    left = MOST_METADATA_BYTES
    for name in files.names:
        path = PurePosixPath(name)
        if path.name != METADATA or left <= 0:
            continue
        text = _text(files, name, left)
        left -= len(text)
        for number, line in enumerate(text.split("\n", MOST_LINES)[:MOST_LINES], start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                picture, caption = entry["file_name"], entry.get("text")
                picture = (path.parent / picture).as_posix()
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                useless = Skipped(f"{name}, line {number}", "not a JSON object with a file_name")
            else:
                useless = None if picture in files.name_set else Skipped(picture, f"listed in {name}, but missing")
                if not useless and isinstance(caption, str):
                    texts[picture] = caption[:MOST_CAPTION]
            if useless and len(skipped) < MOST_NAMED:
                skipped.append(useless)
    return texts, skipped


def _text(files: Files, name: str, most: int) -> str:
    try:
        return files.read(name, most).decode("utf-8-sig", errors="replace")
    except Exception:  # see _decoded
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def with_article(noun: str) -> str:
    """ "airplane" -> "an airplane", "red hat" -> "a red hat"; by spelling, which is right for plain nouns."""
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o", "u") else f"a {noun}"
