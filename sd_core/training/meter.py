"""What the steps since the last report of a training came to."""

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from sd_core.training.distributed import Peers


@dataclass(frozen=True)
class Reading:
    """Mean loss and gradient norm, pictures per second, and the same evened out over all readings so far."""

    loss: float
    gradient_norm: float
    pictures_per_second: float
    usual_speed: float


class Meter:
    """Collects losses and gradient norms, which stay on their device until they are read, and the time they take."""

    def __init__(self, peers: Peers):
        self.peers = peers
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.speed = 0.0
        self.start_clock()

    def start_clock(self) -> None:
        """Time is counted from now on: what was done since the last reading was no training."""
        self.since = time.perf_counter()

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Of one step."""
        self.losses.append(loss)
        self.norms.append(norm)

    def is_due(self, steps: int, seconds: float) -> bool:
        """Whether so many steps, or seconds, have passed since the last reading."""
        # Processes that train together must log at the same steps, which their clocks cannot tell them.
        by_clock = self.peers.count == 1 and time.perf_counter() - self.since >= seconds
        return by_clock or len(self.losses) >= steps

    def read(self, batch: int) -> Reading:
        """Of the steps since the last reading, `batch` pictures each."""
        loss = torch.stack(self.losses).mean()
        if self.peers.count > 1:
            dist.all_reduce(loss)
            loss /= self.peers.count
        norm = torch.stack(self.norms).mean()
        loss, norm = float(loss), float(norm)  # waits until the steps are done
        recent = len(self.losses) * batch / (time.perf_counter() - self.since)
        self.speed = recent if not self.speed else 0.8 * self.speed + 0.2 * recent
        self.losses, self.norms = [], []
        return Reading(loss, norm, recent, self.speed)
