"""The command line, as a person at a shell meets it."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm
from typer.testing import CliRunner

from sd_core import __main__ as command_line
from sd_core.environment import CHECKPOINTS
from sd_core.generation.infotext import read_parameters
from sd_core.models import checkpoint
from sd_core.runs.run import Run

ROOT = Path(__file__).parents[2]
HF = [Path(sys.executable).with_name("hf")]


@pytest.fixture
def model_folder(generator, tmp_path):
    checkpoint.save(generator, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run():
    """Calls the command line with these words and gives its result."""

    def call(*words: object):
        return CliRunner().invoke(command_line.app, [str(word) for word in words], catch_exceptions=True)

    return call


def pictures(folder: Path, count: int = 6) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"noise number {i}")
    return folder


def test_generate_writes_pictures_that_carry_their_settings(run, model_folder, tmp_path):
    result = run(
        "generate", "red", "--count", 2, "--model", model_folder, "--out", tmp_path / "out", "--seed", 7, "--steps", 2
    )
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "out").glob("*.png"))
    assert len(written) == 2
    settings = [read_parameters(path) for path in written]
    assert {s.seed for s in settings} == {7, 8}
    assert all(s.prompt == "red" and s.steps == 2 for s in settings)


def test_generate_repeats_a_picture_for_its_seed(run, model_folder, tmp_path):
    for name in ("a", "b"):
        run("generate", "red", "--model", model_folder, "--out", tmp_path / name, "--seed", 3, "--steps", 2)
    a, b = (np.asarray(Image.open(next((tmp_path / name).glob("*.png")))) for name in ("a", "b"))
    assert np.array_equal(a, b)


def test_pictures_tell_their_model_by_the_name_that_the_picker_shows(run, generator, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    checkpoint.save(generator, tmp_path / "runs/characters/checkpoint")
    checkpoint.save(generator, tmp_path / "elsewhere/characters")
    models = {
        "runs/characters": "runs/characters",
        tmp_path / "runs/characters/checkpoint": "runs/characters",
        tmp_path / "elsewhere/characters": "elsewhere/characters",
    }
    for i, (model, name) in enumerate(models.items()):
        result = run("generate", "red", "--model", model, "--out", tmp_path / f"out{i}", "--steps", 1)
        assert result.exit_code == 0, result.output
        assert read_parameters(next((tmp_path / f"out{i}").glob("*.png"))).model == name


def test_generate_starts_from_a_picture(run, model_folder, tmp_path):
    start = pictures(tmp_path / "in", 1) / "0.png"
    out = tmp_path / "out"
    result = run("generate", "red", "--model", model_folder, "--start", start, "--strength", 0.5, "--out", out)
    assert result.exit_code == 0, result.output
    assert read_parameters(next(out.glob("*.png"))).strength == 0.5


def test_generate_draws_with_a_model_that_works_in_latents(run, latent_generator, tmp_path):
    checkpoint.save(latent_generator, tmp_path / "model")
    start, out = pictures(tmp_path / "in", 1) / "0.png", tmp_path / "out"
    for more in ((), ("--start", start, "--strength", 0.5)):
        result = run("generate", "red", "--model", tmp_path / "model", "--out", out, "--steps", 2, *more)
        assert result.exit_code == 0, result.output
    written = list(out.glob("*.png"))
    assert [Image.open(path).size for path in written] == [(32, 32)] * 2
    assert {read_parameters(path).size for path in written} == {(32, 32)}


def test_generate_replaces_no_picture(run, model_folder, tmp_path):
    out = tmp_path / "out"
    for prompt in ("red", "blue"):
        result = run("generate", prompt, "--model", model_folder, "--out", out, "--seed", 3, "--steps", 1)
        assert result.exit_code == 0, result.output
    assert {read_parameters(path).prompt for path in out.glob("*.png")} == {"red", "blue"}


def test_pack_writes_a_zip_with_captions(run, tmp_path):
    result = run("data", "pack", pictures(tmp_path / "in"), tmp_path / "set.zip", "--resolution", 16)
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(tmp_path / "set.zip") as packed:
        lines = [json.loads(line) for line in packed.read("metadata.jsonl").decode().splitlines()]
    assert {line["text"] for line in lines} == {f"noise number {i}" for i in range(6)}


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "red", "--model", "no/such/model"),
        ("generate", "red", "--count", "0"),
        ("data", "pack", "no-such-folder", "set.zip"),
        ("train", "--data", "characters", "--size", "enormous"),
        ("train", "--run", "no-such-run"),
        ("train", "--seed", "-3"),
        ("train", "--cooldown", "-1"),
        ("train", "--warmup", "-1"),
        ("train", "--start", str(CHECKPOINTS / "characters"), "--codec", "pixels"),
        ("train", "--start", str(CHECKPOINTS / "characters"), "--fast", "--sigma-mean", "0"),
        ("generate", "red", "--out", "/proc/none/here", "--steps", "1"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("sys.argv", ["sd_core", *words])
    with pytest.raises(SystemExit) as exited:
        command_line.main()
    said = capsys.readouterr().err
    assert exited.value.code == 2
    assert len(said.strip().splitlines()) == 1 and "Traceback" not in said
    assert not (tmp_path / "runs").exists(), "bad input must leave no run behind"


def test_a_bug_is_a_traceback_a_reference_and_exit_code_1(monkeypatch, capsys, caplog):
    def names(*_):
        raise ValueError("no user's mistake")

    monkeypatch.setattr("sd_core.models.registry.ModelRegistry.names", names)
    monkeypatch.setattr("sys.argv", ["sd_core", "generate", "red"])
    with pytest.raises(SystemExit) as exited:
        command_line.main()
    reference = re.search(r"\(reference ([0-9a-f]{6})\)", capsys.readouterr().err)[1]
    assert exited.value.code == 1
    assert reference in caplog.text and "Traceback" in caplog.text and "no user's mistake" in caplog.text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("generate", "red", "--model", "nope"), "There is no model nope. Models here are: characters"),
        (("generate", "red", "--start", "missing.png"), "There is no picture missing.png."),
        (("generate", "red", "--out", __file__), "is a file; the pictures need a folder."),
        (("restore", "missing", "--out", "fixed.png"), "There is no picture missing."),
        (("restore", __file__, "--out", "fixed.png", "--mask", "missing.png"), "There is no picture missing.png."),
        (("restore", __file__, "--out", "fixed.png", "--seed", "-1"), "A seed is a whole number from 0 to"),
        (("generate", "red", "--model", "runs/none"), "There is no model runs/none. Models here are: characters"),
        (("generate", "red", "--model", "restorer"), "restorer restores pictures and cannot draw them"),
        (("train", "--run", "runs/nope"), "There is no run runs/nope."),
    ],
)
def test_what_is_missing_or_unfit_is_named(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sd_core", *words])
    with pytest.raises(SystemExit):
        command_line.main()
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--data", "missing.zip"), ("--style", "no-such-style")])
def test_a_training_without_pictures_leaves_its_name_free(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("sys.argv", ["sd_core", "train", *words, "--name", "mine", "--size", "tiny"])
    with pytest.raises(SystemExit):
        command_line.main()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "runs" / "mine").exists()


def test_a_mistake_at_the_shell_shows_no_traceback():
    code, errors = shell("generate", "red", "--count", "0")
    assert code == 2
    assert "Traceback" not in errors


def test_time_left_is_told_from_the_steps_taken_since_a_resume(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "cache"))
    bars = []

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **(kwargs | {"disable": False}))
            bars.append(self)

    monkeypatch.setattr("sd_core.cli.train.tqdm", Bar)
    monkeypatch.setattr("sd_core.runs.recorder.TELL_SECONDS", -1.0)  # every report is passed on
    words = ["--data", str(pictures(tmp_path / "in")), "--size", "tiny", "--resolution", "8", "--batch", "2"]
    told = run("train", *words, "--steps", 3, "--name", "mine").output
    Run(tmp_path / "runs" / "mine").wish("run", steps=6)
    assert run("train", "--run", tmp_path / "runs" / "mine").exit_code == 0
    first, resumed = bars
    assert (first.initial, first.n, resumed.n) == (1, 3, 6) and resumed.initial >= 4
    assert "6 of 6 pictures are ready" in told


def test_readme_uses_the_hubs_commands_as_they_are():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hf ")]
    assert len(commands) >= 3
    for command in commands:
        found = subprocess.run([*HF, *command, "--help"], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr


def test_help_names_every_command(run):
    result = run("--help")
    assert all(command in result.output for command in ("generate", "restore", "train", "data"))


# Repairing


@pytest.fixture
def restorer_folder(restorer, tmp_path):
    checkpoint.save(restorer, tmp_path / "restorer")
    return tmp_path / "restorer"


def shell(*words: object) -> tuple[int, str]:
    """Exit code and error output of the real command."""
    command = [sys.executable, "-m", "sd_core", *map(str, words)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return result.returncode, result.stderr


def damaged_picture(path: Path, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def mask_picture(path: Path, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    mask = np.zeros((size[1], size[0]), bool)
    mask[5:15, 8:20] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return mask


def test_restore_with_a_mask_changes_only_what_it_marks(run, restorer_folder, tmp_path):
    before, mask = damaged_picture(tmp_path / "a.png"), mask_picture(tmp_path / "mask.png")
    out = tmp_path / "new" / "fixed.png"
    result = run(
        "restore", tmp_path / "a.png", "--mask", tmp_path / "mask.png", "--out", out, "--model", restorer_folder
    )
    assert result.exit_code == 0, result.output
    after = np.asarray(Image.open(out))
    assert (after[~mask] == before[~mask]).all()
    assert (after[mask] != before[mask]).any()


def test_restore_without_a_mask_cleans_and_enlarges_the_whole_picture(run, restorer_folder, tmp_path):
    damaged_picture(tmp_path / "a.png")
    out = tmp_path / "fixed.png"
    result = run("restore", tmp_path / "a.png", "--out", out, "--upscale", 2, "--model", restorer_folder)
    assert result.exit_code == 0, result.output
    assert Image.open(out).size == (80, 60)


def test_restore_repairs_a_folder_and_goes_on_where_it_was(run, restorer_folder, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    damaged_picture(tmp_path / "in" / "a.png")
    damaged_picture(tmp_path / "in" / "deep" / "b.png")
    words = ("restore", tmp_path / "in", "--out", tmp_path / "out", "--model", restorer_folder)
    assert run(*words).exit_code == 0
    first = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert (tmp_path / "out" / "deep" / "b.png").exists()
    damaged_picture(tmp_path / "in" / "c.png")
    assert run(*words).exit_code == 0
    assert (tmp_path / "out" / "c.png").exists()
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == first


def test_one_bad_picture_does_not_stop_a_folder_but_is_told(restorer_folder, tmp_path):
    (tmp_path / "in").mkdir()
    damaged_picture(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    code, errors = shell("restore", tmp_path / "in", "--out", tmp_path / "out", "--model", restorer_folder)
    assert code == 2
    assert "a.png" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "b.png").exists()


def test_a_folder_in_which_little_is_damaged_is_no_failure(run, restorer_folder, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.new("CMYK", (40, 30), (9, 9, 9, 9)).save(tmp_path / "in" / "a.jpg")
    damaged_picture(tmp_path / "in" / "b.png")
    mask = np.zeros((30, 40), bool)
    mask[5:15, 8:20] = True

    def find(model, picture):
        return torch.from_numpy(mask & (picture.float().std() < 5).item())

    monkeypatch.setattr("sd_core.restoration.job.find_damage", find)
    words = ("restore", tmp_path / "in", "--out", tmp_path / "out", "--model", restorer_folder, "--find")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "b.png: No damage was found in it." in result.stderr and "a.jpg: CMYK colours" in result.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]


@pytest.mark.parametrize(
    ("out", "said"), [(".", "is a folder; name the file to write"), ("a.png/deep/b.png", "is a file and not a folder")]
)
def test_a_place_where_no_picture_can_be_written_is_named(run, restorer_folder, tmp_path, out, said):
    damaged_picture(tmp_path / "a.png")
    result = run("restore", tmp_path / "a.png", "--out", tmp_path / out, "--model", restorer_folder)
    assert said in str(result.exception)


@pytest.mark.parametrize("out", ["a.png", "fixed.jpg"])
def test_restore_neither_overwrites_its_input_nor_writes_lossy_files(restorer_folder, tmp_path, out):
    damaged_picture(tmp_path / "a.png")
    code, errors = shell("restore", tmp_path / "a.png", "--out", tmp_path / out, "--model", restorer_folder)
    assert code == 2
    assert len(errors.strip().splitlines()) == 1


def test_a_restorer_is_trained_on_the_chosen_styles_and_asks_for_no_captions(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    asked = ("train", "--kind", "restorer", "--style", "lorelei", "--size", "tiny", "--only-create")
    assert run(*asked, "--name", "mine").exit_code == 0
    config = json.loads((tmp_path / "runs" / "mine" / "config.json").read_text())
    assert (config["kind"], config["styles"]) == ("restorer", ["lorelei"])
    refused = run(*asked, "--caption-template", "a photo of {a}")
    assert "leave --caption-template out" in str(refused.exception)


def test_a_generator_draws_anew_what_is_marked_in_a_square(run, model_folder, tmp_path):
    before, mask = damaged_picture(tmp_path / "a.png"), mask_picture(tmp_path / "mask.png")
    words = ("restore", tmp_path / "a.png", "--mask", tmp_path / "mask.png", "--model", model_folder, "--steps", 2)
    around, placed = tmp_path / "around.png", tmp_path / "placed.png"
    for result in (run(*words, "--out", around), run(*words, "--out", placed, "--square", 6, 10, 16)):
        assert result.exit_code == 0, result.output
    after = np.asarray(Image.open(around))
    assert (after[~mask] == before[~mask]).all() and (after[mask] != before[mask]).any(axis=1).mean() > 0.5
    mask[:10] = False
    after = np.asarray(Image.open(placed))
    assert (after[~mask] == before[~mask]).all() and (after[mask] != before[mask]).any(axis=1).mean() > 0.5


def test_a_generator_draws_anew_what_is_found(run, model_folder, restorer_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(restorer_folder.parent))
    before, mask = damaged_picture(tmp_path / "a.png"), np.zeros((30, 40), bool)
    mask[5:15, 8:20] = True
    monkeypatch.setattr("sd_core.restoration.job.find_damage", lambda model, picture: torch.from_numpy(mask))
    out = tmp_path / "fixed.png"
    result = run(
        "restore", tmp_path / "a.png", "--find", "--model", model_folder, "--steps", 2, "--out", out
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    after = np.asarray(Image.open(out))
    assert (after[~mask] == before[~mask]).all() and (after != before).any()


def test_a_generator_without_a_mask_removes_noise_in_its_square_only(run, model_folder, tmp_path):
    before = damaged_picture(tmp_path / "a.png")
    out = tmp_path / "fixed.png"
    result = run(
        "restore", tmp_path / "a.png", "--model", model_folder, "--sigma", 40, "--square", 4, 2, 10, "--out", out
    )
    assert result.exit_code == 0, result.output
    changed = (np.asarray(Image.open(out)) != before).any(axis=2)
    assert changed[2:12, 4:14].mean() > 0.5
    changed[2:12, 4:14] = False
    assert not changed.any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--square", 30, 0, 30), "inside the picture"),
        (("--whole",), "for restorers"),
        (("--upscale", 2), "for restorers"),
    ],
)
def test_what_a_generator_cannot_do_is_told_in_one_sentence(run, model_folder, tmp_path, words, said):
    damaged_picture(tmp_path / "a.png")
    result = run("restore", tmp_path / "a.png", "--out", tmp_path / "b.png", "--model", model_folder, *words)
    assert said in str(result.exception) and not (tmp_path / "b.png").exists()


def test_a_strength_is_for_the_whole_picture(run, restorer_folder, tmp_path):
    damaged = pictures(tmp_path / "in", 1) / "0.png"
    result = run(
        "restore", damaged, "--mask", damaged, "--out", tmp_path / "out.png", "--model", restorer_folder, "--sigma", 5
    )
    assert isinstance(result.exception, ValueError) and "add --whole" in str(result.exception)


def test_what_is_cut_out_of_a_figure_is_filled_and_its_background_stays(run, restorer_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sd_core.restoration.job.find_damage", lambda model, pixels: torch.zeros(pixels.shape[:2]).bool()
    )
    figure = np.zeros((64, 64, 4), np.uint8)
    figure[8:56, 8:56] = (90, 120, 60, 255)
    figure[28:36, 28:36] = 0
    Image.fromarray(figure).save(tmp_path / "figure.png")
    words = ("restore", tmp_path / "figure.png", "--find", "--fill", "--out", tmp_path / "out.png")
    result = run(*words, "--model", restorer_folder)
    assert result.exit_code == 0, result.output
    alpha = np.asarray(Image.open(tmp_path / "out.png"))[..., 3]
    assert (alpha[28:36, 28:36] == 255).all() and not alpha[:6].any()


def test_a_square_is_for_generators(run, restorer_folder, tmp_path):
    damaged_picture(tmp_path / "a.png")
    words = ("--model", restorer_folder, "--square", 0, 0, 16)
    result = run("restore", tmp_path / "a.png", "--out", tmp_path / "b.png", *words)
    assert "for generators" in str(result.exception)


def test_help_says_where_a_generator_works(run):
    said = " ".join(run("restore", "--help").output.replace("│", " ").split())
    assert "--square" in said and "LEFT TOP SIZE" in said
