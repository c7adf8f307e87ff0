"""The Restore tab: what it measures and adds, what a repair leaves behind, and its endpoint."""

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from sd_core.shelf import Shelf
from tabs import examples
from tabs.repairing import Wanted, add_noise, measured, repair
from tabs.sessions import SESSIONS


@pytest.fixture
def client(served):
    return Client(served, verbose=False, analytics_enabled=False)


@pytest.fixture
def shelf(checkpoints, tmp_path):
    return Shelf(checkpoints, tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def grey(tmp_path):
    """A plain picture, larger than the model."""
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 48), (130, 120, 140)).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def forget_visitors():
    yield
    SESSIONS.close()


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_added_noise_is_measured_again(grey, tmp_path):
    noisy, original = add_noise(grey, 64, 30, 0, tmp_path)
    assert measured(str(noisy), 64) == pytest.approx(30, rel=0.15)
    assert measured(str(original), 64) < 1
    assert pixels(noisy).shape == (64, 64, 3)


def test_a_repair_shows_previews_and_leaves_a_file_and_two_equal_copies(shelf, grey, tmp_path):
    noisy, original = add_noise(grey, 16, 40, 0, tmp_path)
    shown = list(repair(None, shelf, "characters", Wanted(str(noisy), steps=3, original=str(original))))
    assert any(item.preview for item in shown)
    last = shown[-1]
    assert last.ended
    assert pixels(last.repaired.path).shape == (16, 16, 3)
    before, after = (pixels(path) for path in last.repaired.compared)
    assert before.shape == after.shape
    assert all(ratio > 0 for ratio in last.repaired.ratios)


def test_without_an_original_nothing_is_said_of_closeness(shelf, grey):
    *_, last = repair(None, shelf, "characters", Wanted(grey))
    assert last.repaired.ratios is None


def test_at_level_0_the_picture_stays_as_it_is(shelf, tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "any.png")
    *_, last = repair(None, shelf, "characters", Wanted(str(tmp_path / "any.png"), sigma=0, steps=5))
    assert np.array_equal(pixels(last.repaired.path), random)


def test_the_examples_are_drawn_when_first_needed_and_know_their_originals(served):
    drawn = examples.examples()
    assert len(drawn) == len(examples.DRAWN)
    assert examples.examples() == drawn
    for example in drawn:
        assert measured(str(example.noisy), examples.EXAMPLE_SIZE) == pytest.approx(example.sigma, rel=0.25)
        assert pixels(example.original).shape == pixels(example.noisy).shape


def test_the_endpoint_is_documented(client):
    endpoint = client.view_api(return_format="dict")["named_endpoints"]["/remove_noise"]
    names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
    assert names == ["picture", "sigma", "steps", "prompt", "seed", "model"]


def test_the_endpoint_gives_a_png_at_the_models_size(client, grey):
    path = client.predict(picture=handle_file(grey), sigma=25, steps=2, api_name="/remove_noise")
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))


def test_the_endpoint_gives_the_same_for_the_same_seed(client, grey):
    paths = [
        client.predict(picture=handle_file(grey), sigma=60, steps=3, seed=s, api_name="/remove_noise")
        for s in (1, 1, 2)
    ]
    assert np.array_equal(pixels(paths[0]), pixels(paths[1]))
    assert not np.array_equal(pixels(paths[0]), pixels(paths[2]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sigma": -1}, "noise level"),
        ({"steps": 0}, "steps"),
        ({"model": "nobody"}, "no model"),
        ({"steps": 2.5}, "whole"),
    ],
)
def test_the_endpoint_refuses_in_one_sentence(client, grey, wrong, said):
    with pytest.raises(AppError, match=said):
        client.predict(picture=handle_file(grey), **wrong, api_name="/remove_noise")
