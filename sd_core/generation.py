"""Prompts into pictures: a request, checked, and the walk from noise that answers it, step by step.

Every picture's noise comes from a `Noise` of its own, so it can be made again alone: by its seed, as a variation of
another picture, or as a frame of a walk between two seeds.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sd_core import sampling
from sd_core.denoiser import D, Denoiser, Guided
from sd_core.device import inference_autocast
from sd_core.images import Parameters, save_png, to_pixels
from sd_core.noise import MAX_SEED, add_noise, check_seed, karras_sigmas
from sd_core.sampling import Step

DEFAULT_SAMPLER = "euler_ancestral"  # the cleanest pictures at few steps, see benchmarks/LOG.md
DEFAULT_STEPS = 16
DEFAULT_GUIDANCE = 2.5
GUIDANCE_INTERVAL = (0.2, 20.0)  # noise levels between which guidance acts, see `Guided`
DEFAULT_STRENGTH = 0.6  # of an image-to-image request
DEFAULT_VARIATION = 0.3
MAX_COUNT, MAX_STEPS, MAX_GUIDANCE = 64, 100, 15.0
MAX_FRAMES = 120  # of a walk between two seeds
MAX_PROMPT = 20_000  # characters
CHUNK = 16  # pictures per call of the model: bounds memory, and on CPUs keeps activations in the cache


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


def sampler_called(name: str | None) -> str | None:
    """The key of the sampler that a tool's settings call `name` ("DPM++ 2M Karras", "Euler a", "DDIM"), or None."""
    words = (name or "").casefold().removesuffix(" karras").strip()
    for key, sampler in SAMPLERS.items():
        names = (key, sampler.label, sampler.written, *sampler.also)
        if words in (each.casefold().removesuffix(" karras") for each in names):
            return key
    return None


def seed_after(seed: int, by: int = 1) -> int:
    """The seed `by` after `seed`. After the highest comes 0, so that every picture's seed can be asked for again."""
    return (seed + by) % (MAX_SEED + 1)


