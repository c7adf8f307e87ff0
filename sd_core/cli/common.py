"""What the commands share."""

from pathlib import Path
from typing import TYPE_CHECKING

from sd_core.data.characters.styles import MICAH, TRAINING_LOOKS
from sd_core.errors import UserError

if TYPE_CHECKING:
    from sd_core.models.denoiser import Denoiser

STYLE_HELP = (
    f"A character style; may be given several times: {', '.join(look.name for look in (*TRAINING_LOOKS, MICAH))}."
)


def check_there(picture: Path | None) -> None:
    if picture is not None and not picture.is_file():
        raise UserError(f"There is no picture {picture}.")


def load_model(model: str, kinds: tuple[str, ...] = ("generator",)) -> "Denoiser":
    """A model of one of these kinds by its name in the registry, its folder, or its name on the Hugging Face Hub."""
    from sd_core.device import best_device
    from sd_core.errors import CheckpointError
    from sd_core.models.checkpoint import load
    from sd_core.models.registry import ModelRegistry

    registry = ModelRegistry()
    names = {kind: registry.names(kind) for kind in ("generator", "restorer")}
    is_registered = any(model in each for each in names.values())
    is_elsewhere = "/" in model and not model.startswith("runs/")
    if not is_registered and not is_elsewhere and not Path(model).is_dir():
        usable = ", ".join(name for kind in kinds for name in names[kind])
        raise CheckpointError(f"There is no model {model}. Models here are: {usable}.")
    loaded = registry.load(model) if is_registered else load(model, best_device())
    if loaded.config.kind not in kinds:
        raise CheckpointError(f"{model} restores pictures and cannot draw them. Choose a generator.")
    return loaded
