"""The optimizer: Muon for the matrices and convolutions inside the network, AdamW for everything else.

torch has a Muon too, but it takes only 2-D parameters and works in bfloat16, which a CPU without bfloat16 units
emulates thirty times slower than it multiplies in float32.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration, chosen for the steepest slope at 0
# (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalised(update: Tensor) -> Tensor:
    """The matrix [M, N] with its singular values pushed to about 1."""
    a, b, c = NEWTON_SCHULZ
    tall = update.shape[0] > update.shape[1]
    x = update.T.contiguous() if tall else update
    if update.is_cuda:
        x = x.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), for weights of two or more dimensions, each flattened to a matrix.

    Args:
        parameters: weights [out, in, ...].
        lr: learning rate, on AdamW's scale: updates are scaled to AdamW's usual root mean square of 0.2
            (Liu et al. 2025, arXiv:2502.16982), so that one number serves both optimizers.
        momentum: of the Nesterov kind.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                average = state["momentum_buffer"]
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalised(weight.grad.lerp(average, group["momentum"]).flatten(1))
                scale = 0.2 * max(update.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def make_optimizers(
    model: nn.Module, name: str, lr: float, weight_decay: float, edges: Iterable[nn.Module] = ()
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model: "muon" (with AdamW for what it does not suit) or "adamw" alone.

    Args:
        edges: modules at the network's input and output, and embeddings: Muon is for the layers between.
    """
    on_edge = {id(p) for module in edges for p in module.parameters()}
    matrices, others = [], []
    for parameter in model.parameters():
        suits = name == "muon" and parameter.ndim >= 2 and id(parameter) not in on_edge
        (matrices if suits else others).append(parameter)
    decayed = [p for p in others if p.ndim >= 2]
    plain = [p for p in others if p.ndim < 2]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
    return [adamw, Muon(matrices, lr, weight_decay=weight_decay)] if matrices else [adamw]
