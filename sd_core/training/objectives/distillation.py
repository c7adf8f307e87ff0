"""A generator's fast version: a student that needs a few steps and no guidance, taught by the model it comes from.

Consistency distillation (Song et al. 2023, arXiv:2303.01469, algorithm 2) of a guided teacher (Luo et al. 2023,
arXiv:2310.04378): wherever on a walk a noisy picture is, the student is to land where the walk ends. So its guess at
one noise level is taught to be its own guess one step of the teacher further down, and at the lowest the teacher's
guess.
"""

import torch
from torch import Tensor, nn

from sd_core.data import PictureSet
from sd_core.diffusion.guidance import GUIDANCE_INTERVAL
from sd_core.diffusion.noise import add_noise, over_picture
from sd_core.diffusion.sampling import D
from sd_core.diffusion.schedules import FEW_STEPS_GRID
from sd_core.generation.request import DEFAULT_GUIDANCE
from sd_core.models.denoiser import FEW_STEPS, Denoiser
from sd_core.training.objectives.denoising import TextToImageObjective


class GridSigmas:
    """The noise levels that are learnt at: those of the grid on which few steps are walked, each as often."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` of them [N]."""
        return FEW_STEPS_GRID[torch.randint(len(FEW_STEPS_GRID) - 1, (count,), generator=generator)]


class DistillationLoss(nn.Module):
    """The loss of a batch: EDM's weighted squared error (eq. 8) to the student's own guess one step further down."""

    def __init__(self, student: Denoiser, teacher: Denoiser):
        super().__init__()
        self.student = student
        self._teacher = (teacher,)  # in a tuple, so that it is no part of what is trained
        self.register_buffer("grid", FEW_STEPS_GRID.to(student.device), persistent=False)
        tokens, mask = teacher.vocabulary.encode([""])
        self.register_buffer("no_tokens", tokens.to(student.device), persistent=False)
        self.register_buffer("no_mask", mask.to(student.device), persistent=False)

    def forward(self, x0: Tensor, sigma: Tensor, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        context = self.student.text(tokens, mask)
        x = add_noise(x0, sigma, noise)
        with torch.no_grad():
            guess = self._guided(x, sigma, tokens, mask)
            below = self.grid[(self.grid[None] >= sigma[:, None]).sum(1)]
            x_below = torch.lerp(guess, x, over_picture(below / sigma, x))
            at_last = over_picture(below == 0, x)
            target = torch.where(at_last, guess, self.student(x_below, below.clamp(min=self.grid[-2]), context))
        error = (self.student(x, sigma, context) - target).square().mean(dim=(1, 2, 3))
        return (self.student.preconditioning.loss_weight(sigma) * error).mean()

    def _guided(self, x: Tensor, sigma: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The teacher's guess with guidance, see `Guided`; each picture has a noise level of its own here."""
        (teacher,) = self._teacher
        told = teacher(x, sigma, teacher.text(tokens, mask))
        nothing = teacher.text(self.no_tokens, self.no_mask)[torch.zeros(len(x), dtype=torch.long, device=x.device)]
        untold = teacher(x, sigma, nothing)
        low, high = GUIDANCE_INTERVAL
        scale = torch.where((sigma >= low) & (sigma <= high), DEFAULT_GUIDANCE, 1.0)
        return torch.lerp(untold, told, over_picture(scale, x))


class DistillationObjective(TextToImageObjective):
    """Captioned pictures, noised at the levels of few steps, and what the teacher makes of them.

    Args:
        model: the student, which has the teacher's shape and began with its weights.
        teacher: frozen, where the student is.
        pictures, seed, batch, caption_dropout, flips, sample_prompts: see `TextToImageObjective`.
    """

    sample_steps = FEW_STEPS

    def __init__(
        self,
        model: Denoiser,
        teacher: Denoiser,
        pictures: PictureSet,
        seed: int,
        batch: int,
        caption_dropout: float,
        flips: bool,
        sample_prompts: tuple[str, ...] = (),
    ):
        super().__init__(model, pictures, seed, batch, GridSigmas(), caption_dropout, flips, sample_prompts)
        self.loss = DistillationLoss(model, teacher)

    def denoiser_of_samples(self, model: Denoiser, prompts: tuple[str, ...]) -> D:
        return model.given(prompts)