@dataclass(frozen=True)
class Noise:
    """What a picture starts from: the noise of a seed, with other seeds' noise blended in by a share each."""

    seed: int
    blended: tuple[tuple[int, float], ...] = ()

    def __post_init__(self):
        check_seed(self.seed)
        for seed, share in self.blended:
            check_seed(seed)
            if not 0 <= share <= 1:
                raise ValueError(f"Noise is blended in by a share between 0 and 1, not {share}.")

    def varied(self, seed: int, share: float) -> "Noise":
        """This noise with that of `seed` blended in: 0 leaves it as it is, 1 replaces it."""
        return Noise(self.seed, (*self.blended, (seed, share)))

    def __str__(self) -> str:
        return " ".join([str(self.seed), *(f"{seed}:{share:g}" for seed, share in self.blended)])

    @classmethod
    def parse(cls, text: str) -> "Noise":
        """The inverse of `str`: "12", or "12 7:0.3" for seed 12 with 0.3 of seed 7."""
        first, *rest = text.replace(",", " ").split() or [""]
        if not first.isdecimal() or not all(re.fullmatch(r"\d+:\d*\.?\d+(e-\d+)?", part) for part in rest):
            raise ValueError(
                f'A variation starts from a seed such as 12, or from a variation such as "12 7:0.3", not {text!r}.'
            )
        blended = tuple((int(seed), float(share)) for seed, share in (part.split(":") for part in rest))
        return cls(int(first), blended)

    def source(self, shape: tuple[int, ...]) -> Callable[[], Tensor]:
        """A function that gives the next standard normal noise of `shape` at each call, always in the same order."""
        generators = [torch.Generator().manual_seed(s) for s in (self.seed, *(seed for seed, _ in self.blended))]

        def draw() -> Tensor:
            noise, *others = (torch.randn(shape, generator=g) for g in generators)
            for other, (_, share) in zip(others, self.blended, strict=True):
                noise = slerp(noise, other, share)
            return noise

        return draw


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation from `a` (share 0) to `b` (share 1) (Shoemake 1985).

    Halfway between two noises a straight line is shorter than either, and a model that expects noise of full length
    makes a washed-out picture of it. On the sphere the length is kept.
    """
    cosine = torch.dot(a.flatten(), b.flatten()) / (a.norm() * b.norm()).clamp(min=1e-12)
    angle = torch.acos(cosine.double().clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # the same or opposite: there is no one great circle
        return torch.lerp(a, b, share)
    weight_a, weight_b = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return float(weight_a / torch.sin(angle)) * a + float(weight_b / torch.sin(angle)) * b


@dataclass(frozen=True)
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
        ValueError: one of them is out of its range; the message is one sentence.
    """

    prompt: str = ""
    negative_prompt: str = ""
    count: int = 1
    sampler: str = DEFAULT_SAMPLER
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    seed: int = 0
    start: Tensor | None = None
    strength: float = DEFAULT_STRENGTH
    variation_of: Noise | None = None
    variation_strength: float = DEFAULT_VARIATION

    def __post_init__(self):
        if not isinstance(self.count, int) or not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"The number of pictures must be a whole number from 1 to {MAX_COUNT}, not {self.count}.")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"There is no sampler {self.sampler!r}; samplers are {', '.join(SAMPLERS)}.")
        if not isinstance(self.steps, int) or not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"The number of steps must be a whole number from 1 to {MAX_STEPS}, not {self.steps}.")
        if not 0 <= self.guidance <= MAX_GUIDANCE:
            raise ValueError(f"The guidance scale must be between 0 and {MAX_GUIDANCE:g}, not {self.guidance}.")
        check_seed(self.seed)
        if max(len(self.prompt), len(self.negative_prompt)) > MAX_PROMPT:
            raise ValueError(f"A prompt may have up to {MAX_PROMPT:,} characters.")
        if not 0 < self.strength <= 1:
            raise ValueError(f"The strength of image to image must be above 0 and at most 1, not {self.strength}.")
        if not 0 <= self.variation_strength <= 1:
            raise ValueError(f"The strength of a variation must be between 0 and 1, not {self.variation_strength}.")
        if self.start is not None and (self.start.ndim != 3 or self.start.shape[0] != 3):
            raise ValueError("The picture to start from must have three colour channels.")

    def noises(self) -> list[Noise]:
        """What each picture starts from."""
        seeds = [seed_after(self.seed, i) for i in range(self.count)]
        if self.variation_of is None:
            return [Noise(seed) for seed in seeds]
        return [self.variation_of.varied(seed, self.variation_strength) for seed in seeds]

    def sigmas(self) -> Tensor:
        """The noise levels to walk: a Karras schedule, of which image to image keeps the last `strength`.

        So half the strength takes half the steps, as in other tools, and starts from the schedule's middle noise level.
        """
        kept = max(1, round(self.steps * self.strength)) if self.start is not None else self.steps
        return karras_sigmas(self.steps)[-(kept + 1) :]


def generate(model: Denoiser, request: GenerationRequest) -> Iterator[Step]:
    """Draws what `request` asks for, yielding a `Step` of all pictures [count, 3, R, R] after each step.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it. (No `no_grad` can be held here, since whoever
            consumes this may do so from several threads.)
        request: what to draw.
    """
    yield from _walk(model, request, request.noises())


def walk_noises(request: GenerationRequest, to_seed: int, frames: int) -> list[Noise]:
    """What the frames of a walk from `request.seed` to `to_seed` start from.

    Raises:
        ValueError: too few or too many frames, or no seed.
    """
    if not isinstance(frames, int) or not 2 <= frames <= MAX_FRAMES:
        raise ValueError(f"A walk has from 2 to {MAX_FRAMES} frames, not {frames}.")
    return [Noise(request.seed).varied(to_seed, i / (frames - 1)) for i in range(frames)]


def interpolate(model: Denoiser, request: GenerationRequest, to_seed: int, frames: int) -> Iterator[Step]:
    """Walks from the picture of `request.seed` to that of `to_seed`: like `generate`, with `frames` pictures."""
    yield from _walk(model, request, walk_noises(request, to_seed, frames))


