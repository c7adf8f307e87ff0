"""diffusers' UNet2DConditionModel, sized to stand beside ours: the same number of parameters, or of operations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WIDTH_STEP = 8  # its default of 8 attention heads asks for multiples of 8 channels
NORM_GROUPS = 8  # its default of 32 would not divide widths as small as ours
CLOSE_ENOUGH = 0.01
RATIOS = (1, 2, 4, 4)  # of its default widths 320, 640, 1280, 1280
ATTENTION_BELOW = {  # with attention only at a quarter of the resolution and below, where it is affordable on pixels
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}


@dataclass(frozen=True)
class Shape:
    """What the peer is given: pictures `channels` deep and `side` across, prompts of `tokens` × `context`.

    `patch` is how many pixels across one of its places is; `options` are given to the constructor beside the widths.
    """

    patch: int
    side: int
    channels: int
    tokens: int
    context: int
    options: dict

    def build(self, widths: tuple[int, ...], device: torch.device | str = "meta") -> UNet2DConditionModel:
        """A fresh network of these widths."""
        with torch.device(device):
            return UNet2DConditionModel(
                sample_size=self.side,
                in_channels=self.channels,
                out_channels=self.channels,
                block_out_channels=widths,
                cross_attention_dim=self.context,
                norm_num_groups=NORM_GROUPS,
                **self.options,
            )


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the convolutions and matrix products in `work`, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@torch.no_grad()
def forward_flops(model: UNet2DConditionModel, shape: Shape) -> int:
    """Operations for one picture."""
    device = next(model.parameters()).device
    x = torch.empty(1, shape.channels, shape.side, shape.side, device=device)
    text = torch.empty(1, shape.tokens, shape.context, device=device)
    return flops(lambda: model(x, torch.zeros(1, device=device), text))


def matched(shape: Shape, measure: Callable[[UNet2DConditionModel], float], target: float) -> tuple[int, ...]:
    """The widths at which `measure` comes closest to `target`: its default ratios first, then single widths up or down."""
    known: dict[tuple[int, ...], float] = {}

    def error(widths: tuple[int, ...]) -> float:
        if widths not in known:
            known[widths] = abs(measure(shape.build(widths)) / target - 1)
        return known[widths]

    best = tuple(WIDTH_STEP * ratio for ratio in RATIOS)
    while error(wider := tuple(w + WIDTH_STEP * ratio for w, ratio in zip(best, RATIOS, strict=True))) < error(best):
        best = wider
    while error(best) > CLOSE_ENOUGH:
        near = [
            tuple(w + step * (i == j) for j, w in enumerate(best))
            for i in range(len(best))
            for step in (-WIDTH_STEP, WIDTH_STEP)
            if best[i] + step >= WIDTH_STEP
        ]
        closest = min(near, key=error)
        if error(closest) >= error(best):
            break
        best = closest
    return best
