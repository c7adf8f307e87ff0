"""What can be asked of a generator, checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field
from torch import Tensor

from sd_core.diffusion import sampling
from sd_core.diffusion.noise import Seed
from sd_core.diffusion.sampling import Step
from sd_core.errors import UserError
from sd_core.generation.seeds import Noise, seed_after
from sd_core.models.denoiser import STEPS, ModelConfig
from sd_core.validation import checked

DEFAULT_SAMPLER = "euler_ancestral"  # the cleanest pictures at few steps, see benchmarks/LOG.md
DEFAULT_GUIDANCE = 2.5
DEFAULT_STRENGTH = 0.6  # of an image-to-image request
DEFAULT_VARIATION = 0.3
MAX_COUNT, MAX_STEPS, MAX_GUIDANCE = 64, 100, 15.0


def _sound(text: object) -> object:
    """A prompt with "?" for what is no character, such as the half of an emoji that is left of a cut text."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


Prompt = Annotated[str, BeforeValidator(_sound), Field(max_length=20_000, title="A prompt")]


@dataclass(frozen=True)
class Sampler:
    """A sampler people can choose.

    Attributes:
        walk: the function in `sampling`; one that is `random` also takes a source of noise.
        label: its name in the page.
        written: its name in the settings that other tools read.
        also: what they call the same walk besides.
        calls_per_step: how often it asks the model at each step.
    """

    walk: Callable[..., Iterator[Step]]
    label: str
    written: str
    calls_per_step: int = 1
    random: bool = False
    also: tuple[str, ...] = ()


SAMPLERS = {
    "dpmpp_2m": Sampler(sampling.dpmpp_2m, "DPM++ 2M Karras", "DPM++ 2M Karras"),
    "euler": Sampler(sampling.euler, "Euler = DDIM", "Euler", also=("DDIM",)),
    "euler_ancestral": Sampler(
        sampling.euler_ancestral, "Euler ancestral (DDPM's random walk)", "Euler a", random=True
    ),
    "heun": Sampler(sampling.heun, "Heun", "Heun", calls_per_step=2),
}


@checked
class GenerationRequest:
    """What a person asks for.

    Attributes:
        prompt, negative_prompt: what to draw, and what to keep away from; both may be empty.
        count: how many pictures; picture i has seed `seed + i`, see `seed_after`.
        sampler: a key of `SAMPLERS`.
        steps: noise levels on the way down.
        guidance: how closely to follow the prompt; 1 is no guidance.
        seed: of the first picture.
        start: a picture [3, H, W] in [-1, 1] to start from (image to image), or None for pure noise.
        strength: with `start`, how much of the way is walked, above 0 and up to 1, which forgets `start`.
        variation_of: the noise of a picture to vary, or None.
        variation_strength: with `variation_of`, the share of new noise in each picture, from 0 to 1.

    Raises:
        UserError: one of them is out of its range; the message is one sentence.
    """

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    count: int = Field(1, ge=1, le=MAX_COUNT, title="The number of pictures")
    sampler: str = DEFAULT_SAMPLER
    steps: int = Field(STEPS, ge=1, le=MAX_STEPS, title="The number of steps")
    guidance: float = Field(DEFAULT_GUIDANCE, ge=0, le=MAX_GUIDANCE, title="The guidance scale")
    seed: Seed = 0
    start: Tensor | None = None
    strength: float = Field(DEFAULT_STRENGTH, gt=0, le=1, title="The strength of image to image")
    variation_of: Noise | None = None
    variation_strength: float = Field(DEFAULT_VARIATION, ge=0, le=1, title="The strength of a variation")

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise UserError(
                "There is no sampler {name!r}; samplers are {names}.", name=self.sampler, names=", ".join(SAMPLERS)
            )
        if self.start is not None and (self.start.ndim != 3 or self.start.shape[0] != 3):
            raise ValueError("The picture to start from must have three colour channels.")

    def noises(self) -> list[Noise]:
        """What each picture starts from."""
        seeds = [seed_after(self.seed, i) for i in range(self.count)]
        if self.variation_of is None:
            return [Noise(seed) for seed in seeds]
        return [self.variation_of.varied(seed, self.variation_strength) for seed in seeds]

    def sigmas(self, model: ModelConfig) -> Tensor:
        """The noise levels to walk with a model: its schedule, of which image to image keeps the last `strength`.

        So half the strength takes half the steps, as in other tools, and starts from the schedule's middle noise level.
        """
        sigmas = model.sigmas(self.steps)
        steps = len(sigmas) - 1  # a model of few steps may walk fewer than it is asked for
        kept = max(1, round(steps * self.strength)) if self.start is not None else steps
        return sigmas[-(kept + 1) :]
