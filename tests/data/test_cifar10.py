"""CIFAR-10 by name: captions by class, and a download that fails is said plainly."""

import hashlib
import io
import pickle
import socket
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision

from sd_core.data import cifar10
from sd_core.data.sources import open_data
from sd_core.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def downloadable(monkeypatch, tmp_path):
    """Ten pictures, one of each class, in an archive like CIFAR-10's of more than a megabyte; and its file."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))}
    contents = {"data_batch_1": pickle.dumps(batch), "batches.meta": pickle.dumps({"label_names": CLASSES})}
    contents["readme.html"] = np.random.default_rng(1).bytes(2**20)
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    original = torchvision.datasets.CIFAR10
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{original.base_folder}/{name}")
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(original, "url", archive.as_uri())
    monkeypatch.setattr(original, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(original, "train_list", [["data_batch_1", hashes["data_batch_1"]]])
    monkeypatch.setattr(original, "test_list", [])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]}
    monkeypatch.setattr(original, "meta", meta)
    return pixels, archive


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_pictures_are_captioned_by_their_class(downloadable, cache):
    pixels, _ = downloadable
    pictures = open_data("cifar10", 32, cache=cache)
    assert np.array_equal(pictures.pixels, pixels)
    assert pictures.captions[:3] == ("a photo of an airplane", "a photo of an automobile", "a photo of a bird")
    assert pictures.mirrorable and "Krizhevsky" in pictures.credits


def test_it_is_downloaded_once_for_all_resolutions(downloadable, cache):
    _, archive = downloadable
    assert open_data("cifar10", 16, cache=cache).pixels.shape == (10, 16, 16, 3)
    archive.unlink()
    assert open_data("cifar10", 64, count=5, cache=cache).pixels.shape == (5, 64, 64, 3)
    assert open_data("cifar10", 32, count=3, cache=cache).captions[1] == "a photo of a cat"


def test_the_download_tells_how_far_it_is(downloadable, cache):
    told = []
    open_data("cifar10", 32, cache=cache, progress=lambda done, total: told.append((done, total)))
    shares = [done for done, total in told if total == cifar10.PICTURES]
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] == cifar10.PICTURES


def test_the_download_can_be_broken_off(downloadable, cache):
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        open_data("cifar10", 32, cache=cache, progress=stop)
    assert leftovers(cache) == []


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_failed_download_is_one_clear_sentence_and_leaves_nothing(downloadable, monkeypatch, cache):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10.tar.gz")
    with pytest.raises(DataError, match="could not be downloaded .*refused.*; check the connection") as error:
        open_data("cifar10", 32, cache=cache)
    assert "urlopen" not in str(error.value) and "\n" not in str(error.value)
    assert leftovers(cache) == []


def test_a_server_that_never_answers_is_given_up_on(downloadable, monkeypatch, cache):
    monkeypatch.setattr(cifar10, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/cifar")
        began = time.monotonic()
        with pytest.raises(DataError, match="timed out"):
            open_data("cifar10", 32, cache=cache)
    assert time.monotonic() - began < 10
    assert socket.getdefaulttimeout() is None


def test_half_an_archive_is_not_used(downloadable, monkeypatch, cache):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match="not the whole archive"):
        open_data("cifar10", 32, cache=cache)
    assert leftovers(cache) == []
