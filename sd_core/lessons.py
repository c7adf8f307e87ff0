"""What the training loop is taught from: each step's examples, the loss they are judged by, and the samples that show
what has been learnt. Captioned pictures teach a generator, pairs of clean and damaged crops a restorer.

Whatever is random in step n comes from generators seeded by (seed, n), whoever asks and however often.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures, Pair
from sd_core.denoiser import Denoiser, Guided
from sd_core.hints import Hints
from sd_core.images import to_float
from sd_core.noise import SIGMA_MAX, SigmaDistribution, add_noise, draw_noise, karras_sigmas, picture_generators
from sd_core.sampling import euler_ancestral
from sd_core.text import Vocabulary

SAMPLE_STEPS = 20
SAMPLE_GUIDANCE = 2.0
SAMPLE_PAIRS = 12
SAMPLE_SIDE = 128  # pixels of a restorer's samples: larger crops than it is trained on, as in use
CLOSE = 4 * 2 / 255  # four steps of 8 bits: what brings a crop closer to the truth than that counts for little
LOST_WEIGHT = 1.0  # of crops with lost places; see benchmarks/LOG.md
LEAST_SIGMA = 0.01  # noise level that a restorer learns at
MASK_WEIGHT = 0.2  # of the loss of finding the damage, beside that of repairing it


@dataclass(frozen=True)
class Share:
    """Which pictures of a batch are this process's: those from `first` to before `last`, in `parts` parts."""

    first: int
    last: int
    parts: int

    def __iter__(self) -> Iterator[Tensor]:
        yield from torch.arange(self.first, self.last).chunk(self.parts)


@dataclass(frozen=True)
class Drawn:
    """Samples on their way: `index` of `count` steps are done. The last has the pictures [N, 3, H, W], on the CPU."""

    index: int
    count: int
    pictures: Tensor | None = None


