"""Models as folders: save and load them, and exchange them with the Hugging Face Hub.

A folder holds `model.safetensors` (fp16 weights), `config.json`, `tokenizer.json` for a generator, and `README.md`, its
model card. Only safetensors and JSON are read: neither can run code. The weights' file holds the two JSON files too, in
its metadata, so that replacing it replaces the model; those beside it are for people and the Hub.
"""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from sd_core.atomic import remove_unfinished, replacing
from sd_core.errors import CheckpointError
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.validation import checked, from_json

FORMAT = 1
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
INSIDE = "sd_core"  # the key of the weights' metadata that holds the other files' texts


@checked(error=CheckpointError, unknown="ignore")
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


@checked(error=CheckpointError, unknown="ignore")
class Description:
    """What a model's configuration says, without its weights.

    Attributes:
        model: its shape.
        origin: where its knowledge comes from.
        words: those that a generator knows.
    """

    model: ModelConfig
    origin: Origin
    words: tuple[str, ...] = ()


def save(model: Denoiser, folder: Path, origin: Origin | None = None, card: str = "") -> None:
    """Writes `model` to `folder`, replacing what is there.

    A kill at any moment leaves the old model or the new one, since one file holds all that is needed to load it. One
    process at a time may save to a folder; others may read it meanwhile.
    """
    folder, origin = Path(folder), origin or Origin()
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder, "*")
    config = {"format": FORMAT, "model": asdict(model.config), "origin": asdict(origin)}
    texts = {}
    if model.vocabulary:
        config["words"] = sorted(model.vocabulary.words)
        texts[TOKENIZER] = model.vocabulary.tokenizer.to_str(pretty=True)
    texts[CONFIG] = json.dumps(config, indent=1, ensure_ascii=False)
    weights = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()}
    with replacing(folder / WEIGHTS, durable=True) as new:
        save_file(weights, new, metadata={INSIDE: json.dumps(texts)})
    _write_beside(folder, texts | {CARD: card or _card(model, folder.name, origin)})


def _write_beside(folder: Path, texts: dict[str, str]) -> None:
    """Writes what a person and the Hub find beside the weights."""
    for name, text in texts.items():
        with replacing(folder / name, durable=True) as new:
            new.write_text(text, "utf-8")
    if TOKENIZER not in texts:  # of a generator that was here before
        (folder / TOKENIZER).unlink(missing_ok=True)


def _card(model: Denoiser, name: str, origin: Origin) -> str:
    return (
        f"# {name}\n\n"
        f"A {model.config.size} {model.config.kind} at {model.config.resolution}×{model.config.resolution} pixels.\n\n"
        f"- Size: {size_line(model)}\n"
        f"- Data: {origin.data or 'not recorded'}\n"
        f"- Training: {origin.steps:,} steps, {origin.pictures_seen:,} pictures seen, "
        f"{origin.hours:.1f} hours on {origin.hardware or 'hardware not recorded'}\n"
    )


def describe(folder: Path) -> Description:
    """Reads a checkpoint's configuration.

    Raises:
        CheckpointError: there is none, or this program cannot use it.
    """
    return _description(Path(folder), _read(Path(folder))[0])


def _description(folder: Path, texts: dict[str, str]) -> Description:
    if CONFIG not in texts:
        raise CheckpointError(f"{folder} is not a model: it has no {CONFIG}.")
    try:
        version = json.loads(texts[CONFIG])["format"]
        if version == FORMAT:
            return from_json(Description, texts[CONFIG])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged or foreign ({_first_line(error)}). Download or train the model again."
        ) from error
    raise CheckpointError(
        f"{folder} is in format {version!r}, and this program reads format {FORMAT}. Update the program."
    )


def _read(folder: Path, weights_too: bool = False) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The texts of `CONFIG` and, if there is one, `TOKENIZER`; and the weights, of the same save.

    The texts inside the weights' file count. Checkpoints made before there were such have only those beside it.
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
        beside = [folder / name for name in (CONFIG, TOKENIZER) if (folder / name).is_file()]
        texts = {file.name: file.read_text("utf-8", "replace") for file in beside}
    return texts, weights


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
    if not folder.exists() and not folder.parent.is_dir() and re.fullmatch(r"[^./][^/]*/[^/]+", str(source)):
        folder = fetch(str(source))
    texts, weights = _read(folder, weights_too=True)
    description = _description(folder, texts)
    vocabulary = _vocabulary(folder, texts, description) if description.model.kind == "generator" else None
    with torch.device("meta"):
        model = Denoiser(description.model, vocabulary)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if not (folder / WEIGHTS).is_file():
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
    return model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _vocabulary(folder: Path, texts: dict[str, str], description: Description) -> Vocabulary:
    if TOKENIZER not in texts:
        raise CheckpointError(f"{folder} has no {TOKENIZER}, which a generator needs.")
    try:
        return Vocabulary(Tokenizer.from_str(texts[TOKENIZER]), description.words)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"{folder / TOKENIZER} is damaged: {_first_line(error)}.") from error


def snapshot(folder: Path, target: Path) -> Path:
    """Copies a checkpoint, all of it from one save, to the new folder `target`, however often it is saved meanwhile.

    Raises:
        CheckpointError: there is none.
    """
    describe(folder)
    try:
        target.mkdir(parents=True)
        for name in (CARD, WEIGHTS, CONFIG, TOKENIZER):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
    except OSError as error:
        raise CheckpointError(f"{folder} could not be copied: {_first_line(error)}.") from error
    _write_beside(target, _read(target)[0])
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
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
