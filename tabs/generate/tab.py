"""The Generate tab: a prompt becomes pictures, watched step by step, and what one does with them afterwards."""

from collections.abc import Generator, Iterator
from dataclasses import replace

import gradio as gr

from sd_core.errors import UserError
from sd_core.generation.pipeline import MAX_FRAMES
from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import seed_after
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import enlarged, grid, save_animation
from tabs.common.forms import QUIET, picked, whole
from tabs.common.jobs import lasting
from tabs.common.model_card import build_model_card
from tabs.common.progress import Status
from tabs.common.sessions import SESSIONS, Batch, stop_job
from tabs.common.words import T, say
from tabs.generate.api import build_api
from tabs.generate.infotext_drop import InfotextDrop
from tabs.generate.job import Walk, draw
from tabs.generate.result import Result, line
from tabs.generate.settings import (
    Controls,
    Values,
    build_examples,
    build_word_browser,
    example_rows,
    examples_of,
    left_out,
)
from tabs.generate.walk import WalkBox

ANIMATION_WIDTH = 384
LOOKING = 4  # visitors whose steps are decoded at a time; the others' wait a moment
STRIP_FRAMES = 12
Drawing = Generator[dict, None, Batch | None]


class GenerateTab:
    """Draws the tab inside the current `gr.Tab`; its methods are what happens to it."""

    def __init__(self, registry: ModelRegistry):
        self.registry = registry
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(
                label=T("prompt"), placeholder=T("prompt_placeholder"), lines=1, max_lines=4, scale=5, min_width=280,
                elem_id="prompt",
            )  # fmt: skip
            with gr.Column(scale=1, min_width=140):
                self.go = gr.Button(T("generate"), variant="primary", size="lg", elem_id="generate")
                self.stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="stop")
        note = gr.HTML(elem_id="left-out")
        first = next(iter(registry.names()), None)
        examples = gr.Dataset(
            label=T("examples"), show_label=False, components=["textbox"], **example_rows(registry, first),
            elem_id="examples",
        )  # fmt: skip
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.result = Result()
            with gr.Column(scale=1, min_width=300):
                self.controls = Controls(registry, prompt)
                build_word_browser(registry, self.controls)
                build_model_card(registry, self.controls.model)
                self.walk = WalkBox()
                InfotextDrop(registry, self.controls)
        self._wire_drawing()
        self._wire_settings(note)
        build_examples(registry, self.controls, examples)
        self._wire_looking()
        build_api(registry)

    def _wire_drawing(self) -> None:
        """Lets the buttons that draw do so."""
        inputs, outputs, walk = self.controls.inputs(), self.outputs(), self.walk
        drawing = dict(concurrency_limit=None, **QUIET)
        gr.on([self.go.click, self.controls.prompt.submit], self.on_generate, inputs, outputs, **drawing)
        self.result.variations.click(self.on_variations, inputs, outputs, **drawing)
        walked = inputs | {walk.from_seed, walk.to_seed, walk.frames}
        walk.go.click(self.on_walk, walked, [*outputs, walk.strip, walk.animation], **drawing)
        self.stop.click(stop_job, None, None, queue=False, **QUIET)

    def _wire_settings(self, note: gr.HTML) -> None:
        """Lets the words of the prompts be judged, and settings be brought back."""
        controls = self.controls
        said = [controls.model, controls.prompt, controls.negative]
        gr.on(
            [c.change for c in said], self.on_words, said, note, trigger_mode="always_last", concurrency_limit=None,
            **QUIET,
        )  # fmt: skip
        last = [controls.seed, controls.new_seed, controls.variation_of, controls.variation_strength]
        controls.reuse.click(on_last_seed, None, last, **QUIET)
        self.result.use_as_start.click(
            lambda path: (path or gr.skip(), gr.Accordion(open=True)), self.result.chosen_path,
            [controls.start, controls.start_box], **QUIET,
        )  # fmt: skip

    def _wire_looking(self) -> None:
        """Lets one look at the steps and the pictures."""
        result = self.result
        gr.on(
            [result.step.input, result.view.input], on_step, [result.step, result.view],
            [result.preview, result.level], trigger_mode="always_last", concurrency_limit=LOOKING, **QUIET,
        )  # fmt: skip
        result.gallery.select(on_choose, None, [result.preview, result.one, result.chosen_path, result.chosen], **QUIET)
        result.animate.click(
            on_animate, result.view, result.animation, show_progress="minimal", api_visibility="private"
        )

    def outputs(self) -> list[gr.blocks.Block]:
        """What drawing may change."""
        buttons = [self.go, self.stop, self.result.variations, self.walk.go]
        return [*self.result.outputs(), self.controls.prompt, self.controls.seed, *buttons]

    @lasting
    def on_generate(self, values: dict, request: gr.Request) -> Iterator[dict]:
        settings, changes = self._settings(values, request), {}
        if not (settings.prompt or settings.start or SESSIONS.of(request).asked) and settings.new_seed:
            # A newcomer's first press shows what the model is good at. Later, no prompt means none.
            settings = replace(settings, prompt=next(iter(examples_of(self.registry, settings.model, request)), ""))
            changes[self.controls.prompt] = settings.prompt
        wanted = settings.request(self.registry)
        yield from self._draw(settings.model, wanted, request, begun=changes | {self.controls.seed: wanted.seed})

    @lasting
    def on_variations(self, values: dict, request: gr.Request) -> Iterator[dict]:
        """Draws variations of the picture chosen last, with the model and the settings that it was made with."""
        session, settings = SESSIONS.of(request), self._settings(values, request)
        before = session.batch
        if before is None:
            raise UserError(say(request, "no_pictures"))
        wanted = replace(
            before.request,
            variation_of=before.noises[session.chosen],
            variation_strength=settings.variation_strength,
            count=whole(settings.count),
            seed=seed_after((before.noises[-1].blended or ((before.noises[-1].seed, 0),))[-1][0]),
        )
        yield from self._draw(before.model, wanted, request)

    @lasting
    def on_walk(self, values: dict, request: gr.Request) -> Iterator[dict]:
        """Walks, and then shows the frames in a row and one after the other."""
        box, settings = self.walk, self._settings(values, request)
        walk = Walk(whole(values[box.to_seed] or 0), whole(values[box.frames]))
        alone = replace(settings, seed=values[box.from_seed] or 0, new_seed=False, variation_of="", start=None)
        batch = yield from self._draw(settings.model, alone.request(self.registry), request, walk)
        trajectory = SESSIONS.of(request).trajectory
        if batch and trajectory.frames:
            pictures = trajectory.pictures(trajectory.frames[-1], "guess", MAX_FRAMES)
            target = batch.paths[0].parent / "walk.webp"
            save_animation([grid(p[None], width=ANIMATION_WIDTH) for p in pictures], target)
            some = pictures[:: max(1, -(-len(pictures) // STRIP_FRAMES))]
            shown = gr.Image(grid(some, len(some), 96 * len(some)), visible=True)
            yield {box.strip: shown, box.animation: gr.Image(target, visible=True)}

    def _settings(self, values: dict, request: gr.Request) -> Values:
        """What is chosen. Raises UserError where there is no model."""
        settings = self.controls.chosen(values)
        if not settings.model:
            raise UserError(say(request, "no_model"))
        return settings

    def _draw(
        self,
        model: str,
        wanted: GenerationRequest,
        request: gr.Request,
        walk: Walk | None = None,
        begun: dict | None = None,
    ) -> Drawing:
        """Draws and shows; the page is left ready for the next job however this one ends. Returns what was finished.
        `begun` is what else changes on the page as it begins."""
        try:
            yield self._busy(True) | (begun or {})
            for shown in draw(request, self.registry, model, wanted, walk):
                yield self.result.update(request, shown)
            yield self._busy(False) | self.result.downloads(shown.batch)
            return shown.batch
        except Exception:
            yield self._busy(False) | {self.result.status: Status(request).ready()}
            raise

    def _busy(self, yes: bool) -> dict:
        starters = {button: gr.Button(interactive=not yes) for button in (self.result.variations, self.walk.go)}
        return {self.go: gr.Button(visible=not yes), self.stop: gr.Button(visible=yes), **starters}

    def on_words(self, model: str | None, prompt: str, negative: str, request: gr.Request):
        return left_out(self.registry, model, prompt, negative, request)


def on_last_seed(request: gr.Request):
    """The seed, and the picture it varied if any, of what was begun last, also if it was stopped."""
    asked = SESSIONS.of(request).asked
    if asked is None:
        return gr.skip(), False, gr.skip(), gr.skip()
    return asked.seed, False, str(asked.variation_of or ""), asked.variation_strength


def on_step(index: float, view: str, request: gr.Request):
    """Shows one of the steps to the pictures, and its noise level."""
    session = SESSIONS.of(request)
    trajectory = session.trajectory
    if not trajectory.frames:
        raise UserError(say(request, "no_steps"))
    frame = trajectory.at(int(index))
    pictures = trajectory.pictures(frame, view)
    return session.preview(grid(pictures)), line(request, "noise_level", sigma=f"{frame.sigma:.3g}")


def on_choose(event: gr.SelectData, request: gr.Request):
    """Shows one of the pictures large."""
    session = SESSIONS.of(request)
    path = picked(event, session.batch.paths if session.batch else ())
    if path is None:
        return gr.skip(), gr.skip(), gr.skip(), gr.skip()
    session.chosen = event.index
    noise = session.batch.noises[event.index]
    return session.preview(enlarged(path)), path, str(path), line(request, "seed_is", seed=noise)


def on_animate(view: str, request: gr.Request) -> Iterator[gr.Image]:
    """Makes an animation of the steps. Its place is shown at once, and in it that it is being made."""
    session = SESSIONS.of(request)
    trajectory = session.trajectory
    if not trajectory.frames:
        raise UserError(say(request, "no_steps"))
    yield gr.Image(None, visible=True)
    target = session.new_folder() / "denoising.webp"
    save_animation([grid(each, width=ANIMATION_WIDTH) for each in trajectory.film(view)], target)
    yield gr.Image(target, visible=True)
