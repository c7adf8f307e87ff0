"""`python -m sd_core restore`: a damaged picture, or a folder of them, repaired."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from sd_core.cli.common import check_there, load_model
from sd_core.errors import UserError

if TYPE_CHECKING:
    from sd_core.restoration.folder import Outcome
    from sd_core.restoration.job import Repairer


def restore(
    picture: Annotated[Path, typer.Argument(help="A picture of any size, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The PNG to write, or the folder for them.")],
    mask: Annotated[
        Path | None,
        typer.Option(
            help="A PNG, white where the picture is lost; for a folder, a folder of them, each named as its picture: "
            "for scan.jpg it is scan.png or scan.jpg."
        ),
    ] = None,
    find: Annotated[bool, typer.Option(help="Look for the damage, and repair only that.")] = False,
    fill: Annotated[bool, typer.Option(help="What is transparent where it is repaired becomes opaque.")] = False,
    exemplars: Annotated[
        bool, typer.Option(help="A restorer fills wide holes with pieces from elsewhere in the picture.")
    ] = True,
    whole: Annotated[bool, typer.Option(help="With a mask: clean the rest of the picture too.")] = False,
    model: Annotated[
        str,
        typer.Option(
            help="A restorer; or a generator of such pictures, which works on a square: it draws anew what a mask or "
            "--find marks there, and else removes noise."
        ),
    ] = "restorer",
    square: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="LEFT TOP SIZE",
            help="Where a generator works, in pixels; by default the largest square, as near to the damage as can be.",
        ),
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="The noise level, 0-255; judged by default.")] = None,
    strength: Annotated[float, typer.Option(help="Of cleaning: 0 changes nothing, 1 is as judged, up to 2.")] = 1.0,
    upscale: Annotated[int, typer.Option(help="Enlarge 1, 2 or 4 times.")] = 1,
    steps: Annotated[
        int | None,
        typer.Option(
            help="1, the default, is the most faithful; more give more, partly invented, detail. "
            "A generator that draws anew takes 20 by default.",
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What the picture shows, for a generator.")] = "",
    seed: Annotated[int, typer.Option(help="Another seed, other details, where there is more than 1 step.")] = 0,
    again: Annotated[bool, typer.Option(help="For a folder: repair also what is in OUT already.")] = False,
) -> None:
    """Repair a picture: with a mask only what it marks, else the whole picture. For a folder, each one in it."""
    from sd_core.restoration.folder import repair_folder
    from sd_core.restoration.job import Repairer, usual_steps
    from sd_core.restoration.region import CropBox
    from sd_core.restoration.request import RestoreRequest

    if not picture.is_dir():
        _check_target(picture, out, mask)
    loaded = load_model(model, ("restorer", "generator"))
    if loaded.config.kind == "generator":
        if whole or strength != 1 or upscale != 1:
            raise UserError("Strength, enlarging and --whole are for restorers; this model is a generator.")
    else:
        if square or prompt:
            raise UserError("A square and a prompt are for generators; this model is a restorer.")
        if (mask or find) and not whole and (sigma is not None or strength != 1):
            raise UserError("A noise level and a strength are for cleaning the whole picture; add --whole.")
    cleans = whole or (mask is None and not find)
    request = RestoreRequest(
        whole=cleans,
        sigma=sigma,
        strength=strength,
        upscale=upscale,
        steps=usual_steps(loaded.config, cleans) if steps is None else steps,
        seed=seed,
        exemplars=exemplars,
        fill=fill,
        prompt=prompt,
        square=square and CropBox(*square),
    )
    finder = None
    if find:
        finder = loaded if loaded.config.kind == "restorer" else load_model("restorer", ("restorer",))
    repair = Repairer(loaded, request, finder)
    if picture.is_dir():
        find_first = repair.found if find and not whole else None
        _tell(repair_folder(picture, out, repair, mask, again, find_first, marked_only=not whole), out)
    else:
        _repair_one(repair, picture, out, mask)


def _repair_one(repair: "Repairer", picture: Path, out: Path, mask: Path | None) -> None:
    """Repairs a picture, and tells how it goes and what there is to tell of it."""
    from sd_core.pictures.masks import read_mask
    from sd_core.pictures.original import NOTES, open_original

    original = open_original(picture)
    marked = None if mask is None else read_mask(mask, original.size)
    with tqdm(unit="tile", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        repaired = repair(original, marked, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    repaired.save(out)
    for note in original.notes:
        print(NOTES[note], file=sys.stderr)
    print(out)


def _tell(outcomes: Iterator["Outcome"], out: Path) -> None:
    """Repairs a folder, and tells of each picture what there is to tell."""
    from sd_core.pictures.original import NOTES

    failed = 0
    with tqdm(unit="picture", disable=None) as bar:
        for outcome in outcomes:
            failed += outcome.state == "failed"
            for said in (outcome.reason, *(NOTES[note] for note in outcome.notes)):
                if said:
                    tqdm.write(f"{outcome.file}: {said}", file=sys.stderr)
            bar.total = outcome.count
            bar.update()
    if failed:
        pictures = "picture" if failed == 1 else "pictures"
        raise UserError(f"{failed} {pictures} could not be repaired; the others are in {out}.")


def _check_target(picture: Path, out: Path, mask: Path | None = None) -> None:
    from sd_core.restoration.folder import check_parents

    check_there(picture)
    check_there(mask)
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the file to write, such as {out / picture.stem}.png.")
    check_parents(out)
    if out.suffix.lower() != ".png":
        raise UserError(f"The repaired picture is a PNG; {out} does not end in .png.")
    if any(out.exists() and given and out.samefile(given) for given in (picture, mask)):
        raise UserError("The repaired picture would replace the damaged one or its mask; choose another --out.")
