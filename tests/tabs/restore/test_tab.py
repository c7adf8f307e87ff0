"""The Restore tab: its examples, its words, and its endpoints."""

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served_client import connected

from sd_core.degradation.presets import DIALS
from sd_core.pictures.masks import save_mask
from sd_core.pictures.original import NOTES, open_original
from tabs.common.sessions import SESSIONS
from tabs.common.words import catalogue
from tabs.restore import examples


@pytest.fixture
def client(served):
    return connected(served)


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


def test_the_examples_are_drawn_when_first_needed_and_know_their_originals(served):
    drawn = examples.examples()
    assert len(drawn) == len(examples.EXAMPLES)
    assert examples.examples() == drawn
    assert len({example.kind for example in drawn}) >= 7, "damaged in different ways"
    for example in drawn:
        before, after = pixels(example.made.original), pixels(example.made.picture)
        assert before.shape == after.shape and (before != after).any()
        assert (example.made.mask is None) == (example.made.what == "whole")


def test_one_example_is_a_photograph():
    photographs = [example for example in examples.examples() if pixels(example.made.original).shape == (300, 451, 3)]
    assert len(photographs) == 1
    assert (pixels(photographs[0].made.original) == pixels(examples.PHOTOGRAPH)).all()


def test_every_damage_and_every_note_has_a_name_in_both_languages():
    english, chinese = catalogue("en"), catalogue("zh")
    assert {f"damage_{kind}" for kind in DIALS} <= english.keys() & chinese.keys()
    assert set(NOTES.values()) <= chinese.keys()


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        (
            "/restore",
            "picture mask mode strength noise_level upscale fill_transparent steps candidates seed model exemplars",
        ),
        ("/draw_missing", "picture mask prompt fill_transparent steps candidates seed model"),
        ("/find_damage", "picture model"),
        ("/remove_noise", "picture sigma steps prompt seed model"),
    ],
)
def test_the_endpoints_are_documented(client, endpoint, names):
    described = client.view_api(return_format="dict")["named_endpoints"][endpoint]
    assert [parameter["parameter_name"] for parameter in described["parameters"]] == names.split()


def test_restore_changes_what_is_marked_and_nothing_else(client, grey, tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[5:9, 7:30] = True
    save_mask(mask, tmp_path / "mask.png")
    answers = client.predict(
        picture=handle_file(grey), mask=handle_file(str(tmp_path / "mask.png")), steps=2, candidates=2,
        api_name="/restore",
    )  # fmt: skip
    assert len(answers) == 2
    for answer in answers:
        before, after = open_original(grey).pixels, open_original(answer["image"]).pixels
        assert (before[~mask] == after[~mask]).all() and (before != after)[mask].any()


def test_two_repairs_of_one_program_both_come_back(client, grey):
    jobs = [
        client.submit(
            picture=handle_file(grey), mask=None, mode="whole", steps=5, candidates=2, seed=seed, api_name="/restore"
        )
        for seed in (1, 5)
    ]
    first, second = ([pixels(answer["image"]) for answer in job.result(timeout=120)] for job in jobs)
    assert len(first) == len(second) == 2 and not np.array_equal(first[0], second[0])


def test_draw_missing_draws_what_is_marked_with_a_generator(client, grey, tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[5:30, 7:30] = True
    save_mask(mask, tmp_path / "mask.png")
    answers = client.predict(
        picture=handle_file(grey), mask=handle_file(str(tmp_path / "mask.png")), steps=2, candidates=2, prompt="red",
        api_name="/draw_missing",
    )  # fmt: skip
    assert len(answers) == 2
    for answer in answers:
        before, after = open_original(grey).pixels, open_original(answer["image"]).pixels
        assert (before[~mask] == after[~mask]).all() and (before != after)[mask].any()


def test_restore_cleans_and_enlarges_a_whole_picture(client, grey):
    answers = client.predict(picture=handle_file(grey), mask=None, mode="whole", upscale=2, api_name="/restore")
    assert [pixels(answer["image"]).shape for answer in answers] == [(96, 128, 3)]


def test_damage_is_found_as_a_mask_of_the_pictures_size(client, grey):
    with Image.open(client.predict(picture=handle_file(grey), api_name="/find_damage")) as mask:
        assert mask.size == (64, 48) and set(mask.convert("L").tobytes()) <= {0, 255}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": "gently"}, "must be"),
        ({"mode": "whole", "upscale": 3}, "enlarged"),
        ({"mode": "whole", "candidates": 9}, "candidates"),
        ({"model": "nobody"}, "no model"),
        ({"model": "characters"}, "characters draws pictures .* takes a restorer: restorer"),
        ({"picture": None}, "Choose a picture"),
        ({"strength": None}, "“strength” must be a number, not None"),
        ({"steps": "many"}, "“steps” must be a number, not 'many'"),
        ({"mode": "whole", "seed": -1}, "A seed is a whole number from 0 to 4294967295, not -1"),
        ({"mode": "whole", "seed": 2**32}, "A seed is a whole number"),
    ],
)
def test_restore_refuses_in_one_sentence(client, grey, wrong, said):
    with pytest.raises(AppError, match=said):
        client.predict(**({"picture": handle_file(grey), "mask": None} | wrong), api_name="/restore")


@pytest.mark.parametrize("endpoint", ["/restore", "/draw_missing", "/find_damage", "/remove_noise"])
def test_a_file_that_is_no_picture_is_named_without_its_path(client, tmp_path, endpoint):
    (tmp_path / "letter.png").write_text("Dear reader")
    with pytest.raises(AppError, match="is not a picture") as caught:
        wrong = {"mask": None} if endpoint in ("/restore", "/draw_missing") else {}
        client.predict(picture=handle_file(str(tmp_path / "letter.png")), **wrong, api_name=endpoint)
    assert "/tmp" not in str(caught.value)


def test_remove_noise_gives_a_png_at_the_models_size(client, grey):
    path = client.predict(picture=handle_file(grey), sigma=25, steps=2, api_name="/remove_noise")
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))


def test_remove_noise_gives_the_same_for_the_same_seed(client, grey):
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
        ({"steps": None}, "“steps” must be a number"),
        ({"seed": -1}, "A seed is a whole number"),
        ({"model": "restorer"}, "restorer repairs pictures .* takes a generator: characters"),
    ],
)
def test_remove_noise_refuses_in_one_sentence(client, grey, wrong, said):
    with pytest.raises(AppError, match=said):
        client.predict(picture=handle_file(grey), **wrong, api_name="/remove_noise")


@pytest.mark.parametrize(
    ("endpoint", "wrong", "said"),
    [
        ("/find_damage", {"model": "characters"}, "takes a restorer: restorer"),
        ("/draw_missing", {"mask": None, "model": "restorer"}, "takes a generator: characters"),
        ("/draw_missing", {"mask": None, "steps": 2.5}, "must be a whole number"),
        ("/draw_missing", {"mask": None, "candidates": "two"}, "“candidates” must be a number"),
    ],
)
def test_the_other_endpoints_refuse_in_one_sentence(client, grey, endpoint, wrong, said):
    with pytest.raises(AppError, match=said):
        client.predict(picture=handle_file(grey), **wrong, api_name=endpoint)
