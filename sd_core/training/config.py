"""How a model is trained: the settings, checked."""

from dataclasses import dataclass, field

from sd_core.data.pairs import NOISY
from sd_core.diffusion.noise import SIGMA_MEAN, SIGMA_STD, SigmaDistribution

# Mean and spread of ln(sigma) for each kind of model; what a restorer has to find is a small difference.
SIGMAS = {"generator": (SIGMA_MEAN, SIGMA_STD), "restorer": (-1.8, 1.2)}


@dataclass(frozen=True)
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
    """

    steps: int = 4000
    batch: int = 64
    accumulate: int = 1
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 50
    cooldown: int = 0
    gradient_clip: float = 1.0
    ema_share: float = 0.05
    ema_pictures: int = 500_000
    sigma_mean: float = SIGMA_MEAN
    sigma_std: float = SIGMA_STD
    one_step_share: float = 0.75
    noisy_share: float = NOISY
    specialist: bool = False
    caption_dropout: float = 0.1
    flips: bool = True
    bf16: bool = True
    seed: int = 0
    sample_every: int = 500
    save_every: int = 500
    sample_prompts: tuple[str, ...] = field(default=())

    def __post_init__(self):
        positive = ("steps", "batch", "accumulate", "learning_rate", "gradient_clip", "sample_every", "save_every")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        for name in ("weight_decay", "warmup", "cooldown", "ema_share", "ema_pictures", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, as {getattr(self, name)} is.")
        if self.batch % self.accumulate:
            raise ValueError(f"A batch of {self.batch} cannot be split into {self.accumulate} equal parts.")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"The optimizer is muon or adamw, not {self.optimizer!r}.")
        for name in ("caption_dropout", "one_step_share", "noisy_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)}.")
        SigmaDistribution(self.sigma_mean, self.sigma_std)
