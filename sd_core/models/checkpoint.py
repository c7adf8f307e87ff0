"""Models as folders: save and load them, and exchange them with the Hugging Face Hub.

A folder holds `model.safetensors` (fp16 weights), `config.json`, `tokenizer.json` for a generator, and `README.md`, its
model card. Only safetensors and JSON are read: neither can run code.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from sd_core.errors import CheckpointError
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary

FORMAT = 1
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Origin:
    """Where a model's knowledge comes from, for its card, and what a page should offer for it.

    Attributes:
        data: what it was trained on, with credits.
        pictures_seen, steps: how long.
        hardware, hours: on what, and how long that took.
        examples: prompts that show what it can do.
    """

    data: str = ""
    pictures_seen: int = 0
    steps: int = 0
    hardware: str = ""
    hours: float = 0.0
    examples: tuple[str, ...] = ()


def save(model: Denoiser, folder: Path, origin: Origin | None = None, card: str = "") -> None:
    """Writes `model` to `folder`, replacing what is there.

    A kill at any moment leaves the old model or the new one: the new folder is written beside it and takes its place at
    the end. One process at a time may save to a folder; others may read it meanwhile.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder)
    new = folder.with_name(f"{_unfinished(folder)}{uuid.uuid4().hex[:8]}")
    new.mkdir()
    try:
        weights = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()}
        save_file(weights, new / WEIGHTS, metadata={"format": "pt"})
        config = {"format": FORMAT, "model": asdict(model.config), "origin": asdict(origin or Origin())}
        if model.vocabulary:
            config["words"] = sorted(model.vocabulary.words)
            model.vocabulary.tokenizer.save(str(new / TOKENIZER))
        (new / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False), "utf-8")
        (new / CARD).write_text(card or _card(model, folder.name, origin or Origin()), "utf-8")
        for file in new.iterdir():
            _flush(file)
        _replace(folder, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _card(model: Denoiser, name: str, origin: Origin) -> str:
    return (
        f"# {name}\n\n"
        f"A {model.config.size} {model.config.kind} at {model.config.resolution}×{model.config.resolution} pixels.\n\n"
        f"- Size: {size_line(model)}\n"
        f"- Data: {origin.data or 'not recorded'}\n"
        f"- Training: {origin.steps:,} steps, {origin.pictures_seen:,} pictures seen, "
        f"{origin.hours:.1f} hours on {origin.hardware or 'hardware not recorded'}\n"
    )


def _flush(file: Path) -> None:
    """Forces a file to the disk, so that a power cut after a rename cannot find it empty."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _replace(folder: Path, new: Path) -> None:
    # A folder cannot be replaced in one step, so the old one is set aside first. If the process dies between the two
    # renames, `_recover` and `_existing` find the old one under its other name.
    old = _old(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _unfinished(folder: Path) -> str:
    return f".{folder.name}.new-"


def _recover(folder: Path) -> None:
    """Tidies up after a save that was killed."""
    if not folder.exists() and _old(folder).exists():
        _old(folder).rename(folder)
    for sibling in folder.parent.iterdir():
        if sibling.name.startswith(_unfinished(folder)):
            shutil.rmtree(sibling, ignore_errors=True)


def _existing(folder: Path) -> Path:
    return _old(folder) if not folder.exists() and _old(folder).exists() else folder


def _read_whole(folder: Path, read: Callable[[Path], Result]) -> Result:
    """What `read` makes of the folder, all of it from one save: read again if another process replaced it meanwhile."""
    while True:
        before = _identity(folder)
        try:
            result = read(_existing(folder))
        except CheckpointError:
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return result


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


@dataclass(frozen=True)
class Description:
    """What `config.json` says, without loading weights."""

    model: ModelConfig
    origin: Origin
    words: tuple[str, ...]


def describe(folder: Path) -> Description:
    """Reads a checkpoint's `config.json`.

    Raises:
        CheckpointError: there is none, or this program cannot use it.
    """
    return _read_whole(Path(folder), _describe)


def _describe(folder: Path) -> Description:
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{folder} is not a model: it has no {CONFIG}.")
    try:
        config = json.loads(file.read_text("utf-8"))
        version = config["format"]
        if version != FORMAT:
            raise CheckpointError(
                f"{folder} is in format {version!r}, and this program reads format {FORMAT}. Update the program."
            )
        model = ModelConfig(**config["model"])
        origin = {f.name: config["origin"][f.name] for f in fields(Origin) if f.name in config["origin"]}
        origin["examples"] = tuple(origin.get("examples", ()))
        return Description(model, Origin(**origin), tuple(config.get("words", ())))
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is damaged or foreign ({_first_line(error)}). Download or train the model again."
        ) from error


def size_line(model: Denoiser) -> str:
    """How large a model is and what a call costs, as its card says it."""
    networks = " in two networks, asked one at a time" if model.specialist else ""
    return f"{model.parameter_count():,} parameters{networks}, {model.flops() / 1e9:.3f} GFLOP per picture and call"


def load(source: Path | str, device: torch.device | str = "cpu") -> Denoiser:
    """Loads a model, frozen and ready to be asked.

    Args:
        source: a checkpoint folder, or the name of a repository on the Hugging Face Hub ("user/model").
        device: where its weights go, as float32.

    Raises:
        CheckpointError: it is missing, truncated, foreign, of a newer format or of another shape.
    """
    folder = Path(source)
    here = _existing(folder).exists()
    if not here and not folder.parent.is_dir() and str(source).count("/") == 1 and not str(source).startswith("."):
        folder = fetch(str(source))
    model = _read_whole(folder, _load)
    return model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _load(folder: Path) -> Denoiser:
    description = _describe(folder)
    vocabulary = _vocabulary(folder, description) if description.model.kind == "generator" else None
    with torch.device("meta"):
        model = Denoiser(description.model, vocabulary)
    model = model.to_empty(device="cpu")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    weights = _weights(folder / WEIGHTS)
    if {name: value.shape for name, value in weights.items()} != shapes:
        wrong = sorted(
            n for n in shapes.keys() | weights.keys() if n not in weights or weights[n].shape != shapes.get(n)
        )
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit its {CONFIG}, beginning with {wrong[0]}; "
            "it may come from another version of the program."
        )
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model


def _weights(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing. Download or train the model again.")
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is truncated or not a safetensors file. Download or train the model again."
        ) from error


def _vocabulary(folder: Path, description: Description) -> Vocabulary:
    file = folder / TOKENIZER
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {TOKENIZER}, which a generator needs.")
    try:
        return Vocabulary(Tokenizer.from_file(str(file)), description.words)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"{file} is damaged: {error}.") from error


def snapshot(folder: Path, target: Path) -> Path:
    """Copies a checkpoint, all of it from one save, to the new folder `target`, however often it is saved meanwhile.

    Raises:
        CheckpointError: there is none.
    """

    def copy(source: Path) -> None:
        _describe(source)
        shutil.rmtree(target, ignore_errors=True)
        try:
            shutil.copytree(source, target)
        except (OSError, shutil.Error) as error:
            raise CheckpointError(f"{source} could not be copied: {_first_line(error)}") from error

    _read_whole(Path(folder), copy)
    return target


def push(folder: Path, repository: str, token: str, private: bool = False) -> str:
    """Uploads a checkpoint folder to the Hugging Face Hub and returns its address. The token is used once, not kept."""
    describe(folder)
    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER, CARD])
    except Exception as error:  # without a network, the Hub's client lets its HTTP library's own exceptions through
        raise CheckpointError(f"The Hub did not take {repository}: {_first_line(error)}") from error
    return str(address)


def fetch(repository: str) -> Path:
    """Downloads a checkpoint from the Hugging Face Hub ("user/model") and returns its folder."""
    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER, CARD]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"No model {repository} could be loaded from the Hub: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
