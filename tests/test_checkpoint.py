"""A model folder: what is saved is what is loaded, a kill loses nothing, and a bad folder is refused in plain words."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import nn

from sd_core import checkpoint
from sd_core.checkpoint import CheckpointError, Origin, describe, load, push, save
from sd_core.denoiser import Denoiser, Hints, ModelConfig

ORIGIN = Origin("squares, CC0", 1_200, 300, "two cores", 0.5, ("a red square", "ein Mädchen 红"))
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "squares"


@pytest.fixture
def saved(generator: Denoiser, folder: Path) -> Path:
    save(generator, folder, ORIGIN)
    return folder


def marked(value: float) -> Denoiser:
    """A small model that can be told from others by its weights."""
    model = Denoiser(ModelConfig("restorer", "tiny", 8, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def mark_of(folder: Path) -> float:
    """The value all weights of the model in `folder` have."""
    [value] = {float(extreme) for p in load(folder).parameters() for extreme in (p.min(), p.max())}
    return value


# Round trip


def test_a_loaded_generator_gives_the_pictures_of_the_saved_one(generator, saved):
    loaded = load(saved)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = ["a red square", "a zebra 🦓"]
    ours, theirs = (m.given(prompts)(x, torch.tensor(1.0)) for m in (generator, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02)
    assert (theirs - ours).abs().mean() < 0.002  # fp16 keeps eleven bits
    assert loaded.config == generator.config
    assert loaded.vocabulary.words == generator.vocabulary.words
    assert loaded.vocabulary.read("a red zebra").unknown == ("zebra",)


def test_a_loaded_restorer_gives_the_pictures_of_the_saved_one(restorer, folder):
    save(restorer, folder)
    x, hints = torch.randn(1, 3, 8, 8), Hints.of(torch.rand(1, 3, 8, 8))
    loaded = load(folder)
    ours, theirs = (m.restored(x, torch.tensor(1.0), hints)[0] for m in (restorer, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.01 * float(ours.abs().max()))  # fp16 keeps eleven bits
    assert not (folder / "tokenizer.json").exists()


def test_saving_a_loaded_model_changes_nothing(saved, tmp_path):
    save(load(saved), tmp_path / "again", ORIGIN)
    before, after = load_file(saved / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (saved / "config.json").read_text() == (tmp_path / "again" / "config.json").read_text()


def test_a_loaded_model_is_frozen_and_in_float32(saved):
    model = load(saved)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_folder_holds_what_a_checkpoint_needs_and_nothing_else(saved):
    assert {p.name for p in saved.iterdir()} == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert {value.dtype for value in load_file(saved / "model.safetensors").values()} == {torch.float16}
    assert [p.name for p in saved.parent.iterdir()] == ["squares"]


def test_a_description_needs_no_weights(generator, saved):
    (saved / "model.safetensors").unlink()
    description = describe(saved)
    assert description.model == generator.config
    assert description.origin == ORIGIN
    assert set(description.words) == generator.vocabulary.words


def test_the_card_names_the_data_and_the_training(generator, saved):
    card = (saved / "README.md").read_text()
    size = f"{generator.parameter_count():,} parameters"
    for fact in ("squares, CC0", "300 steps", "1,200 pictures seen", "0.5 hours on two cores", size):
        assert fact in card


def test_a_card_of_ones_own_is_kept(generator, folder):
    save(generator, folder, ORIGIN, card="# Ours\n")
    assert (folder / "README.md").read_text() == "# Ours\n"


def test_saving_replaces_the_old_model(folder):
    for value in (0.25, 0.5):
        save(marked(value), folder)
        assert mark_of(folder) == value
    assert [p.name for p in folder.parent.iterdir()] == ["squares"]


# Kills


class Killed(BaseException):
    """Ends a save as abruptly as an exception can."""


class KillAt:
    """Raises `Killed` in place of, or right after, the n-th file operation, and at every later one: it stays dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, afterwards: bool):
        self.left, self.afterwards, self.dead = n, afterwards, False
        for name in ("mkdir", "rename", "unlink", "rmdir", "fsync"):
            monkeypatch.setattr(os, name, self._deadly(getattr(os, name)))
        monkeypatch.setattr(Path, "write_text", self._deadly(Path.write_text))
        monkeypatch.setattr(checkpoint, "save_file", self._deadly(checkpoint.save_file))

    def _deadly(self, operation):
        @functools.wraps(operation)
        def wrapped(*args, **kwargs):
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left > 0:
                return operation(*args, **kwargs)
            self.dead = True
            if self.afterwards:
                operation(*args, **kwargs)
            raise Killed

        return wrapped


def killed_saves(folder: Path, afterwards: bool):
    """Saves over and over, each time killed one file operation later, until a save survives. Yields after each kill."""
    for n in range(1, 200):
        with pytest.MonkeyPatch.context() as patch:
            KillAt(patch, n, afterwards)
            try:
                save(marked(0.5), folder)
            except Killed:
                pass
            else:
                assert n > 8, "the file operations were not seen"
                return
        yield n
    raise AssertionError("no save ever survived")


