"""CIFAR-10 by name: captions by class, and a download that fails is said plainly."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision

from sd_core.data import DataError, open_data

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def downloadable(monkeypatch):
    """Ten pictures, one of each class, in the files that torchvision would have downloaded."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))}
    files = {"data_batch_1": pickle.dumps(batch), "batches.meta": pickle.dumps({"label_names": CLASSES})}
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    downloads = []

    def download(self):
        downloads.append(self.root)
        folder = Path(self.root)
        (folder / self.base_folder).mkdir()
        for name, content in files.items():
            (folder / self.base_folder / name).write_bytes(content)

    cifar10 = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "download", download)
    monkeypatch.setattr(cifar10, "train_list", [["data_batch_1", hashes["data_batch_1"]]])
    monkeypatch.setattr(cifar10, "test_list", [])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]}
    monkeypatch.setattr(cifar10, "meta", meta)
    return pixels, downloads


def test_pictures_are_captioned_by_their_class(downloadable, tmp_path):
    pixels, _ = downloadable
    pictures = open_data("cifar10", 32, cache=tmp_path)
    assert np.array_equal(pictures.pixels, pixels)
    assert pictures.captions[:3] == ("a photo of an airplane", "a photo of an automobile", "a photo of a bird")
    assert pictures.mirrorable and "Krizhevsky" in pictures.credits


def test_it_is_downloaded_once_for_all_resolutions(downloadable, tmp_path):
    _, downloads = downloadable
    assert open_data("cifar10", 16, cache=tmp_path).pixels.shape == (10, 16, 16, 3)
    assert open_data("cifar10", 64, count=5, cache=tmp_path).pixels.shape == (5, 64, 64, 3)
    assert open_data("cifar10", 32, count=3, cache=tmp_path).captions[1] == "a photo of a cat"
    assert len(downloads) == 1


def test_a_failed_download_is_one_clear_sentence_and_leaves_nothing(monkeypatch, tmp_path):
    def download(self):
        (Path(self.root) / "cifar-10-python.tar.gz").write_bytes(b"half of it")
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", download)
    with pytest.raises(DataError, match="could not be downloaded .Network is unreachable.; check the connection"):
        open_data("cifar10", 32, cache=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_half_written_download_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", lambda self: None)  # says nothing, brings nothing
    with pytest.raises(DataError, match="could not be downloaded"):
        open_data("cifar10", 32, cache=tmp_path)
