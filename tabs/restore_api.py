"""The Restore tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from collections.abc import Generator, Iterator
from typing import TypeVar

import gradio as gr
import numpy as np

from sd_core.originals import open_original, read_mask, save_mask
from sd_core.shelf import Shelf
from tabs.answering import answered, last
from tabs.controls import whole
from tabs.repairing import Wanted, clean_small, propose, repair
from tabs.sessions import SESSIONS, Caller
from tabs.streaming import Waiting
from tabs.words import say

T = TypeVar("T")


def build_api(shelf: Shelf) -> None:
    """Adds the endpoints /restore, /find_damage and /remove_noise, without anything to see."""

    def chosen(model: str, kind: str, caller: Caller) -> str:
        names = shelf.names(kind)
        if not (model or names):
            raise ValueError(say(caller, "no_restorer" if kind == "restorer" else "no_model"))
        return model or names[0]

    def path_of(upload: dict | None, caller: Caller) -> str:
        """The file as it was sent: Gradio itself would fail at one that is no picture, and not say why."""
        if not upload:
            raise ValueError(say(caller, "no_upload"))
        return upload["path"]

    def found_in(picture: str, model: str, caller: Caller) -> Generator[object, None, np.ndarray]:
        found = yield from last(propose(caller, shelf, model, open_original(picture)))
        return finished(None if isinstance(found, Waiting) else found, caller)

    def finished(result: T | None, caller: Caller) -> T:
        if result is None:
            raise ValueError(say(caller, "job_stopped"))
        return result

    def restore(
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
                raise ValueError(f'The mode must be "marked" or "whole", not "{mode}".')
            path, name = path_of(picture, caller), chosen(model, "restorer", caller)
            marks = None
            if mask:
                marks = read_mask(mask["path"], open_original(path).size)
            elif mode == "marked":
                marks = yield from found_in(path, name, caller)
            wanted = Wanted(
                path, name, marks, mode == "whole", strength, noise_level or None, whole(upscale), whole(steps),
                whole(candidates), whole(seed), fill_transparent,
            )  # fmt: skip
            shown = yield from last(repair(caller, shelf, wanted))
            return list(finished(shown.repaired, caller).paths)

        yield from answered(request, job)

    def find_damage(picture: str, model: str = "", request: gr.Request = None) -> Iterator[str]:
        """Finds where a picture is scratched, scribbled over or missing.

        Args:
            picture: The damaged picture.
            model: A restorer's name; empty for the first one.

        Returns:
            A mask as a PNG of the picture's size, white where it seems to be damaged.
        """

        def job(caller: Caller) -> Generator[object, None, str]:
            mask = yield from found_in(path_of(picture, caller), chosen(model, "restorer", caller), caller)
            path = SESSIONS.of(caller).new_folder() / "mask.png"
            save_mask(mask, path)
            return str(path)

        yield from answered(request, job)

    def remove_noise(
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
            wanted = Wanted(
                path_of(picture, caller), chosen(model, "generator", caller), whole=True, sigma=sigma or None,
                prompt=prompt, steps=whole(steps), seed=whole(seed),
            )  # fmt: skip
            return str(finished((yield from last(clean_small(caller, shelf, wanted))), caller))

        yield from answered(request, job)

    with gr.Group(visible=False):
        picture, mask = (
            gr.Image(type="filepath", image_mode=None, format="png", label=label) for label in ("Picture", "Mask")
        )
        mode, fill = gr.Textbox("marked", label="Mode"), gr.Checkbox(False, label="Fill transparent")
        strength, sigma = gr.Number(1, label="Strength"), gr.Number(0, label="Noise level")
        upscale, steps = gr.Number(1, label="Upscale"), gr.Number(1, label="Steps")
        candidates, seed = gr.Number(1, label="Candidates"), gr.Number(0, label="Seed")
        prompt, model = gr.Textbox("", label="Prompt"), gr.Textbox("", label="Model")
        pictures = gr.Gallery(label="Candidates", type="filepath")
        result = gr.Image(label="Result", type="filepath")
        hidden = gr.Button()
        free = dict(concurrency_limit=None, preprocess=False)
        hidden.click(
            restore, [picture, mask, mode, strength, sigma, upscale, fill, steps, candidates, seed, model], pictures,
            api_name="restore", **free,
        )  # fmt: skip
        hidden.click(find_damage, [picture, model], result, api_name="find_damage", **free)
        hidden.click(
            remove_noise, [picture, sigma, steps, prompt, seed, model], result, api_name="remove_noise", **free
        )
