"""How fast drawing and training are, beside diffusers' UNet2DConditionModel and beside what the machine can do at all.

    python -m benchmarks.speed

Drawing: the whole denoiser and sampler on one side, diffusers' UNet and DPM-Solver++ scheduler on the other; the same
batch, the same steps, guidance at each. Training: our trainer as it is (text encoder, Muon, averaged weights) on one
side, diffusers' UNet in a plain loop (noise prediction, AdamW, no text encoder, no averaging) on the other; the same
pictures and batch. Both sides take turns, A B A B, and a ratio is the median over the pairs. Both run in bfloat16 where
the program does: on a GPU, and in training on a CPU that has units for it.

The peers, all with default block kinds, layers and heads unless they say otherwise:

- "pixels, equal parameters": as one sets it up for pictures of this size;
- "patches, equal FLOPs": given the same patches as ours, since on pixels its attention alone costs more than our whole
  network;
- "pixels, equal FLOPs": with attention only at a quarter of the resolution, which makes it affordable;
- "patches, equal parameters": how much of the first row is owed to the patches.

The share of the machine's peak is counted operations per second over those of the fastest 3×3 convolution found in the
same number format.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor

from benchmarks import common
from benchmarks.labelled import CAPTIONED_STYLES
from benchmarks.peers import ATTENTION_BELOW, Shape, flops, forward_flops, matched, parameters
from sd_core.data import PictureSet
from sd_core.data.characters import draw as c
from sd_core.data.characters.captions import caption_of
from sd_core.device import autocast, compile_pays, inference_autocast
from sd_core.diffusion.guidance import Guided
from sd_core.diffusion.sampling import dpmpp_2m
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.generation.request import DEFAULT_GUIDANCE
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.pictures.pixels import to_float
from sd_core.training.config import TrainingConfig
from sd_core.training.objectives.base import BatchSlice
from sd_core.training.trainer import Trainer

SIZE = "small"
TARGETS = {  # of (drawing, training)
    "pixels, equal parameters": ("at least 4x", "at least 3x"),
    "patches, equal FLOPs": ("at least 1.2x", "at least 1.15x"),
    "pixels, equal FLOPs": ("at least 1.2x", "at least 1.15x"),
    "patches, equal parameters": ("", ""),
}
PEAK_SHAPES = {  # batch, channels, places across
    "cpu": [(32, 64, 32), (32, 128, 16), (16, 128, 32), (16, 256, 16), (8, 256, 32), (8, 512, 16)],
    "cuda": [(256, 128, 64), (256, 256, 32), (256, 512, 32), (128, 512, 64), (256, 1024, 16)],
}
PEAK_REPEATS = 5
PICTURES = 512  # of noise, to train on


@dataclass(frozen=True)
class Peer:
    """diffusers' network, as one row of the tables has it."""

    name: str
    shape: Shape
    unet: UNet2DConditionModel


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--size", default=SIZE, help="the size of the model, fresh, at 64×64 pixels")
    parser.add_argument("--batch", type=int, default=16, help="pictures drawn at once")
    parser.add_argument("--steps", type=int, default=4, help="of drawing; all steps cost the same")
    parser.add_argument("--train-batch", type=int, default=32)
    parser.add_argument("--train-steps", type=int, default=1, help="training steps between two looks at the clock")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of measurements")
    parser.add_argument("--peers", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="NAME")
    options = parser.parse_args(arguments)
    device = options.device

    model, prompts = subject(options, device)
    ours_parameters, ours_flops = parameters(model.unet), denoiser_flops(model, prompts)
    title = f"{model.config.size}, {model.config.resolution}×{model.config.resolution}"
    peaks = [(peak(device, inference_autocast), peak(device, autocast))]
    drawing, training = [], []
    trainer = Trainer(fresh_copy(model, device), noise_pictures(model, prompts), train_config(options), device)
    train_flops = training_flops(trainer) / options.train_batch
    draws, steps = [], []
    for name in options.peers:
        peer = make_peer(name, model, prompts, ours_parameters, ours_flops, device)
        sizes = [f"{parameters(peer.unet) / 1e6:.1f} M", f"{forward_flops(peer.unet, peer.shape) / 1e9:.2f}"]
        print(f"{name}: widths {peer.unet.config.block_out_channels}", flush=True)
        mine, theirs, ratio = common.interleaved(
            lambda: draw(model, prompts, options.steps),
            lambda peer=peer: draw_with(peer, options.batch, options.steps, device),
            options.repeats,
            device,
        )
        draws.append(mine)
        speeds = [f"{options.batch / s:.2f}" for s in (mine, theirs)]
        drawing.append([name, *sizes, *speeds, f"**{ratio:.2f}x**", TARGETS[name][0]])
        peer.unet.train()
        advance_peer = plain_training(peer, trainer.objective.pictures, options.train_batch, device)
        mine, theirs, ratio = common.interleaved(
            lambda: repeated(trainer.advance, options.train_steps),
            lambda step=advance_peer: repeated(step, options.train_steps),
            options.repeats,
            device,
        )
        steps.append(mine / options.train_steps)
        speeds = [f"{options.train_steps * options.train_batch / s:.2f}" for s in (mine, theirs)]
        training.append([name, *sizes, *speeds, f"**{ratio:.2f}x**", TARGETS[name][1]])
        peaks.append((peak(device, inference_autocast), peak(device, autocast)))
        print(drawing[-1], training[-1], sep="\n", flush=True)
        del peer, advance_peer

    draw_peak, train_peak = (max(found) for found in zip(*peaks, strict=True))
    draw_seconds, step_seconds = statistics.median(draws), statistics.median(steps)
    draw_rate = 2 * options.batch * options.steps * ours_flops / draw_seconds
    train_rate = options.train_batch * train_flops / step_seconds
    numbers = [number_format(device, context) for context in (inference_autocast, autocast)]
    formats = "drawing in {}, training in {}".format(*(str(number).removeprefix("torch.") for number in numbers))
    header = ["diffusers' UNet", "its parameters", "its GFLOP per picture", "ours, pictures/s", "diffusers, pictures/s"]
    header += ["ratio", "target"]
    sides = f"Ours: {ours_parameters / 1e6:.1f} M parameters in the UNet, {ours_flops / 1e9:.2f} GFLOP per picture."
    body = [
        f"{sides} {formats[0].upper()}{formats[1:]}; median of {options.repeats} interleaved pairs.",
        f"Drawing, {options.batch} pictures, {options.steps} steps, guidance at each ({2 * options.batch} rows):",
        common.table(header, drawing),
        f"Training, batch {options.train_batch}" + (", ours compiled:" if compile_pays(device) else ":"),
        common.table(header, training),
        "Share of the fastest 3×3 convolution of this machine in the same number format, measured in the same run:",
        common.table(
            ["ours", "GFLOP/s", "peak, GFLOP/s", "share of peak"],
            [
                ["drawing", f"{draw_rate / 1e9:,.1f}", f"{draw_peak / 1e9:,.0f}", f"{draw_rate / draw_peak:.0%}"],
                ["training", f"{train_rate / 1e9:,.1f}", f"{train_peak / 1e9:,.0f}", f"{train_rate / train_peak:.0%}"],
            ],
        ),
    ]
    command = "python -m benchmarks.speed" + (f" --size {options.size}" if options.size != SIZE else "")
    section = f"speed-{device.type}"
    common.report(section, f"Speed ({title})", command, "\n\n".join(body), device, options.results)


