"""A training's state as a file keeps it: what `Trainer` needs to go on exactly where it was."""

import json
from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor

from sd_core.models.denoiser import Denoiser

Optimizers = Iterable[torch.optim.Optimizer]


def packed(
    model: Denoiser, ema: Denoiser, optimizers: Optimizers, step: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and texts for the file's metadata.

    The tensors are copies on the CPU, contiguous as safetensors wants them, which training on does not change.
    """
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    names = {id(p): name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, slots in optimizer.state.items():
            for slot, value in slots.items():
                tensors[f"optimizer.{slot}.{names[id(parameter)]}"] = value
    copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    texts = {"step": str(step), "model": json.dumps(asdict(model.config))}
    if model.vocabulary:
        texts["vocabulary"] = model.vocabulary.to_json()
    return copies, texts


def unpack(tensors: dict[str, Tensor], model: Denoiser, ema: Denoiser, optimizers: Optimizers) -> None:
    """Puts packed tensors into the models and optimizers of a new `Trainer`."""
    for prefix, module in (("model.", model), ("ema.", ema)):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    parameters = dict(model.named_parameters())
    owner = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, slot, name = key.split(".", 2)
            parameter = parameters[name]
            like = parameter if value.ndim else value  # in the parameter's memory format, if it is shaped like it
            owner[id(parameter)].state[parameter][slot] = torch.empty_like(like, device=parameter.device).copy_(value)
