"""How a model is trained: the settings, checked."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from sd_core.data.pairs import NOISY
from sd_core.diffusion.noise import SIGMA_MEAN, SIGMA_STD
from sd_core.validation import checked

# Mean and spread of ln(sigma) for each kind of model; what a restorer has to find is a small difference.
SIGMAS = {"generator": (SIGMA_MEAN, SIGMA_STD), "restorer": (-1.8, 1.2)}
FRESH_RATE, TUNED_RATE = 3e-3, 1e-3  # learning rates: what was learnt already should not be forgotten

Share = Annotated[float, Field(ge=0, le=1)]


@checked
class TrainingConfig:
    """What a training does. Times are in steps, one step being one batch.

    Attributes:
        steps: how many in all; more may be added later.
        batch: pictures per step, over all processes; `accumulate` splits it into so many parts, one after another.
        learning_rate: constant after `warmup` steps, and falling to zero over the last `cooldown` steps.
        ema_share: the average of the weights looks back over this share of the training so far (EDM's ramp-up), and at
            most over `ema_pictures`.
        sigma_mean, sigma_std: of ln(sigma), see `SigmaDistribution`.
        one_step_share, noisy_share, specialist: of a restorer's batch, see `RestorationObjective`.
        caption_dropout: share of pictures shown without their caption, for guidance.
        flips: mirror half of the pictures, if their captions stay true then.
        sample_every, save_every: steps between sample grids, the first of which come at shorter intervals, and saves.
        sample_prompts: of a generator's grids; captions spread over the data if there are none.

    Raises:
        UserError: one of them makes no sense; the message is one sentence.
    """

    steps: PositiveInt = 4000
    batch: PositiveInt = 64
    accumulate: PositiveInt = 1
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: PositiveFloat = FRESH_RATE
    weight_decay: NonNegativeFloat = 0.01
    warmup: NonNegativeInt = 50
    cooldown: NonNegativeInt = 0
    gradient_clip: PositiveFloat = 1.0
    ema_share: NonNegativeFloat = 0.05
    ema_pictures: NonNegativeInt = 500_000
    sigma_mean: float = SIGMA_MEAN
    sigma_std: PositiveFloat = SIGMA_STD
    one_step_share: Share = 0.75
    noisy_share: Share = NOISY
    specialist: bool = False
    caption_dropout: Share = 0.1
    flips: bool = True
    bf16: bool = True
    seed: NonNegativeInt = 0
    sample_every: PositiveInt = 500
    save_every: PositiveInt = 500
    sample_prompts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _parts_are_equal(self):
        if self.batch % self.accumulate:
            raise ValueError(f"A batch of {self.batch} cannot be split into {self.accumulate} equal parts.")
        return self
