"""The Restore tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from collections.abc import Generator, Iterator
from typing import TypeVar

import gradio as gr
import numpy as np

from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import read_mask, save_mask
from sd_core.pictures.original import open_original
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.region import CropBox
from tabs.common.api import answered, last
from tabs.common.forms import whole
from tabs.common.jobs import Waiting
from tabs.common.sessions import SESSIONS, Caller
from tabs.common.words import add_words, say
from tabs.restore.job import RestoreJobRequest, clean_small, propose, repair

T = TypeVar("T")
SHOWN_VALUE = 40  # characters of what is no number

add_words({
    "takes_restorer": (
        "{model} draws pictures and does not repair them; this takes a restorer: {names}.",
        "{model} 是生成模型，不能修复图片；这里需要修复模型：{names}。",
    ),
    "takes_generator": (
        "{model} repairs pictures and does not draw them; this takes a generator: {names}.",
        "{model} 是修复模型，不能生成图片；这里需要生成模型：{names}。",
    ),
    "no_number": ("“{name}” must be a number, not {value}.", "“{name}”必须是数字，而不是 {value}。"),
})  # fmt: skip


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /restore, /draw_missing, /find_damage and /remove_noise, without anything to see."""

    def chosen(model: str, kind: str, caller: Caller) -> str:
        names = registry.names(kind)
        if not (model or names):
            raise ValueError(say(caller, "no_restorer" if kind == "restorer" else "no_model"))
        name = str(model or names[0])
        if registry.describe(name).model.kind != kind:
            raise ValueError(say(caller, f"takes_{kind}", model=name, names=", ".join(names) or "-"))
        return name

    def numbers(caller: Caller, **values: object) -> list[float]:
        """The values, whole ones as int. A program may send anything: Gradio does not look at it."""
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(say(caller, "no_number", name=name, value=repr(value)[:SHOWN_VALUE]))
        return [whole(value) for value in values.values()]

    def path_of(upload: dict | None, caller: Caller) -> str:
        """The file as it was sent: Gradio itself would fail at one that is no picture, and not say why."""
        if not upload:
            raise ValueError(say(caller, "no_upload"))
        return upload["path"]

    def found_in(picture: str, model: str, caller: Caller) -> Generator[object, None, np.ndarray]:
        found = yield from last(propose(caller, registry, model, open_original(picture)))
        return finished(None if isinstance(found, Waiting) else found, caller)

    def marked(picture: str, mask: dict | None, model: str, caller: Caller) -> Generator[object, None, np.ndarray]:
        """What the mask marks, or else the restorer of that name finds."""
        if mask:
            return read_mask(mask["path"], open_original(picture).size)
        return (yield from found_in(picture, chosen(model, "restorer", caller), caller))

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
            power, level, *others = numbers(
                caller, strength=strength, noise_level=noise_level, upscale=upscale, steps=steps, candidates=candidates,
                seed=seed,
            )  # fmt: skip
            marks = (yield from marked(path, mask, name, caller)) if mask or mode == "marked" else None
            wanted = RestoreJobRequest(
                path, name, marks, mode == "whole", power, level or None, *others, fill_transparent
            )
            shown = yield from last(repair(caller, registry, wanted))
            return list(finished(shown.repaired, caller).paths)

        yield from answered(request, job)

    def draw_missing(
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
            path, name = path_of(picture, caller), chosen(model, "generator", caller)
            count, answers, first = numbers(caller, steps=steps, candidates=candidates, seed=seed)
            marks = yield from marked(path, mask, "", caller)
            wanted = RestoreJobRequest(
                path, name, marks, steps=count, candidates=answers, seed=first, fill=fill_transparent,
                prompt=str(prompt or ""), square=CropBox.around(marks),
            )  # fmt: skip
            shown = yield from last(repair(caller, registry, wanted))
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
            path, name = path_of(picture, caller), chosen(model, "generator", caller)
            level, count, first = numbers(caller, sigma=sigma, steps=steps, seed=seed)
            wanted = RestoreJobRequest(
                path, name, whole=True, sigma=level or None, prompt=str(prompt or ""), steps=count, seed=first
            )  # fmt: skip
            return str(finished((yield from last(clean_small(caller, registry, wanted))), caller))

        yield from answered(request, job)

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
        hidden.click(
            restore, [picture, mask, mode, strength, sigma, upscale, fill, steps, candidates, seed, model], pictures,
            api_name="restore", **free,
        )  # fmt: skip
        hidden.click(
            draw_missing, [picture, mask, prompt, fill, drawn_steps, candidates, seed, model], pictures,
            api_name="draw_missing", **free,
        )  # fmt: skip
        hidden.click(find_damage, [picture, model], result, api_name="find_damage", **free)
        hidden.click(
            remove_noise, [picture, sigma, steps, prompt, seed, model], result, api_name="remove_noise", **free
        )
