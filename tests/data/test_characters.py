"""Built-in characters: the same for the same seed, and never captioned with what is not drawn."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.data.characters.draw import (
    EVALUATION_STYLE,
    FIRST_TRAINING_SEED,
    HELD_OUT_SEEDS,
    RESTORER_STYLES,
    STYLES,
    attributes_of,
    attributes_of_style,
    character,
    credits,
    draw_set,
    render,
    training_seeds,
)
from sd_core.data.characters.styles import BACKGROUNDS, MICAH, TRAINING_LOOKS
from sd_core.data.sources import open_data
from sd_core.errors import DataError

NAMES = [style.name for style in STYLES]
ALL_NAMES = [*NAMES, EVALUATION_STYLE]
THREE = ["dylan", "miniavs", "adventurer"]
styles = st.sampled_from(ALL_NAMES)
seeds = st.integers(0, 2**40)


def metadata(style: str) -> dict:
    return json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))


@pytest.mark.parametrize("style", RESTORER_STYLES, ids=lambda style: style.name)
def test_every_style_is_freely_licensed_and_credits_its_artist(style):
    meta = metadata(style.name)["meta"]
    licence, source = meta["license"]["name"], meta["source"]
    assert licence in ("CC0 1.0", "CC BY 4.0")
    assert credits([style.name]).endswith(
        f"“{source['name']}” by {meta['creator']['name']} ({licence}, {source['url']})."
    )


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_variant_in_the_tables_exists_in_the_package(name):
    components = metadata(name)["components"]
    [look] = [look for look in (*TRAINING_LOOKS, MICAH) if look.name == name]
    for values in look.traits.values():
        for value in values.values():
            for component, variants in value.items():
                assert set(variants) <= set(components[component]["variants"])


def test_the_evaluation_style_is_not_a_training_style():
    assert EVALUATION_STYLE not in NAMES


def test_training_never_uses_held_out_seeds():
    assert FIRST_TRAINING_SEED not in HELD_OUT_SEEDS
    assert not set(training_seeds(1000, NAMES)) & set(HELD_OUT_SEEDS)


def test_the_same_seed_gives_the_same_character_in_another_process():
    code = "from sd_core.data.characters.draw import character as c; x = c('dylan', 12345); print(x.caption + x.svg)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = character("dylan", 12_345)
    assert there.strip() == here.caption + here.svg
    assert character("dylan", 12_346) != here


@settings(max_examples=60, deadline=None)
@given(styles, seeds)
def test_attributes_are_among_those_of_the_style(style, seed):
    possible = attributes_of_style(style)
    for key, value in attributes_of(style, seed).items():
        assert value in possible[key]


def test_styles_that_nobody_described_claim_nothing_but_style_and_background():
    undescribed = set(RESTORER_STYLES) - set(STYLES)
    assert undescribed and EVALUATION_STYLE not in {style.name for style in RESTORER_STYLES}
    for style in undescribed:
        assert attributes_of(style.name, 10_000).keys() == {"style", "background"}
        assert len({render(character(style.name, seed).svg, 32).tobytes() for seed in range(4)}) > 1


@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_background_is_the_colour_the_attributes_say(name):
    for seed in range(2):
        drawn = character(name, seed)
        picture = render(drawn.svg, 64)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        corners = picture[[0, 0], [0, -1]].astype(int)  # at least one upper corner is free of hair
        wanted = np.frombuffer(bytes.fromhex(BACKGROUNDS[drawn.attributes["background"]][1:]), np.uint8).astype(int)
        assert np.abs(corners - wanted).max(axis=1).min() <= 2


@pytest.mark.parametrize("name", ALL_NAMES)
def test_each_value_of_an_attribute_is_drawn_often_enough_to_be_learned(name):
    drawn = [attributes_of(name, seed) for seed in range(1000)]
    for key, values in attributes_of_style(name).items():
        for value in values:
            assert sum(attributes.get(key) == value for attributes in drawn) >= 20, (key, value)


def test_a_set_is_drawn_once_and_then_remembered(tmp_path):
    calls = []
    first = draw_set(THREE, range(3), 16, cache=tmp_path, progress=lambda *done: calls.append(done))
    assert calls[-1] == (9, 9) and calls == sorted(calls) and 0 < calls[0][0] < 9
    calls.clear()
    second = draw_set(THREE, range(3), 16, cache=tmp_path, progress=lambda *done: calls.append(done))
    assert calls == [(9, 9)]
    assert second.captions == first.captions
    assert np.array_equal(second.pixels, first.pixels)
    assert not second.pixels.flags.writeable
    for index in range(6):  # the styles take turns
        drawn = character(THREE[index % 3], index // 3)
        assert first.captions[index] == drawn.caption
        assert np.array_equal(first.pixels[index], render(drawn.svg, 16))
    assert "Lisa Wischofsky (CC BY 4.0" in first.credits


def test_a_set_wanted_by_several_threads_at_once_is_drawn_once(tmp_path):
    sets, calls = [], []

    def draw():
        sets.append(draw_set(["dylan"], range(9), 8, cache=tmp_path, progress=lambda *done: calls.append(done)))

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(pictures) for pictures in sets] == [9, 9, 9]
    assert calls.count((9, 9)) == len(sets) + 1, "each is told of the end, and whoever draws of the way there"


def test_drawing_that_is_stopped_leaves_nothing_behind(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_set(["dylan"], range(200), 8, cache=tmp_path, progress=stop)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert multiprocessing.active_children() == []


def test_a_drawing_process_that_dies_is_told_in_one_sentence(tmp_path):
    def kill(done, total):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(DataError, match="could not be drawn") as error:
        draw_set(["dylan"], range(200), 8, cache=tmp_path, progress=kill)
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_program_without_a_main_guard_draws_once(tmp_path):
    script = f"""
from pathlib import Path
from sd_core.data.characters.draw import draw_set
print("began")
print(len(draw_set(["dylan"], range(70), 8, cache=Path({str(tmp_path)!r}))))
"""
    (tmp_path / "notebook.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "notebook.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["began", "70"], done.stderr


def test_open_data_draws_as_many_training_characters_as_asked(tmp_path):
    pictures = open_data("characters", 8, count=2, cache=tmp_path)
    assert len(pictures) == 2 and pictures.resolution == 8
    assert pictures.captions[0] == character(NAMES[0], FIRST_TRAINING_SEED).caption
    assert not pictures.mirrorable


def test_any_style_can_be_asked_for_by_name(tmp_path):
    pictures = open_data("characters", 8, count=1, styles=[EVALUATION_STYLE], cache=tmp_path)
    assert pictures.captions == (character(EVALUATION_STYLE, FIRST_TRAINING_SEED).caption,)


def test_an_unknown_style_is_one_clear_sentence(tmp_path):
    with pytest.raises(DataError, match="no character style 'van-gogh'; choose among adventurer,"):
        open_data("characters", 8, styles=["van-gogh"], cache=tmp_path)
    with pytest.raises(DataError, match="at least one style"):
        open_data("characters", 8, styles=[], cache=tmp_path)
