"""A small convolutional network that reads a picture's attributes, as judge of generated pictures.

It is trained once for each set of pictures, in minutes on two CPU cores, and kept in the cache folder of sd_core.data.
"""

import hashlib
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.labelled import HIDDEN, Labelled
from sd_core.device import autocast
from sd_core.environment import default_cache
from sd_core.pictures.pixels import to_float

VERSION = 2  # raise whenever the same pictures give another classifier than before
WIDTHS = (32, 64, 128, 128)
DEEPER = 1  # more convolutions at each width, for photographs
FEATURES = 128
PLACES = 32  # pictures are folded to at most about this many places across before the first convolution
BATCH = 128
LEARNING_RATE = 4e-3
SHIFT = 2  # pixels by which training pictures are moved about, so that the judge does not mind where exactly things are
READ_BATCH = 250


class Classifier(nn.Module):
    """Pictures [B, 3, R, R] in [-1, 1] to features [B, 128], and from those each attribute's value."""

    def __init__(self, values: dict[str, tuple[str, ...]], resolution: int):
        super().__init__()
        self.values = values
        deeper = DEEPER if "class" in values else 0  # photographs ask for more than drawings
        fold = max(1, resolution // PLACES)
        layers: list[nn.Module] = [nn.PixelUnshuffle(fold), *_convolution(3 * fold**2, WIDTHS[0], 1)]
        for before, after in zip(WIDTHS, WIDTHS[1:], strict=False):
            layers += _convolution(before, after, 2)
            for _ in range(deeper):
                layers += _convolution(after, after, 1)
        places = resolution // fold // 2 ** (len(WIDTHS) - 1)
        layers += [nn.Flatten(), nn.Linear(WIDTHS[-1] * places**2, FEATURES), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(FEATURES, len(options)) for options in values.values())
        self.to(memory_format=torch.channels_last)

    def loss(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, averaged over the attributes; a picture counts for those it shows."""
        features = self.trunk(pictures)
        losses = [
            F.cross_entropy(head(features), labels[:, i], ignore_index=HIDDEN, reduction="sum")
            for i, head in enumerate(self.heads)
        ]
        return sum(losses) / (labels != HIDDEN).sum().clamp(min=1)

    @torch.no_grad()
    def read(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """What the pictures uint8 [N, R, R, 3] show: labels int64 [N, attributes], and features float32 [N, 128]."""
        device = next(self.parameters()).device
        found, features = [], []
        for start in range(0, len(pixels), READ_BATCH):
            x = to_float(torch.tensor(pixels[start : start + READ_BATCH], device=device))
            feature = self.trunk(x)
            found.append(torch.stack([head(feature).argmax(1) for head in self.heads], 1).cpu())
            features.append(feature.cpu())
        return torch.cat(found), torch.cat(features)


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def correct(found: Tensor, labels: Tensor) -> Tensor:
    """Which labels [N, attributes] were found; False for those that cannot be seen."""
    return (found == labels) & (labels != HIDDEN)


def trained(data: Labelled, epochs: int, device: torch.device) -> Classifier:
    """The classifier of these pictures: from the cache, or trained now and kept there."""
    file = default_cache() / f"classifier-{_key(data, epochs)}.safetensors"
    classifier = Classifier(data.values, data.pixels.shape[1]).to(device)
    if file.is_file():
        classifier.load_state_dict(load_file(file))
    else:
        torch.manual_seed(0)
        classifier = Classifier(data.values, data.pixels.shape[1]).to(device)
        _train(classifier, data, epochs)
        work = file.with_suffix(f".{os.getpid()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = classifier.to("cpu").state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, work)
        os.replace(work, file)
    return classifier.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _key(data: Labelled, epochs: int) -> str:
    some = np.ascontiguousarray(data.pixels[:: max(1, len(data) // 256)])
    said = json.dumps([VERSION, epochs, data.values, len(data), list(data.pixels.shape)])
    return hashlib.sha256(said.encode() + data.labels.numpy().tobytes() + some.tobytes()).hexdigest()[:20]


def _train(classifier: Classifier, data: Labelled, epochs: int) -> None:
    device = next(classifier.parameters()).device
    steps = epochs * (len(data) // BATCH)
    if not steps:
        raise ValueError(f"A classifier needs at least {BATCH} pictures to learn from, not {len(data)}.")
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.2)
    draw = torch.Generator().manual_seed(0)
    bar = tqdm(total=steps, desc="classifier", unit="step")
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=draw)
        for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
            x = to_float(torch.from_numpy(data.pixels[chosen.numpy()]).to(device))
            x = _moved(x, data.mirrorable, draw)
            with autocast(device):
                loss = classifier.loss(x, data.labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
        bar.set_postfix(loss=f"{loss:.3f}")
    bar.close()


def _moved(x: Tensor, mirrorable: bool, draw: torch.Generator) -> Tensor:
    """The pictures, all of them moved by the same few pixels, and half of them mirrored where that is allowed."""
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=draw).tolist()
    height, width = x.shape[-2:]
    x = F.pad(x, [SHIFT] * 4, mode="replicate")[..., down : down + height, right : right + width]
    if mirrorable:
        mirrored = torch.rand(len(x), generator=draw) < 0.5
        x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
    return x.contiguous(memory_format=torch.channels_last)
