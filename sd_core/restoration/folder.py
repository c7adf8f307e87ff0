"""A whole folder of pictures repaired, one file after the other.

It can be stopped at any time and started again: what is done is left alone, and nothing half written is ever seen.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from sd_core.atomic import replacing
from sd_core.errors import UserError, is_out_of_memory, logged
from sd_core.pictures.archive import FolderFiles
from sd_core.pictures.decoding import FORMATS
from sd_core.pictures.masks import read_mask
from sd_core.pictures.original import Original, open_original

Repair = Callable[[Original, np.ndarray | None], Original]
"""Repairs one picture: (original, mask bool [H, W], or None for the whole picture) -> repaired."""
Find = Callable[[Original], np.ndarray]
"""Finds the damage of one picture: a mask, bool [H, W]."""
NOTHING_FOUND = ".nothing-found"  # in the folder of copies: names of pictures in which no damage was found


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        file: the picture.
        target: where its repaired copy is, or would have been.
        state: done; skipped: nothing was to do; or failed.
        reason: why it was skipped or failed, in one sentence; empty when done.
        index, count: that this is file `index` (from 0) of `count`.
        notes: keys of `original.NOTES`, of a copy that is done.
    """

    file: Path
    target: Path
    state: Literal["done", "skipped", "failed"]
    reason: str
    index: int
    count: int
    notes: tuple[str, ...] = ()


def repair_folder(
    source: Path | str,
    out: Path | str,
    repair: Repair,
    masks: Path | str | None = None,
    again: bool = False,
    find: Find | None = None,
    marked_only: bool = True,
) -> Iterator[Outcome]:
    """Repairs every picture in a folder and below.

    The copies are PNGs of the same relative names: x/a.jpg becomes x/a.png. Where a second file would get that name
    (a.jpg beside a.png), those which are no PNGs become a.jpg.png. What is done is known by the copy's name alone, so
    that a picture which comes later and gets the name of an old copy counts as done. `out` may lie inside `source`,
    and is then no part of it. Hidden files, and what has no suffix of a picture, are left out.

    Args:
        source: the folder to repair. Nothing in it is written to.
        out: the folder for the copies; it is made if there is none.
        repair: what to do with each picture.
        masks: a folder with a mask for each picture, named as its copy (x/a.png) or as itself (x/a.jpg). A picture
            without one is skipped.
        again: repairs again what is in `out` already, and looks again where no damage was found.
        find: looks for the damage where there are no masks. A picture in which it finds nothing is skipped, and not
            looked at again.
        marked_only: whether the repair is of marks alone, so that a picture whose mask is empty is skipped.

    Yields:
        An `Outcome` for each picture, in the order of their names. One that fails does not stop the rest.

    Raises:
        UserError: at once, where folders are missing or empty, or `out` could overwrite an input.
    """
    source, out, masks = Path(source), Path(out), None if masks is None else Path(masks)
    _check_folders(source, out, masks)
    inside = [folder.resolve() for folder in (out, masks) if folder is not None]
    names = [
        name
        for name in FolderFiles(source).names
        if PurePosixPath(name).suffix.lower() in _suffixes()
        and not any((source / name).parent.resolve().is_relative_to(folder) for folder in inside)
    ]
    if not names:
        raise UserError(f"There are no pictures in {source}.")
    return _Walk(source, out, masks, repair, find, marked_only, again).outcomes(_targets(names))


def _check_folders(source: Path, out: Path, masks: Path | None) -> None:
    for folder in (source, masks):
        if folder is not None and not folder.is_dir():
            raise UserError(f"There is no folder {folder}.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; the repaired pictures need a folder.")
    check_parents(out)
    there, to = source.resolve(), out.resolve()
    if there.is_relative_to(to):
        raise UserError(f"The repaired pictures could replace those in {source}; choose another folder for them.")
    if masks is not None:
        marks = masks.resolve()
        if marks.is_relative_to(to) or to.is_relative_to(marks):
            raise UserError(f"The repaired pictures could replace masks in {masks}; choose another folder for them.")
        if there.is_relative_to(marks):
            raise UserError(f"The masks in {masks} and the pictures in {source} need folders of their own.")


