"""A training's state as a file keeps it: what `Trainer` needs to go on exactly where it was."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from sd_core.models.checkpoint import codec_of_parts, codec_parts
from sd_core.models.codec import AutoencoderConfig, Latents
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.validation import from_json

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
    texts = {"step": str(step), "model": json.dumps(asdict(model.config))}
    if isinstance(model.codec, Latents):
        shape, parts = codec_parts(model.codec)
        texts["autoencoder"] = json.dumps(shape)
        tensors |= parts
    copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    if model.vocabulary:
        texts["vocabulary"] = model.vocabulary.to_json()
    return copies, texts


def model_of(tensors: dict[str, Tensor], texts: dict[str, str], place: Path) -> Denoiser:
    """A model of the shape, with the words and with the codec of the one whose training was packed, from what was read
    at `place`. Its weights come with `unpack`."""
    vocabulary = Vocabulary.from_json(texts["vocabulary"]) if "vocabulary" in texts else None
    codec = None
    if "autoencoder" in texts:
        codec = codec_of_parts(from_json(AutoencoderConfig, texts["autoencoder"]), tensors, place)
    return Denoiser(ModelConfig(**json.loads(texts["model"])), vocabulary, codec)


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
