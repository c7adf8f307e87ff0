"""Training by several processes at once."""

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """This process among those of a `torchrun`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Peers":
        """Joins the group that `torchrun` announces in the environment; alone without one."""
        if "RANK" not in os.environ:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def of_first(self, value: T) -> T:
        """The first process's value, for all: who disagrees on what comes next would wait for the others for ever."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


def gradients_exchanged(loss: nn.Module, last: bool):
    """Processes exchange gradients only after a step's last part."""
    distributed = isinstance(loss, nn.parallel.DistributedDataParallel)
    return loss.no_sync() if distributed and not last else torch.enable_grad()
