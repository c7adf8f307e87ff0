"""The Generate tab for programs: named endpoints for `gradio_client`, HTTP and MCP."""

from dataclasses import dataclass, replace
from functools import partial

import gradio as gr

from sd_core.errors import UserError
from sd_core.generation.request import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STRENGTH,
    DEFAULT_VARIATION,
    SAMPLERS,
    GenerationRequest,
)
from sd_core.generation.seeds import Noise
from sd_core.models.registry import ModelRegistry
from tabs.common.api import Job, Parameter, endpoint, finished, last
from tabs.common.forms import kept
from tabs.common.sessions import Caller
from tabs.generate.job import Walk, draw
from tabs.generate.settings import known_words, start_picture

STRIP_FRAMES = 24

# Those that a `GenerationRequest` has are named as there.
PROMPT = Parameter(
    "prompt", 'What to draw, in words the model knows (see the endpoint "words"); others are left out.', part=gr.Textbox
)
NEGATIVE = Parameter("negative_prompt", "What to keep away from.", "", gr.Textbox)
COUNT = Parameter("count", "How many pictures, 1 to 64. Picture i has the seed `seed + i`.", 4)
SAMPLER = Parameter(
    "sampler",
    "dpmpp_2m, euler (the same as DDIM), euler_ancestral or heun.",
    DEFAULT_SAMPLER,
    partial(gr.Dropdown, list(SAMPLERS)),
)
STEPS = Parameter("steps", "How many denoising steps, 1 to 100; 0 for as many as the model usually takes.", 0)
GUIDANCE = Parameter("guidance", "How closely to follow the prompt, 0 to 15; 1 is no guidance.", DEFAULT_GUIDANCE)
SEED = Parameter("seed", "Of the first picture; the same seed and settings give the same picture.", 0)
MODEL = Parameter("model", 'A name that the endpoint "models" lists; empty for the first one.', "", gr.Textbox)
PICTURE = Parameter(
    "picture",
    "The picture to start from; its centre is used, at the model's resolution.",
    part=partial(gr.Image, type="filepath", image_mode=None),
)
STRENGTH = Parameter(
    "strength", "How much is drawn anew, above 0 and up to 1, which forgets the picture.", DEFAULT_STRENGTH
)
VARIATION_OF = Parameter(
    "variation_of",
    "The seed of the picture to vary, such as 12; or, if it is a variation itself, what it was made of, such as "
    '"12 7:0.3" for seed 12 with a share of 0.3 of seed 7.',
    part=gr.Textbox,
)
SHARE = Parameter(
    "strength", "How much of the new seed is blended in, from 0, which changes nothing, to 1.", DEFAULT_VARIATION
)
FROM_SEED = Parameter("from_seed", "The seed of the first frame.", 0)
TO_SEED = Parameter("to_seed", "The seed of the last frame.", 1)
FRAMES = Parameter("frames", "How many pictures, 2 to 120.", STRIP_FRAMES)


@dataclass(frozen=True)
class GenerateAPI:
    """The endpoints. Each answers in a session of its own; what `settings` holds is a `GenerationRequest`'s."""

    registry: ModelRegistry

    def generate(self, caller: Caller, model: str, **settings) -> Job[list[str]]:
        """Draws pictures of a prompt and returns them as PNG files that carry their settings.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """
        name = self._chosen(model)
        return (yield from self._drawn(caller, name, self._request(name, **settings)))

    def image_to_image(self, caller: Caller, model: str, picture: dict | None, **settings) -> Job[list[str]]:
        """Draws new pictures that start from a given one.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """
        name, path = self._chosen(model), kept(picture, caller)["path"]
        start = start_picture(path, self.registry.describe(name).model.resolution)
        return (yield from self._drawn(caller, name, self._request(name, start=start, **settings)))

    def variations(self, caller: Caller, model: str, variation_of: str, strength: float, **settings) -> Job[list[str]]:
        """Draws pictures that resemble one drawn before: its noise, with some of another seed's blended in.

        Returns:
            The pictures, as PNG files at the model's own resolution.
        """
        name, varied = self._chosen(model), dict(variation_of=Noise.parse(variation_of), variation_strength=strength)
        return (yield from self._drawn(caller, name, self._request(name, **varied, **settings)))

    def walk(self, caller: Caller, model: str, from_seed: int, to_seed: int, frames: int, **settings) -> Job[list[str]]:
        """Walks from the picture of one seed to that of another, by spherical interpolation of their noise.

        Returns:
            The frames, as PNG files.
        """
        name = self._chosen(model)
        wanted = self._request(name, seed=from_seed, **settings)
        return (yield from self._drawn(caller, name, wanted, Walk(to_seed, frames)))

    def models(self) -> list[str]:
        """The names of the models that can draw.

        Returns:
            Their names, the default one first.
        """
        return self.registry.names()

    def words(self, model: str = "") -> list[str]:
        """The words a model knows in prompts.

        Args:
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The words, in alphabetical order.
        """
        return [word for (word,) in known_words(self.registry, self._chosen(model))]

    def _drawn(self, caller: Caller, model: str, wanted: GenerationRequest, walk: Walk | None = None) -> Job[list[str]]:
        shown = yield from last(draw(caller, self.registry, model, wanted, walk))
        return [str(path) for path in finished(shown.batch, caller).paths]

    def _request(self, model: str, steps: int, **settings) -> GenerationRequest:
        return GenerationRequest(steps=steps or self.registry.describe(model).model.usual_steps, **settings)

    def _chosen(self, model: str) -> str:
        names = self.registry.names()
        if not names:
            raise UserError("There is no model yet; train one first.")
        return model or names[0]


def build_api(registry: ModelRegistry) -> None:
    """Adds the endpoints /generate, /image_to_image, /variations, /walk, /models and /words, with nothing to see."""
    api = GenerateAPI(registry)
    settings = [NEGATIVE, SAMPLER, STEPS, GUIDANCE]
    like_it = replace(PROMPT, said="What to draw; that picture's own prompt and settings make the likeness closest.")
    blended = replace(SEED, said="The seed blended into the first picture; picture i has `seed + i`.")
    from_noise = "How many denoising steps there would be from pure noise, 0 to 100 as above; `strength` are done."
    partly = [NEGATIVE, SAMPLER, replace(STEPS, said=from_noise), GUIDANCE]
    with gr.Group(visible=False):
        pictures = gr.Gallery(label="Pictures", type="filepath")
        endpoint(api.generate, [PROMPT, NEGATIVE, COUNT, SAMPLER, STEPS, GUIDANCE, SEED, MODEL], pictures)
        endpoint(api.image_to_image, [PICTURE, PROMPT, STRENGTH, COUNT, SEED, MODEL, *partly], pictures)
        endpoint(api.variations, [VARIATION_OF, like_it, SHARE, COUNT, blended, MODEL, *settings], pictures)
        endpoint(api.walk, [PROMPT, FROM_SEED, TO_SEED, FRAMES, MODEL, *settings], pictures)
    gr.api(api.models, api_name="models")
    gr.api(api.words, api_name="words")
