"""The Generate tab: a prompt becomes pictures, watched step by step, and what one does with them afterwards."""

from collections.abc import Generator
from dataclasses import dataclass

import gradio as gr

from sd_core.generation import GenerationRequest, seed_after
from sd_core.images import enlarged, grid, make_zip, save_animation
from sd_core.shelf import Shelf
from tabs.api import build_api
from tabs.controls import (
    Values,
    build_controls,
    build_examples,
    build_word_browser,
    example_rows,
    left_out,
    prompt_box,
    seed_box,
    whole,
)
from tabs.drawing import Shown, Walk, draw
from tabs.errors import plain_error, told
from tabs.png_settings import build_png_settings
from tabs.sessions import SESSIONS, Batch
from tabs.status import Status
from tabs.streaming import lasting
from tabs.words import T, say

ANIMATION_WIDTH = 384
STRIP_FRAMES = 12
WALK_FRAMES = 24
Drawing = Generator[dict, None, Batch | None]
QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass(frozen=True)
class GenerateTab:
    """What the rest of the page may use.

    Attributes:
        send_to_restore: the button for it.
        chosen_path: the file of the picture chosen last, or None.
        model: the model picker.
    """

    send_to_restore: gr.Button
    chosen_path: gr.State
    model: gr.Dropdown


@dataclass
class _Result:
    """The components that show what was drawn."""

    preview: gr.Image
    status: gr.HTML
    steps_row: gr.Column
    step: gr.Slider
    view: gr.Radio
    level: gr.HTML
    gallery: gr.Gallery
    actions: gr.Column
    one: gr.DownloadButton
    all: gr.DownloadButton
    chosen: gr.HTML
    film: gr.Image
    chosen_path: gr.State