@pytest.mark.parametrize("afterwards", [False, True])
def test_a_kill_at_any_file_operation_leaves_the_old_model_or_the_new_one(folder, afterwards):
    found = set()
    for n in killed_saves(folder, afterwards):
        if n == 1:
            save(marked(0.25), folder)
            continue
        found.add(mark_of(folder))
        save(marked(0.25), folder)  # and the next save works, and tidies up
        assert mark_of(folder) == 0.25
        assert [p.name for p in folder.parent.iterdir()] == ["squares"]
    assert found == {0.25, 0.5}
    assert mark_of(folder) == 0.5


def test_a_kill_during_the_first_save_leaves_a_whole_model_or_none(folder):
    for _ in killed_saves(folder, afterwards=True):
        if folder.exists():
            assert mark_of(folder) == 0.5
            shutil.rmtree(folder)
        else:
            with pytest.raises(CheckpointError, match="is not a model"):
                load(folder)


SAVE_AND_BE_KILLED = """
import os, signal, sys, time, torch
from pathlib import Path
from sd_core.checkpoint import load, save
from sd_core.denoiser import Denoiser, ModelConfig

torch.set_num_threads(1)
folder = Path(sys.argv[1])
model = Denoiser(ModelConfig("restorer", "tiny", 8, 1))

def save_filled_with(value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    save(model, folder)

save_filled_with(0.25)
for i in range(12):
    process = os.fork()
    if not process:
        while True:
            save_filled_with(0.5)
            save_filled_with(0.25)
    time.sleep(0.005 * i)  # any moment is as good as any other: the claim holds for all
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    values = {float(value) for p in load(folder).parameters() for value in (p.min(), p.max())}
    assert values in ({0.25}, {0.5}), values
print("whole after every kill")
"""


def test_a_killed_process_leaves_a_whole_model(folder):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SAVE_AND_BE_KILLED, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "whole after every kill\n", done.stderr[-2000:]


@pytest.mark.parametrize("moment", ["_vocabulary", "_weights"])
@pytest.mark.parametrize("patch", [1, 2])
def test_a_model_replaced_while_it_is_read_is_read_again(vocabulary, saved, monkeypatch, moment, patch):
    """A page may load a run's model at the very moment it is saved again, with more words or even another shape."""
    newer = Denoiser(ModelConfig("generator", "tiny", 8, patch), vocabulary.with_words_of(["a zebra"]))
    real = getattr(checkpoint, moment)
    replaced = []

    def replacing(*arguments):
        if not replaced:
            replaced.append(True)
            save(newer, saved)
        return real(*arguments)

    monkeypatch.setattr(checkpoint, moment, replacing)
    loaded = load(saved)
    assert replaced
    assert loaded.config == newer.config
    assert loaded.vocabulary.words == newer.vocabulary.words


def test_a_model_is_found_while_its_folder_is_being_exchanged(folder, monkeypatch):
    """Between the two renames of a save, the old one stands under another name."""
    save(marked(0.25), folder)
    found = []
    real = Path.rename

    def looking(self: Path, target: Path) -> Path:
        renamed = real(self, target)
        found.append(mark_of(folder))
        return renamed

    monkeypatch.setattr(Path, "rename", looking)
    save(marked(0.5), folder)
    assert found == [0.25, 0.5]


def test_a_failed_save_leaves_no_rubbish(folder, monkeypatch):
    save(marked(0.25), folder)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(marked(0.5), folder)
    assert [p.name for p in folder.parent.iterdir()] == ["squares"]
    assert mark_of(folder) == 0.25


# Bad folders


