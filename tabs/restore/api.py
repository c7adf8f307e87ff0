"""The Restore tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import gradio as gr
import numpy as np

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import read_mask, save_mask
from sd_core.pictures.original import open_original
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.region import CropBox
from tabs.common.api import answered, finished, last
from tabs.common.forms import kept, whole
from tabs.common.jobs import Waiting
from tabs.common.sessions import SESSIONS, Caller
from tabs.common.words import say
from tabs.restore.job import RestoreJobRequest, clean_small, propose, repair


@dataclass(frozen=True)
class RestoreAPI:
    """The endpoints. Each answers in a session of its own; errors are told in one sentence."""

    registry: ModelRegistry

    def restore(
        self,
        picture: str,
        mask: str | None = None,
        mode: str = "marked",
        strength: float = 1,
        noise_level: float = 0,
        upscale: float = 1,
        fill_transparent: bool = False,
        steps: float = 1,
        candidates: float = 1,
        seed: float = 0,
        model: str = "",
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Repairs a damaged picture of any size and returns it as PNG files, one per candidate.

        Args:
            picture: The damaged picture, in any usual format, up to 40 million pixels.
            mask: Of the same size, white where the picture is damaged; none: damage is looked for in mode "marked".
            mode: "marked" leaves all but the damage exactly as it is; "whole" removes noise, blur, compression, fading.
            strength: Of cleaning the whole picture, 0 to 2; 1 is what the model finds right.
            noise_level: Of the picture, on the scale 0-255, for cleaning the whole; 0 has it judged.
            upscale: 1, 2 or 4 times larger, for cleaning the whole picture.
            fill_transparent: Whether transparent places inside the mask are missing and to be filled.
            steps: 1 for the most faithful result, up to 50 for more detail, part of which is invented.
            candidates: How many different answers, 1 to 8; with 1 step there is but one.
            seed: Of the first candidate; another seed gives other details when there is more than 1 step.
            model: A restorer's name; empty for the first one.

        Returns:
            The candidates, as PNG files at the picture's full size, with its alpha and colour profile.
        """

        def job(caller: Caller) -> Generator[object, None, list[str]]:
            if mode not in ("marked", "whole"):
                raise UserError(f'The mode must be "marked" or "whole", not "{mode}".')
            path, name = kept(picture, caller)["path"], self._chosen(model, "restorer", caller)
            marks = (yield from self._marked(path, mask, name, caller)) if mask or mode == "marked" else None
            numbers = map(whole, (upscale, steps, candidates, seed))
            wanted = RestoreJobRequest(
                path, name, marks, mode == "whole", strength, noise_level or None, *numbers, fill_transparent
            )
            shown = yield from last(repair(caller, self.registry, wanted))
            return list(finished(shown.repaired, caller).paths)

        yield from answered(request, job)

    def draw_missing(
        self,
        picture: str,
        mask: str | None = None,
        prompt: str = "",
        fill_transparent: bool = False,
        steps: float = FILL_STEPS,
        candidates: float = 1,
        seed: float = 0,
        model: str = "",
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Draws missing parts of a picture anew with a generator, for pictures of the kind that it was trained on.

        Args:
            picture: The damaged picture. The largest square of it, as near to the damage as can be, is worked on.
            mask: Of the same size, white where the picture is missing; none: damage is looked for with a restorer.
            prompt: What the picture shows; may be empty.
            fill_transparent: Whether transparent places inside the mask are missing and to be filled.
            steps: How many denoising steps, 1 to 50.
            candidates: How many different answers, 1 to 8.
            seed: Of the first candidate; another seed draws something else.
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The candidates, as PNG files at the picture's full size; what is not marked is as it was.
        """

        def job(caller: Caller) -> Generator[object, None, list[str]]:
            path, name = kept(picture, caller)["path"], self._chosen(model, "generator", caller)
            marks = yield from self._marked(path, mask, "", caller)
            wanted = RestoreJobRequest(
                path, name, marks, steps=whole(steps), candidates=whole(candidates), seed=whole(seed),
                fill=fill_transparent, prompt=prompt, square=CropBox.around(marks),
            )  # fmt: skip
            shown = yield from last(repair(caller, self.registry, wanted))
            return list(finished(shown.repaired, caller).paths)

        yield from answered(request, job)

    def find_damage(self, picture: str, model: str = "", request: gr.Request = None) -> Iterator[str]:
        """Finds where a picture is scratched, scribbled over or missing.

        Args:
            picture: The damaged picture.
            model: A restorer's name; empty for the first one.

        Returns:
            A mask as a PNG of the picture's size, white where it seems to be damaged.
        """

        def job(caller: Caller) -> Generator[object, None, str]:
            path, name = kept(picture, caller)["path"], self._chosen(model, "restorer", caller)
            mask = yield from self._found_in(path, name, caller)
            path = SESSIONS.of(caller).new_folder() / "mask.png"
            save_mask(mask, path)
            return str(path)

        yield from answered(request, job)

    def remove_noise(
        self,
        picture: str,
        sigma: float = 0,
        steps: float = 1,
        prompt: str = "",
        seed: float = 0,
        model: str = "",
        request: gr.Request = None,
    ) -> Iterator[str]:
        """Removes noise from a picture of the kind a generator was trained on, and returns it as a PNG.

        Args:
            picture: The noisy picture; its centre is fitted to the model's own resolution.
            sigma: Its noise level on the scale 0-255; 0 has it measured.
            steps: 1 for the most faithful result, up to 50 for more detail, part of which is invented.
            prompt: What the picture shows; may be empty.
            seed: Another seed gives other details when there is more than 1 step.
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The restored picture, as a PNG file at the model's resolution.
        """

        def job(caller: Caller) -> Generator[object, None, str]:
            path, name = kept(picture, caller)["path"], self._chosen(model, "generator", caller)
            numbers = dict(steps=whole(steps), seed=whole(seed))
            wanted = RestoreJobRequest(path, name, whole=True, sigma=sigma or None, prompt=prompt, **numbers)
            return str(finished((yield from last(clean_small(caller, self.registry, wanted))), caller))

        yield from answered(request, job)

    def _chosen(self, model: str, kind: str, caller: Caller) -> str:
        names = self.registry.names(kind)
        if not (model or names):
            raise UserError(say(caller, "no_restorer" if kind == "restorer" else "no_model"))
        name = str(model or names[0])
        if self.registry.describe(name).model.kind != kind:
            raise UserError(say(caller, f"takes_{kind}", model=name, names=", ".join(names) or "-"))
        return name

    def _found_in(self, picture: str, model: str, caller: Caller) -> Generator[object, None, np.ndarray]:
        found = yield from last(propose(caller, self.registry, model, open_original(picture)))
        return finished(None if isinstance(found, Waiting) else found, caller)

    def _marked(
        self, picture: str, mask: dict | None, model: str, caller: Caller
    ) -> Generator[object, None, np.ndarray]:
        """What the mask marks, or else the restorer of that name finds."""
        if mask:
            return read_mask(mask["path"], open_original(picture).size)
        return (yield from self._found_in(picture, self._chosen(model, "restorer", caller), caller))


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /restore, /draw_missing, /find_damage and /remove_noise, without anything to see."""
    api = RestoreAPI(registry)
    with gr.Group(visible=False):
        picture, mask = (
            gr.Image(type="filepath", image_mode=None, format="png", label=label) for label in ("Picture", "Mask")
        )
        mode, fill = gr.Textbox("marked", label="Mode"), gr.Checkbox(False, label="Fill transparent")
        strength, sigma = gr.Number(1, label="Strength"), gr.Number(0, label="Noise level")
        upscale, steps = gr.Number(1, label="Upscale"), gr.Number(1, label="Steps")
        drawn_steps = gr.Number(FILL_STEPS, label="Steps")
        candidates, seed = gr.Number(1, label="Candidates"), gr.Number(0, label="Seed")
        prompt, model = gr.Textbox("", label="Prompt"), gr.Textbox("", label="Model")
        pictures = gr.Gallery(label="Candidates", type="filepath")
        result = gr.Image(label="Result", type="filepath")
        hidden = gr.Button()
        free = dict(concurrency_limit=None, preprocess=False)
        taken = [picture, mask, mode, strength, sigma, upscale, fill, steps, candidates, seed, model]
        hidden.click(api.restore, taken, pictures, api_name="restore", **free)
        taken = [picture, mask, prompt, fill, drawn_steps, candidates, seed, model]
        hidden.click(api.draw_missing, taken, pictures, api_name="draw_missing", **free)
        hidden.click(api.find_damage, [picture, model], result, api_name="find_damage", **free)
        taken = [picture, sigma, steps, prompt, seed, model]
        hidden.click(api.remove_noise, taken, result, api_name="remove_noise", **free)