def _walk(model: Denoiser, request: GenerationRequest, noises: Sequence[Noise]) -> Iterator[Step]:
    resolution = model.config.resolution
    start = torch.zeros(3, resolution, resolution) if request.start is None else request.start
    sources = [noise.source(tuple(start.shape)) for noise in noises]

    def draw() -> Tensor:
        return torch.stack([source() for source in sources]).to(model.device)

    sampler, sigmas = SAMPLERS[request.sampler], request.sigmas()
    x = add_noise(start.to(model.device), sigmas[0], draw())
    extra = (draw,) if sampler.random else ()
    yield from sampler.walk(_denoiser(model, request, len(noises)), x, sigmas, *extra)


def _denoiser(model: Denoiser, request: GenerationRequest, count: int) -> D:
    """A `D` for `count` pictures that asks the model for `CHUNK` of them at a time."""

    def guided(size: int) -> Guided:
        prompts, negative = [request.prompt] * size, [request.negative_prompt] * size
        return Guided(model, prompts, negative, request.guidance, GUIDANCE_INTERVAL)

    sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
    with inference_autocast(model.device):
        chunks = {size: guided(size) for size in set(sizes)}

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        with inference_autocast(model.device):
            return torch.cat([chunks[len(part)](part, sigma).to(x.dtype) for part in x.split(CHUNK)])

    return denoiser


def parameters(request: GenerationRequest, noise: Noise, model_name: str, size: tuple[int, int]) -> Parameters:
    """The settings that make one picture again, as they go into its file; `size` is (width, height)."""
    *earlier, last = noise.blended or (None,)
    return Parameters(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        sampler=SAMPLERS[request.sampler].written,
        guidance=request.guidance,
        seed=noise.seed,
        size=size,
        model=model_name,
        strength=None if request.start is None else request.strength,
        variation_seed=last[0] if last else None,
        variation_strength=last[1] if last else None,
        variation_of=str(Noise(noise.seed, tuple(earlier))) if earlier else None,
    )


def request_again(settings: Parameters) -> tuple[GenerationRequest, tuple[str, ...]]:
    """The request for the one picture that a file's settings describe, defaults standing in for what they leave out.

    The picture that an image-to-image request started from is not in its settings.

    Returns:
        The request, and the names of the settings that had to be left out: in other tools' files they may be out of
        the ranges here.
    """
    wrong = list(settings.unread)

    def usable(name: str, value: object) -> dict[str, object]:
        try:
            GenerationRequest(**{name: value})
        except ValueError:
            wrong.append(name)
            return {}
        return {name: value}

    given = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "steps": settings.steps,
        "sampler": sampler_called(settings.sampler),
        "guidance": settings.guidance,
        "seed": settings.seed,
        "strength": settings.strength,
    }
    if settings.variation_seed is not None and settings.seed is not None:
        try:
            given["variation_of"] = Noise.parse(settings.variation_of or str(settings.seed))
        except ValueError:
            wrong.append("variation_of")
        else:
            given |= {"variation_strength": settings.variation_strength, "seed": settings.variation_seed}
    values: dict = {}
    for name, value in given.items():
        if value is not None:
            values |= usable(name, value)
    return GenerationRequest(**values), tuple(wrong)


def save_pictures(
    pictures: Tensor, request: GenerationRequest, noises: Sequence[Noise], model_name: str, folder: Path
) -> list[Path]:
    """Writes `pictures` [N, 3, H, W] to `folder` as PNGs that carry their settings, and returns their paths.
    None that is there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = to_pixels(pictures)
    size = (pixels.shape[2], pixels.shape[1])
    stem = re.sub(r"[^\w.-]+", "-", model_name)
    paths = []
    for picture, noise in zip(pixels, noises, strict=True):
        name = "-".join([stem, str(noise.seed), *(f"{seed}x{share:g}" for seed, share in noise.blended)])
        path, number = folder / f"{name[:120]}.png", 1
        while path.exists():  # of another prompt, perhaps
            number += 1
            path = folder / f"{name[:120]}-{number}.png"
        save_png(picture, path, parameters(request, noise, model_name, size))
        paths.append(path)
    return paths
