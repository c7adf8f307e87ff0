"""The training loop: fits D to pictures and tells, as it goes, how that is going.

`Trainer` is the state of a training (weights, their average, optimizer, step), and `Trainer.run` a generator of events
that advances it. No folders here: `runs.recorder` writes down what the events bring. Whatever is random in step n comes
from generators seeded by (seed, n), so that a training that was stopped and resumed is the same as one that was not.

Under `torchrun`, every process draws the whole batch's order and noise and works on its own slice: the gradients
are those of one process with the whole batch.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures
from sd_core.device import autocast, compile_pays
from sd_core.errors import TrainingFailed
from sd_core.models.denoiser import Denoiser
from sd_core.training import state
from sd_core.training.config import TrainingConfig
from sd_core.training.distributed import Peers, gradients_exchanged
from sd_core.training.events import Event, Finished, Progress, Samples, Sampling, Saved, Split
from sd_core.training.meter import Meter, Reading
from sd_core.training.objectives.base import BatchSlice
from sd_core.training.optimizers import make_optimizers
from sd_core.training.setup import new_objective

WHAT_TO_TRY = "Resume from the last save with a lower learning rate."
SAMPLE_FIRST = 25  # steps: before, there is nothing but noise to see


class Trainer:
    """A training in progress.

    Args:
        model: fresh, or loaded to be trained further, then without its specialist. It is moved to `device`.
        pictures: what to learn: captioned ones for a generator, large clean ones for a restorer.
        config: how.
        device: where.
        peers: this process among several.
        teacher: of a model of few steps: the one that it is to become a fast version of.

    Attributes:
        log_seconds, log_steps: a point on the loss curve comes about so often, and at least after so many steps.
    """

    log_seconds = 1.0
    log_steps = 20

    def __init__(
        self,
        model: Denoiser,
        pictures: PictureSet | CleanPictures,
        config: TrainingConfig,
        device: torch.device,
        peers: Peers | None = None,
        teacher: Denoiser | None = None,
    ):
        self.peers = peers or Peers()
        if config.batch % (config.accumulate * self.peers.count):
            raise TrainingFailed(
                f"A batch of {config.batch} cannot be shared by {self.peers.count} processes. Choose a multiple."
            )
        self.model = model.joined(None).to(device).train().requires_grad_(True)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.config, self.device = config, device
        self.step = 0
        self.objective = new_objective(self.model, pictures, config, teacher and teacher.to(device))
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
            with autocast(self.device, config.bf16), gradients_exchanged(self.compute_loss, last):
                loss = self.compute_loss(*microbatch) / config.accumulate
                loss.backward()
            total += loss.detach()
        return total

    def advance(self) -> tuple[Tensor, Tensor] | None:
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
        """Advances to `config.steps`, yielding events. Closed or at its end, it leaves no process behind.

        Raises:
            TrainingFailed: the loss or its gradient is not a number, or exploded. What was last `Saved` is sound.
        """
        meter = Meter(self.peers)
        try:
            while self.step < self.config.steps:
                while (advanced := self.advance()) is None:
                    yield Split(self.step, self.config.accumulate)
                meter.add(*advanced)
                is_save_due, is_sample_due = self._is_due(self.config.save_every), self.is_sample_due()
                is_marked = is_save_due or is_sample_due or self.step == 1
                if is_marked or meter.is_due(self.log_steps, self.log_seconds):
                    yield self._progress(meter.read(self.config.batch))
                    meter.start_clock()
                if is_save_due:
                    yield Saved(self.step)
                if is_sample_due:
                    yield from self.sampling()
                if is_save_due or is_sample_due:
                    meter.start_clock()
            yield Finished(self.step)
        finally:
            self.objective.close()

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def is_sample_due(self) -> bool:
        """Whether a grid belongs to this step: every `sample_every`, more often at first, and at the end."""
        every = self.config.sample_every
        early = (every >> k for k in range(1, every.bit_length()))
        return self._is_due(every) or any(self.step == step >= SAMPLE_FIRST for step in early)

    def _progress(self, now: Reading) -> Progress:
        # An infinite gradient beside a finite loss has already spoilt the weights.
        if not (math.isfinite(now.loss) and math.isfinite(now.gradient_norm)):
            raise TrainingFailed(f"The loss is not a number any more. {WHAT_TO_TRY}")
        if now.loss > self.objective.exploded:
            raise TrainingFailed(f"The loss exploded. {WHAT_TO_TRY}")
        batch, steps = self.config.batch, self.config.steps
        return Progress(
            step=self.step,
            steps=steps,
            pictures_seen=self.step * batch,
            loss=now.loss,
            learning_rate=self.learning_rate(self.step - 1),
            gradient_norm=now.gradient_norm,
            pictures_per_second=now.pictures_per_second,
            seconds_left=(steps - self.step) * batch / now.usual_speed,
        )

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
        """Everything needed to go on exactly: tensors by name, and texts for a file's metadata."""
        return state.packed(self.model, self.ema, self.optimizers, self.step)

    def load_state(self, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
        """Takes up where `state` was called."""
        state.unpack(tensors, self.model, self.ema, self.optimizers)
        self.step = int(texts["step"])

    def extended(self, steps: int) -> None:
        """Sets a new total of steps."""
        self.config = replace(self.config, steps=steps)
