"""Captions: where they are found beside pictures, and how words are put together."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sd_core.pictures.archive import Files, Skipped

METADATA = "metadata.jsonl"
MOST_CAPTION = 5_000  # characters: models read a few hundred
MOST_LABEL = 200  # of the name of a class
MOST_CAPTION_BYTES, MOST_METADATA_BYTES = 64 * 2**10, 64 * 2**20  # read of a file, and of all such files
MOST_LINES, MOST_NAMED = 1_000_000, 1_000  # in a metadata.jsonl, and of those that are of no use
HANDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)  # in a caption that a mirrored picture makes untrue
_NOT_CLASSES = frozenset(
    "train training test val valid validation images image img imgs pictures photos data dataset raw".split()
)


def caption_of(files: Files, name: str, texts: dict[str, str], template: str) -> str:
    """The caption of the picture `name`.

    texts: what `read_metadata` found. template: as for `open_folder`.
    """
    if name in texts:
        return sound(texts[name])
    path = PurePosixPath(name)
    beside = path.with_suffix(".txt").as_posix()
    if beside in files.name_set:
        return _one_line(read_text(files, beside))[:MOST_CAPTION]
    for folder in path.parts[-2::-1]:
        if folder.lower() not in _NOT_CLASSES:
            label = _one_line(re.sub(r"[_-]", " ", sound(folder)))
            return _of_class(label[:MOST_LABEL], template[:MOST_CAPTION])
    return ""


def _of_class(label: str, template: str) -> str:
    """The caption of a class. Both signs at once, since a label may have such signs, too."""
    named = {"{a}": with_article(label), "{}": label}
    return re.sub(r"\{a?\}", lambda sign: named[sign[0]], template)[:MOST_CAPTION]


def sound(text: str) -> str:
    """A text with "?" for what is no character: half of an emoji, or bytes in a file's name that mean nothing."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_metadata(files: Files) -> tuple[dict[str, str], list[Skipped]]:
    """The captions in every metadata.jsonl, by picture, and the lines that are of no use, of which some are named."""
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    left = MOST_METADATA_BYTES
    for name in files.names:
        path = PurePosixPath(name)
        if path.name != METADATA or left <= 0:
            continue
        text = read_text(files, name, left)
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


def read_text(files: Files, name: str, most: int = MOST_CAPTION_BYTES) -> str:
    """The first `most` bytes of a text file; nothing, if it cannot be read."""
    try:
        return files.read(name, most).decode("utf-8-sig", errors="replace")
    except Exception:  # a broken archive fails in many ways
        return ""


def side_by_side(files: Sequence[Path]) -> dict[Path, str]:
    """Names under which files from several folders can lie in one, each caption beside its own picture.

    The second a.png becomes "a (2).png", and its caption "a (2).txt". Which a.png a caption belongs to is known by the
    folder they share or, where there are as many captions as pictures, by their order. A caption of which it is not
    known is left out, since a wrong one is worse than none.
    """
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_stem[file.stem].append(file)
    named = {}
    for stem, same in by_stem.items():
        captions = [file for file in same if file.suffix.lower() == ".txt"]
        groups: list[list[Path]] = []  # the first a.png and the first a.jpg, the second ones, ...
        counts = Counter()
        for file in (file for file in same if file not in captions):
            if counts[file.name] == len(groups):
                groups.append([])
            groups[counts[file.name]].append(file)
            counts[file.name] += 1
        for index, caption in enumerate(captions):
            own = [group for group in groups if any(file.parent == caption.parent for file in group)]
            if not own and len(captions) == len(groups):
                own = [groups[index]]
            if own:
                own[0].append(caption)
        number = 1
        for group in groups:
            while number > 1 and f"{stem} ({number})" in by_stem:
                number += 1
            new = stem if number == 1 else f"{stem} ({number})"
            named |= {file: f"{new}{file.suffix}" for file in group}
            number += 1
    return named


def _one_line(text: str) -> str:
    return " ".join(text.split())


def with_article(noun: str) -> str:
    """ "airplane" -> "an airplane", "red hat" -> "a red hat"; by spelling, which is right for plain nouns."""
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o", "u") else f"a {noun}"