# Ours


def subject(options, device: torch.device) -> tuple[Denoiser, list[str]]:
    """The model to measure and as many full captions as are drawn at once."""
    captions = [caption_of(c.attributes_of(style, seed)) for seed in range(options.batch) for style in CAPTIONED_STYLES]
    model = Denoiser(ModelConfig.generator(options.size, 64), Vocabulary.learn(captions))
    return model.to(device).eval().requires_grad_(False), captions[: options.batch]


def fresh_copy(model: Denoiser, device: torch.device) -> Denoiser:
    """A model of the same shape with fresh weights, to be trained."""
    return Denoiser(model.config, model.vocabulary, model.codec).to(device)


@torch.no_grad()
def draw(model: Denoiser, prompts: list[str], steps: int) -> Tensor:
    """Draws one batch."""
    sigmas = karras_sigmas(steps)
    with inference_autocast(model.device):
        guided = Guided(model, prompts, [""] * len(prompts), DEFAULT_GUIDANCE)
        x = torch.randn(len(prompts), *model.shape, device=model.device) * sigmas[0].float()
        *_, last = dpmpp_2m(guided, x, sigmas)
    return model.codec.decode(last.x)


@torch.no_grad()
def denoiser_flops(model: Denoiser, prompts: list[str]) -> int:
    """Operations for one picture and one step, its prompt being encoded already."""
    context = model.encode(prompts[:1])
    x = torch.randn(1, *model.shape, device=model.device)
    return flops(lambda: model(x, torch.ones(1, device=model.device), context))


