"""Seeds: which noise a picture begins from."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sd_core.diffusion.noise import MAX_SEED, check_seed
from sd_core.errors import UserError

_SEED = r"\d{1,20}"
_BLENDED = _SEED + r":(\d{0,20}\.)?\d{1,20}(e-\d{1,3})?"  # numbers of few digits, so that no text takes long to read
MAX_BLENDED = 64  # seeds in one noise: each costs time at every step


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
                raise UserError("Noise is blended in by a share between 0 and 1, not {share}.", share=share)

    def varied(self, seed: int, share: float) -> "Noise":
        """This noise with that of `seed` blended in: 0 leaves it as it is, 1 replaces it."""
        return Noise(self.seed, (*self.blended, (seed, share)))

    def __str__(self) -> str:
        return " ".join([str(self.seed), *(f"{seed}:{share:g}" for seed, share in self.blended)])

    @classmethod
    def parse(cls, text: str) -> "Noise":
        """The inverse of `str`: "12", or "12 7:0.3" for seed 12 with 0.3 of seed 7. Raises UserError."""
        first, *rest = text.replace(",", " ").split() or [""]
        if not re.fullmatch(_SEED, first) or not all(re.fullmatch(_BLENDED, part) for part in rest):
            raise UserError(
                'A variation starts from a seed such as 12, or from a variation such as "12 7:0.3", not {text!r}.',
                text=text[:80],
            )
        if len(rest) > MAX_BLENDED:
            raise UserError(f"A variation is made of up to {MAX_BLENDED} seeds, not {len(rest)}; begin again from one.")
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