def build(shelf: Shelf) -> GenerateTab:
    """Draws the tab inside the current `gr.Tab`, and wires it."""
    with gr.Row(equal_height=True):
        prompt = prompt_box()
        with gr.Column(scale=1, min_width=140):
            go = gr.Button(T("generate"), variant="primary", size="lg", elem_id="generate")
            stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="stop")
    note = gr.HTML(elem_id="left-out")
    names = shelf.names()
    examples = gr.Dataset(
        label=T("examples"), components=["textbox"], **example_rows(shelf, names[0] if names else None),
        samples_per_page=6, elem_id="examples",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            result, buttons = _build_result()
        with gr.Column(scale=1, min_width=300):
            controls, reuse, start_box = build_controls(shelf, prompt)
            build_word_browser(shelf, controls)
            walk_inputs, walk_go, strip, animation = _build_walk()
            build_png_settings(shelf, controls)
    variations, use_as_start, send, animate = buttons

    def busy(yes: bool) -> dict:
        starters = {button: gr.Button(interactive=not yes) for button in (variations, walk_go)}
        return {go: gr.Button(visible=not yes), stop: gr.Button(visible=yes), **starters}

    def run(values: Values, request: gr.Request, walk: Walk | None = None, **changed) -> Drawing:
        """Draws and shows; the page is left ready for the next job however this one ends. Returns what was finished."""
        try:
            if not values.model:
                raise ValueError(say(request, "no_model"))
            wanted = values.request(shelf, **changed)
            yield busy(True) | ({controls.seed: wanted.seed} if not walk and "variation_of" not in changed else {})
            for shown in draw(request, shelf, values.model, wanted, walk):
                yield _update(result, request, shown)
            yield busy(False) | _downloads(result, shown.batch)
            return shown.batch
        except Exception as error:  # told in one sentence
            yield busy(False) | {result.status: Status(request).ready()}
            raise plain_error(error, request) from error

    @lasting
    def on_generate(request: gr.Request, *values):
        yield from run(Values(*values), request)

    @lasting
    def on_variations(request: gr.Request, *values):
        session = SESSIONS.of(request)
        if session.batch is None:
            raise gr.Error(say(request, "no_pictures"), print_exception=False)
        before = session.batch
        kept = {name: getattr(before.request, name) for name in GenerationRequest.__dataclass_fields__}
        kept |= {
            "variation_of": before.noises[session.chosen],
            "variation_strength": values[10],
            "count": whole(values[3]),
        }
        kept |= {"seed": seed_after((before.noises[-1].blended or ((before.noises[-1].seed, 0),))[-1][0])}
        yield from run(Values(before.model, *values[1:]), request, **kept)

    @lasting
    def on_walk(request: gr.Request, *values):
        *settings, from_seed, to_seed, frames = values
        walk = Walk(whole(to_seed or 0), whole(frames))
        changed = dict(seed=whole(from_seed or 0), variation_of=None, start=None)
        batch = yield from run(Values(*settings), request, walk, **changed)
        film = SESSIONS.of(request).film
        if batch and film.frames:
            pictures = film.frames[-1].guess
            target = batch.paths[0].parent / "walk.webp"
            save_animation([grid(p[None], width=ANIMATION_WIDTH) for p in pictures], target)
            some = pictures[:: max(1, -(-len(pictures) // STRIP_FRAMES))]
            shown = gr.Image(grid(some, len(some), 96 * len(some)), visible=True)
            yield {strip: shown, animation: gr.Image(target, visible=True)}

    outputs = [*vars(result).values(), controls.seed, go, stop, variations, walk_go]
    drawing = dict(show_progress="hidden", concurrency_limit=None, api_visibility="private")
    gr.on([go.click, prompt.submit], on_generate, controls.inputs(), outputs, **drawing)
    variations.click(on_variations, controls.inputs(), outputs, **drawing)
    walk_go.click(on_walk, [*controls.inputs(), *walk_inputs], [*outputs, strip, animation], **drawing)
    stop.click(_stop, None, None, queue=False, **QUIET)

    def on_words(request: gr.Request, *texts):
        return left_out(shelf, *texts, request)

    said = [controls.model, prompt, controls.negative]
    gr.on(
        [c.change for c in said], on_words, said, note,
        trigger_mode="always_last", concurrency_limit=None, **QUIET,
    )  # fmt: skip
    build_examples(shelf, controls, examples)
    last = [controls.seed, controls.new_seed, controls.variation_of, controls.variation_strength]
    reuse.click(_last_seed, None, last, **QUIET)

    gr.on(
        [result.step.input, result.view.input], _show_step, [result.step, result.view], [result.preview, result.level],
        trigger_mode="always_last", concurrency_limit=None, **QUIET,
    )  # fmt: skip
    result.gallery.select(_choose, None, [result.preview, result.one, result.chosen_path, result.chosen], **QUIET)
    use_as_start.click(
        lambda path: (path or gr.skip(), gr.Accordion(open=True)), result.chosen_path, [controls.start, start_box],
        **QUIET,
    )  # fmt: skip
    animate.click(_animate_steps, result.view, result.film, show_progress="minimal", api_visibility="private")
    build_api(shelf)
    return GenerateTab(send, result.chosen_path, controls.model)


def _build_result() -> tuple[_Result, tuple]:
    """Preview, steps, pictures and what to do with them."""
    preview = gr.Image(
        label=T("preview"), show_label=False, format="jpeg", interactive=False, height=520, buttons=["fullscreen"],
        elem_id="preview",
    )  # fmt: skip
    line = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="status")
    with gr.Column(visible=False, elem_id="steps-row") as steps_row:
        step = gr.Slider(1, 2, 1, step=1, label=T("step_slider"), buttons=[], elem_id="step-slider")
        with gr.Row(elem_id="steps-tools"):
            views = [(T("view_guess"), "guess"), (T("view_noisy"), "noisy")]
            view = gr.Radio(views, value="guess", label=T("view"), container=False, min_width=200, elem_id="view")
            level = gr.HTML(elem_id="noise-level", min_width=100)
    with gr.Column(visible=False, elem_id="actions") as actions:
        gallery = gr.Gallery(
            label=T("pictures"), show_label=False, columns=8, height="auto", object_fit="contain", interactive=False,
            type="filepath", buttons=[], allow_preview=False, elem_id="gallery",
        )  # fmt: skip
        chosen = gr.HTML(elem_id="chosen")
        small = dict(size="sm", min_width=150)
        with gr.Row():
            one = gr.DownloadButton(T("download_one"), elem_id="download-one", **small)
            every = gr.DownloadButton(T("download_all"), elem_id="download-all", **small)
            animate = gr.Button(T("animate"), elem_id="animate", **small)
            variations = gr.Button(T("variations"), elem_id="variations", **small)
            use_as_start = gr.Button(T("use_as_start"), elem_id="use-as-start", **small)
            send = gr.Button(T("send_to_restore"), elem_id="send-to-restore", **small)
        film = gr.Image(
            label=T("animation"), interactive=False, visible=False, height=400, buttons=["download"], elem_id="film"
        )
    chosen_path = gr.State()
    result = _Result(
        preview, line, steps_row, step, view, level, gallery, actions, one, every, chosen, film, chosen_path
    )
    return result, (variations, use_as_start, send, animate)


def _build_walk():
    with gr.Accordion(T("walk"), open=False, elem_id="walk"):
        with gr.Row():
            from_seed = seed_box(0, label=T("walk_from"), min_width=100)
            to_seed = seed_box(1, label=T("walk_to"), min_width=100)
        frames = gr.Slider(4, 64, WALK_FRAMES, step=1, label=T("frames"), elem_id="frames")
        walk_go = gr.Button(T("walk_start"), elem_id="walk-go")
        strip = gr.Image(
            label=T("strip"), format="png", interactive=False, visible=False, buttons=["download", "fullscreen"]
        )
        animation = gr.Image(
            label=T("animation"), interactive=False, visible=False, buttons=["download"], elem_id="animation"
        )
    return [from_seed, to_seed, frames], walk_go, strip, animation


def _update(result: _Result, request: gr.Request, shown: Shown) -> dict:
    """What changes on the page."""
    update: dict = {result.status: shown.status}
    if shown.preview is not None:
        update[result.preview] = shown.preview
    if shown.film:
        end = shown.film.frames[-1]
        update[result.steps_row] = gr.Column(visible=True)
        update[result.step] = gr.Slider(maximum=max(2, end.index), value=end.index)
        update[result.view] = "guess"
        update[result.level] = _line(request, "noise_level", sigma=f"{end.sigma:.3g}")
    if shown.batch:
        paths = shown.batch.paths
        update[result.actions] = gr.Column(visible=True)
        update[result.gallery] = gr.Gallery([str(path) for path in paths], selected_index=0)
        update[result.chosen_path] = str(paths[0])
        update[result.chosen] = _line(request, "seed_is", seed=shown.batch.noises[0])
        update[result.film] = gr.Image(None, visible=False)
    return update


def _downloads(result: _Result, batch: Batch | None) -> dict:
    """The files behind the download buttons. They come after the buttons are shown: a button that is still hidden
    when it gets its file never hears of it."""
    if batch is None:
        return {}
    return {result.one: batch.paths[0], result.all: make_zip(batch.paths, batch.paths[0].with_name("pictures.zip"))}


def _line(request: gr.Request, key: str, **values: object) -> str:
    return f'<div class="sd-line">{say(request, key, **values)}</div>'


def _stop(request: gr.Request) -> None:
    SESSIONS.of(request).stop()


def _last_seed(request: gr.Request):
    """The seed, and the picture it varied if any, of what was begun last, also if it was stopped."""
    asked = SESSIONS.of(request).asked
    if asked is None:
        return gr.skip(), False, gr.skip(), gr.skip()
    return asked.seed, False, str(asked.variation_of or ""), asked.variation_strength


def _show_step(index: float, view: str, request: gr.Request):
    session = SESSIONS.of(request)
    film = session.film
    if not film.frames:
        raise gr.Error(say(request, "no_steps"), print_exception=False)
    frame = film.at(int(index))
    return session.preview(grid(getattr(frame, view))), _line(request, "noise_level", sigma=f"{frame.sigma:.3g}")


@told
def _choose(event: gr.SelectData, request: gr.Request):
    session = SESSIONS.of(request)
    if session.batch is None or event.index >= len(session.batch.paths):
        return gr.skip(), gr.skip(), gr.skip(), gr.skip()
    session.chosen = event.index
    path, noise = session.batch.paths[event.index], session.batch.noises[event.index]
    return session.preview(enlarged(path)), path, str(path), _line(request, "seed_is", seed=noise)


def _animate_steps(view: str, request: gr.Request):
    session = SESSIONS.of(request)
    if not session.film.frames:
        raise gr.Error(say(request, "no_steps"), print_exception=False)
    target = session.new_folder() / "denoising.webp"
    save_animation([grid(getattr(frame, view), width=ANIMATION_WIDTH) for frame in session.film.frames], target)
    return gr.Image(target, visible=True)
