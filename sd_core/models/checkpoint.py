"""Models as folders: save and load them, and exchange them with the Hugging Face Hub.

A folder holds `model.safetensors` (fp16 weights), `config.json`, `tokenizer.json` for a generator, and `README.md`, its
model card. Only safetensors and JSON are read: neither can run code. The weights' file holds the two JSON files too, in
its metadata, so that replacing it replaces the model; those beside it are for people and the Hub.

A generator of latents brings its autoencoder in the same file, so that it loads by itself anywhere, whatever becomes of
the released one. Only a model that is saved beside that very autoencoder leaves it out: the released models share one.
"""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tokenizers import Tokenizer
from torch import Tensor

from sd_core.environment import checkpoints_folder
from sd_core.errors import CheckpointError
from sd_core.models.codec import RELEASED, Autoencoder, AutoencoderConfig, Codec, Identity, Latents
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.models.weights import CONFIG, WEIGHTS, first_line, frozen, halved, read, write, write_beside
from sd_core.validation import checked, from_json

FORMAT = 1
TOKENIZER, CARD = "tokenizer.json", "README.md"
OF_CODEC = "codec."  # what the names of an autoencoder's weights begin with


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
        codec: the digest of its autoencoder, if it works in latents.
        autoencoder: the shape of that, if its weights are in the same file.
    """

    model: ModelConfig
    origin: Origin
    words: tuple[str, ...] = ()
    codec: str = ""
    autoencoder: AutoencoderConfig | None = None


def save(model: Denoiser, folder: Path, origin: Origin | None = None, card: str = "") -> None:
    """Writes `model` to `folder`, replacing what is there.

    A kill at any moment leaves the old model or the new one, since one file holds all that is needed to load it. One
    process at a time may save to a folder; others may read it meanwhile.
    """
    folder, origin = Path(folder), origin or Origin()
    config = {"format": FORMAT, "model": asdict(model.config), "origin": asdict(origin)}
    texts, weights = {}, halved(model.state_dict())
    if model.vocabulary:
        config["words"] = sorted(model.vocabulary.words)
        texts[TOKENIZER] = model.vocabulary.tokenizer.to_str(pretty=True)
    if isinstance(model.codec, Latents):
        config["codec"] = model.codec.digest
        if _codec_in(folder.parent / RELEASED, model.codec.digest) is None:
            config["autoencoder"], more = codec_parts(model.codec)
            weights |= more
    texts[CONFIG] = json.dumps(config, indent=1, ensure_ascii=False)
    write(folder, weights, texts, {CARD: card or _card(model, folder.name, origin)})
    _forget_tokenizer(folder, texts)


def _forget_tokenizer(folder: Path, texts: dict[str, str]) -> None:
    """Removes that of a generator that was here before."""
    if TOKENIZER not in texts:
        (folder / TOKENIZER).unlink(missing_ok=True)


def codec_parts(codec: Latents) -> tuple[dict, dict[str, Tensor]]:
    """An autoencoder's shape, as JSON, and its weights, as they go into a file beside those of a model."""
    weights = halved(codec.autoencoder.state_dict())
    return asdict(codec.autoencoder.config), {f"{OF_CODEC}{name}": value for name, value in weights.items()}


def codec_of_parts(shape: AutoencoderConfig, weights: dict[str, Tensor], folder: Path) -> Latents:
    """The inverse of `codec_parts`, which takes the autoencoder's weights out of `weights`, read from `folder`.

    Raises:
        CheckpointError: they are of another shape.
    """
    own = [name for name in weights if name.startswith(OF_CODEC)]
    return Latents.of(Autoencoder.of(shape, {name.removeprefix(OF_CODEC): weights.pop(name) for name in own}, folder))


def _card(model: Denoiser, name: str, origin: Origin) -> str:
    return (
        f"# {name}\n\n"
        f"A {model.config.size} {model.config.kind} at {model.config.resolution}×{model.config.resolution} pixels"
        f"{'' if model.config.codec == 'pixels' else ', in the latents of an autoencoder'}.\n\n"
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
    return _description(Path(folder), read(Path(folder), (CONFIG, TOKENIZER))[0])


def _description(folder: Path, texts: dict[str, str]) -> Description:
    if CONFIG not in texts:
        raise CheckpointError(f"{folder} is not a model: it has no {CONFIG}.")
    try:
        version = json.loads(texts[CONFIG])["format"]
        if version == FORMAT:
            return from_json(Description, texts[CONFIG])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged or foreign ({first_line(error)}). Download or train the model again."
        ) from error
    raise CheckpointError(
        f"{folder} is in format {version!r}, and this program reads format {FORMAT}. Update the program."
    )


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
    texts, weights = read(folder, (CONFIG, TOKENIZER), weights_too=True)
    description = _description(folder, texts)
    vocabulary = _vocabulary(folder, texts, description) if description.model.kind == "generator" else None
    codec = _codec(folder, description, weights)
    return frozen(lambda: Denoiser(description.model, vocabulary, codec), weights, folder).to(device)


def _codec(folder: Path, description: Description, weights: dict[str, Tensor]) -> Codec:
    """The codec of a model, whose weights are taken out of `weights` if they are there."""
    if description.model.codec == "pixels":
        return Identity()
    if description.autoencoder:
        return codec_of_parts(description.autoencoder, weights, folder)
    for beside in (folder.parent / RELEASED, checkpoints_folder() / RELEASED):
        if codec := _codec_in(beside, description.codec):
            return codec
    raise CheckpointError(
        f"{folder} works in the latents of an autoencoder that is neither in it nor among the released models. "
        "Download the model again, with its autoencoder."
    )


def _codec_in(folder: Path, digest: str) -> Latents | None:
    """The codec of that digest, if it is the one in `folder`."""
    if not folder.is_dir():
        return None
    try:
        codec = Latents.of(Autoencoder.load(folder))
    except CheckpointError:
        return None
    return codec if codec.digest == digest else None


def _vocabulary(folder: Path, texts: dict[str, str], description: Description) -> Vocabulary:
    if TOKENIZER not in texts:
        raise CheckpointError(f"{folder} has no {TOKENIZER}, which a generator needs.")
    try:
        return Vocabulary(Tokenizer.from_str(texts[TOKENIZER]), description.words)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"{folder / TOKENIZER} is damaged: {first_line(error)}.") from error


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
        raise CheckpointError(f"{folder} could not be copied: {first_line(error)}.") from error
    texts, _ = read(target, (CONFIG, TOKENIZER))
    write_beside(target, texts)
    _forget_tokenizer(target, texts)
    return target


def push(folder: Path, repository: str, token: str, private: bool = False) -> str:
    """Uploads a checkpoint folder to the Hugging Face Hub and returns its address. The token is used once, not kept."""
    describe(folder)
    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER, CARD])
    except Exception as error:  # without a network, the Hub's client lets its HTTP library's own exceptions through
        raise CheckpointError(f"The Hub did not take {repository}: {first_line(error)}") from error
    return str(address)


def fetch(repository: str) -> Path:
    """Downloads a checkpoint from the Hugging Face Hub ("user/model") and returns its folder."""
    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER, CARD]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"No model {repository} could be loaded from the Hub: {first_line(error)}") from error
