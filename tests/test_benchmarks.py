"""The benchmarks' own parts: tables, RESULTS.md, the judge of pictures, and the peers' sizes. Nothing here is timed."""

import numpy as np
import pytest
import torch

from benchmarks import common
from benchmarks.classifier import Classifier, correct, trained
from benchmarks.labelled import HIDDEN, Labelled, classes, named
from benchmarks.peers import RATIOS, Shape, flops, forward_flops, matched, parameters
from benchmarks.quality import accuracy_table, closest, drawn, neighbour_panel, save_panel, share, sheet
from benchmarks.speed import Peer, denoiser_flops, draw, draw_with, plain_training, training_flops
from sd_core import device
from sd_core.training.config import TrainingConfig
from sd_core.training.trainer import Trainer

VALUES = {"style": ("plain", "dark"), "glasses": ("glasses", "no glasses")}


def squares(count: int, seed: int = 0) -> Labelled:
    """Plain squares, bright or dark, some with a bar for glasses; dark ones lack the attribute."""
    random = np.random.default_rng(seed)
    dark, glasses = random.integers(0, 2, count), random.integers(0, 2, count)
    pixels = np.where(dark, 60, 200)[:, None, None, None] + random.normal(0, 4, (count, 16, 16, 3))
    pixels[glasses == 1, 6:9, 2:14, 0] = 128
    labels = np.stack([dark, np.where(dark, HIDDEN, 1 - glasses)], 1)
    return Labelled(pixels.clip(0, 255).astype(np.uint8), ("square",) * count, VALUES, torch.from_numpy(labels), True)


def test_a_results_section_is_replaced_and_the_others_stay(tmp_path):
    file = tmp_path / "RESULTS.md"
    common.update_results("first", "one", file)
    common.update_results("second", "two", file)
    common.update_results("first", "three", file)
    text = file.read_text()
    assert "one" not in text and text.index("three") < text.index("two")
    assert text.count("<!-- first: begin -->") == 1
    common.update_results("first", "three", file)
    assert file.read_text() == text