def check_parents(out: Path) -> None:
    """Raises UserError if nothing can be written there, since a folder above it is a file."""
    for parent in out.parents:
        if parent.is_file():
            raise UserError(f"{parent} is a file and not a folder, so that {out} cannot be written.")


def _suffixes() -> frozenset[str]:
    Image.init()
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS)


def _targets(names: list[str]) -> dict[str, str]:
    """The name of each file's copy. Names that differ in case alone count as the same, as they do on some systems."""
    plain = {name: str(PurePosixPath(name).with_suffix(".png")) for name in names}
    wanted = Counter(target.casefold() for target in plain.values())
    targets = {name: name for name in names if plain[name] == name}
    taken = {target.casefold() for target in targets}
    for name in names:
        if name in targets:
            continue
        target = plain[name] if wanted[plain[name].casefold()] == 1 else f"{name}.png"
        number = 2
        while target.casefold() in taken:
            target, number = f"{name}-{number}.png", number + 1
        targets[name] = target
        taken.add(target.casefold())
    return {name: targets[name] for name in names}


@dataclass(frozen=True)
class _Walk:
    """One repair of a folder; its attributes are as for `repair_folder`."""

    source: Path
    out: Path
    masks: Path | None
    repair: Repair
    find: Find | None
    marked_only: bool
    again: bool

    def outcomes(self, targets: dict[str, str]) -> Iterator[Outcome]:
        found_nothing = self._found_nothing() if self.find and not self.masks and not self.again else set()
        for index, (name, target_name) in enumerate(targets.items()):
            file, target, notes = self.source / name, self.out / target_name, ()
            mask = self._mask_of(name, target_name) if self.masks else None
            if target.exists() and not self.again:
                state, reason = "skipped", "It is there already."
            elif name in found_nothing:
                state, reason = "skipped", "No damage was found in it before."
            elif self.masks and mask is None:
                called = " or ".join(dict.fromkeys((target_name, name)))
                state, reason = "skipped", f"There is no mask {called} in {self.masks}."
            else:
                try:
                    reason, notes = self._repaired(name, target, mask)
                    state = "skipped" if reason else "done"
                except Exception as error:  # whatever is wrong with one picture, the others are still to be repaired
                    state, reason = "failed", _sentence(error)
            yield Outcome(file, target, state, reason, index, len(targets), notes)

    def _mask_of(self, name: str, target_name: str) -> Path | None:
        """The file of a picture's mask, named as its copy or as itself."""
        return next((self.masks / each for each in (target_name, name) if (self.masks / each).is_file()), None)

    def _repaired(self, name: str, target: Path, mask_file: Path | None) -> tuple[str, tuple[str, ...]]:
        """Repairs a picture, and gives the reason why nothing was to do, if so, and its notes."""
        original, mask = open_original(self.source / name), None
        if mask_file:
            mask = read_mask(mask_file, original.size)
            if self.marked_only and not mask.any():
                return "Its mask marks nothing.", ()
        elif self.find:
            mask = self.find(original)
            if not mask.any():
                self._remember_nothing(name)
                return "No damage was found in it.", ()
        repaired = self.repair(original, mask)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(self.out.resolve()):
            raise UserError(f"{target.parent} is a link to another folder; nothing is written there.")
        with replacing(target) as new:
            repaired.save(new)
        return "", original.notes

    def _found_nothing(self) -> set[str]:
        """The pictures in which no damage was found before."""
        try:
            return set((self.out / NOTHING_FOUND).read_text("utf-8", "surrogateescape").splitlines())
        except OSError:
            return set()

    def _remember_nothing(self, name: str) -> None:
        """It is only for speed that they are remembered, so that failing to is no error."""
        with suppress(OSError):
            self.out.mkdir(parents=True, exist_ok=True)
            with open(self.out / NOTHING_FOUND, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{name}\n")


def _sentence(error: Exception) -> str:
    """What went wrong, as one line: what a user can cause as it is, what the machine refused with its kind, and of a
    bug the reference under which the log has it."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError) or is_out_of_memory(error):
        return f"It could not be repaired ({type(error).__name__}{': ' if text else ''}{text.rstrip('.')})."
    return f"It could not be repaired: something went wrong inside the program (reference {logged(error)})."
