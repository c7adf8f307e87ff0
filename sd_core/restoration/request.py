"""What can be asked of a restorer, or of a generator that repairs, checked."""

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from sd_core.diffusion.noise import MAX_SEED, Seed, to_unit
from sd_core.errors import UserError
from sd_core.restoration.region import CropBox
from sd_core.validation import checked

MAX_STEPS = 50
MAX_CANDIDATES = 8
MAX_STRENGTH = 2.0
MAX_PROMPT = 20_000  # characters
UPSCALES = (1, 2, 4)


@checked
class RestoreRequest:
    """What is to be done to a picture of H by W pixels.

    Attributes:
        mask: bool [H, W], where the picture is lost; None for nowhere, or where nobody says.
        whole: clean the whole picture (noise, blur, compression, fading); else only what `mask` marks is changed. A
            generator removes noise, or else draws anew what the mask marks. Of a picture that is enlarged, it is noise
            and the traces of JPEG that are cleaned away, and what the mask marks is repaired before.
        sigma: the picture's noise level on the scale 0-255, None to have it judged; of a whole picture.
        strength: of cleaning the whole picture: 0 changes nothing, 1 is what the model finds right. It is no matter for
            what `mask` marks, and for generators.
        upscale: 1, 2 or 4 times larger; for the whole picture, by a restorer.
        jpeg_quality: the quality from 1 to 100 with which the picture was saved as JPEG; None if it was not.
        steps: 1 is the most faithful; more are sharper and partly invented.
        candidates: how many different answers; with 1 step there is but one, and of what is merely enlarged.
        seed: of the first; the others' follow it.
        exemplars: fill wide holes among what `mask` marks with pieces from elsewhere in the picture, where a restorer's
            answer would be a smear; unless the whole picture is cleaned.
        fill: makes what is transparent inside the mask opaque, unless the whole picture is cleaned.
        prompt: what the picture shows, for a generator.
        square: where a generator works; None for the largest, as near to what is marked as it can be.

    Raises:
        UserError: one of them is out of its range; the message is one sentence.
    """

    mask: Tensor | None = None
    whole: bool = False
    sigma: float | None = Field(None, ge=0, le=255, title="The noise level")
    strength: float = Field(1.0, ge=0, le=MAX_STRENGTH, title="The strength")
    upscale: int = 1
    jpeg_quality: int | None = Field(None, ge=1, le=100, title="The JPEG quality")
    steps: int = Field(1, ge=1, le=MAX_STEPS, title="The number of steps")
    candidates: int = Field(1, ge=1, le=MAX_CANDIDATES, title="The number of candidates")
    seed: Seed = 0
    exemplars: bool = True
    fill: bool = False
    prompt: str = Field("", max_length=MAX_PROMPT, title="A prompt")
    square: CropBox | None = None

    def __post_init__(self):
        if self.mask is not None and not self.mask.any():
            object.__setattr__(self, "mask", None)  # what marks nothing is no mask
        if not self.whole and self.upscale != 1:
            raise UserError("Only a whole picture can be enlarged.")
        if self.upscale not in UPSCALES:
            said = "A picture can be enlarged {choices} times, not {value}."
            raise UserError(said, choices=", ".join(map(str, UPSCALES)), value=self.upscale)

    def square_in(self, size: tuple[int, int]) -> CropBox:
        """Where a generator works in a picture of (width, height). Raises UserError if that is not inside it."""
        square = self.square or (CropBox.within(size) if self.mask is None else CropBox.around(self.mask.numpy()))
        square.check(size)
        return square

    @property
    def answers(self) -> int:
        """How many different answers there are, unless a generator draws what is marked."""
        return self.candidates if self.steps > 1 and (self.upscale == 1 or self.mask is not None) else 1

    def seeds(self) -> list[int]:
        """The seed of each of the `answers`."""
        return [(self.seed + number) % (MAX_SEED + 1) for number in range(self.answers)]

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
