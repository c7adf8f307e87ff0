"""How a picture is to be repaired: the model, the kind of repair, and its settings."""

from dataclasses import dataclass

import gradio as gr
import numpy as np
import torch

from sd_core.diffusion.noise import MAX_SEED
from sd_core.errors import CheckpointError
from sd_core.models.registry import ModelRegistry
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import MAX_CANDIDATES, MAX_STEPS, MAX_STRENGTH, UPSCALES, RestoreRequest
from tabs.common.forms import QUIET, Form, whole
from tabs.common.words import T, say
from tabs.restore.picture import Opened
from tabs.restore.region import Region

MAX_LEVEL = 150  # of the noise slider, on the scale 0-255


@dataclass(frozen=True)
class Chosen:
    """What `Choices` hold."""

    model: str | None
    what: str
    fill: bool
    exemplars: bool
    strength: float
    sigma: float
    upscale: int
    steps: float
    candidates: float
    seed: float | None
    prompt: str
    across: float
    down: float
    share: float

    def request(self, size: tuple[int, int], mask: np.ndarray | None, generator: bool) -> RestoreRequest:
        """The request they make for a picture of (width, height), by a generator or a restorer. Raises UserError."""
        cleaning = self.what == "whole"
        place = self.across / 100, self.down / 100, self.share / 100
        return RestoreRequest(
            mask=None if mask is None else torch.from_numpy(mask),
            whole=cleaning,
            strength=self.strength,
            sigma=(self.sigma or None) if cleaning else None,
            upscale=self.upscale if cleaning else 1,
            steps=whole(self.steps),
            candidates=whole(self.candidates),
            seed=whole(self.seed or 0),
            exemplars=self.exemplars,
            fill=self.fill,
            prompt=self.prompt,
            square=CropBox.within(size, *place) if generator else None,
        )


class Choices(Form):
    """Draws the components whose values make a request. What matters only to some of them is shown and hidden: the
    `region` of a generator, and what is asked where the whole picture is to be cleaned."""

    made = Chosen

    def __init__(self, registry: ModelRegistry):
        self._registry = registry
        models = model_choices(registry)
        self.model = gr.Dropdown(models, value=models[0][1] if models else None, label=T("model"), elem_id="restorer")
        ways = [(T("repair_marked"), "marked"), (T("repair_whole"), "whole")]
        self.what = gr.Radio(ways, value="marked", label=T("repair_what"), elem_id="repair-what")
        self.fill = gr.Checkbox(False, label=T("fill_transparent"), visible=False, elem_id="fill")
        self.exemplars = gr.Checkbox(True, label=T("exemplars"), info=T("exemplars_info"), elem_id="exemplars")
        with gr.Column(visible=False) as self._of_whole:
            self.strength = gr.Slider(
                0, MAX_STRENGTH, 1, step=0.05, label=T("strength"), info=T("clean_strength_info"), elem_id="strength"
            )
            scales = [(T("upscale_none") if scale == 1 else f"{scale}×", scale) for scale in UPSCALES]
            self.upscale = gr.Radio(scales, value=1, label=T("upscale"), info=T("upscale_info"), elem_id="upscale")
        self.sigma = gr.Slider(
            0, MAX_LEVEL, 0, step=0.5, label=T("noise_level_label"), info=T("noise_level_info"), visible=False,
            elem_id="level",
        )  # fmt: skip
        self.region = Region()
        self.prompt, self.share = self.region.prompt, self.region.share
        self.across, self.down = self.region.across, self.region.down
        self.steps = gr.Slider(
            1, MAX_STEPS, 1, step=1, label=T("faithful_detailed"), info=T("faithful_detailed_info"), elem_id="detail"
        )
        with gr.Row():
            self.candidates = gr.Slider(
                1, MAX_CANDIDATES, 1, step=1, label=T("candidates"), info=T("candidates_info"), min_width=180,
                elem_id="candidates",
            )  # fmt: skip
            self.seed = gr.Number(
                0, label=T("seed"), info=T("restore_seed_info"), precision=0, minimum=0, maximum=MAX_SEED,
                min_width=120, elem_id="restore-seed",
            )  # fmt: skip

    def follow(self, opened: gr.State) -> None:
        """Lets what is shown follow what is chosen. `opened` holds an `Opened`."""
        kind = [self.model, self.what]
        gr.on([part.change for part in kind], self.on_arrange, [*kind, opened], self.arrangeable(), **QUIET)
        # Not when the page itself sets them.
        gr.on([part.input for part in kind], self.on_other, kind, self.steps, **QUIET)
        self.region.follow(opened)

    def on_arrange(self, model: str | None, what: str, current: Opened | None):
        return self.arranged(model, what, bool(current and current.has_alpha))

    def on_other(self, model: str | None, what: str):
        """Another kind of repair is chosen: the steps that it usually takes."""
        return FILL_STEPS if what == "marked" and is_generator(self._registry, model) else 1

    def arrangeable(self) -> list[gr.blocks.Block]:
        """What `arranged` and `of_picture` may change."""
        return [self.what, self.fill, self.exemplars, self.sigma, self._of_whole, self.region.box, self.steps]

    def of_picture(self, model: str | None, before: str, what: str, has_alpha: bool) -> dict:
        """The settings for a picture that has just been opened and calls for another kind of repair than the one
        `before` it, or for the same."""
        other = {} if what == before else {self.steps: self.on_other(model, what)}
        return self.arranged(model, what, has_alpha, False) | other

    def arranged(self, model: str | None, what: str, has_alpha: bool, fill: bool | None = None) -> dict:
        """Shows the settings that matter for this kind of repair, hides the others, and sets `fill` unless that is
        None."""
        generator, cleaning = is_generator(self._registry, model), what == "whole"
        value = {} if fill is None else {"value": fill}
        return {
            self.what: gr.Radio(value=what),
            self.fill: gr.Checkbox(visible=not cleaning and has_alpha, **value),
            self.exemplars: gr.Checkbox(visible=not cleaning and not generator),
            self.sigma: gr.Slider(visible=cleaning),
            self._of_whole: gr.Column(visible=cleaning and not generator),
            self.region.box: gr.Column(visible=generator),
        }


def model_choices(registry: ModelRegistry, request: gr.Request | None = None) -> list[tuple[str, str]]:
    """The choices of the model picker: restorers, and generators with the size they work at."""
    found = [(say(request, "restorer_choice", name=name), name) for name in registry.names("restorer")]
    for name in registry.names("generator", few_steps=False):
        try:
            size = registry.describe(name).model.resolution
        except CheckpointError:  # it went away in the meantime
            continue
        found.append((say(request, "generator_choice", name=name, size=size), name))
    return found


def is_generator(registry: ModelRegistry, model: str | None) -> bool:
    try:
        return bool(model) and registry.describe(model).model.kind == "generator"
    except CheckpointError:
        return False
