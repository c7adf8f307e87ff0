"""The training loop: fits D to pictures and tells, as it goes, how that is going.

`Trainer` is the state of a training (weights, their average, optimizer, step), and `Trainer.run` a generator of events
that advances it. No folders here: `runs.py` writes down what the events bring. Whatever is random in step n comes from
generators seeded by (seed, n), so that a training that was stopped and resumed is the same as one that was not.

Under `torchrun`, every process draws the whole batch's order and noise and works on its own slice: the gradients
are those of one process with the whole batch.
"""

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures
from sd_core.device import autocast, compile_pays
from sd_core.errors import TrainingFailed
from sd_core.models.denoiser import Denoiser
from sd_core.training.config import TrainingConfig
from sd_core.training.distributed import Peers, _gradients_exchanged
from sd_core.training.events import Event, Finished, Progress, Samples, Sampling, Saved, Split
from sd_core.training.objectives.base import BatchSlice
from sd_core.training.optimizers import make_optimizers
from sd_core.training.setup import new_objective

WHAT_TO_TRY = "Resume from the last save with a lower learning rate."
LOG_SECONDS = 1.0  # a point on the loss curve about this often, and at least every LOG_STEPS
LOG_STEPS = 20
SAMPLE_FIRST = 25  # steps: before, there is nothing but noise to see


