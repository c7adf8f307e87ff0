"""The UNet F inside the denoiser: picture in, picture out, told the noise level and, for generators, the prompt.

    picture ─ patches ─ level 0 ────────── skip ────────── level 0 ─ patches ─ picture
                           └─ level 1 ──── skip ──── level 1 ─┘
                                 └─ level 2 ─ skip ─ level 2 ─┘
                                       └──── level 3 ────┘

Four levels, each at half the resolution of the one above. An encoder level hands its result to its decoder level over
a skip connection, so that detail needs not pass through the narrow bottom. At the two lowest levels, blocks of a
generator attend to the picture's other places and to the words of the prompt. Activations stay channels-last
throughout: that is where convolutions and the per-pixel norm are fast, on CPUs and GPUs alike.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = {"tiny": 16, "small": 32, "base": 48, "large": 96}  # the dial: channels are multiples of this
WIDTH_MULTIPLES = (1, 2, 4, 4)  # of each level, the finest first
BLOCKS = (1, 2, 2, 2)  # of each level, on the way down and again on the way up; the finest is the dearest
# Repairing is work on fine detail, so a restorer does more of it there; see benchmarks/LOG.md.
RESTORER_WIDTH_MULTIPLES, RESTORER_BLOCKS = (1.5, 2, 3, 4), (2, 2, 2, 2)
ATTENDING = (False, False, True, True)
HEAD_CHANNELS = 32
NOISE_FREQUENCIES = 32
SILU_GAIN = 1.68  # SiLU lets 1 / SILU_GAIN of a normal variable's strength through


@dataclass(frozen=True)
class Context:
    """Encoded prompts: `tokens` [B, L, D], `mask` [B, L] (True where there is a token), `pooled` [B, D]."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def __getitem__(self, index: Tensor) -> "Context":
        """The prompts at `index` [N], in that order; repeats are allowed."""
        return Context(self.tokens[index], self.mask[index], self.pooled[index])


@dataclass(frozen=True)
class UNetConfig:
    """All that decides the UNet's shape. `size` is the one dial; the rest says what the model is for.

    A generator reads prompts (`context_channels` > 0) and attends over the whole picture. A restorer has
    `conditioning_channels` (what `Conditioning` says of the damage) and no attention, so that nothing in it depends on
    the picture's size; and no norm, which would hide from it how strong the noise is. It gives `extra_channels` besides
    the picture. `channels` are those of what is denoised: three of a picture's, or a latent's.
    """

    size: str = "small"
    patch: int = 4
    context_channels: int = 0
    conditioning_channels: int = 0
    extra_channels: int = 0
    normalised: bool = True
    channels: int = 3

    @property
    def widths(self) -> tuple[int, ...]:
        multiples = RESTORER_WIDTH_MULTIPLES if self.conditioning_channels else WIDTH_MULTIPLES
        return tuple(round(WIDTHS[self.size] * multiple) for multiple in multiples)

    @property
    def blocks(self) -> tuple[int, ...]:
        return RESTORER_BLOCKS if self.conditioning_channels else BLOCKS

    @property
    def embedding_channels(self) -> int:
        return 4 * WIDTHS[self.size]

    @property
    def multiple(self) -> int:
        """Heights and widths that need no padding are multiples of this."""
        return self.patch * 2 ** (len(WIDTH_MULTIPLES) - 1)


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel: the same at any picture size (as in ConvNeXt, Liu et al. 2022,
    arXiv:2201.03545).

    On CPUs torch has one fused kernel for it each way, which makes it three times faster to train than a
    root-mean-square norm.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)
        return F.layer_norm(channels_last, self.scale.shape, self.scale).permute(0, 3, 1, 2)


def multiply_adds(places: int, *modules: nn.Module) -> int:
    """Multiply-adds of convolutions and linear layers that work at so many places: one for each weight and place.

    Counted from the shapes alone, since what torch's own counter sees depends on torch's version and the processor.
    Norms, activations and biases are left out, as is usual.
    """
    return places * sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)


