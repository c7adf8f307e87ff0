"""The Restore tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from dataclasses import dataclass, replace
from functools import partial

import gradio as gr
import numpy as np
import torch

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import read_mask, save_mask
from sd_core.pictures.original import open_original
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.request import RestoreRequest
from tabs.common.api import Job, Parameter, endpoint, finished, last
from tabs.common.forms import kept
from tabs.common.sessions import SESSIONS, Caller
from tabs.common.words import say
from tabs.restore.job import RestoreJobRequest, clean_small, propose, repair

_image = partial(gr.Image, type="filepath", image_mode=None, format="png")

# Those that a `RestoreRequest` has are named as there.
PICTURE = Parameter("picture", "The damaged picture, in any usual format, up to 40 million pixels.", part=_image)
MASK = Parameter(
    "mask",
    'Of the same size, white where the picture is damaged; none: damage is looked for in mode "marked".',
    None,
    _image,
)
MODE = Parameter(
    "mode",
    '"marked" leaves all but the damage exactly as it is; "whole" removes noise, blur, compression, fading.',
    "marked",
    gr.Textbox,
)
STRENGTH = Parameter("strength", "Of cleaning the whole picture, 0 to 2; 1 is what the model finds right.", 1)
LEVEL = Parameter("noise_level", "Of the picture, on the scale 0-255, for cleaning the whole; 0 has it judged.", 0)
UPSCALE = Parameter("upscale", "1, 2 or 4 times larger, for cleaning the whole picture.", 1)
FILL = Parameter(
    "fill_transparent", "Whether transparent places inside the mask are missing and to be filled.", False, gr.Checkbox
)
EXEMPLARS = Parameter(
    "exemplars", "Whether wide holes are filled with pieces from elsewhere in the picture.", True, gr.Checkbox
)
STEPS = Parameter("steps", "1 for the most faithful result, up to 50 for more detail, part of which is invented.", 1)
CANDIDATES = Parameter("candidates", "How many different answers, 1 to 8; with 1 step there is but one.", 1)
SEED = Parameter("seed", "Of the first candidate; another seed gives other details when there is more than 1 step.", 0)
PROMPT = Parameter("prompt", "What the picture shows; may be empty.", "", gr.Textbox)
RESTORER = Parameter("model", "A restorer's name; empty for the first one.", "", gr.Textbox)
GENERATOR = Parameter("model", 'A name that the endpoint "models" lists; empty for the first one.', "", gr.Textbox)


@dataclass(frozen=True)
class RestoreAPI:
    """The endpoints. Each answers in a session of its own; what `settings` holds is a `RestoreRequest`'s."""

    registry: ModelRegistry

    def restore(
        self,
        caller: Caller,
        picture: dict | None,
        mask: dict | None,
        mode: str,
        noise_level: float,
        fill_transparent: bool,
        model: str,
        **settings,
    ) -> Job[list[str]]:
        """Repairs a damaged picture of any size and returns it as PNG files, one per candidate.

        Returns:
            The candidates, as PNG files at the picture's full size, with its alpha and colour profile.
        """
        if mode not in ("marked", "whole"):
            raise UserError(f'The mode must be "marked" or "whole", not "{mode}".')
        path, name = kept(picture, caller)["path"], self._chosen(model, "restorer", caller)
        marks = None
        if mask or mode == "marked":
            marks = torch.from_numpy((yield from self._marked(path, mask, name, caller)))
        wanted = RestoreRequest(
            marks, whole=mode == "whole", sigma=noise_level or None, fill=fill_transparent, **settings
        )
        return (yield from self._repaired(caller, RestoreJobRequest(path, name, wanted)))

    def draw_missing(
        self, caller: Caller, picture: dict | None, mask: dict | None, fill_transparent: bool, model: str, **settings
    ) -> Job[list[str]]:
        """Draws missing parts of a picture anew with a generator, for pictures of the kind that it was trained on.

        Returns:
            The candidates, as PNG files at the picture's full size; what is not marked is as it was.
        """
        path, name = kept(picture, caller)["path"], self._chosen(model, "generator", caller)
        marks = torch.from_numpy((yield from self._marked(path, mask, "", caller)))
        wanted = RestoreRequest(marks, fill=fill_transparent, **settings)
        return (yield from self._repaired(caller, RestoreJobRequest(path, name, wanted)))

    def find_damage(self, caller: Caller, picture: dict | None, model: str) -> Job[str]:
        """Finds where a picture is scratched, scribbled over or missing.

        Returns:
            A mask as a PNG of the picture's size, white where it seems to be damaged.
        """
        mask = yield from self._marked(kept(picture, caller)["path"], None, model, caller)
        path = SESSIONS.of(caller).new_folder() / "mask.png"
        save_mask(mask, path)
        return str(path)

    def remove_noise(self, caller: Caller, picture: dict | None, sigma: float, model: str, **settings) -> Job[str]:
        """Removes noise from a picture of the kind a generator was trained on, and returns it as a PNG.

        Returns:
            The restored picture, as a PNG file at the model's resolution.
        """
        path, name = kept(picture, caller)["path"], self._chosen(model, "generator", caller)
        wanted = RestoreJobRequest(path, name, RestoreRequest(whole=True, sigma=sigma or None, **settings))
        return str(finished((yield from last(clean_small(caller, self.registry, wanted))), caller))

    def _chosen(self, model: str, kind: str, caller: Caller) -> str:
        names = self.registry.names(kind, few_steps=False)
        if not (model or names):
            raise UserError(say(caller, "no_restorer" if kind == "restorer" else "no_model"))
        name = model or names[0]
        if self.registry.describe(name).model.kind != kind:
            raise UserError(say(caller, f"takes_{kind}", model=name, names=", ".join(names) or "-"))
        return name

    def _marked(self, picture: str, mask: dict | None, model: str, caller: Caller) -> Job[np.ndarray]:
        """What the mask marks, or else the restorer of that name finds."""
        original = open_original(picture)
        if mask:
            return read_mask(mask["path"], original.size)
        restorer = self._chosen(model, "restorer", caller)
        return finished((yield from last(propose(caller, self.registry, restorer, original))), caller)

    def _repaired(self, caller: Caller, wanted: RestoreJobRequest) -> Job[list[str]]:
        shown = yield from last(repair(caller, self.registry, wanted))
        return list(finished(shown.repaired, caller).paths)


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /restore, /draw_missing, /find_damage and /remove_noise, without anything to see."""
    api = RestoreAPI(registry)
    square = "The damaged picture. The largest square of it, as near to the damage as can be, is worked on."
    missing = "Of the same size, white where the picture is missing; none: damage is looked for with a restorer."
    centre = "The noisy picture; its centre is fitted to the model's own resolution."
    drawn = replace(STEPS, said="How many denoising steps, 1 to 50.", default=FILL_STEPS)
    level = replace(LEVEL, name="sigma", said="Its noise level on the scale 0-255; 0 has it measured.")
    with gr.Group(visible=False):
        pictures, result = gr.Gallery(label="Candidates", type="filepath"), gr.Image(label="Result", type="filepath")
        how = [STRENGTH, LEVEL, UPSCALE, FILL, STEPS, CANDIDATES, SEED]
        endpoint(api.restore, [PICTURE, MASK, MODE, *how, RESTORER, EXEMPLARS], pictures)
        how = [PROMPT, FILL, drawn, CANDIDATES, SEED]
        endpoint(
            api.draw_missing, [replace(PICTURE, said=square), replace(MASK, said=missing), *how, GENERATOR], pictures
        )
        endpoint(api.find_damage, [PICTURE, RESTORER], result)
        endpoint(api.remove_noise, [replace(PICTURE, said=centre), level, STEPS, PROMPT, SEED, GENERATOR], result)
