"""D(x, sigma) -> denoised: the one function that training fits and every sampler asks.

A `D` takes noisy pictures [B, C, H, W] and their noise level ([] or [B]) and gives its best guess of the clean ones.
They are pictures, or latents, in the space that the model's `codec` makes of pictures.
`Denoiser.given` binds what the model is conditioned on; `Guided`, `Tiled` and `Consistent` wrap a denoiser.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sd_core.diffusion.noise import SIGMA_MAX, Preconditioning, over_picture
from sd_core.diffusion.sampling import D
from sd_core.diffusion.schedules import few_step_sigmas, karras_sigmas
from sd_core.models.codec import DOWNSAMPLING, Codec, Identity
from sd_core.models.conditioning import CONDITIONING_CHANNELS, Conditioning
from sd_core.models.text import TextEncoder, Vocabulary
from sd_core.models.unet import WIDTHS, Context, UNet, UNetConfig
from sd_core.validation import checked

STEPS, FEW_STEPS = 16, 4  # that a generator usually draws in, and one of few steps
RESTORER_PATCH = 2
RESIDUAL_STD = 0.25  # sigma_data of a restorer: how far clean pictures are from damaged ones
LATENT_FROM = 128  # pixels a side, from which on a generator works in latents unless somebody says otherwise
PLACES_ACROSS = 32  # a generator's finest level is about this many patches wide: what two CPU cores can afford

# Ways to look at a picture [..., H, W], each of which undoes itself: as it is, mirrored along one diagonal, turned by
# 180°, mirrored along the other. The first 1, 2 and 4 are groups: of so many, a turned picture gets the turned answer.
VIEWS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: x.mT,
    lambda x: x.flip(-2, -1),
    lambda x: x.mT.flip(-2, -1),
)


@checked
class ModelConfig:
    """All that is needed to rebuild a model. It was trained at `resolution` pixels a side, in the space of its `codec`.
    A restorer may bring a `specialist`, see `restoration/routing.py`. A generator of `few_steps` needs few of them and
    no guidance, see `objectives/distillation.py`.

    Raises:
        UserError: one of them is out of its range; the message is one sentence.
    """

    kind: Literal["generator", "restorer"] = Field("generator", title="The kind of model")
    size: Literal[tuple(WIDTHS)] = Field("small", title="The model size")
    resolution: int = Field(64, ge=8, le=1024, title="The resolution in pixels")
    patch: Literal[1, 2, 4, 8] = Field(4, title="The patch size")
    sigma_data: float = Field(0.5, gt=0)
    specialist: bool = False
    codec: Literal["pixels", "autoencoder"] = "pixels"
    few_steps: bool = False

    def __post_init__(self):
        if self.specialist and self.kind != "restorer":
            raise ValueError("Only a restorer brings a specialist.")
        if self.few_steps and self.kind != "generator":
            raise ValueError("Only a generator can be one of few steps.")
        if self.codec == "autoencoder" and self.kind != "generator":
            raise ValueError("Only a generator works in latents; a restorer works in pixels.")
        if self.codec == "autoencoder" and self.resolution % DOWNSAMPLING:
            raise ValueError(f"The resolution of a model that works in latents is a multiple of {DOWNSAMPLING} pixels.")

    @classmethod
    def generator(
        cls, size: str, resolution: int, sigma_data: float = 0.5, codec: str | None = "pixels"
    ) -> "ModelConfig":
        """A generator whose patches grow with the resolution, so that the cost of a picture hardly does. Where no codec
        is named, it is the usual one for that resolution."""
        if codec is None:
            codec = "autoencoder" if resolution >= LATENT_FROM and resolution % DOWNSAMPLING == 0 else "pixels"
        across = resolution // DOWNSAMPLING if codec == "autoencoder" else resolution
        patch = max(p for p in (1, 2, 4, 8) if p == 1 or p * PLACES_ACROSS <= across)
        return cls("generator", size, resolution, patch, sigma_data, codec=codec)

    @classmethod
    def restorer(cls, size: str, resolution: int = 64) -> "ModelConfig":
        """A restorer trained on crops of `resolution` pixels; it works at any size."""
        return cls("restorer", size, resolution, RESTORER_PATCH, RESIDUAL_STD)

    def sigmas(self, steps: int) -> Tensor:
        """The noise levels [steps + 1] that a generator draws at, from `SIGMA_MAX` to 0: a Karras schedule, or as
        one of few steps has learnt it."""
        return few_step_sigmas(steps) if self.few_steps else karras_sigmas(steps)

    @property
    def usual_steps(self) -> int:
        """How many steps a generator draws in unless somebody says otherwise."""
        return FEW_STEPS if self.few_steps else STEPS

    @property
    def side(self) -> int:
        """How wide and high is what it denoises: pixels, or latents."""
        return self.resolution // DOWNSAMPLING if self.codec == "autoencoder" else self.resolution

    @property
    def unet(self) -> UNetConfig:
        """The UNet's shape in pixels; in latents it has the codec's channels."""
        if self.kind == "restorer":
            return UNetConfig(
                self.size, self.patch, conditioning_channels=CONDITIONING_CHANNELS, extra_channels=1, normalised=False
            )
        return UNetConfig(self.size, self.patch, context_channels=2 * WIDTHS[self.size])


class Denoiser(nn.Module):
    """The model: UNet, preconditioning and, for a generator, text encoder with its vocabulary.

    Args:
        config: the model's shape.
        vocabulary: the words a generator knows; None for a restorer.
        codec: of a model that works in latents; it is no part of the model's own weights.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary | None = None, codec: Codec | None = None):
        super().__init__()
        if (vocabulary is None) == (config.kind == "generator"):
            raise ValueError("A generator needs a vocabulary, and a restorer has none.")
        codec = codec or Identity()
        if isinstance(codec, Identity) != (config.codec == "pixels"):
            raise ValueError("A model that works in latents needs their codec, and one that works in pixels has none.")
        self.config = config
        self.vocabulary = vocabulary
        self.codec = codec
        self.preconditioning = Preconditioning(config.sigma_data)
        self.unet = UNet(replace(config.unet, channels=codec.channels))
        self.text = TextEncoder(len(vocabulary), config.unet.context_channels) if vocabulary else None
        self.specialist = Denoiser(replace(config, specialist=False)) if config.specialist else None
        self.to(memory_format=torch.channels_last)

    def joined(self, specialist: "Denoiser | None") -> "Denoiser":
        """The same model with that specialist, or with none; they share their weights.

        Raises:
            ValueError: the two are not restorers of the same shape.
        """
        if specialist is self.specialist:
            return self
        if specialist is not None and (specialist.config.unet != self.config.unet or specialist.specialist):
            raise ValueError("A restorer and its specialist must be restorers of the same shape.")
        joined = Denoiser(replace(self.config, specialist=specialist is not None), self.vocabulary, self.codec)
        joined.unet, joined.text, joined.specialist = self.unet, self.text, specialist
        return joined

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what it denoises: one picture of its resolution, in its codec's space."""
        return self.codec.channels, self.config.side, self.config.side

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, x: Tensor, sigma: Tensor, context: Context | None = None) -> Tensor:
        """EDM eq. 7 for a generator: noisy pictures [B, C, H, W] at noise level `sigma` ([] or [B]) to a guess of the
        clean ones. `context` is what `encode` gives."""
        return self._denoised(x, self._levels(sigma, x), context)[0]

    def restored(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, views: int = 1) -> tuple[Tensor, Tensor]:
        """The same for a restorer, which works on the difference to the damaged picture.

        At `SIGMA_MAX` a noisy picture tells nothing, and the network is not shown it: the guess is the mean of all that
        the damaged picture may have been, whatever the noise.

        Args:
            x, sigma, conditioning: see `forward` and `Conditioning`.
            views: how many of `VIEWS` the guess is the mean of: closer to the truth than each (the geometric
                self-ensemble of Lim et al. 2017, arXiv:1707.02921, section 3.4), at as many times the work.

        Returns:
            the guess [B, 3, H, W], and the logit [B, 1, H, W] of each pixel's being lost.
        """
        sigma, base = self._levels(sigma, x), conditioning.base()
        difference = torch.where(over_picture(sigma, x) < SIGMA_MAX, x - base, 0.0)
        # Padded before it is turned, so that the network's levels fall on the same pixels in every view.
        seen = self.unet.padded(difference), self.unet.padded(conditioning.channels(base))
        answers = []
        for view in VIEWS[:views]:
            turned, conditioned = map(view, seen)
            answers.append(view(torch.cat(self._denoised(turned, sigma, conditioning=conditioned), dim=1)))
        answer = torch.stack(answers).mean(0) if views > 1 else answers[0]
        answer = answer[..., : x.shape[-2], : x.shape[-1]]
        return base + answer[:, :3], answer[:, 3:]

    def at_once(self, conditioning: Conditioning, views: int = 1) -> tuple[Tensor, Tensor]:
        """A restorer's most faithful answer: `restored` at `SIGMA_MAX`."""
        return self.restored(torch.zeros_like(conditioning.damaged), torch.tensor(SIGMA_MAX), conditioning, views)

    def _levels(self, sigma: Tensor, x: Tensor) -> Tensor:
        return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))

    def _denoised(
        self, x: Tensor, sigma: Tensor, context: Context | None = None, conditioning: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """c_skip x + c_out F(c_in x) [B, C, H, W], and whatever else F gives, as it is."""
        scale, c = self.preconditioning, over_picture(sigma, x)
        f = self.unet(scale.c_in(c) * x, scale.c_noise(sigma), context, conditioning).to(x.dtype)
        channels = x.shape[1]
        return scale.c_skip(c) * x + scale.c_out(c) * f[:, :channels], f[:, channels:]

    def encode(self, prompts: Sequence[str]) -> Context:
        """The prompts as the UNet reads them; unknown words are left out. Equal prompts are encoded once."""
        if self.text is None:
            raise ValueError("A restorer takes no prompt.")
        unique = list(dict.fromkeys(prompts))
        tokens, mask = self.vocabulary.encode(unique)
        context = self.text(tokens.to(self.device), mask.to(self.device))
        return context[torch.tensor([unique.index(p) for p in prompts], device=self.device)]

    def given(self, conditioning: Sequence[str] | Conditioning, views: int = 1) -> D:
        """A `D` for what the model is conditioned on: a generator's prompts, one per picture, or what a restorer is
        told of damaged pictures. `views` as for `restored`."""
        if isinstance(conditioning, Conditioning):
            return lambda x, sigma: self.restored(x, sigma, conditioning, views)[0]
        context = self.encode(conditioning)
        return lambda x, sigma: self(x, sigma, context)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def flops(self) -> int:
        """Floating-point operations of one call for one picture with an empty prompt; see `unet.multiply_adds`."""
        side, tokens = self.config.side, 1 if self.text else 0
        text = self.text.multiply_adds(tokens) if self.text else 0
        return 2 * (text + self.unet.multiply_adds(side, side, tokens))