def train_config(options) -> TrainingConfig:
    return TrainingConfig(batch=options.train_batch, steps=10**6)


def training_flops(trainer: Trainer) -> int:
    """Operations of one step, forward and backward; without the optimizer's, which are not the pictures'."""
    objective, batch = trainer.objective, BatchSlice(0, trainer.config.batch, 1)
    counted = flops(lambda: [objective.loss(*e).backward() for e in objective.examples(0, batch, trainer.device)])
    trainer.model.zero_grad(set_to_none=True)
    return counted


def noise_pictures(model: Denoiser, prompts: list[str]) -> PictureSet:
    """Pictures that cost nothing to make: to the clock all pictures are alike."""
    side = model.config.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, side, side, 3), dtype=np.uint8)
    return PictureSet("noise", pixels, tuple(prompts[i % len(prompts)] for i in range(PICTURES)), mirrorable=False)


def repeated(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


# Theirs


def make_peer(
    name: str, model: Denoiser, prompts: list[str], wanted_parameters: int, wanted_flops: int, device: torch.device
) -> Peer:
    """diffusers' network for the row called `name`, on `device`."""
    patch = model.config.patch if name.startswith("patches") else 1
    options = ATTENTION_BELOW if name == "pixels, equal FLOPs" else {}
    tokens = model.encode(prompts).tokens.shape[1]
    shape = Shape(
        patch, model.config.resolution // patch, 3 * patch**2, tokens, model.config.unet.context_channels, options
    )
    if name.endswith("parameters"):
        widths = matched(shape, parameters, wanted_parameters)
    else:
        widths = matched(shape, lambda unet: forward_flops(unet, shape), wanted_flops)
    return Peer(name, shape, shape.build(widths, device).eval())


@torch.no_grad()
def draw_with(peer: Peer, batch: int, steps: int, device: torch.device) -> Tensor:
    """diffusers' usual loop: both branches of guidance in one call, then the scheduler's step."""
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(steps, device=device)
    shape = peer.shape
    text = torch.randn(2 * batch, shape.tokens, shape.context, device=device)
    x = torch.randn(batch, shape.channels, shape.side, shape.side, device=device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        with inference_autocast(device):
            noise = peer.unet(torch.cat([x, x]), t, encoder_hidden_states=text).sample
        negative, positive = noise.float().chunk(2)
        x = scheduler.step(negative + DEFAULT_GUIDANCE * (positive - negative), t, x).prev_sample
    return F.pixel_shuffle(x, shape.patch)


def plain_training(peer: Peer, pictures: PictureSet, batch: int, device: torch.device) -> Callable[[], Tensor]:
    """One step of the loop of diffusers' training examples."""
    unet, shape = peer.unet, peer.shape
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
    scheduler = DDPMScheduler()
    text = torch.randn(batch, shape.tokens, shape.context, device=device)

    def step() -> Tensor:
        chosen = torch.randint(len(pictures), (batch,)).numpy()
        x0 = F.pixel_unshuffle(to_float(torch.from_numpy(pictures.pixels[chosen]).to(device)), shape.patch)
        noise = torch.randn_like(x0)
        t = torch.randint(scheduler.config.num_train_timesteps, (batch,), device=device)
        with autocast(device):
            predicted = unet(scheduler.add_noise(x0, noise, t), t, encoder_hidden_states=text).sample
            loss = F.mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


# The machine


def number_format(device: torch.device, context: Callable) -> torch.dtype:
    """What matrices are multiplied in, inside `context(device)`."""
    one = torch.ones(1, 1, device=device)
    with context(device):
        return (one @ one).dtype


@torch.no_grad()
def peak(device: torch.device, context: Callable) -> float:
    """Operations per second of the fastest 3×3 convolution among PEAK_SHAPES, in the number format of `context`."""
    number = number_format(device, context)
    fastest = 0.0
    for batch, channels, side in PEAK_SHAPES.get(device.type, PEAK_SHAPES["cuda"]):
        for layout in (torch.channels_last, torch.contiguous_format):
            x = torch.randn(batch, channels, side, side, device=device, dtype=number).to(memory_format=layout)
            weight = torch.randn(channels, channels, 3, 3, device=device, dtype=number).to(memory_format=layout)

            def convolve(x=x, weight=weight):
                return F.conv2d(x, weight, padding=1)

            convolve()
            best = min(common.seconds(convolve, device) for _ in range(PEAK_REPEATS))
            fastest = max(fastest, 2 * 9 * batch * channels**2 * side**2 / best)
    return fastest


if __name__ == "__main__":
    main()
