"""The Generate tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import gradio as gr

from sd_core.errors import UserError
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
from tabs.common.api import answered, finished, last
from tabs.common.errors import told
from tabs.common.forms import whole
from tabs.common.sessions import Caller
from tabs.generate.job import Walk, draw
from tabs.generate.settings import known_words, start_picture

STRIP_FRAMES = 24
Drawing = Generator[object, None, list[str]]


@dataclass(frozen=True)
class GenerateAPI:
    """The endpoints. Each answers in a session of its own; errors are told in one sentence."""

    registry: ModelRegistry

    def generate(
        self,
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
            return (yield from self._drawn(caller, self._chosen(model), wanted))

        yield from answered(request, job)

    def image_to_image(
        self,
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
            name = self._chosen(model)
            start = start_picture(picture, self.registry.describe(name).model.resolution)
            more = dict(start=start, strength=strength)
            wanted = asked(prompt, negative_prompt, count, sampler, steps, guidance, seed, **more)
            return (yield from self._drawn(caller, name, wanted))

        yield from answered(request, job)

    def variations(
        self,
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
            return (yield from self._drawn(caller, self._chosen(model), wanted))

        yield from answered(request, job)

    def walk(
        self,
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
            return (yield from self._drawn(caller, self._chosen(model), wanted, Walk(whole(to_seed), whole(frames))))

        yield from answered(request, job)

    def models(self) -> list[str]:
        """The names of the models that can draw.

        Returns:
            Their names, the default one first.
        """
        return self.registry.names()

    @told
    def words(self, model: str = "") -> list[str]:
        """The words a model knows in prompts.

        Args:
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The words, in alphabetical order.
        """
        return [word for (word,) in known_words(self.registry, self._chosen(model))]

    def _drawn(self, caller: Caller, model: str, wanted: GenerationRequest, walk: Walk | None = None) -> Drawing:
        shown = yield from last(draw(caller, self.registry, model, wanted, walk))
        return [str(path) for path in finished(shown.batch, caller).paths]

    def _chosen(self, model: str) -> str:
        names = self.registry.names()
        if not names:
            raise UserError("There is no model yet; train one first.")
        return model or names[0]


def asked(prompt, negative, count, sampler, steps, guidance, seed, **more) -> GenerationRequest:
    """The request, whatever kind of number stands for a whole one."""
    return GenerationRequest(prompt, negative, whole(count), sampler, whole(steps), guidance, whole(seed), **more)


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /generate, /image_to_image, /variations, /walk, /models and /words, with nothing to see."""
    api = GenerateAPI(registry)
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
        frames, model = gr.Number(STRIP_FRAMES, label="Frames"), gr.Textbox("", label="Model")
        picture = gr.Image(type="filepath", image_mode=None, label="Picture")
        hidden = gr.Button()
        settings = [negative, sampler, steps, guidance]
        inputs = {
            api.generate: [prompt, negative, count, sampler, steps, guidance, seed, model],
            api.image_to_image: [picture, prompt, strength, count, seed, model, *settings],
            api.variations: [variation_of, prompt, variation, count, seed, model, *settings],
            api.walk: [prompt, seed, to_seed, frames, model, *settings],
        }
        for job, taken in inputs.items():
            hidden.click(job, taken, pictures, api_name=job.__name__, concurrency_limit=None)
    gr.api(api.models, api_name="models")
    gr.api(api.words, api_name="words")
