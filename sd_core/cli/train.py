"""`python -m sd_core train`: a run is made, or gone on with."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm
from typer import Option

from sd_core.cli.common import STYLE_HELP

if TYPE_CHECKING:
    from sd_core.runs.run import Run
    from sd_core.training.events import Event


def train(
    data: Annotated[str, Option(help="characters, cifar10, or a folder or .zip of pictures.")] = "characters",
    kind: Annotated[str, Option(help="generator, which draws, or restorer, which repairs any picture.")] = "generator",
    size: Annotated[str, Option(help="How large a model: tiny, small, base or large.")] = "small",
    resolution: Annotated[int, Option(help="Pixels a side.")] = 64,
    codec: Annotated[
        str | None, Option(help="pixels, or autoencoder to work in its latents, usual from 128 pixels on.")
    ] = None,
    steps: Annotated[int, Option(help="How long: one step is one batch.")] = 4000,
    batch: Annotated[int, Option(help="Pictures per step.")] = 64,
    learning_rate: Annotated[float | None, Option(help="After warm-up; 0.003, or 0.001 with --start.")] = None,
    cooldown: Annotated[int, Option(help="Steps at the end over which the learning rate falls to 0.")] = 0,
    optimizer: Annotated[str, Option(help="muon or adamw.")] = "muon",
    style: Annotated[list[str] | None, Option(help=STYLE_HELP)] = None,
    count: Annotated[int | None, Option(help="How many pictures to use.")] = None,
    caption_template: Annotated[str, Option(help='For class folders: "a photo of {a}".')] = "{}",
    start: Annotated[str, Option(help="A checkpoint folder to fine-tune.")] = "",
    fast: Annotated[bool, Option(help="Make a version of --start that needs few steps and no guidance.")] = False,
    sigma_mean: Annotated[float | None, Option(help="Mean of ln(sigma) in training; higher teaches captions.")] = None,
    sigma_std: Annotated[float | None, Option(help="Spread of ln(sigma) in training.")] = None,
    one_step_share: Annotated[float, Option(help="Share of a restorer's batch for its one-step answer.")] = 0.75,
    noisy_share: Annotated[float, Option(help="Share of a restorer's pairs whose damage is noise.")] = 0.5,
    specialist: Annotated[bool, Option(help="Teach a restorer white noise and marked places, no more.")] = False,
    warmup: Annotated[int, Option(help="Steps at the start over which the learning rate rises.")] = 50,
    flips: Annotated[bool, Option(help="Mirror half of the pictures, where captions allow it.")] = True,
    seed: Annotated[int, Option(help="Makes a training repeatable.")] = 0,
    save_every: Annotated[int, Option(help="Steps between saves.")] = 500,
    sample_every: Annotated[int, Option(help="Steps between sample grids.")] = 500,
    name: Annotated[str, Option(help="The run's name; its folder is runs/NAME.")] = "",
    run: Annotated[Path | None, Option(help="Work on this run's folder instead of beginning a new one.")] = None,
    only_create: Annotated[bool, Option(help="Write the run's folder, and leave the work to `--run`.")] = False,
    queued: Annotated[bool, Option(hidden=True, help="Only if it is still in the queue.")] = False,
    quiet: Annotated[bool, Option(help="No progress bar.")] = False,
) -> None:
    """Train a model, or go on with a run, when no other is at work. Ctrl-C pauses; `train --run runs/NAME` resumes."""
    asked = dict(locals())  # every option by its name
    from sd_core.errors import DataError, RunError
    from sd_core.runs.run import Run

    if run is not None and not (run / "config.json").is_file():
        raise RunError(f"There is no run {run}.")
    work_on = Run(run) if run else _new_run(asked)
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


def _new_run(asked: dict[str, Any]) -> "Run":
    """A run as the options ask for it, by their names, which are those of the settings."""
    from dataclasses import fields

    from sd_core.errors import RunError
    from sd_core.models.checkpoint import describe
    from sd_core.runs.config import RunConfig
    from sd_core.runs.run import Run, new_name
    from sd_core.training.config import FRESH_RATE, SIGMAS, TUNED_RATE, TrainingConfig

    if "RANK" in os.environ:
        raise RunError("Under torchrun, first write a run with `train --only-create`, then work on it with `--run`.")
    kind = describe(Path(asked["start"])).model.kind if asked["start"] else asked["kind"]
    if kind == "restorer" and asked["caption_template"] != "{}":
        raise RunError("A restorer learns from pictures alone; leave --caption-template out.")
    if asked["start"] and asked["codec"]:
        raise RunError("A trained model keeps its codec; leave --codec out.")
    if asked["fast"] and not (asked["sigma_mean"] is None and asked["sigma_std"] is None):
        raise RunError(
            "A fast version learns at the noise levels of its few steps; leave --sigma-mean and --sigma-std out."
        )
    usual = dict(zip(("sigma_mean", "sigma_std"), SIGMAS.get(kind, SIGMAS["generator"]), strict=True))
    usual["learning_rate"] = TUNED_RATE if asked["start"] else FRESH_RATE
    given = usual | {option: value for option, value in asked.items() if value is not None}
    given |= {"kind": kind, "styles": tuple(asked["style"]) if asked["style"] else None}
    training, config = (
        {field.name: given[field.name] for field in fields(settings) if field.name in given}
        for settings in (TrainingConfig, RunConfig)
    )
    config = RunConfig(**config, training=TrainingConfig(**training))
    return Run.create(asked["name"] or new_name(config.data), config)


def _work(run: "Run", quiet: bool, queued: bool) -> None:
    """Works on a run in this process, showing how it goes. Ctrl-C or a termination pauses it; a second ends it."""
    from sd_core.runs.queue import free_places
    from sd_core.runs.worker import work

    _pause_on_signals(run)
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
            _show(event, bar, run.name)
    if not is_first:
        return
    status = run.status()
    print(f"{run.name}: {status.state} after {status.step} steps.")
    if status.state == "paused":
        print(f"Go on with: python -m sd_core train --run {run.folder}")


def _pause_on_signals(run: "Run") -> None:
    """From now on Ctrl-C or a termination pauses the run; a second ends this process."""

    def pause(number, frame):
        run.wish("pause")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pause)


def _show(event: "Event", bar: tqdm, name: str) -> None:
    """Tells on the bar what a training's event says."""
    from sd_core.training.events import Progress, Saved

    if isinstance(event, Progress):
        if bar.total is None:  # time left is told from the steps that are taken now
            bar.reset(event.steps)
            bar.initial = event.step
            bar.set_description_str(name)
        bar.total, bar.n = event.steps, event.step
        bar.set_postfix_str(f"loss {event.loss:.4f}, {event.pictures_per_second:.0f} pictures/s")
    elif isinstance(event, Saved):
        bar.set_description_str(f"{name} (saved at {event.step})")
