"""A generator's objective: captioned pictures, noised at random."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from sd_core.data import PictureSet
from sd_core.data.latents import encoded
from sd_core.diffusion.guidance import Guided
from sd_core.diffusion.noise import SigmaDistribution, add_noise, draw_noise, picture_generators
from sd_core.diffusion.sampling import D, euler_ancestral
from sd_core.models.codec import Identity
from sd_core.models.denoiser import Denoiser
from sd_core.models.text import Vocabulary
from sd_core.pictures.pixels import to_float
from sd_core.training.objectives.base import BatchSlice, Objective, SampleProgress

SAMPLE_GUIDANCE = 2.0


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


class DenoisingLoss(nn.Module):
    """The loss of a batch: EDM's weighted squared error (eq. 8), in units of an untrained network's."""

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, sigma: Tensor, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        context = self.model.text(tokens, mask)
        denoised = self.model(add_noise(x0, sigma, noise), sigma, context)
        error = (denoised - x0).square().mean(dim=(1, 2, 3))
        return (self.model.preconditioning.loss_weight(sigma) * error).mean()


class TextToImageObjective(Objective):
    """Captioned pictures, noised at random.

    Args:
        model: a generator.
        pictures: what to learn. They are encoded here if they are not yet, and the model works in latents.
        sigmas: the noise levels to learn at.
        caption_dropout: share of pictures shown without their caption, for guidance.
        flips: mirror half of the pictures, if their captions stay true then.
        sample_prompts: of the samples; captions spread over the data if there are none.
    """

    exploded = 10.0  # times the loss of an untrained network
    sample_steps = 20  # of the samples' denoising

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
        self.shape = model.shape
        self.latents = None
        if not isinstance(model.codec, Identity):
            made = pictures.latents
            self.latents = encoded(pictures, model.codec, self.flips, model.device) if made is None else made
        self.captions = Captions(pictures.captions, model.vocabulary)
        self.loss = DenoisingLoss(model)
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

    def examples(self, step: int, share: BatchSlice, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """x0, sigma, noise, tokens, mask. Every process draws the whole batch's order and noise."""
        indices = self.batch_indices(step)
        draw = self.generator(1, step)
        sigma = self.sigmas.sample(self.batch, draw)
        dropped = torch.rand(self.batch, generator=draw) < self.caption_dropout
        mirrored = torch.rand(self.batch, generator=draw) < 0.5 * self.flips
        channels, height, width = self.shape
        noise_draw = self.generator(2, step, device)
        noise = torch.randn((self.batch, height, width, channels), generator=noise_draw, device=device)
        noise = noise.permute(0, 3, 1, 2)  # drawn channels-last, as the UNet wants it
        for mine in share:
            chosen = indices[mine]
            x0 = self._clean(chosen, mirrored[mine], device)
            tokens, mask = self.captions.batch(chosen, dropped[mine], device)
            yield x0, sigma[mine].to(device), noise[mine.to(device)], tokens, mask

    def _clean(self, chosen: Tensor, mirrored: Tensor, device: torch.device) -> Tensor:
        """Pictures number `chosen` [B], those mirrored that are to be, as the model sees them [B, C, h, w]."""
        if self.latents is not None:
            latents = torch.from_numpy(self.latents[chosen.numpy(), mirrored.int().numpy()])
            return latents.to(device, torch.float32).contiguous(memory_format=torch.channels_last)
        x0 = to_float(torch.from_numpy(self.pictures.pixels[chosen.numpy()]).to(device))
        return torch.where(mirrored.to(device)[:, None, None, None], x0.flip(3), x0)

    def sample_prompts(self) -> tuple[str, ...]:
        """The prompts of the samples: as wished, or captions spread over the data."""
        if self.prompts:
            return self.prompts
        unique = sorted(set(self.pictures.captions))
        return tuple(unique[i * len(unique) // 16] for i in range(16)) if len(unique) > 16 else tuple(unique)

    def denoiser_of_samples(self, model: Denoiser, prompts: tuple[str, ...]) -> D:
        """How the samples are denoised."""
        return Guided(model, prompts, [""] * len(prompts), SAMPLE_GUIDANCE)

    def drawing(self, model: Denoiser) -> Iterator[SampleProgress]:
        prompts = self.sample_prompts()
        sigmas = model.config.sigmas(self.sample_steps).to(model.device)
        noise = partial(draw_noise, picture_generators(list(range(len(prompts)))), model.shape, model.device)
        denoiser = self.denoiser_of_samples(model, prompts)
        for step in euler_ancestral(denoiser, noise() * sigmas[0], sigmas, noise):
            yield SampleProgress(step.index, step.count)
        yield SampleProgress(step.count, step.count, model.codec.decode(step.x).float().cpu())
