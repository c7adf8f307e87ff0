"""What test_training_parts.py starts under torchrun: trains briefly and writes down where each process ended.

torchrun --nproc-per-node 2 train_under_torchrun.py FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tiny_pictures import make_pictures

from sd_core.data import PictureSet
from sd_core.training.config import TrainingConfig
from sd_core.training.distributed import Peers
from sd_core.training.events import Progress
from sd_core.training.setup import new_generator
from sd_core.training.trainer import Trainer

CPU = torch.device("cpu")
KINDS = ("sgd", "accumulated", "muon")


def uneven_captions() -> PictureSet:
    """Captions of very different length, so that the processes' batches differ in length too."""
    plain = make_pictures(10)
    captions = tuple(" ".join([caption] * (1 + 3 * (i % 3))) for i, caption in enumerate(plain.captions))
    return PictureSet(plain.name, plain.pixels, captions, plain.mirrorable)


def train(kind: str, peers: Peers) -> tuple[Trainer, list[float]]:
    """Three steps. With "sgd", weights move by the plain gradient, so that equal weights mean equal gradients."""
    pictures = uneven_captions()
    config = TrainingConfig(
        steps=3,
        batch=8,
        accumulate=2 if kind == "accumulated" else 1,
        learning_rate=0.01,
        gradient_clip=1.0 if kind == "muon" else 1e6,
        warmup=0,
        caption_dropout=0.4,
        bf16=False,  # whose rounding a sum in parts does not share with the whole
        save_every=1,
        sample_every=100,
        sample_prompts=("a red square",),
    )
    trainer = Trainer(new_generator(pictures, "tiny", seed=0), pictures, config, CPU, peers)
    if kind != "muon":
        trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.01)]
    losses = [event.loss for event in trainer.run() if isinstance(event, Progress)]
    return trainer, losses


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    peers = Peers.join(CPU)
    for kind in KINDS:
        trainer, losses = train(kind, peers)
        tensors = dict(trainer.state()[0], losses=torch.tensor(losses, dtype=torch.float64))
        save_file(tensors, folder / f"{kind}-{peers.rank}-of-{peers.count}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