class Trainer:
    """A training in progress.

    Args:
        model: fresh, or loaded to be trained further, then without its specialist. It is moved to `device`.
        pictures: what to learn: captioned ones for a generator, large clean ones for a restorer.
        config: how.
        device: where.
        peers: this process among several.
    """

    def __init__(
        self,
        model: Denoiser,
        pictures: PictureSet | CleanPictures,
        config: TrainingConfig,
        device: torch.device,
        peers: Peers | None = None,
    ):
        self.peers = peers or Peers()
        if config.batch % (config.accumulate * self.peers.count):
            raise ValueError(
                f"A batch of {config.batch} cannot be shared by {self.peers.count} processes. Choose a multiple."
            )
        self.model = model.joined(None).to(device).train().requires_grad_(True)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.config, self.device = config, device
        self.step = 0
        self.objective = new_objective(self.model, pictures, config)
        edges = self.objective.edges(self.model)
        self.optimizers = make_optimizers(
            self.model, config.optimizer, config.learning_rate, config.weight_decay, edges
        )
        self.compute_loss = self._compiled_loss()

    def _compiled_loss(self) -> nn.Module:
        loss = self.objective.loss
        if compile_pays(self.device):
            loss = torch.compile(loss)
        if self.peers.count > 1:
            loss = nn.parallel.DistributedDataParallel(loss)
        return loss

    # A step

    def learning_rate(self, step: int) -> float:
        """The learning rate of step number `step`, from 0."""
        warm = min(1.0, (step + 1) / max(1, self.config.warmup))
        left = (self.config.steps - step) / self.config.cooldown if self.config.cooldown else 1.0
        return self.config.learning_rate * warm * min(1.0, left)

    def _split(self) -> bool:
        """Halves the part of a batch that is worked on at a time. False if that cannot be done."""
        parts = 2 * self.config.accumulate
        if self.peers.count > 1 or self.config.batch % parts:  # the other processes would wait for this one's gradients
            return False
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.accelerator.empty_cache()
        self.config = replace(self.config, accumulate=parts)
        return True

    def _gradient(self) -> Tensor | None:
        """Sets the gradient of a step. Returns its loss; None if there was not enough memory."""
        try:
            return self._gradient_in_parts()
        except torch.OutOfMemoryError:
            if not self._split():
                raise
        return None

    def _gradient_in_parts(self) -> Tensor:
        config = self.config
        total = torch.zeros((), device=self.device)
        per_process = config.batch // self.peers.count
        first = self.peers.rank * per_process
        share = BatchSlice(first, first + per_process, config.accumulate)
        for i, microbatch in enumerate(self.objective.examples(self.step, share, self.device)):
            last = i == config.accumulate - 1
            with autocast(self.device, config.bf16), _gradients_exchanged(self.compute_loss, last):
                loss = self.compute_loss(*microbatch) / config.accumulate
                loss.backward()
            total += loss.detach()
        return total

    def _advance(self) -> tuple[Tensor, Tensor] | None:
        """One step. Returns its loss and the norm of its gradient, still on the device; None if it must be tried again,
        with the batch in smaller parts."""
        loss = self._gradient()
        if loss is None:
            return None
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_ema()
        return loss, norm

    @torch.no_grad()
    def _update_ema(self) -> None:
        look_back = min(self.config.ema_share * self.step * self.config.batch, self.config.ema_pictures)
        weight = 1 - 0.5 ** (self.config.batch / max(look_back, 1e-8))  # look_back is a half-life, as in EDM
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), weight)

    # The run

    def run(self) -> Iterator[Event]:
        """Advances to `config.steps`, yielding events.

        Raises:
            TrainingFailed: the loss or its gradient is not a number, or exploded. What was last `Saved` is sound.
        """
        losses, norms = [], []
        since = time.perf_counter()
        speed = 0.0
        while self.step < self.config.steps:
            while (advanced := self._advance()) is None:
                yield Split(self.step, self.config.accumulate)
            loss, norm = advanced
            losses.append(loss)
            norms.append(norm)
            due_sample = self.is_sample_due()
            due_save = self._due(self.config.save_every)
            if len(losses) >= LOG_STEPS or self._is_time_to_log(since) or due_save or due_sample or self.step == 1:
                mean_loss, mean_norm = self._mean(losses), float(torch.stack(norms).mean())
                self._check(mean_loss, mean_norm)
                seconds = time.perf_counter() - since
                recent = len(losses) * self.config.batch / seconds
                speed = recent if not speed else 0.8 * speed + 0.2 * recent
                yield self._progress(mean_loss, mean_norm, recent, speed)
                losses, norms, since = [], [], time.perf_counter()
            if due_save:
                yield Saved(self.step)
            if due_sample:
                yield from self.sampling()
            if due_save or due_sample:
                since = time.perf_counter()
        yield Finished(self.step)

    def _is_time_to_log(self, since: float) -> bool:
        # Processes that train together must log at the same steps, which their clocks cannot tell them.
        return self.peers.count == 1 and time.perf_counter() - since >= LOG_SECONDS

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def is_sample_due(self) -> bool:
        """Whether a grid belongs to this step: every `sample_every`, more often at first, and at the end."""
        every = self.config.sample_every
        early = (every >> k for k in range(1, every.bit_length()))
        return self._due(every) or any(self.step == step >= SAMPLE_FIRST for step in early)

    def _mean(self, losses: list[Tensor]) -> float:
        mean = torch.stack(losses).mean()
        if self.peers.count > 1:
            dist.all_reduce(mean)
            mean /= self.peers.count
        return float(mean)

    def _check(self, loss: float, norm: float) -> None:
        # An infinite gradient beside a finite loss has already spoilt the weights.
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingFailed(f"The loss is not a number any more at step {self.step}. {WHAT_TO_TRY}")
        if loss > self.objective.exploded:
            raise TrainingFailed(f"The loss exploded to {loss:.3g} by step {self.step}. {WHAT_TO_TRY}")

    def _progress(self, loss: float, norm: float, recent: float, speed: float) -> Progress:
        left = (self.config.steps - self.step) * self.config.batch / speed
        seen = self.step * self.config.batch
        rate = self.learning_rate(self.step - 1)
        return Progress(self.step, self.config.steps, seen, loss, rate, norm, recent, left)

    def samples(self) -> Samples:
        """Pictures from the averaged weights, for the same questions every time."""
        *_, last = self.sampling()
        return last

    def sampling(self) -> Iterator[Sampling | Samples]:
        """Draws those step by step, and then yields them. It may be closed before."""
        drawing = self.objective.drawing(self.ema)
        while True:
            with torch.no_grad(), autocast(self.device, self.config.bf16):  # left before whoever looks on goes on
                step = next(drawing, None)
            if step is None:
                return
            if step.pictures is None:
                yield Sampling(self.step, step.index, step.count)
            else:
                yield Samples(self.step, step.pictures, self.objective.sample_prompts())

    # State

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Everything needed to go on exactly: tensors by name, and texts for a file's metadata.

        The tensors are copies on the CPU, contiguous as safetensors wants them, which training on does not change.
        """
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        names = {id(p): name for name, p in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                for slot, value in slots.items():
                    tensors[f"optimizer.{slot}.{names[id(parameter)]}"] = value
        copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        texts = {"step": str(self.step), "model": json.dumps(asdict(self.model.config))}
        if self.model.vocabulary:
            texts["vocabulary"] = self.model.vocabulary.to_json()
        return copies, texts

    def load_state(self, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
        """Takes up where `state` was called."""
        for prefix, module in (("model.", self.model), ("ema.", self.ema)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        parameters = dict(self.model.named_parameters())
        owner = {id(p): o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, slot, name = key.split(".", 2)
                parameter = parameters[name]
                like = parameter if value.ndim else value  # in the parameter's memory format, if it is shaped like it
                owner[id(parameter)].state[parameter][slot] = torch.empty_like(like, device=self.device).copy_(value)
        self.step = int(texts["step"])

    def extended(self, steps: int) -> None:
        """Sets a new total of steps."""
        self.config = replace(self.config, steps=steps)
