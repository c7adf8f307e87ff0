"""The command line: python -m sd_core generate | restore | train | data."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

if TYPE_CHECKING:
    from sd_core.runs import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Prepare pictures to train on.")
app.add_typer(data_app, name="data")

BAD_INPUT = 2


def _new_name(runs: Path, data: str) -> str:
    """The data's name and the next free number."""
    stem = Path(data).stem
    number = 1
    while (runs / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


@app.command()
def train(
    data: Annotated[str, typer.Option(help="characters, cifar10, or a folder or .zip of pictures.")] = "characters",
    size: Annotated[str, typer.Option(help="How large a model: tiny, small, base or large.")] = "small",
    resolution: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    steps: Annotated[int, typer.Option(help="How long: one step is one batch.")] = 4000,
    batch: Annotated[int, typer.Option(help="Pictures per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="After warm-up.")] = 3e-3,
    cooldown: Annotated[int, typer.Option(help="Steps at the end over which the learning rate falls to 0.")] = 0,
    optimizer: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    style: Annotated[list[str] | None, typer.Option(help="A character style; may be given several times.")] = None,
    count: Annotated[int | None, typer.Option(help="How many pictures to use.")] = None,
    caption_template: Annotated[str, typer.Option(help='For class folders: "a photo of {a}".')] = "{}",
    start: Annotated[str, typer.Option(help="A checkpoint folder to fine-tune.")] = "",
    flips: Annotated[bool, typer.Option(help="Mirror half of the pictures, where captions allow it.")] = True,
    seed: Annotated[int, typer.Option(help="Makes a training repeatable.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves.")] = 500,
    sample_every: Annotated[int, typer.Option(help="Steps between sample grids.")] = 500,
    name: Annotated[str, typer.Option(help="The run's name; its folder is runs/NAME.")] = "",
    run: Annotated[Path | None, typer.Option(help="Work on this run's folder instead of beginning a new one.")] = None,
    quiet: Annotated[bool, typer.Option(help="No progress bar.")] = False,
) -> None:
    """Train a model, or go on with a run. Ctrl-C pauses; `train --run runs/NAME` resumes."""
    from sd_core.runs import RUNS, Run, RunConfig
    from sd_core.training import TrainingConfig

    if run is None:
        training = TrainingConfig(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            cooldown=cooldown,
            optimizer=optimizer,
            flips=flips,
            seed=seed,
            save_every=save_every,
            sample_every=sample_every,
        )
        config = RunConfig(
            data=data,
            styles=tuple(style) if style else None,
            count=count,
            caption_template=caption_template,
            size=size,
            resolution=resolution,
            start=start,
            training=training,
        )
        work_on = Run.create(name or _new_name(RUNS, data), config)
    else:
        work_on = Run(run)
    _work(work_on, quiet)


def _work(run: "Run", quiet: bool) -> None:
    """Works on a run in this process, showing how it goes. Ctrl-C or a termination pauses it; a second one ends it at once."""
    from sd_core.training import Progress, Saved

    def pause(number, frame):
        run.wish("pause")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pause)
    run.wish("run")
    with tqdm(unit="step", disable=quiet, desc=run.name) as bar:
        for event in run.work():
            if isinstance(event, Progress):
                bar.total, bar.n = event.steps, event.step
                bar.set_postfix_str(f"loss {event.loss:.4f}, {event.pictures_per_second:.0f} pictures/s")
            elif isinstance(event, Saved):
                bar.set_description_str(f"{run.name} (saved at {event.step})")
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
    except (CheckpointError, DataError, RunError, TrainingFailed, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
