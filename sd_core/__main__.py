"""The command line: python -m sd_core generate | restore | train | data."""

import os
import random
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from sd_core.data.character_styles import TRAINING_LOOKS
from sd_core.generation import DEFAULT_GUIDANCE, DEFAULT_SAMPLER, DEFAULT_STEPS, DEFAULT_STRENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sd_core.batch import Outcome
    from sd_core.denoiser import Denoiser
    from sd_core.runs import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Prepare pictures to train on.")
app.add_typer(data_app, name="data")

BAD_INPUT = 2
STYLE_HELP = f"A character style; may be given several times: {', '.join(look.style.name for look in TRAINING_LOOKS)}."


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw. Words the model does not know are named and left out.")],
    count: Annotated[int, typer.Option(help="How many pictures; picture i has the seed SEED + i.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for the PNGs, which carry their settings.")] = Path("outputs"),
    model: Annotated[
        str, typer.Option(help="A released model, runs/NAME, a checkpoint's folder, or USER/MODEL on the Hub.")
    ] = "characters",
    negative: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    sampler: Annotated[str, typer.Option(help="dpmpp_2m, euler (= DDIM), euler_ancestral or heun.")] = DEFAULT_SAMPLER,
    steps: Annotated[int, typer.Option(help="Noise levels on the way to a clean picture.")] = DEFAULT_STEPS,
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
    from sd_core.generation import GenerationRequest, generate, save_pictures
    from sd_core.images import fit_picture, open_picture, to_float

    if out.is_file():
        raise ValueError(f"{out} is a file; the pictures need a folder.")
    _check_there(start)
    loaded = _load(model)
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
        steps=steps,
        guidance=guidance,
        seed=random.randrange(2**32) if seed is None else seed,
        start=None if start is None else to_float(fit_picture(open_picture(start), loaded.config.resolution)),
        strength=strength,
    )
    out.mkdir(parents=True, exist_ok=True)  # before anything is drawn that could not be kept
    for step in tqdm(generate(loaded, request), total=len(request.sigmas()) - 1, unit="step", disable=None):
        last = step
    for path in save_pictures(last.x, request, request.noises(), _written_name(model), out):
        print(path)


def _written_name(model: str) -> str:
    """The name of a model in the settings of its pictures: the one that the page's picker shows, if it has it, and else
    none of those, so that another model is not taken for a released one."""
    from sd_core.shelf import Shelf

    shelf, folder = Shelf(), Path(model)
    if model in shelf.names() or not folder.is_dir():  # one on the Hub
        return model
    return shelf.name_of(folder) or "/".join(folder.resolve().parts[-2:])


def _check_there(picture: Path | None) -> None:
    if picture is not None and not picture.is_file():
        raise ValueError(f"There is no picture {picture}.")


def _load(model: str, kinds: tuple[str, ...] = ("generator",)) -> "Denoiser":
    """A model of one of these kinds by its name on the shelf, its folder, or its name on the Hugging Face Hub."""
    from sd_core.checkpoint import CheckpointError, load
    from sd_core.device import best_device
    from sd_core.shelf import Shelf

    shelf = Shelf()
    names = {kind: shelf.names(kind) for kind in ("generator", "restorer")}
    is_shelved = any(model in each for each in names.values())
    is_elsewhere = "/" in model and not model.startswith("runs/")
    if not is_shelved and not is_elsewhere and not Path(model).is_dir():
        usable = ", ".join(name for kind in kinds for name in names[kind])
        raise CheckpointError(f"There is no model {model}. Models here are: {usable}.")
    loaded = shelf.load(model) if is_shelved else load(model, best_device())
    if loaded.config.kind not in kinds:
        raise CheckpointError(f"{model} restores pictures and cannot draw them. Choose a generator.")
    return loaded


