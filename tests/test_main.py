"""The command line, as a person at a shell meets it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sd_core import __main__ as command_line
from sd_core import checkpoint
from sd_core.images import read_parameters

ROOT = Path(__file__).parent.parent


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


def test_generate_starts_from_a_picture(run, model_folder, tmp_path):
    start = pictures(tmp_path / "in", 1) / "0.png"
    out = tmp_path / "out"
    result = run("generate", "red", "--model", model_folder, "--start", start, "--strength", 0.5, "--out", out)
    assert result.exit_code == 0, result.output
    assert read_parameters(next(out.glob("*.png"))).strength == 0.5


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


def test_a_mistake_at_the_shell_shows_no_traceback():
    result = subprocess.run(
        [sys.executable, "-m", "sd_core", "generate", "red", "--count", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_help_names_every_command(run):
    result = run("--help")
    assert all(command in result.output for command in ("generate", "restore", "train", "data"))