def zeroed(module: nn.Module) -> nn.Module:
    """`module` with zero weights: a branch that starts silent makes a deep network easy to begin training."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; the noise level (and pooled prompt) scales and shifts between them (AdaGN of
    Dhariwal & Nichol 2021, arXiv:2105.05233, with a per-pixel norm)."""

    def __init__(self, channels: int, embedding_channels: int, normalised: bool):
        super().__init__()
        self.norm1 = PixelNorm(channels) if normalised else nn.Identity()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = zeroed(nn.Linear(embedding_channels, 2 * channels))
        self.norm2 = PixelNorm(channels) if normalised else nn.Identity()
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))

    def multiply_adds(self, places: int) -> int:
        return multiply_adds(places, self.conv1, self.conv2) + multiply_adds(1, self.modulation)


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Scaled dot-product attention of [B, heads, L, D] where `visible` [B, 1, 1, L] says so."""
    if query.is_cpu and query.dtype == torch.bfloat16 and query.requires_grad:
        # Four times as fast as torch's own kernel, whose way back is slow in bfloat16 on CPUs.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return scores.masked_fill(~visible, -math.inf).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


class Attention(nn.Module):
    """Self- and cross-attention in one: each place of the picture looks at all places and all words of the prompt at
    once (text joined to the keys and values, as in Imagen, Saharia et al. 2022, arXiv:2205.11487, appendix D.3.1)."""

    def __init__(self, channels: int, context_channels: int):
        super().__init__()
        self.heads = max(1, channels // HEAD_CHANNELS)
        self.norm = PixelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context_kv = nn.Linear(context_channels, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, channels, height, width = x.shape
        places = self.norm(x).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        query, key, value = self.qkv(places).chunk(3, dim=-1)
        context_key, context_value = self.context_kv(context.tokens).chunk(2, dim=-1)
        query, key, value = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (query, torch.cat([key, context_key], 1), torch.cat([value, context_value], 1))
        )
        visible = F.pad(context.mask, (height * width, 0), value=True)[:, None, None, :]
        attended = self.out(attend(query, key, value, visible).transpose(1, 2).flatten(2))
        return x + attended.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def multiply_adds(self, places: int, tokens: int) -> int:
        attending = 2 * places * (places + tokens) * self.out.in_features  # the scores, and the sums they weigh
        return multiply_adds(places, self.qkv, self.out) + multiply_adds(tokens, self.context_kv) + attending


class Level(nn.Module):
    """The blocks of one resolution, on the way down or up."""

    def __init__(self, channels: int, blocks: int, embedding_channels: int, context_channels: int, normalised: bool):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels, embedding_channels, normalised) for _ in range(blocks))
        attends = blocks if context_channels else 0
        self.attentions = nn.ModuleList(Attention(channels, context_channels) for _ in range(attends))

    def forward(self, x: Tensor, embedding: Tensor, context: Context | None) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, embedding)
            if self.attentions:
                x = self.attentions[i](x, context)
        return x

    def multiply_adds(self, places: int, tokens: int) -> int:
        attending = sum(attention.multiply_adds(places, tokens) for attention in self.attentions)
        return attending + sum(block.multiply_adds(places) for block in self.blocks)


class NoiseEmbedding(nn.Module):
    """c_noise [B] as Fourier features, and a small network on top: [B, channels]."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * NOISE_FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, c_noise: Tensor) -> Tensor:
        frequencies = torch.logspace(-3, 3, NOISE_FREQUENCIES, base=2, device=c_noise.device)
        angles = 2 * math.pi * c_noise[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


def keep_variance(module: nn.Module) -> None:
    """Starts a convolution so that what leaves it is as strong as what enters it, which without norms nothing else sees
    to: torch's own start lets a signal fade to a third with each one, and then the network is almost linear."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        inputs = module.in_channels
        if isinstance(module, nn.Conv2d):
            inputs *= module.weight[0, 0].numel()
        nn.init.normal_(module.weight, std=inputs**-0.5)
        nn.init.zeros_(module.bias)


class UNet(nn.Module):
    """See the file's docstring. Built from a `UNetConfig`; the output layer starts at zero."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths, embedding, context = config.widths, config.embedding_channels, config.context_channels
        patch_values = (config.channels + config.extra_channels) * config.patch**2
        patch_seen = (config.channels + config.conditioning_channels) * config.patch**2
        top_and_middle = widths[:-1]

        def level(index: int) -> Level:
            attended = context if ATTENDING[index] else 0
            return Level(widths[index], config.blocks[index], embedding, attended, config.normalised)

        self.noise_embedding = NoiseEmbedding(embedding)
        self.prompt_embedding = nn.Linear(context, embedding) if context else None
        self.stem = nn.Conv2d(patch_seen, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(i) for i in range(len(top_and_middle)))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.bottom = level(len(widths) - 1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in top_and_middle)
        self.decoder = nn.ModuleList(level(i) for i in range(len(top_and_middle)))
        if not config.normalised:
            self.apply(keep_variance)
            for block in self.modules():
                if isinstance(block, ResidualBlock):
                    block.conv1.weight.data.mul_(SILU_GAIN)
                    zeroed(block.conv2)
        self.head = nn.Sequential(
            PixelNorm(widths[0]) if config.normalised else nn.Identity(),
            nn.SiLU() if config.normalised else nn.Identity(),  # what is to be repaired is linear in what is seen
            zeroed(nn.Conv2d(widths[0], patch_values, 3, padding=1)),
        )

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Context | None = None, conditioning: Tensor | None = None
    ) -> Tensor:
        """F(x, c_noise).

        Args:
            x: pictures or latents [B, channels, H, W], scaled to unit variance. Any H and W: what the levels do
                not divide is padded.
            c_noise: noise levels [B] as `Preconditioning.c_noise` gives them.
            context: the prompts, for a generator.
            conditioning: what a restorer is told, [B, conditioning_channels, H, W].

        Returns:
            [B, channels + extra_channels, H, W], without a range of its own.
        """
        height, width = x.shape[-2:]
        if conditioning is not None:
            x = torch.cat([x, conditioning], dim=1)
        x = self.padded(x.contiguous(memory_format=torch.channels_last))
        embedding = self.noise_embedding(c_noise)
        if self.prompt_embedding is not None:
            embedding = embedding + self.prompt_embedding(context.pooled)
        embedding = F.silu(embedding)

        x = self.stem(F.pixel_unshuffle(x, self.config.patch))
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            x = level(x, embedding, context)
            skips.append(x)
            x = down(x)
        x = self.bottom(x, embedding, context)
        for i in reversed(range(len(skips))):
            x = self.merge[i](torch.cat([self.up[i](x), skips[i]], dim=1))
            x = self.decoder[i](x, embedding, context)
        x = F.pixel_shuffle(self.head(x), self.config.patch)
        return x[..., :height, :width]

    def multiply_adds(self, height: int, width: int, tokens: int) -> int:
        """Those of one call for one picture and a prompt of so many tokens (0 for a restorer)."""
        finest = math.prod(-(-side // self.config.multiple) * self.config.multiple for side in (height, width))
        places = [finest // (self.config.patch * 2**level) ** 2 for level in range(len(self.config.widths))]
        embeddings = [self.noise_embedding, *([self.prompt_embedding] if self.prompt_embedding else [])]
        count = multiply_adds(1, *embeddings) + multiply_adds(places[0], self.stem, self.head)
        for level, n in zip([*self.encoder, self.bottom, *self.decoder], [*places, *places[:-1]], strict=True):
            count += level.multiply_adds(n, tokens)
        for i, n in enumerate(places[1:]):  # `down` and `up` use each weight once for each place of the coarser level
            count += multiply_adds(n, self.down[i], self.up[i]) + multiply_adds(places[i], self.merge[i])
        return count

    def padded(self, x: Tensor) -> Tensor:
        """Pictures [B, C, H, W] continued to the right and below, as far as the levels need it: mirrored, since
        repeated pixels make stripes of noise, which look like a drawing. A picture too small for that is repeated."""
        bottom, right = (-x.shape[-2] % self.config.multiple, -x.shape[-1] % self.config.multiple)
        mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
        return F.pad(x, (0, right, 0, bottom), mode=mode) if bottom or right else x
