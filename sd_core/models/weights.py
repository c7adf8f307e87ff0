"""The file that holds a model: its weights in safetensors, and in their metadata the texts that say what they are.

Replacing that one file replaces the model, so a kill at any moment leaves the old one or the new one. The same texts
lie beside it, for people and the Hub. Only safetensors and JSON are read: neither can run code.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sd_core.atomic import remove_unfinished, replacing
from sd_core.errors import CheckpointError
from sd_core.validation import from_json

Config, Network = TypeVar("Config"), TypeVar("Network", bound=nn.Module)
FORMAT = 1  # of a file that holds one network
WEIGHTS, CONFIG = "model.safetensors", "config.json"
INSIDE = "sd_core"  # the key of the weights' metadata that holds the other files' texts


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a file keeps them: fp16, on the CPU."""
    return {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in weights.items()}


def write(folder: Path, weights: dict[str, Tensor], texts: dict[str, str], beside: Mapping[str, str] = {}) -> None:
    """Writes a model to `folder`, replacing what is there. One process at a time may do so; others may read meanwhile.

    Args:
        weights: as `halved` gives them.
        texts: what is to be read with them, by the names of the files that they are in besides.
        beside: texts that only lie beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder, "*")
    with replacing(folder / WEIGHTS, durable=True) as new:
        save_file(weights, new, metadata={INSIDE: json.dumps(texts)})
    write_beside(folder, texts | beside)


def write_beside(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes what a person and the Hub find beside the weights."""
    for name, text in texts.items():
        with replacing(folder / name, durable=True) as new:
            new.write_text(text, "utf-8")


def read(folder: Path, beside: Iterable[str], weights_too: bool = False) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts, and the weights if they are wanted, of the same save; nothing where there is no such file.

    The texts inside the weights' file count. Where it has none, since it was made before there were such, they are in
    the files `beside` it.

    Raises:
        CheckpointError: the file is damaged or foreign.
    """
    texts, weights, file = {}, {}, folder / WEIGHTS
    if file.is_file():
        try:
            with safe_open(file, "pt") as opened:
                texts = dict(json.loads((opened.metadata() or {}).get(INSIDE, "{}")))
                weights = {name: opened.get_tensor(name) for name in opened.keys() if weights_too}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{file} is truncated or not a safetensors file. Download or train the model again."
            ) from error
    if not texts:
        there = [folder / name for name in beside if (folder / name).is_file()]
        texts = {file.name: file.read_text("utf-8", "replace") for file in there}
    return texts, weights


def fill(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Puts weights, as float32, in the place of those of a model of the device "meta".

    Raises:
        CheckpointError: they are not there, or of another shape.
    """
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if not weights and not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder / WEIGHTS} is missing. Download or train the model again.")
    if {name: value.shape for name, value in weights.items()} != shapes:
        wrong = sorted(
            n for n in shapes.keys() | weights.keys() if n not in weights or weights[n].shape != shapes.get(n)
        )
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit its {CONFIG}, beginning with {wrong[0]}; "
            "it may come from another version of the program."
        )
    model.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in weights.items()}, assign=True)


def frozen(made: Callable[[], Network], weights: Mapping[str, Tensor], folder: Path) -> Network:
    """The network that `made` makes, with these weights, read from `folder`, in float32 and ready to be asked.

    Raises:
        CheckpointError: they are of another shape.
    """
    with torch.device("meta"):
        network = made()
    fill(network, weights, folder)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def write_network(folder: Path, kind: str, network: nn.Module) -> None:
    """Writes a network of a `kind` such as "autoencoder", whose `config` is its shape, to `folder`."""
    config = {"format": FORMAT, kind: asdict(network.config)}
    write(Path(folder), halved(network.state_dict()), {CONFIG: json.dumps(config, indent=2) + "\n"})


def read_network(folder: Path, kind: str, config: type[Config]) -> tuple[Config, dict[str, Tensor]]:
    """What `write_network` wrote: the shape, a `checked` class, and the weights.

    Raises:
        CheckpointError: `folder` holds no network of that kind, or one of another format.
    """
    try:
        texts, weights = read(Path(folder), [CONFIG], weights_too=True)
        if CONFIG not in texts:
            raise CheckpointError(f"it has no {CONFIG}")
        said = json.loads(texts[CONFIG])
        if kind not in said:
            raise CheckpointError(f"its {CONFIG} describes none")
        if said["format"] != FORMAT:
            raise CheckpointError(f"its format is {said['format']}, and this program reads {FORMAT}")
        return from_json(config, json.dumps(said[kind])), weights
    except (CheckpointError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{folder} holds no {kind} that this program can read: {reason}.") from error


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