@app.command()
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
    from sd_core.batch import repair_folder
    from sd_core.noise import check_seed
    from sd_core.originals import NOTES, open_original, read_mask
    from sd_core.repairer import Repairer, SquareRepairer, proposed_mask
    from sd_core.restoration import RestoreRequest
    from sd_core.squares import Square

    check_seed(seed)
    if not picture.is_dir():
        _check_target(picture, out, mask)
    loaded = _load(model, ("restorer", "generator"))
    finder = loaded
    if loaded.config.kind == "generator":
        if whole or strength != 1 or upscale != 1:
            raise ValueError("Strength, enlarging and --whole are for restorers; this model is a generator.")
        finder = _load("restorer", ("restorer",)) if find else None
        repair = SquareRepairer(loaded, square and Square(*square), prompt, sigma, steps, seed, finder, fill)
    else:
        if square or prompt:
            raise ValueError("A square and a prompt are for generators; this model is a restorer.")
        if (mask or find) and not whole and (sigma is not None or strength != 1):
            raise ValueError("A noise level and a strength are for cleaning the whole picture; add --whole.")
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
    from sd_core.originals import NOTES

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
        raise ValueError(f"{failed} {pictures} could not be repaired; the others are in {out}.")


def _check_target(picture: Path, out: Path, mask: Path | None = None) -> None:
    from sd_core.batch import check_parents

    _check_there(picture)
    _check_there(mask)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the file to write, such as {out / picture.stem}.png.")
    check_parents(out)
    if out.suffix.lower() != ".png":
        raise ValueError(f"The repaired picture is a PNG; {out} does not end in .png.")
    if any(out.exists() and given and out.samefile(given) for given in (picture, mask)):
        raise ValueError("The repaired picture would replace the damaged one or its mask; choose another --out.")


@data_app.command()
def pack(
    source: Annotated[str, typer.Argument(help="characters, cifar10, or a folder or .zip of pictures.")],
    out: Annotated[Path, typer.Argument(help="The .zip to write.")],
    resolution: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    style: Annotated[list[str] | None, typer.Option(help=STYLE_HELP)] = None,
    count: Annotated[int | None, typer.Option(help="How many pictures to use.")] = None,
    caption_template: Annotated[str, typer.Option(help='For class folders: "a photo of {a}".')] = "{}",
) -> None:
    """Write a data set as one .zip of PNGs and captions, to train on anywhere."""
    from sd_core.data import open_data
    from sd_core.data import pack as write

    if out.suffix != ".zip":
        raise ValueError(f"The packed set is a .zip; {out} does not end in .zip.")
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


