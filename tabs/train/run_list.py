"""The list of runs: state, thumbnail, data, size and age of each; a click chooses one."""

import functools
import html
import time
from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.errors import RunError
from sd_core.pictures.previews import data_url
from sd_core.runs.run import Run
from tabs.common.words import T, say
from tabs.train.run_status import Standing, age, grids_of

THUMBNAIL = 56  # pixels
MOST = 100  # runs shown, the newest

# The list is plain HTML; a click anywhere on a run's card chooses it.
CHOOSE = """
element.addEventListener('click', event => {
    const card = event.target.closest('[data-run]');
    if (card) trigger('select', {run: card.dataset.run});
});
"""


def build_runs() -> gr.HTML:
    """Draws the list, empty. Its `select` event carries the name of a run as `run`."""
    gr.HTML(f'<div class="sd-line">{T("runs")}</div>')
    return gr.HTML(js_on_load=CHOOSE, elem_id="runs")


def run_list(runs: list[Run], standings: dict[str, Standing], chosen: str, visitor: gr.Request | None) -> str:
    """The list in HTML."""
    cards = "".join(_card(run, standings[run.name], run.name == chosen, visitor) for run in runs[:MOST])
    if len(runs) > MOST:
        cards += f'<div class="sd-note">{say(visitor, "more_runs", count=len(runs) - MOST)}</div>'
    return f'<div class="sd-runs" role="listbox">{cards}</div>' if cards else ""


def _card(run: Run, standing: Standing, chosen: bool, visitor: gr.Request | None) -> str:
    data, size, made = _summary(run, visitor)
    picture = _thumbnail(run)
    image = f'<img src="{picture}" alt="">' if picture else '<span class="sd-empty"></span>'
    state = standing.state if not standing.working else "working"
    old = time.time() - made
    ago = say(visitor, "age_ago", age=age(old)) if old >= 60 else say(visitor, "age_now")
    about = " · ".join(html.escape(text) for text in (data, size, ago) if text)
    return (
        f'<button type="button" role="option" aria-selected="{str(chosen).lower()}" class="sd-run" '
        f'data-run="{html.escape(run.name, quote=True)}">{image}<span><b>{html.escape(run.name)}</b>'
        f'<i class="sd-{state}">{html.escape(standing.short_word(visitor))}</i><small>{about}</small></span></button>'
    )


def _summary(run: Run, visitor: gr.Request | None) -> tuple[str, str, float]:
    """A run's data, its model's size, and when it was made."""
    file = run.folder / "config.json"
    try:
        made = file.stat().st_mtime
        data, size = _read_summary(file, made)
    except (OSError, RunError):
        return "", "", time.time()
    return say(visitor, "own_pictures") if data == "own" else data, size, made


@functools.lru_cache(maxsize=1024)
def _read_summary(file: Path, made: float) -> tuple[str, str]:
    config = Run(file.parent).config()
    data = "own" if config.data.startswith("upload/") else Path(config.data).name
    return data, f"{config.size}, {config.resolution}×{config.resolution}"


def _thumbnail(run: Run) -> str:
    """A corner of the newest sample grid as a data URL; "" if there is none."""
    samples = grids_of(run)
    try:
        return _read_thumbnail(samples[-1], samples[-1].stat().st_mtime_ns) if samples else ""
    except OSError:
        return ""


@functools.lru_cache(maxsize=1024)
def _read_thumbnail(path: Path, changed: int) -> str:
    with Image.open(path) as grid:
        corner = grid.convert("RGB").crop((0, 0, (grid.width + 1) // 2, (grid.height + 1) // 2))
    corner.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    return data_url(corner)
