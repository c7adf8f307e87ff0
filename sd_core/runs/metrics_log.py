"""A run's metrics.jsonl: one line per logged step, appended by one process while others read it.

A crash may tear a line, so what is no whole JSON object with a step is left out. A file of a million lines is not read
whole to be drawn: lines are picked by seeking.
"""

import json
import os
from pathlib import Path

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
            opened.truncate(_end(opened, step))


def _sampled(file: Path, most: int) -> list[dict]:
    found: dict[int, dict] = {}  # by where each line begins
    with open(file, "rb", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        for i in range(most):
            _add(found, opened, i * size // most)
        _add_last(found, opened, size)
    return [found[begin] for begin in sorted(found)]


def _add(found: dict[int, dict], opened, position: int) -> None:
    """Adds the first whole line that begins after `position`, or at the beginning of the file."""
    opened.seek(position)
    text = opened.read(REACH)
    begin = text.find(b"\n") + 1 if position else 0
    end = text.find(b"\n", begin)
    values = _values(text[begin:end]) if end > begin else None
    if values is not None:
        found[position + begin] = values


def _add_last(found: dict[int, dict], opened, size: int) -> None:
    """Adds the last whole line of the file."""
    start = max(0, size - REACH)
    opened.seek(start)
    text = opened.read(REACH)
    end = len(text)
    while (end := text.rfind(b"\n", 0, end)) >= 0:
        begin = text.rfind(b"\n", 0, end) + 1
        values = _values(text[begin:end]) if begin or not start else None
        if values is not None:
            found[start + begin] = values
            return


def _end(opened, step: int) -> int:
    """Where the last whole line of at most `step` ends."""
    size = os.fstat(opened.fileno()).st_size
    block = BLOCK
    while True:
        start = max(0, size - block)
        opened.seek(start)
        text = opened.read(size - start)
        end = len(text)
        while (end := text.rfind(b"\n", 0, end)) >= 0:
            begin = text.rfind(b"\n", 0, end) + 1
            if begin == 0 and start:  # may begin before what was read
                break
            values = _values(text[begin:end])
            if values is not None and values["step"] <= step:
                return start + end + 1
        if start == 0:
            return 0
        block *= 4


def _values(line: bytes) -> dict | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
