"""A run's metrics.jsonl: one line per logged step, appended by one process while others read it.

A crash may tear a line, so what is no whole JSON object with a step is left out. A file of a million lines is not read
whole to be drawn: lines are picked by seeking.
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

READ_WHOLE = 1 << 20  # bytes: a larger file is sampled
REACH = 4096  # bytes, within which a line begins and ends
BLOCK = 1 << 16  # bytes read at a time from the end


def read(file: Path, most: int | None = None) -> list[dict]:
    """The logged steps, oldest first; about `most` of them, evenly spread, the last always among them."""
    try:
        if most and file.stat().st_size > READ_WHOLE:
            return _sampled(file, most)
        lines = file.read_bytes().splitlines()
    except OSError:  # none yet
        return []
    if most and len(lines) > most:
        lines = [lines[round((i + 1) * len(lines) / most) - 1] for i in range(most)]
    return [values for values in map(_values, lines) if values is not None]


def cut(file: Path, step: int) -> None:
    """Forgets what was logged after `step`, and a torn end, in one go."""
    if file.exists():
        with open(file, "r+b") as opened:
            opened.truncate(next((end for end, values in _backwards(opened) if values["step"] <= step), 0))


def _sampled(file: Path, most: int) -> list[dict]:
    found: dict[int, dict] = {}  # by where each line ends
    with open(file, "rb", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        for position in (i * size // most for i in range(most)):
            opened.seek(position)
            text = opened.read(REACH)
            begin = text.find(b"\n") + 1 if position else 0
            end = text.find(b"\n", begin) + 1
            if end and (values := _values(text[begin:end])) is not None:
                found[position + end] = values
        found |= islice(_backwards(opened), 1)
    return [found[end] for end in sorted(found)]


def _backwards(opened: BinaryIO) -> Iterator[tuple[int, dict]]:
    """Where each whole line ends, and its values, the last one first."""
    start, text = os.fstat(opened.fileno()).st_size, b""
    while start:
        begin = max(0, start - BLOCK)
        opened.seek(begin)
        text, start = opened.read(start - begin) + text, begin
        end = text.rfind(b"\n")
        while end >= 0:
            before = text.rfind(b"\n", 0, end)
            if before < 0 and start:  # the line may begin before what was read
                break
            if (values := _values(text[before + 1 : end])) is not None:
                yield start + end + 1, values
            end = before
        text = text[: end + 1]


def _values(line: bytes) -> dict | None:
    if not line.startswith(b"{"):  # soon said, of millions of lines that hold nothing
        return None
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
