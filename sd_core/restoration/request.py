"""What can be asked of a restorer, checked."""

from dataclasses import dataclass

from torch import Tensor

from sd_core.diffusion.noise import check_seed, to_unit

MAX_STEPS = 50
MAX_CANDIDATES = 8
MAX_STRENGTH = 2.0
UPSCALES = (1, 2, 4)


@dataclass(frozen=True)
class RestoreRequest:
    """What is to be done to a picture of H by W pixels.

    Attributes:
        mask: bool [H, W], where the picture is lost; None for nowhere, or where nobody says.
        whole: clean the whole picture (noise, blur, compression, fading); else only what `mask` marks is changed.
        sigma: the picture's noise level on the scale 0-255, None to have it judged; of a whole picture.
        strength: of cleaning the whole picture: 0 changes nothing, 1 is what the model finds right. It is no matter for
            what `mask` marks.
        upscale: 1, 2 or 4 times larger; for the whole picture.
        steps: 1 is the most faithful; more are sharper and partly invented.
        candidates: how many different answers; with 1 step there is but one.
        seed: of the first; the others' follow it.

    Raises:
        ValueError: one of them is out of its range; the message is one sentence.
    """

    mask: Tensor | None = None
    whole: bool = False
    sigma: float | None = None
    strength: float = 1.0
    upscale: int = 1
    steps: int = 1
    candidates: int = 1
    seed: int = 0

    def __post_init__(self):
        if not self.whole and self.upscale != 1:
            raise ValueError("Only a whole picture can be enlarged.")
        if self.upscale not in UPSCALES:
            raise ValueError(f"A picture can be enlarged {', '.join(map(str, UPSCALES))} times, not {self.upscale}.")
        for name, value, low, high in (
            ("strength", self.strength, 0, MAX_STRENGTH),
            ("number of steps", self.steps, 1, MAX_STEPS),
            ("number of candidates", self.candidates, 1, MAX_CANDIDATES),
            ("noise level", self.sigma or 0, 0, 255),
        ):
            if not low <= value <= high:
                raise ValueError(f"The {name} must be between {low} and {high:g}, not {value}.")
        check_seed(self.seed)
        for name in ("steps", "candidates"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name.capitalize()} must be a whole number, not {getattr(self, name)}.")

    @property
    def level(self) -> float | None:
        """The noise level that a restorer is told, in units of [-1, 1]; None to have it judged."""
        if not self.whole:
            return 0.0  # what is not marked is to be left as it is, so it counts as clean
        return None if self.sigma is None else to_unit(self.sigma)


@dataclass(frozen=True)
class Restoring:
    """How far a restoration is: `index` of `count` pieces of work, a preview uint8 [h, w, 3] of the candidate in hand,
    and the finished candidates, uint8 [H, W, 3] each, in the order of their seeds."""

    index: int
    count: int
    preview: Tensor
    pictures: tuple[Tensor, ...] = ()


def answers(candidates: int, steps: int) -> int:
    """How many different answers there are where so many are wanted: one step has but one."""
    return candidates if steps > 1 else 1
