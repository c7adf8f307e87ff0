"""The Generate tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from collections.abc import Generator, Iterator

import gradio as gr

from sd_core.generation.request import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    DEFAULT_STRENGTH,
    DEFAULT_VARIATION,
    SAMPLERS,
    GenerationRequest,
)
from sd_core.generation.seeds import Noise
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.decoding import fit_picture, open_picture
from sd_core.pictures.pixels import to_float
from tabs.common.api import answered, last
from tabs.common.errors import plain_error
from tabs.common.forms import whole
from tabs.common.sessions import Caller
from tabs.common.words import say
from tabs.generate.job import Walk, draw
from tabs.generate.settings import known_words

STRIP_FRAMES = 24
Drawing = Generator[object, None, list[str]]


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /generate, /image_to_image, /variations, /walk, /models and /words, with nothing to see."""

    def drawn(caller: Caller, model: str, wanted: GenerationRequest, walk: Walk | None = None) -> Drawing:
        shown = yield from last(draw(caller, registry, model, wanted, walk))
        if shown.batch is None:
            raise ValueError(say(caller, "job_stopped"))
        return [str(path) for path in shown.batch.paths]

    def asked(prompt, negative, count, sampler, steps, guidance, seed, **more) -> GenerationRequest:
        """The request, whatever kind of number stands for a whole one."""
        how = (sampler, whole(steps), guidance, whole(seed))
        return GenerationRequest(prompt, negative, whole(count), *how, **more)

    def chosen(model: str) -> str:
        names = registry.names()
        if not names:
            raise ValueError("There is no model yet; train one first.")
        return model or names[0]

    def generate(
        prompt: str,
        negative_prompt: str = "",
        count: float = 4,
        sampler: str = DEFAULT_SAMPLER,
        steps: float = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
        seed: float = 0,
        model: str = "",
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Draws pictures of a prompt and returns them as PNG files that carry their settings.

        Args:
            prompt: What to draw, in words the model knows (see the endpoint "words"); others are left out.
            negative_prompt: What to keep away from.
            count: How many pictures, 1 to 64. Picture i has the seed `seed + i`.
            sampler: dpmpp_2m, euler (the same as DDIM), euler_ancestral or heun.
            steps: How many denoising steps, 1 to 100.
            guidance: How closely to follow the prompt, 0 to 15; 1 is no guidance.
            seed: Of the first picture; the same seed and settings give the same picture.
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """

        def job(caller: Caller) -> Drawing:
            wanted = asked(prompt, negative_prompt, count, sampler, steps, guidance, seed)
            return (yield from drawn(caller, chosen(model), wanted))

        yield from answered(request, job)

    def image_to_image(
        picture: str,
        prompt: str,
        strength: float = DEFAULT_STRENGTH,
        count: float = 4,
        seed: float = 0,
        model: str = "",
        negative_prompt: str = "",
        sampler: str = DEFAULT_SAMPLER,
        steps: float = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Draws new pictures that start from a given one.

        Args:
            picture: The picture to start from; its centre is used, at the model's resolution.
            prompt: What to draw.
            strength: How much is drawn anew, above 0 and up to 1, which forgets the picture.
            count: How many pictures, 1 to 64.
            seed: Of the first picture.
            model: A name that the endpoint "models" lists; empty for the first one.
            negative_prompt: What to keep away from.
            sampler: dpmpp_2m, euler (the same as DDIM), euler_ancestral or heun.
            steps: How many denoising steps there would be from pure noise, 1 to 100; `strength` of them are done.
            guidance: How closely to follow the prompt, 0 to 15; 1 is no guidance.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """

        def job(caller: Caller) -> Drawing:
            name = chosen(model)
            start = to_float(fit_picture(open_picture(picture), registry.describe(name).model.resolution))
            more = dict(start=start, strength=strength)
            wanted = asked(prompt, negative_prompt, count, sampler, steps, guidance, seed, **more)
            return (yield from drawn(caller, name, wanted))

        yield from answered(request, job)

    def variations(
        variation_of: str,
        prompt: str,
        strength: float = DEFAULT_VARIATION,
        count: float = 4,
        seed: float = 0,
        model: str = "",
        negative_prompt: str = "",
        sampler: str = DEFAULT_SAMPLER,
        steps: float = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Draws pictures that resemble one drawn before: its noise, with some of another seed's blended in.

        Args:
            variation_of: The seed of that picture, such as 12; or, if it is a variation itself, what it was made of,
                such as "12 7:0.3" for seed 12 with a share of 0.3 of seed 7.
            prompt: What to draw; that picture's own prompt and settings make the likeness closest.
            strength: How much of the new seed is blended in, from 0, which changes nothing, to 1.
            count: How many pictures, 1 to 64.
            seed: The seed blended into the first picture; picture i has `seed + i`.
            model: A name that the endpoint "models" lists; empty for the first one.
            negative_prompt: What to keep away from.
            sampler: dpmpp_2m, euler (the same as DDIM), euler_ancestral or heun.
            steps: How many denoising steps, 1 to 100.
            guidance: How closely to follow the prompt, 0 to 15; 1 is no guidance.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """

        def job(caller: Caller) -> Drawing:
            more = dict(variation_of=Noise.parse(variation_of or ""), variation_strength=strength)
            wanted = asked(prompt, negative_prompt, count, sampler, steps, guidance, seed, **more)
            return (yield from drawn(caller, chosen(model), wanted))

        yield from answered(request, job)

    def walk(
        prompt: str,
        from_seed: float = 0,
        to_seed: float = 1,
        frames: float = STRIP_FRAMES,
        model: str = "",
        negative_prompt: str = "",
        sampler: str = DEFAULT_SAMPLER,
        steps: float = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
        request: gr.Request = None,
    ) -> Iterator[list[str]]:
        """Walks from the picture of one seed to that of another, by spherical interpolation of their noise.

        Args:
            prompt: What to draw.
            from_seed: The seed of the first frame.
            to_seed: The seed of the last frame.
            frames: How many pictures, 2 to 120.
            model: A name that the endpoint "models" lists; empty for the first one.
            negative_prompt: What to keep away from.
            sampler: dpmpp_2m, euler (the same as DDIM), euler_ancestral or heun.
            steps: How many denoising steps, 1 to 100.
            guidance: How closely to follow the prompt, 0 to 15; 1 is no guidance.

        Returns:
            The frames, as PNG files.
        """

        def job(caller: Caller) -> Drawing:
            wanted = asked(prompt, negative_prompt, 1, sampler, steps, guidance, from_seed)
            return (yield from drawn(caller, chosen(model), wanted, Walk(whole(to_seed), whole(frames))))

        yield from answered(request, job)

    def models() -> list[str]:
        """The names of the models that can draw.

        Returns:
            Their names, the default one first.
        """
        return registry.names()

    def words(model: str = "") -> list[str]:
        """The words a model knows in prompts.

        Args:
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The words, in alphabetical order.
        """
        try:
            return [word for (word,) in known_words(registry, chosen(model))]
        except ValueError as error:
            raise plain_error(error) from error

    with gr.Group(visible=False):
        pictures = gr.Gallery(label="Pictures", type="filepath")
        prompt, negative = gr.Textbox(label="Prompt"), gr.Textbox("", label="Negative prompt")
        count, steps = gr.Number(4, label="Count"), gr.Number(DEFAULT_STEPS, label="Steps")
        sampler = gr.Dropdown(list(SAMPLERS), value=DEFAULT_SAMPLER, label="Sampler")
        guidance = gr.Number(DEFAULT_GUIDANCE, label="Guidance scale")
        strength = gr.Number(DEFAULT_STRENGTH, label="Strength")
        variation_of = gr.Textbox(label="Variation of")
        variation = gr.Number(DEFAULT_VARIATION, label="Variation strength")
        seed, to_seed = gr.Number(0, label="Seed"), gr.Number(1, label="To seed")
        frames = gr.Number(STRIP_FRAMES, label="Frames")
        model = gr.Textbox("", label="Model")
        picture = gr.Image(type="filepath", image_mode=None, label="Picture")
        hidden = gr.Button()
        settings = [negative, sampler, steps, guidance]
        inputs = {
            generate: [prompt, negative, count, sampler, steps, guidance, seed, model],
            image_to_image: [picture, prompt, strength, count, seed, model, *settings],
            variations: [variation_of, prompt, variation, count, seed, model, *settings],
            walk: [prompt, seed, to_seed, frames, model, *settings],
        }
        for job, taken in inputs.items():
            hidden.click(job, taken, pictures, api_name=job.__name__, concurrency_limit=None)
    gr.api(models, api_name="models")
    gr.api(words, api_name="words")
