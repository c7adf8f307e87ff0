"""diffusers' UNet2DConditionModel, sized to stand beside ours: the same number of parameters, or of operations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WIDTH_STEP = 4
HEADS = NORM_GROUPS = WIDTH_STEP  # its defaults, 8 and 32, would not divide widths as small as ours
CLOSE_ENOUGH = 0.01
BENT = 0.25  # by which share a width may leave the default ratios for the sake of a close match
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
                attention_head_dim=HEADS,  # which is what this class calls the number of heads
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
    """The widths at which `measure` comes close to `target`: in its default ratios, then single ones bent a little."""
    known: dict[tuple[int, ...], float] = {}

    def error(widths: tuple[int, ...]) -> float:
        if widths not in known:
            known[widths] = abs(measure(shape.build(widths)) / target - 1)
        return known[widths]

    def scaled(base: int) -> tuple[int, ...]:
        return tuple(base * ratio for ratio in RATIOS)

    base = WIDTH_STEP
    while error(scaled(base + WIDTH_STEP)) < error(scaled(base)):
        base += WIDTH_STEP
    best = scaled(base)
    while error(best) > CLOSE_ENOUGH:
        near = [
            (*best[:i], best[i] + step, *best[i + 1 :])
            for i, usual in enumerate(scaled(base))
            for step in (-WIDTH_STEP, WIDTH_STEP)
            if abs(best[i] + step - usual) <= BENT * usual
        ]
        closest = min(near, key=error)
        if error(closest) >= error(best):
            break
        best = closest
    return best
