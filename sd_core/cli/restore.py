"""`python -m sd_core restore`: a damaged picture, or a folder of them, repaired."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from sd_core.cli.common import check_there, load_model
from sd_core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sd_core.restoration.folder import Outcome


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
    from sd_core.diffusion.noise import check_seed
    from sd_core.pictures.masks import read_mask
    from sd_core.pictures.original import NOTES, open_original
    from sd_core.restoration.folder import repair_folder
    from sd_core.restoration.job import Repairer, SquareRepairer, proposed_mask
    from sd_core.restoration.region import CropBox
    from sd_core.restoration.request import RestoreRequest

    check_seed(seed)
    if not picture.is_dir():
        _check_target(picture, out, mask)
    loaded = load_model(model, ("restorer", "generator"))
    finder = loaded
    if loaded.config.kind == "generator":
        if whole or strength != 1 or upscale != 1:
            raise UserError("Strength, enlarging and --whole are for restorers; this model is a generator.")
        finder = load_model("restorer", ("restorer",)) if find else None
        repair = SquareRepairer(loaded, square and CropBox(*square), prompt, sigma, steps, seed, finder, fill)
    else:
        if square or prompt:
            raise UserError("A square and a prompt are for generators; this model is a restorer.")
        if (mask or find) and not whole and (sigma is not None or strength != 1):
            raise UserError("A noise level and a strength are for cleaning the whole picture; add --whole.")
        request = RestoreRequest(
            whole=whole or (mask is None and not find),
            sigma=sigma,
            strength=strength,
            upscale=upscale,
            steps=1 if steps is None else steps,
            seed=seed,
        )
        repair = Repairer(loaded, request, find, fill)
    if picture.is_dir():
        looked_for = partial(proposed_mask, finder, fill=fill) if find and not whole else None
        _tell(repair_folder(picture, out, repair, mask, again, looked_for, marked_only=not whole), out)
        return
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


def _tell(outcomes: "Iterator[Outcome]", out: Path) -> None:
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