def refused(folder: Path | str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_missing_folder_is_refused_in_a_sentence(tmp_path):
    refused(tmp_path / "nothing", "is not a model: it has no config.json")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated_weights_are_refused_in_a_sentence(saved, length):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    refused(saved, "model.safetensors is truncated or not a safetensors file")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("length", [0, 1, 60, -3])
def test_truncated_json_is_refused_in_a_sentence(saved, file, length):
    (saved / file).write_bytes((saved / file).read_bytes()[:length])
    refused(saved, f"{file} is damaged")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(saved, missing):
    (saved / missing).unlink()
    refused(saved, re.escape(missing))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "3",
        "null",
        '"text"',
        "{}",
        '{"architectures": ["UNet2DConditionModel"]}',
        '{"format": 1}',
        '{"format": 1, "model": {"layers": 3}, "origin": {}}',
        '{"format": 1, "model": {"size": "huge"}, "origin": {}}',
        '{"format": 1, "model": {"resolution": "64"}, "origin": {}}',
        '{"format": 1, "model": [], "origin": {}}',
        "\udcff",
    ],
)
def test_a_foreign_configuration_is_refused_in_a_sentence(saved, content):
    (saved / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(saved, "config.json is damaged or foreign")


def rewrite_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= changes.pop("model", {})
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_newer_format_asks_for_a_newer_program(saved):
    rewrite_config(saved, format=2)
    refused(saved, "is in format 2, and this program reads format 1. Update the program")


@pytest.mark.parametrize("change", [{"size": "small"}, {"patch": 2}, {"kind": "restorer"}])
def test_weights_of_another_shape_are_refused_in_a_sentence(saved, change):
    rewrite_config(saved, model=change)
    refused(saved, "model.safetensors does not fit its config.json, beginning with")


def test_missing_and_surplus_weights_are_named(saved):
    file = saved / "model.safetensors"
    weights = load_file(file)
    bias = weights.pop("unet.stem.bias")
    save_file(weights, file)
    refused(saved, "beginning with unet.stem.bias")
    save_file(weights | {"unet.stem.bias": bias, "a.surplus": bias.clone()}, file)
    refused(saved, "beginning with a.surplus")


def test_a_tokenizer_of_another_model_is_refused_in_a_sentence(saved):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(saved / "tokenizer.json"))
    refused(saved, "tokenizer.json is damaged: The tokenizer lacks the tokens")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_pickle_under_a_safe_name_is_refused_and_runs_nothing(saved, tmp_path):
    weights = saved / "model.safetensors"
    torch.save({"weight": nn.Linear(2, 2).state_dict(), "trap": Trap(tmp_path / "sprung")}, weights)
    refused(saved, "model.safetensors is truncated or not a safetensors file")
    assert not (tmp_path / "sprung").exists()
    torch.load(weights.rename(tmp_path / "model.pt"), weights_only=False)
    assert (tmp_path / "sprung").exists()  # which is why it must not be unpickled


# The Hub


class LocalHub:
    """Does for a folder what HfApi and snapshot_download do for the Hub."""

    def __init__(self, root: Path):
        self.root, self.tokens, self.private = root, [], {}

    def api(self, token: str | None = None) -> HfApi:
        self.tokens.append(token)
        api = create_autospec(HfApi, instance=True)  # refuses arguments that the real one does not take
        api.create_repo.side_effect = self.create_repo
        api.upload_folder.side_effect = self.upload_folder
        return api

    def create_repo(self, repository: str, private: bool = False, exist_ok: bool = False) -> str:
        (self.root / repository).mkdir(parents=True, exist_ok=exist_ok)
        self.private[repository] = private
        return f"https://huggingface.co/{repository}"

    def upload_folder(self, *, folder_path: Path, repo_id: str, allow_patterns: list[str]) -> None:
        for name in allow_patterns:
            if (Path(folder_path) / name).exists():
                shutil.copy(Path(folder_path) / name, self.root / repo_id / name)

    def snapshot_download(self, repository: str, allow_patterns: list[str]) -> str:
        return str(self.root / repository)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> LocalHub:
    hub = LocalHub(tmp_path / "hub")
    monkeypatch.setattr(checkpoint, "HfApi", hub.api)
    monkeypatch.setattr(checkpoint, "snapshot_download", hub.snapshot_download)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return hub


def test_a_pushed_model_can_be_loaded_by_its_name(generator, saved, hub):
    (saved / "private-notes.txt").write_text("not for others")
    address = push(saved, "somebody/squares", TOKEN, private=True)
    assert address == "https://huggingface.co/somebody/squares"
    assert hub.private == {"somebody/squares": True}
    assert not (hub.root / "somebody/squares/private-notes.txt").exists()
    shutil.rmtree(saved)
    loaded = load("somebody/squares")
    assert loaded.config == generator.config
    assert describe(hub.root / "somebody/squares").origin == ORIGIN


def test_a_token_is_used_and_not_kept(saved, hub, tmp_path):
    push(saved, "somebody/squares", TOKEN)
    assert hub.tokens == [TOKEN]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    assert not any(TOKEN.encode() in p.read_bytes() for p in files)
    assert TOKEN not in os.environ.values()


def test_only_a_sound_description_is_pushed(saved, hub):
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match="is not a model"):
        push(saved, "somebody/squares", TOKEN)
    assert not hub.root.exists()


@pytest.fixture
def hub_at_closed_port(monkeypatch) -> None:
    """The real client, where no Hub answers."""
    monkeypatch.setattr(checkpoint, "HfApi", functools.partial(HfApi, endpoint="http://127.0.0.1:9"))
    real = checkpoint.snapshot_download
    monkeypatch.setattr(checkpoint, "snapshot_download", functools.partial(real, endpoint="http://127.0.0.1:9"))


def test_an_unreachable_hub_is_reported_in_a_sentence(saved, hub_at_closed_port):
    for attempt in (lambda: push(saved, "somebody/squares", TOKEN), lambda: load("somebody/no-such-squares")):
        with pytest.raises(CheckpointError, match="Hub") as error:
            attempt()
        assert "\n" not in str(error.value)
        assert TOKEN not in str(error.value)


def test_an_impossible_name_is_refused_in_a_sentence(saved, hub_at_closed_port):
    for attempt in (lambda: push(saved, "some body/squares!", TOKEN), lambda: load("some body/squares!")):
        with pytest.raises(CheckpointError, match="some body/squares!") as error:
            attempt()
        assert "\n" not in str(error.value)
