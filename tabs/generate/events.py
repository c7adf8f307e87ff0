"""What the Generate tab's events do: pictures are drawn, varied and walked between, looked at and animated."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import gradio as gr

from sd_core.errors import UserError
from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import seed_after
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import enlarged, grid, save_animation
from tabs.common.errors import plain_error, told
from tabs.common.forms import picked, whole
from tabs.common.jobs import lasting
from tabs.common.progress import Status
from tabs.common.sessions import SESSIONS, Batch
from tabs.common.words import say
from tabs.generate.job import Walk, draw
from tabs.generate.result import Actions, Result, downloads, line, update
from tabs.generate.settings import Controls, Values, left_out
from tabs.generate.walk import WalkBox

ANIMATION_WIDTH = 384
STRIP_FRAMES = 12
Drawing = Generator[dict, None, Batch | None]


@dataclass(frozen=True, eq=False)
class GenerateTab:
    """The tab's components, and what happens to them."""

    registry: ModelRegistry
    controls: Controls
    result: Result
    actions: Actions
    walk: WalkBox
    go: gr.Button
    stop: gr.Button

    @property
    def model(self) -> gr.Dropdown:
        """The model picker."""
        return self.controls.model

    @property
    def chosen_path(self) -> gr.State:
        """The file of the picture chosen last, or None."""
        return self.result.chosen_path

    @property
    def send_to_restore(self) -> gr.Button:
        return self.actions.send_to_restore

    def outputs(self) -> list[gr.blocks.Block]:
        """What drawing may change."""
        buttons = [self.go, self.stop, self.actions.variations, self.walk.go]
        return [*vars(self.result).values(), self.controls.seed, *buttons]

    @lasting
    def on_generate(self, values: dict, request: gr.Request) -> Iterator[dict]:
        yield from self._draw(self.controls.chosen(values), request)

    @lasting
    def on_variations(self, values: dict, request: gr.Request) -> Iterator[dict]:
        """Draws variations of the picture chosen last, with the model and the settings that it was made with."""
        session, settings = SESSIONS.of(request), self.controls.chosen(values)
        if session.batch is None:
            raise gr.Error(say(request, "no_pictures"), print_exception=False)
        before = session.batch
        kept = {name: getattr(before.request, name) for name in GenerationRequest.__dataclass_fields__}
        kept |= {
            "variation_of": before.noises[session.chosen],
            "variation_strength": settings.variation_strength,
            "count": whole(settings.count),
            "seed": seed_after((before.noises[-1].blended or ((before.noises[-1].seed, 0),))[-1][0]),
        }
        yield from self._draw(replace(settings, model=before.model), request, **kept)

    @lasting
    def on_walk(self, values: dict, request: gr.Request) -> Iterator[dict]:
        """Walks, and then shows the frames in a row and one after the other."""
        box = self.walk
        walk = Walk(whole(values[box.to_seed] or 0), whole(values[box.frames]))
        changed = dict(seed=whole(values[box.from_seed] or 0), variation_of=None, start=None)
        batch = yield from self._draw(self.controls.chosen(values), request, walk, **changed)
        trajectory = SESSIONS.of(request).trajectory
        if batch and trajectory.frames:
            pictures = trajectory.pictures(trajectory.frames[-1], "guess")
            target = batch.paths[0].parent / "walk.webp"
            save_animation([grid(p[None], width=ANIMATION_WIDTH) for p in pictures], target)
            some = pictures[:: max(1, -(-len(pictures) // STRIP_FRAMES))]
            shown = gr.Image(grid(some, len(some), 96 * len(some)), visible=True)
            yield {box.strip: shown, box.animation: gr.Image(target, visible=True)}

    def _draw(self, settings: Values, request: gr.Request, walk: Walk | None = None, **changed) -> Drawing:
        """Draws and shows; the page is left ready for the next job however this one ends. Returns what was finished.

        Args:
            changed: of the `GenerationRequest` that the settings make.
        """
        try:
            if not settings.model:
                raise UserError(say(request, "no_model"))
            wanted = settings.request(self.registry, **changed)
            begun_anew = not walk and "variation_of" not in changed
            yield self._busy(True) | ({self.controls.seed: wanted.seed} if begun_anew else {})
            for shown in draw(request, self.registry, settings.model, wanted, walk):
                yield update(self.result, request, shown)
            yield self._busy(False) | downloads(self.result, shown.batch)
            return shown.batch
        except Exception as error:  # told in one sentence
            yield self._busy(False) | {self.result.status: Status(request).ready()}
            raise plain_error(error, request) from error

    def _busy(self, yes: bool) -> dict:
        starters = {button: gr.Button(interactive=not yes) for button in (self.actions.variations, self.walk.go)}
        return {self.go: gr.Button(visible=not yes), self.stop: gr.Button(visible=yes), **starters}

    def on_words(self, model: str | None, prompt: str, negative: str, request: gr.Request):
        return left_out(self.registry, model, prompt, negative, request)


def on_stop(request: gr.Request) -> None:
    SESSIONS.of(request).stop()


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
        raise gr.Error(say(request, "no_steps"), print_exception=False)
    frame = trajectory.at(int(index))
    return session.preview(grid(trajectory.pictures(frame, view))), line(
        request, "noise_level", sigma=f"{frame.sigma:.3g}"
    )


@told
def on_choose(event: gr.SelectData, request: gr.Request):
    """Shows one of the pictures large."""
    session = SESSIONS.of(request)
    path = picked(event, session.batch.paths if session.batch else ())
    if path is None:
        return gr.skip(), gr.skip(), gr.skip(), gr.skip()
    session.chosen = event.index
    noise = session.batch.noises[event.index]
    return session.preview(enlarged(path)), path, str(path), line(request, "seed_is", seed=noise)


def on_animate(view: str, request: gr.Request):
    """Makes an animation of the steps."""
    session = SESSIONS.of(request)
    trajectory = session.trajectory
    if not trajectory.frames:
        raise gr.Error(say(request, "no_steps"), print_exception=False)
    target = session.new_folder() / "denoising.webp"
    pictures = (trajectory.pictures(frame, view) for frame in trajectory.frames)
    save_animation([grid(each, width=ANIMATION_WIDTH) for each in pictures], target)
    return gr.Image(target, visible=True)
