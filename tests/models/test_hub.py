"""The Hugging Face Hub: a model goes there and comes back, and a token goes nowhere else."""

import functools
import os
import shutil
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from huggingface_hub import HfApi
from small_checkpoints import ORIGIN

from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.models.checkpoint import describe, load, push

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123"


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
    (saved / "model.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
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
