"""Captions: where they are found beside pictures, and how words are put together."""

import json
import re
from pathlib import PurePosixPath

from sd_core.pictures.archive import Files, Skipped

METADATA = "metadata.jsonl"
_NOT_CLASSES = {"train", "training", "test", "val", "valid", "validation", "images", "image", "img", "imgs", "pictures"}
_HANDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def _caption(files: Files, name: str, texts: dict[str, str], template: str) -> str:
    if name in texts:
        return texts[name]
    path = PurePosixPath(name)
    beside = path.with_suffix(".txt").as_posix()
    if beside in files.name_set:
        return _one_line(_text(files, beside))
    for folder in path.parts[-2::-1]:
        if folder.lower() not in _NOT_CLASSES:
            label = _one_line(re.sub(r"[_-]", " ", folder))
            return template.replace("{a}", with_article(label)).replace("{}", label)
    return ""


def _metadata(files: Files) -> tuple[dict[str, str], list[Skipped]]:
    """The captions in every metadata.jsonl, by picture, and the lines that are of no use."""
    texts: dict[str, str] = {}
    skipped = []
    for name in files.names:
        path = PurePosixPath(name)
        if path.name != METADATA:
            continue
        for number, line in enumerate(_text(files, name).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                picture, text = entry["file_name"], entry.get("text")
                picture = (path.parent / picture).as_posix()
            except (ValueError, KeyError, TypeError, AttributeError):
                skipped.append(Skipped(f"{name}, line {number}", "not a JSON object with a file_name"))
                continue
            if picture not in files.name_set:
                skipped.append(Skipped(picture, f"listed in {name}, but missing"))
            elif isinstance(text, str):
                texts[picture] = text
    return texts, skipped


def _text(files: Files, name: str) -> str:
    try:
        return files.read(name).decode("utf-8-sig", errors="replace")
    except Exception:  # see _decoded
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def with_article(noun: str) -> str:
    """ "airplane" -> "an airplane", "red hat" -> "a red hat"; by spelling, which is right for plain nouns."""
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o", "u") else f"a {noun}"
