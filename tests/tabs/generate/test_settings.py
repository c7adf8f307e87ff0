from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser
from sd_core.models.registry import ModelRegistry
from tabs.common.errors import plain_error
from tabs.common.forms import seed_box
from tabs.common.sessions import SESSIONS
from tabs.generate.job import Walk, draw
from tabs.generate.settings import EXAMPLES, Values, example_rows, known_words, left_out, model_choices

CHINESE = gr.Request(SimpleNamespace(headers={"accept-language": "zh-CN"}))


@pytest.fixture
def registry(checkpoints, tmp_path):
    return ModelRegistry(checkpoints, tmp_path)


def values(**changed):
    given = dict(
        model="characters", prompt="red hair", negative="", count=2.0, sampler="euler", steps=3.0, guidance=2.0,
        seed=5.0, new_seed=False, variation_of="", variation_strength=0.3, start=None, strength=0.5,
    )  # fmt: skip
    return Values(**(given | changed))


def test_controls_make_a_request(registry):
    wanted = GenerationRequest("red hair", "", 2, "euler", 3, 2.0, 5, None, 0.5, None, 0.3)
    assert values().request(registry) == wanted
    assert values(variation_of="7 8:0.5").request(registry).variation_of == Noise(7).varied(8, 0.5)


def test_a_seed_out_of_range_is_told_of_in_the_visitors_language(registry):
    typed = seed_box(0).preprocess(-3)  # Gradio would refuse it in English
    with pytest.raises(ValueError) as caught:
        values(seed=typed).request(registry)
    assert plain_error(caught.value, CHINESE).message.startswith("随机种子")


def test_a_new_seed_each_time(registry):
    assert values(new_seed=True).request(registry).seed != values(new_seed=True).request(registry).seed


def test_a_start_of_any_size_is_fitted_to_the_model(registry, tmp_path):
    Image.new("RGB", (50, 30), "white").save(tmp_path / "a.png")
    start = values(start=str(tmp_path / "a.png")).request(registry).start
    assert start.shape == (3, 16, 16) and start.min() > 0.99


@pytest.mark.parametrize(
    "bad", [{"count": 0.0}, {"steps": 2.5}, {"guidance": 99}, {"variation_of": "x"}, {"model": "no"}]
)
def test_bad_values_are_told_in_one_sentence(registry, bad):
    with pytest.raises(ValueError) as raised:
        values(**bad).request(registry)
    assert str(raised.value).endswith(".")


def test_the_page_names_the_words_it_leaves_out_and_shows_them_as_text(registry):
    note = left_out(registry, "characters", "red DRAGON hair, <script>", "castle 龙")
    assert all(f"<mark>{word}</mark>" in note for word in ("dragon", "script", "castle", "龙"))
    assert "<script" not in note
    assert left_out(registry, "characters", "red hair", "") == "" == left_out(registry, None, "x", "")


def test_the_page_says_that_a_prompt_is_cut_also_when_a_word_is_unknown(registry):
    cut, both = "The prompt is longer", "red hair " * 100
    assert cut in left_out(registry, "characters", both, "") and "<mark>" not in left_out(
        registry, "characters", both, ""
    )
    note = left_out(registry, "characters", "dragon " + both, "castle " + both)
    assert all(part in note for part in (cut, "The negative prompt is longer", "<mark>dragon<", "<mark>castle<"))
    note = left_out(registry, "characters", "dragon", both, CHINESE)
    assert "反向提示词超出" in note and "没有学过" in note and "提示词超出" not in note.replace("反向提示词", "")


def test_known_words_can_be_filtered(registry):
    assert ["adventurer"] in known_words(registry, "characters")
    assert known_words(registry, "characters", "GLA") == [["glasses"]]
    assert known_words(registry, None) == []
    assert known_words(registry, "characters", None) == known_words(registry, "characters")


def test_examples_are_hidden_where_there_are_none(registry):
    assert example_rows(registry, "characters")["visible"] and not example_rows(registry, None)["visible"]


def test_examples_are_first_those_in_the_visitors_language(registry, generator):
    said = ("a red fox", "红色的狐狸", "a blue fox", *(f"fox {i}" for i in range(EXAMPLES)))
    checkpoint.save(generator, registry.runs / "foxes" / "checkpoint", checkpoint.Origin(examples=said))
    english, chinese = (example_rows(registry, "runs/foxes", each)["samples"] for each in (None, CHINESE))
    assert english[:2] == [["a red fox"], ["a blue fox"]] and ["红色的狐狸"] not in english
    assert chinese[:2] == [["红色的狐狸"], ["a red fox"]] and len(chinese) == EXAMPLES


def test_the_picker_tells_models_apart(registry, generator):
    fast = replace(generator.config, few_steps=True)
    checkpoint.save(Denoiser(fast, generator.vocabulary), registry.runs / "fast" / "checkpoint")
    side = generator.config.resolution
    assert (f"runs/fast · {side}×{side}, {fast.usual_steps} steps", "runs/fast") in model_choices(registry)
    assert [name for _, name in model_choices(registry)] == registry.names()


def test_drawing_shows_steps_and_ends_with_files(registry):
    visitor = SimpleNamespace(session_hash="drawing", headers={})
    *before, last = draw(visitor, registry, "characters", values().request(registry))
    assert any(shown.preview for shown in before)
    assert [path.exists() for path in last.batch.paths] == [True, True]
    session = SESSIONS.of(visitor)
    assert [frame.index for frame in session.trajectory.frames] == [1, 2, 3]


def test_a_walk_has_its_frames(registry):
    visitor = SimpleNamespace(session_hash="walking", headers={})
    *_, last = draw(visitor, registry, "characters", values().request(registry), Walk(9, 6))
    assert [noise.seed for noise in last.batch.noises] == [5] * 6


def test_a_stopped_job_keeps_its_steps_but_makes_no_files(registry):
    visitor = SimpleNamespace(session_hash="stopping", headers={})
    session, seen = SESSIONS.of(visitor), []
    for shown in draw(visitor, registry, "characters", values(steps=100.0).request(registry)):
        seen.append(shown)
        if shown.preview:
            session.stop()
    assert seen[-1].batch is None
    assert 0 < len(session.trajectory.frames) < 100
