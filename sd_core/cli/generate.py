"""`python -m sd_core generate`: prompts into picture files."""

import random
import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from sd_core.cli.common import check_there, load_model
from sd_core.errors import UserError
from sd_core.generation.request import DEFAULT_GUIDANCE, DEFAULT_SAMPLER, DEFAULT_STRENGTH


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw. Words the model does not know are named and left out.")],
    count: Annotated[int, typer.Option(help="How many pictures; picture i has the seed SEED + i.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for the PNGs, which carry their settings.")] = Path("outputs"),
    model: Annotated[
        str, typer.Option(help="A released model, runs/NAME, a checkpoint's folder, or USER/MODEL on the Hub.")
    ] = "characters",
    negative: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    sampler: Annotated[str, typer.Option(help="dpmpp_2m, euler (= DDIM), euler_ancestral or heun.")] = DEFAULT_SAMPLER,
    steps: Annotated[
        int | None, typer.Option(help="Noise levels on the way to a clean picture; by default the model's.")
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="How closely to follow the prompt; 1 is no guidance.")
    ] = DEFAULT_GUIDANCE,
    seed: Annotated[int | None, typer.Option(help="Makes a picture again; by default a new one.")] = None,
    start: Annotated[Path | None, typer.Option(help="A picture to start from (image to image).")] = None,
    strength: Annotated[
        float, typer.Option(help="How much of that picture is drawn anew, up to 1.")
    ] = DEFAULT_STRENGTH,
) -> None:
    """Draw pictures for a prompt."""
    from sd_core.generation.infotext import save_pictures
    from sd_core.generation.pipeline import generate
    from sd_core.generation.request import GenerationRequest
    from sd_core.pictures.decoding import fit_picture, open_picture
    from sd_core.pictures.pixels import to_float

    if out.is_file():
        raise UserError(f"{out} is a file; the pictures need a folder.")
    check_there(start)
    loaded = load_model(model)
    if unknown := loaded.vocabulary.read(prompt + " " + negative).unknown:
        print(f"This model never learnt: {', '.join(unknown)}.", file=sys.stderr)
    for name, text in (("prompt", prompt), ("negative prompt", negative)):
        if loaded.vocabulary.read(text).cut:
            print(f"The {name} is longer than the model reads; its end is left out.", file=sys.stderr)
    request = GenerationRequest(
        prompt=prompt,
        negative_prompt=negative,
        count=count,
        sampler=sampler,
        steps=loaded.config.usual_steps if steps is None else steps,
        guidance=guidance,
        seed=random.randrange(2**32) if seed is None else seed,
        start=None if start is None else to_float(fit_picture(open_picture(start), loaded.config.resolution)),
        strength=strength,
    )
    out.mkdir(parents=True, exist_ok=True)  # before anything is drawn that could not be kept
    for step in tqdm(
        generate(loaded, request), total=len(request.sigmas(loaded.config)) - 1, unit="step", disable=None
    ):
        last = step
    for path in save_pictures(loaded.codec.decode(last.x), request, request.noises(), _written_name(model), out):
        print(path)


def _written_name(model: str) -> str:
    """The name of a model in the settings of its pictures: the one that the page's picker shows, if it has it, and else
    none of those, so that another model is not taken for a released one."""
    from sd_core.models.registry import ModelRegistry

    registry, folder = ModelRegistry(), Path(model)
    if model in registry.names() or not folder.is_dir():  # one on the Hub
        return model
    return registry.name_of(folder) or "/".join(folder.resolve().parts[-2:])
