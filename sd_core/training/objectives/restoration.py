"""A restorer's objective: pairs of damaged and clean crops."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sd_core.data.loader import ResumableLoader, usual_workers
from sd_core.data.pairs import CleanPictures, Pair
from sd_core.diffusion.noise import SIGMA_MAX, SigmaDistribution, add_noise, draw_noise
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import Denoiser
from sd_core.training.objectives.base import BatchSlice, Objective, SampleProgress

CLOSE = 4 * 2 / 255  # four steps of 8 bits: what brings a crop closer to the truth than that counts for little
LOST_WEIGHT = 1.0  # of crops with lost places; see benchmarks/LOG.md
LEAST_SIGMA = 0.01  # noise level that a restorer learns at
MASK_WEIGHT = 0.2  # of the loss of finding the damage, beside that of repairing it


class RestorationLoss(nn.Module):
    """The loss of a batch: the logarithm of each crop's squared error (as in NAFNet, Chen et al. 2022,
    arXiv:2204.04676), so that crops of which little can be known do not drown the others; where places are lost, the
    same of those alone, since they are few; and that of finding the damage where nobody told where it is."""

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model = model

    def forward(
        self, x0: Tensor, sigma: Tensor, noise: Tensor, damaged: Tensor, told: Tensor, level: Tensor, mask: Tensor
    ) -> Tensor:
        conditioning = Conditioning(damaged, told, level)
        restored, logit = self.model.restored(add_noise(x0, sigma, noise), sigma, conditioning)
        error = (restored - x0).square().mean(dim=1, keepdim=True)
        loss = log_error(error.mean(dim=(1, 2, 3)))
        lost = mask.sum(dim=(1, 2, 3))
        lost_loss = log_error((error * mask).sum(dim=(1, 2, 3)) / lost.clamp(min=1))
        loss = torch.where(lost > 0, LOST_WEIGHT * (loss + lost_loss), loss)
        found = F.binary_cross_entropy_with_logits(logit, mask, reduction="none").mean(dim=(1, 2, 3))
        untold = (told < 0).all(dim=3).all(dim=2)[:, 0]
        return (loss + MASK_WEIGHT * found * untold).mean()


def log_error(squared_error: Tensor) -> Tensor:
    """Half the logarithm of squared errors [B]: what they are in decibels, with a floor at `CLOSE`."""
    return (1 + squared_error / CLOSE**2).log() / 2


class RestorationObjective(Objective):
    """Pairs of clean and damaged crops; see `data.pairs`.

    Args:
        model: a restorer, which decides the crops' size.
        pictures: large clean ones.
        sigmas: the noise levels to learn at, besides `SIGMA_MAX`.
        one_step_share: share of each batch at `SIGMA_MAX`, where a restorer's most faithful answer comes from.
        noisy_share: share of pairs whose damage is noise.
        specialist: the pairs are those of a specialist, see `restoration/routing.py`.
        workers: processes that make the pairs; as many as usual where it is not said.
    """

    exploded = 5.0  # a logarithm: an error of more than twice the range of pictures
    sample_pairs = 12
    sample_side = 128  # pixels: larger crops than it is trained on, as in use

    def __init__(
        self,
        model: Denoiser,
        pictures: CleanPictures,
        seed: int,
        batch: int,
        sigmas: SigmaDistribution,
        one_step_share: float,
        noisy_share: float,
        specialist: bool = False,
        workers: int | None = None,
    ):
        super().__init__(seed, batch)
        if model.config.kind != "restorer":
            raise ValueError("Only a restorer learns from pairs; a generator learns from captions.")
        self.pictures, self.sigmas = pictures, sigmas
        self.one_step_share, self.noisy_share, self.specialist = one_step_share, noisy_share, specialist
        self.side = model.config.resolution
        self.loss = RestorationLoss(model)
        workers = usual_workers(model.device) if workers is None else workers
        self.loader = ResumableLoader(self._pair, _as_arrays, batch, workers)

    def edges(self, model: Denoiser) -> Iterable[nn.Module]:
        return model.unet.stem, model.unet.head, model.unet.noise_embedding

    def examples(self, step: int, share: BatchSlice, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """x0, sigma, noise, damaged, told mask, told level, mask. A pair comes from (step, place in the batch)."""
        draw = self.generator(1, step)
        # No walk asks for less, and a network without norms has no answer where it never was asked.
        sigma = self.sigmas.sample(self.batch, draw).clamp(min=LEAST_SIGMA)
        at_once = torch.randperm(self.batch, generator=draw) < round(self.one_step_share * self.batch)
        sigma = torch.where(at_once, SIGMA_MAX, sigma)
        for mine, arrays in zip(share, self.loader.step(step, share), strict=True):
            numbers = [step * self.batch + int(i) for i in mine]
            x0, damaged, told, level, mask = (torch.from_numpy(array).to(device) for array in arrays)
            noise = draw_noise([self.generator(3, n) for n in numbers], tuple(x0.shape[1:]), device)
            yield x0, sigma[mine].to(device), noise, damaged, told, level, mask

    def close(self) -> None:
        self.loader.close()

    def _pair(self, number: int) -> Pair:
        return self.pictures.pair(self.side, self.generator(2, number), self.noisy_share, self.specialist)

    def drawing(self, model: Denoiser) -> Iterator[SampleProgress]:
        """Damaged, restored in one step and clean, side by side."""
        made = (self.generator(4, i) for i in range(self.sample_pairs))
        pairs = [self.pictures.pair(self.sample_side, g, self.noisy_share, self.specialist) for g in made]
        x0, damaged, told, level, _ = stacked(pairs)
        conditioning = Conditioning(*(t.to(model.device) for t in (damaged, told, level)))
        restored, _ = model.at_once(conditioning)
        yield SampleProgress(1, 1, torch.cat([damaged, restored.float().cpu(), x0], dim=3))


def _as_arrays(pairs: list[Pair]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in stacked(pairs)]


def stacked(pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of pairs: clean and damaged [B, 3, S, S], told mask, told noise level and mask [B, 1, S, S]."""
    conditioning = [
        Conditioning.of(p.damaged[None], None if p.told_mask is None else p.told_mask[None], p.told_sigma)
        for p in pairs
    ]
    columns = [[p.clean for p in pairs], [p.damaged for p in pairs]]
    columns += [[h.mask[0] for h in conditioning], [h.sigma[0] for h in conditioning], [p.mask for p in pairs]]
    clean, damaged, told, level, mask = map(torch.stack, columns)
    return clean, damaged, told, level, mask