@app.command()
def train(
    data: Annotated[str, typer.Option(help="characters, cifar10, or a folder or .zip of pictures.")] = "characters",
    kind: Annotated[
        str, typer.Option(help="generator, which draws, or restorer, which repairs pictures of any size.")
    ] = "generator",
    size: Annotated[str, typer.Option(help="How large a model: tiny, small, base or large.")] = "small",
    resolution: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    steps: Annotated[int, typer.Option(help="How long: one step is one batch.")] = 4000,
    batch: Annotated[int, typer.Option(help="Pictures per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="After warm-up.")] = 3e-3,
    cooldown: Annotated[int, typer.Option(help="Steps at the end over which the learning rate falls to 0.")] = 0,
    optimizer: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    style: Annotated[list[str] | None, typer.Option(help=STYLE_HELP)] = None,
    count: Annotated[int | None, typer.Option(help="How many pictures to use.")] = None,
    caption_template: Annotated[str, typer.Option(help='For class folders: "a photo of {a}".')] = "{}",
    start: Annotated[str, typer.Option(help="A checkpoint folder to fine-tune.")] = "",
    sigma_mean: Annotated[
        float | None, typer.Option(help="Mean of ln(sigma) in training; higher teaches captions.")
    ] = None,
    sigma_std: Annotated[float | None, typer.Option(help="Spread of ln(sigma) in training.")] = None,
    one_step_share: Annotated[
        float, typer.Option(help="Share of a restorer's batch that teaches its most faithful, one-step answer.")
    ] = 0.75,
    noisy_share: Annotated[
        float, typer.Option(help="Share of a restorer's pairs whose damage is noise; begin with more of them.")
    ] = 0.5,
    specialist: Annotated[
        bool, typer.Option(help="Teach a restorer white noise and marked places, and nothing else.")
    ] = False,
    warmup: Annotated[int, typer.Option(help="Steps at the start over which the learning rate rises.")] = 50,
    flips: Annotated[bool, typer.Option(help="Mirror half of the pictures, where captions allow it.")] = True,
    seed: Annotated[int, typer.Option(help="Makes a training repeatable.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves.")] = 500,
    sample_every: Annotated[int, typer.Option(help="Steps between sample grids.")] = 500,
    name: Annotated[str, typer.Option(help="The run's name; its folder is runs/NAME.")] = "",
    run: Annotated[Path | None, typer.Option(help="Work on this run's folder instead of beginning a new one.")] = None,
    only_create: Annotated[bool, typer.Option(help="Write the run's folder, and leave the work to `--run`.")] = False,
    queued: Annotated[bool, typer.Option(hidden=True, help="Only if it is still in the queue.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress bar.")] = False,
) -> None:
    """Train a model, or go on with a run, when no other is at work. Ctrl-C pauses; `train --run runs/NAME` resumes."""
    from sd_core.checkpoint import describe
    from sd_core.data import DataError
    from sd_core.run_config import RunConfig
    from sd_core.runs import Run, RunError, new_name
    from sd_core.training import SIGMAS, TrainingConfig

    if run is not None and not (run / "config.json").is_file():
        raise RunError(f"There is no run {run}.")
    if run is None and "RANK" in os.environ:
        raise RunError("Under torchrun, first write a run with `train --only-create`, then work on it with `--run`.")
    if run is None:
        if start:
            kind = describe(Path(start)).model.kind
        if kind == "restorer" and caption_template != "{}":
            raise RunError("A restorer learns from pictures alone; leave --caption-template out.")
        usual_mean, usual_std = SIGMAS.get(kind, SIGMAS["generator"])
        training = TrainingConfig(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            cooldown=cooldown,
            optimizer=optimizer,
            one_step_share=one_step_share,
            noisy_share=noisy_share,
            specialist=specialist,
            warmup=warmup,
            sigma_mean=usual_mean if sigma_mean is None else sigma_mean,
            sigma_std=usual_std if sigma_std is None else sigma_std,
            flips=flips,
            seed=seed,
            save_every=save_every,
            sample_every=sample_every,
        )
        config = RunConfig(
            data=data,
            kind=kind,
            styles=tuple(style) if style else None,
            count=count,
            caption_template=caption_template,
            size=size,
            resolution=resolution,
            start=start,
            training=training,
        )
        work_on = Run.create(name or new_name(data), config)
    else:
        work_on = Run(run)
    if only_create:
        print(f"Work on it with: python -m sd_core train --run {work_on.folder}")
        return
    try:
        _work(work_on, quiet, queued)
    except DataError:
        if run is None:  # nothing was learnt, and its name is free for another try
            with suppress(RunError, OSError):
                work_on.delete()
        raise


def _work(run: "Run", quiet: bool, queued: bool) -> None:
    """Works on a run in this process, showing how it goes. Ctrl-C or a termination pauses it; a second ends it."""
    from sd_core.run_queue import free_places
    from sd_core.run_worker import work
    from sd_core.training import Progress, Saved

    def pause(number, frame):
        run.wish("pause")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pause)
    # The processes of a torchrun share one shell and one folder, so only the first speaks and writes wishes.
    is_first = os.environ.get("RANK", "0") == "0"
    if is_first and not queued and run.status().state != "queued":  # else somebody may wish otherwise by now
        run.wish("run")
    if is_first and not quiet and "RANK" not in os.environ and not free_places(run.folder.parent):
        print(f"{run.name} waits for its turn: another run is being worked on.")
    with tqdm(unit="step", disable=quiet or not is_first or None, desc=run.name) as bar:

        def preparing(done: int, total: int) -> None:
            bar.set_description_str(f"{run.name}: {done:,} of {total:,} pictures are ready")

        for event in work(run, queued, preparing):
            if isinstance(event, Progress):
                if bar.total is None:  # time left is told from the steps that are taken now
                    bar.reset(event.steps)
                    bar.initial = event.step
                    bar.set_description_str(run.name)
                bar.total, bar.n = event.steps, event.step
                bar.set_postfix_str(f"loss {event.loss:.4f}, {event.pictures_per_second:.0f} pictures/s")
            elif isinstance(event, Saved):
                bar.set_description_str(f"{run.name} (saved at {event.step})")
    if not is_first:
        return
    status = run.status()
    print(f"{run.name}: {status.state} after {status.step} steps.")
    if status.state == "paused":
        print(f"Go on with: python -m sd_core train --run {run.folder}")


def main() -> None:
    """Runs the command line; bad input is one sentence and exit code 2."""
    from sd_core.checkpoint import CheckpointError
    from sd_core.data import DataError
    from sd_core.runs import RunError
    from sd_core.training import TrainingFailed

    try:
        app()
    except (CheckpointError, DataError, RunError, TrainingFailed, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
