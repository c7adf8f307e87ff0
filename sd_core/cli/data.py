"""`python -m sd_core data`: pictures packed for training."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from sd_core.cli.common import STYLE_HELP
from sd_core.errors import UserError


def pack(
    source: Annotated[str, typer.Argument(help="characters, cifar10, or a folder or .zip of pictures.")],
    out: Annotated[Path, typer.Argument(help="The .zip to write.")],
    resolution: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    style: Annotated[list[str] | None, typer.Option(help=STYLE_HELP)] = None,
    count: Annotated[int | None, typer.Option(help="How many pictures to use.")] = None,
    caption_template: Annotated[str, typer.Option(help='For class folders: "a photo of {a}".')] = "{}",
) -> None:
    """Write a data set as one .zip of PNGs and captions, to train on anywhere."""
    from sd_core.data import pack as write
    from sd_core.data.sources import open_data

    if out.suffix != ".zip":
        raise UserError(f"The packed set is a .zip; {out} does not end in .zip.")
    with tqdm(unit="picture", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        pictures = open_data(
            source, resolution, count=count, styles=style or None, caption_template=caption_template, progress=progress
        )
        bar.reset(len(pictures))
        write(pictures, out, progress=progress)
    for skipped in pictures.skipped:
        print(f"Skipped {skipped.file}: {skipped.reason}", file=sys.stderr)
    print(f"{out}: {len(pictures):,} pictures of {resolution}×{resolution}")