def test_a_results_file_that_was_cut_off_is_not_cut_further(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text("<!-- first: begin -->\nhalf")
    with pytest.raises(ValueError, match="no end"):
        common.update_results("first", "whole", file)
    assert "half" in file.read_text()


def test_a_table_is_markdown_and_lines_up():
    lines = common.table(["a", "b"], [["1", "long | text"], ["22", ""]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "| 1   | long \\| text |"


def test_a_result_names_its_machine_and_command(tmp_path, capsys):
    common.report("part", "A title", "python -m this", "body", "cpu", tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "cores" in text and f"torch {torch.__version__}" in text and "`python -m this`" in text
    assert "body" in capsys.readouterr().out


def test_interleaved_measurements_take_turns():
    calls = []
    common.interleaved(lambda: calls.append("a"), lambda: calls.append("b"), 3, torch.device("cpu"))
    assert "".join(calls) == "ab" * 4


def test_a_full_caption_does_not_name_what_is_absent():
    labels = torch.tensor([[0, 0], [0, 1], [1, HIDDEN]])
    assert named(VALUES, labels).tolist() == [[True, True], [True, False], [True, False]]


def test_attributes_that_cannot_be_seen_teach_the_classifier_nothing():
    torch.manual_seed(0)
    classifier = Classifier(VALUES, 16)
    loss = classifier.loss(torch.randn(4, 3, 16, 16), torch.tensor([[0, HIDDEN]] * 4))
    loss.backward()
    assert not classifier.heads[1].weight.grad.any()
    assert classifier.heads[0].weight.grad.any()
    assert not correct(torch.tensor([[0, HIDDEN]]), torch.tensor([[0, HIDDEN]]))[0, 1]


def test_the_classifier_learns_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path))
    monkeypatch.setattr("benchmarks.classifier.BATCH", 32)
    device = torch.device("cpu")
    classifier = trained(squares(512), 4, device)
    held_out = squares(200, seed=1)
    found, features = classifier.read(held_out.pixels)
    seen = held_out.labels != HIDDEN
    assert share(correct(found, held_out.labels), seen) > 0.95
    assert features.shape == (200, 128)
    kept = list(tmp_path.iterdir())
    assert [file.suffix for file in kept] == [".safetensors"]
    again, _ = trained(squares(512), 4, device).read(held_out.pixels)
    assert torch.equal(found, again) and list(tmp_path.iterdir()) == kept
    table = accuracy_table(classifier, found, held_out.labels, found, held_out.labels)
    assert "| style " in table and "no glasses, unsaid" in table and "**total**" in table


def test_pictures_in_class_folders_are_prompted_by_their_class(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "cache"))
    for i, name in enumerate(["airplane", "cat", "cat"]):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(tmp_path / "set" / name / f"{i}.png")
    found = classes(str(tmp_path / "set"), 8)
    assert found.values == {"class": ("a photo of a cat", "a photo of an airplane")}
    assert sorted(found.prompts) == ["a photo of a cat", "a photo of a cat", "a photo of an airplane"]
    assert [found.values["class"][i] for i in found.labels[:, 0]] == list(found.prompts)


def test_a_copied_picture_is_found_among_the_training_pictures():
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    distance, nearest = closest(training[[3, 65]], training, block=32)
    assert nearest[:, 0].tolist() == [3, 65] and distance.max() < 0.1
    brighter = np.full((1, 8, 8, 3), 40, np.uint8)
    distance, _ = closest(brighter, np.full((5, 8, 8, 3), 50, np.uint8))
    assert float(distance[0]) == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
def test_each_picture_is_drawn_alike_in_any_number(generator, sampler):
    prompts = ["a red square", "a blue square", ""]
    few, more = (drawn(generator, some, sampler, 3, 2.0) for some in (prompts, prompts * 7))
    assert few.shape == (3, 8, 8, 3) and more.shape == (21, 8, 8, 3)
    assert np.abs(few.astype(int) - more[:3]).max() <= 1


def test_panels_are_small_files(tmp_path):
    random = np.random.default_rng(0)
    rows = [random.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8) for _ in range(11)]
    panel = neighbour_panel(rows)
    assert panel.dtype == np.uint8 and panel.shape[1] > 8 * 64
    save_panel(panel, tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size < 8 * 8 * 64 * 64 * 1.2
    assert sheet(rows[0], 3).shape == (2 * 64 + 4, 3 * 64 + 8, 3)


def test_operations_of_a_convolution_are_counted_by_hand():
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert flops(lambda: convolution(torch.zeros(2, 3, 16, 16))) == 2 * 2 * 8 * 3 * 9 * 16 * 16


def test_a_peer_comes_close_to_the_wanted_size_and_keeps_its_proportions():
    shape = Shape(patch=4, side=8, channels=48, tokens=5, context=32, options={})
    widths = matched(shape, parameters, 700_000)
    peer = shape.build(widths, "cpu")
    assert parameters(peer) == pytest.approx(700_000, rel=0.1)
    assert all(width == pytest.approx(widths[0] * ratio, rel=0.6) for width, ratio in zip(widths, RATIOS, strict=True))
    assert forward_flops(peer, shape) > 0


def test_both_sides_of_a_comparison_draw_the_same_number_of_pictures(generator):
    shape = Shape(patch=1, side=8, channels=3, tokens=5, context=32, options={})
    peer = Peer("any", shape, shape.build((4, 8, 16, 16), "cpu").eval())
    ours = draw(generator, ["a red square"] * 3, 2)
    assert ours.shape == draw_with(peer, 3, 2, torch.device("cpu")).shape == (3, 3, 8, 8)


def test_a_plain_training_step_changes_every_weight_of_the_peer(pictures, monkeypatch):
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: False)  # which rounds some gradients to nothing
    shape = Shape(patch=2, side=4, channels=12, tokens=5, context=32, options={"layers_per_block": 1})
    peer = Peer("any", shape, shape.build((4, 8, 8, 8), "cpu"))
    before = [p.clone() for p in peer.unet.parameters()]
    step = plain_training(peer, pictures, 4, torch.device("cpu"))
    assert step().isfinite()
    assert all((a != b).any() for a, b in zip(before, peer.unet.parameters(), strict=True))


def test_a_training_step_costs_about_three_times_the_forward_pass(fresh_generator, pictures):
    trainer = Trainer(fresh_generator, pictures, TrainingConfig(batch=4), torch.device("cpu"))
    forward = denoiser_flops(trainer.ema, ["a red square"])
    assert 2 < training_flops(trainer) / 4 / forward < 4
    assert all(p.grad is None for p in trainer.model.parameters())