class Lessons(ABC):
    """Examples for a model in training.

    Args:
        seed: of all that is random.
        batch: pictures per step, over all processes.
    """

    objective: nn.Module  # the loss of what `examples` gives
    exploded: float  # a loss above which training has gone wrong

    def __init__(self, seed: int, batch: int):
        self.seed, self.batch = seed, batch

    def generator(self, purpose: int, number: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for one purpose of one step, the same in every process and after every resume."""
        seed = int(np.random.SeedSequence([self.seed, purpose, number]).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(device).manual_seed(seed)

    def sample_prompts(self) -> tuple[str, ...]:
        """The prompts of the samples, where there are any."""
        return ()

    @abstractmethod
    def edges(self, model: Denoiser) -> Iterable[nn.Module]:
        """The modules at the network's input and output, and embeddings."""

    @abstractmethod
    def examples(self, step: int, share: Share, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """The arguments of `objective` for each part of a process's share of step number `step`."""

    @abstractmethod
    def drawing(self, model: Denoiser) -> Iterator[Drawn]:
        """Pictures that show what `model` has learnt, always for the same questions, drawn step by step."""


# A generator's


class Captions:
    """All captions as token numbers, made once. Row N stands for the empty caption."""

    def __init__(self, captions: tuple[str, ...], vocabulary: Vocabulary):
        unique = list(dict.fromkeys([*captions, ""]))
        tokens, mask = vocabulary.encode(unique)
        index = {caption: i for i, caption in enumerate(unique)}
        self.rows = torch.tensor([index[c] for c in captions])
        self.empty = index[""]
        self.tokens, self.mask = tokens.to(torch.int16), mask

    def batch(self, pictures: Tensor, dropped: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token numbers [B, L] and mask [B, L] of the captions of `pictures` [B], empty where `dropped` [B]."""
        rows = torch.where(dropped, self.empty, self.rows[pictures])
        mask = self.mask[rows]
        longest = int(mask.sum(1).max())
        return self.tokens[rows, :longest].long().to(device), mask[:, :longest].to(device)


class GeneratorObjective(nn.Module):
    """The loss of a batch: EDM's weighted squared error (eq. 8), in units of an untrained network's."""

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, sigma: Tensor, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        context = self.model.text(tokens, mask)
        denoised = self.model(add_noise(x0, sigma, noise), sigma, context)
        error = (denoised - x0).square().mean(dim=(1, 2, 3))
        return (self.model.preconditioning.loss_weight(sigma) * error).mean()


class CaptionedLessons(Lessons):
    """Captioned pictures, noised at random.

    Args:
        model: a generator.
        pictures: what to learn.
        sigmas: the noise levels to learn at.
        caption_dropout: share of pictures shown without their caption, for guidance.
        flips: mirror half of the pictures, if their captions stay true then.
        sample_prompts: of the samples; captions spread over the data if there are none.
    """

    exploded = 10.0  # times the loss of an untrained network

    def __init__(
        self,
        model: Denoiser,
        pictures: PictureSet,
        seed: int,
        batch: int,
        sigmas: SigmaDistribution,
        caption_dropout: float,
        flips: bool,
        sample_prompts: tuple[str, ...] = (),
    ):
        super().__init__(seed, batch)
        if model.config.kind != "generator":
            raise ValueError("Only a generator learns from captions; a restorer learns from pairs.")
        if not len(pictures):
            raise ValueError("There are no pictures to train on.")
        self.pictures, self.sigmas = pictures, sigmas
        self.caption_dropout, self.flips = caption_dropout, flips and pictures.mirrorable
        self.prompts = sample_prompts
        self.captions = Captions(pictures.captions, model.vocabulary)
        self.objective = GeneratorObjective(model)
        self._orders: dict[int, Tensor] = {}

    def edges(self, model: Denoiser) -> Iterable[nn.Module]:
        return model.unet.stem, model.unet.head, model.unet.noise_embedding, model.text.token

    def batch_indices(self, step: int) -> Tensor:
        """Which pictures [batch] step number `step` (from 0) shows: each once per epoch, in an order of its own."""
        first, size = step * self.batch, len(self.pictures)
        epochs = range(first // size, (first + self.batch - 1) // size + 1)
        if list(self._orders) != list(epochs):
            self._orders = {epoch: torch.randperm(size, generator=self.generator(0, epoch)) for epoch in epochs}
        positions = torch.arange(first, first + self.batch)
        return torch.stack([self._orders[p // size][p % size] for p in positions.tolist()])

    def examples(self, step: int, share: Share, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """x0, sigma, noise, tokens, mask. Every process draws the whole batch's order and noise."""
        indices = self.batch_indices(step)
        draw = self.generator(1, step)
        sigma = self.sigmas.sample(self.batch, draw)
        dropped = torch.rand(self.batch, generator=draw) < self.caption_dropout
        mirrored = torch.rand(self.batch, generator=draw) < 0.5 * self.flips
        resolution = self.pictures.pixels.shape[1]
        noise_draw = self.generator(2, step, device)
        noise = torch.randn((self.batch, resolution, resolution, 3), generator=noise_draw, device=device)
        noise = noise.permute(0, 3, 1, 2)  # drawn channels-last, as the UNet wants it
        for mine in share:
            chosen = indices[mine]
            pixels = torch.from_numpy(self.pictures.pixels[chosen.numpy()]).to(device)
            x0 = to_float(pixels)
            x0 = torch.where(mirrored[mine].to(device)[:, None, None, None], x0.flip(3), x0)
            tokens, mask = self.captions.batch(chosen, dropped[mine], device)
            yield x0, sigma[mine].to(device), noise[mine.to(device)], tokens, mask

    def sample_prompts(self) -> tuple[str, ...]:
        """The prompts of the samples: as wished, or captions spread over the data."""
        if self.prompts:
            return self.prompts
        unique = sorted(set(self.pictures.captions))
        return tuple(unique[i * len(unique) // 16] for i in range(16)) if len(unique) > 16 else tuple(unique)

    def drawing(self, model: Denoiser) -> Iterator[Drawn]:
        prompts, resolution = self.sample_prompts(), model.config.resolution
        sigmas = karras_sigmas(SAMPLE_STEPS)
        generators = picture_generators(list(range(len(prompts))))
        noise = partial(draw_noise, generators, (3, resolution, resolution), model.device)
        guided = Guided(model, prompts, [""] * len(prompts), SAMPLE_GUIDANCE)
        for step in euler_ancestral(guided, noise() * sigmas[0], sigmas.to(model.device), noise):
            yield Drawn(step.index, step.count)
        yield Drawn(step.count, step.count, step.x.float().cpu())


# A restorer's


class RestorerObjective(nn.Module):
    """The loss of a batch: the logarithm of each crop's squared error (as in NAFNet, Chen et al. 2022,
    arXiv:2204.04676), so that crops of which little can be known do not drown the others; where places are lost, the
    same of those alone, since they are few; and that of finding the damage where nobody told where it is."""

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model = model

    def forward(
        self, x0: Tensor, sigma: Tensor, noise: Tensor, damaged: Tensor, told: Tensor, level: Tensor, mask: Tensor
    ) -> Tensor:
        hints = Hints(damaged, told, level)
        restored, logit = self.model.restored(add_noise(x0, sigma, noise), sigma, hints)
        error = (restored - x0).square().mean(dim=1, keepdim=True)
        loss = closeness(error.mean(dim=(1, 2, 3)))
        lost = mask.sum(dim=(1, 2, 3))
        lost_loss = closeness((error * mask).sum(dim=(1, 2, 3)) / lost.clamp(min=1))
        loss = torch.where(lost > 0, LOST_WEIGHT * (loss + lost_loss), loss)
        found = F.binary_cross_entropy_with_logits(logit, mask, reduction="none").mean(dim=(1, 2, 3))
        untold = (told < 0).all(dim=3).all(dim=2)[:, 0]
        return (loss + MASK_WEIGHT * found * untold).mean()


def closeness(squared_error: Tensor) -> Tensor:
    """Half the logarithm of squared errors [B]: what they are in decibels, with a floor at `CLOSE`."""
    return (1 + squared_error / CLOSE**2).log() / 2


class PairLessons(Lessons):
    """Pairs of clean and damaged crops; see `data.pairs`.

    Args:
        model: a restorer, which decides the crops' size.
        pictures: large clean ones.
        sigmas: the noise levels to learn at, besides `SIGMA_MAX`.
        one_step_share: share of each batch at `SIGMA_MAX`, where a restorer's most faithful answer comes from.
        noisy_share: share of pairs whose damage is noise.
        specialist: the pairs are those of a specialist, see `specialist.py`.
    """

    exploded = 5.0  # a logarithm: an error of more than twice the range of pictures

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
    ):
        super().__init__(seed, batch)
        if model.config.kind != "restorer":
            raise ValueError("Only a restorer learns from pairs; a generator learns from captions.")
        self.pictures, self.sigmas = pictures, sigmas
        self.one_step_share, self.noisy_share, self.specialist = one_step_share, noisy_share, specialist
        self.side = model.config.resolution
        self.objective = RestorerObjective(model)
        # The next pairs are made in a thread while the model learns from these.
        self._maker = ThreadPoolExecutor(1, "pairs")
        self._next: tuple[tuple[int, ...], Future[list[Pair]]] | None = None

    def edges(self, model: Denoiser) -> Iterable[nn.Module]:
        return model.unet.stem, model.unet.head, model.unet.noise_embedding

    def examples(self, step: int, share: Share, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """x0, sigma, noise, damaged, told mask, told level, mask. A pair comes from (step, place in the batch)."""
        draw = self.generator(1, step)
        # No walk asks for less, and a network without norms has no answer where it never was asked.
        sigma = self.sigmas.sample(self.batch, draw).clamp(min=LEAST_SIGMA)
        at_once = torch.randperm(self.batch, generator=draw) < round(self.one_step_share * self.batch)
        sigma = torch.where(at_once, SIGMA_MAX, sigma)
        parts = list(share)
        for mine, following in zip(parts, [*parts[1:], parts[0] + self.batch], strict=True):
            numbers = [step * self.batch + int(i) for i in mine]
            pairs = self._made(numbers)
            self._make([step * self.batch + int(i) for i in following])
            x0, damaged, told, level, mask = (t.to(device) for t in stacked(pairs))
            noise = draw_noise([self.generator(3, n) for n in numbers], tuple(x0.shape[1:]), device)
            yield x0, sigma[mine].to(device), noise, damaged, told, level, mask

    def _pairs(self, numbers: Sequence[int]) -> list[Pair]:
        return [self._pair(self.side, self.generator(2, n)) for n in numbers]

    def _pair(self, side: int, generator: torch.Generator) -> Pair:
        return self.pictures.pair(side, generator, self.noisy_share, self.specialist)

    def _make(self, numbers: Sequence[int]) -> None:
        """Has these pairs made in the background."""
        self._next = tuple(numbers), self._maker.submit(self._pairs, numbers)

    def _made(self, numbers: Sequence[int]) -> list[Pair]:
        """These pairs; at once, if they are the ones that are being made."""
        coming, self._next = self._next, None
        if coming and coming[0] == tuple(numbers):
            return coming[1].result()
        if coming:
            coming[1].cancel()
        return self._pairs(numbers)

    def drawing(self, model: Denoiser) -> Iterator[Drawn]:
        """Damaged, restored in one step and clean, side by side."""
        pairs = [self._pair(SAMPLE_SIDE, self.generator(4, i)) for i in range(SAMPLE_PAIRS)]
        x0, damaged, told, level, _ = stacked(pairs)
        hints = Hints(*(t.to(model.device) for t in (damaged, told, level)))
        restored, _ = model.at_once(hints)
        yield Drawn(1, 1, torch.cat([damaged, restored.float().cpu(), x0], dim=3))


def stacked(pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of pairs: clean and damaged [B, 3, S, S], told mask, told noise level and mask [B, 1, S, S]."""
    hints = [Hints.of(p.damaged[None], None if p.told_mask is None else p.told_mask[None], p.told_sigma) for p in pairs]
    columns = [[p.clean for p in pairs], [p.damaged for p in pairs]]
    columns += [[h.mask[0] for h in hints], [h.sigma[0] for h in hints], [p.mask for p in pairs]]
    clean, damaged, told, level, mask = map(torch.stack, columns)
    return clean, damaged, told, level, mask
