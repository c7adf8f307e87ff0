"""What the tests of training do with small ones: make them, finish them, and compare what they end with."""

import torch
from torch import Tensor

from sd_core.data import PictureSet
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Event
from sd_core.training.setup import new_generator
from sd_core.training.trainer import Trainer

CPU = torch.device("cpu")


def new_trainer(pictures: PictureSet, model_seed: int = 0, **options) -> Trainer:
    defaults = {"steps": 4, "batch": 4, "warmup": 0, "save_every": 1000, "sample_every": 1000}
    config = TrainingConfig(**{**defaults, "sample_prompts": ("a red square",), **options})
    trainer = Trainer(new_generator(pictures, "tiny", model_seed), pictures, config, CPU)
    trainer.log_seconds = float("inf")  # progress is logged by steps alone, and no test depends on a clock
    trainer.objective.sample_steps = 2
    return trainer


def finish(trainer: Trainer) -> list[Event]:
    return list(trainer.run())


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v for k, v in trainer.state()[0].items() if not k.startswith("optimizer.")}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


def with_plain_gradients(trainer: Trainer) -> Trainer:
    """Weights move by the plain gradient, so that equal weights mean equal gradients."""
    trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.01)]
    return trainer


class Watcher(torch.nn.Module):
    """Stands in for a trainer's objective: collects what it is shown, and teaches nothing."""

    def __init__(self, trainer: Trainer):
        super().__init__()
        self.weight = next(trainer.model.parameters())
        self.tokenizer = trainer.model.vocabulary.tokenizer
        self.x0, self.sigma, self.captions = [], [], []
        trainer.compute_loss, trainer.optimizers = self, []

    def forward(self, x0: Tensor, sigma: Tensor, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        self.x0.extend(x0)
        self.sigma.extend(sigma.tolist())
        self.captions += [self.tokenizer.decode(t[m].tolist()).strip() for t, m in zip(tokens, mask, strict=True)]
        return 0 * self.weight.sum()
