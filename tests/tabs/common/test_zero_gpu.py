"""On ZeroGPU hardware, as a stand-in for its `spaces` package has it, and everywhere else. Not run on the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.generation.request import GenerationRequest
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.original import Original, open_original
from sd_core.restoration.request import RestoreRequest
from tabs.common import zero_gpu
from tabs.common.jobs import line_for
from tabs.common.sessions import SESSIONS
from tabs.generate.job import draw
from tabs.restore.job import RestoreJobRequest, repair

ROOT = Path(__file__).parents[3]
FAKE = Path(__file__).parent / "fake_zero_gpu"


@pytest.fixture(scope="module")
def there(checkpoints, tmp_path_factory):
    """What the app said there, what was asked for, and the picture it repaired."""
    folder = tmp_path_factory.mktemp("zero")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Original(pixels).save(folder / "picture.png")
    environment = os.environ | {
        "PYTHONPATH": f"{FAKE}:{ROOT}", "SPACES_ZERO_GPU": "true", "FAKE_ZERO_GPU_LOG": str(folder / "log"),
        "SD_CORE_CHECKPOINTS": str(checkpoints), "SD_CORE_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("SD_CORE_DEVICE", None)
    command = [sys.executable, FAKE / "app_there.py", folder, folder / "picture.png"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text()), (folder / "log").read_text().splitlines(), folder


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def last(shown):
    *_, newest = shown
    return newest


def test_everything_a_model_computes_is_done_by_a_lent_gpu_for_its_visitor(there):
    said, asked, _ = there
    assert said["spaces"].startswith(str(FAKE)) and said["device"] == "cpu", "the app itself touches no GPU"
    assert len(asked) == 10 and all(line.endswith("for somebody") for line in asked)
    assert {int(line.split()[0]) for line in asked[:8]} == {zero_gpu.START_SECONDS}, "these are small"


def test_more_work_asks_for_more_time_up_to_a_limit(there):
    _, asked, _ = there
    more, most = (int(line.split()[0]) for line in asked[8:])
    assert (more, most) == (zero_gpu.START_SECONDS + 10, zero_gpu.MOST_SECONDS)


def test_pictures_are_those_of_any_other_machine(there, checkpoints, tmp_path):
    said, _, folder = there
    registry = ModelRegistry(checkpoints, tmp_path, torch.device("cpu"))
    request = GenerationRequest("red hair", count=2, steps=3, seed=5, start=torch.zeros(3, 16, 16))
    mask = torch.zeros(40, 56, dtype=torch.bool)
    mask[10:30, 20:25] = True
    picture = str(folder / "picture.png")
    pairs = list(zip(said["drawn"], last(draw(None, registry, "characters", request)).batch.paths, strict=True))
    for name, wanted in (
        ("repaired", RestoreJobRequest(picture, "restorer", RestoreRequest(mask, steps=2, candidates=3))),
        ("filled", RestoreJobRequest(picture, "characters", RestoreRequest(mask, steps=2))),
        ("cleaned", RestoreJobRequest(picture, "characters", RestoreRequest(whole=True, sigma=20))),
    ):
        pairs += zip(said[name], last(repair(None, registry, wanted)).repaired.paths, strict=True)
    assert len(pairs) == 7
    for path, usual in pairs:
        assert np.abs(pixels(path) - pixels(usual)).max() <= 1
    assert said["frames"] == len(SESSIONS.of(None).trajectory.frames) and said["walked"] == 4
    assert said["found"] == [40, 56] and open_original(said["repaired"][0]).size == (56, 40)
    SESSIONS.close()


def test_errors_come_back_in_one_plain_sentence_and_stopping_gives_the_gpu_back(there):
    said, _, folder = there
    expected = "Nothing is marked in the square; move the square, or mark what is missing in it."
    assert said["error"] == ["Error", f"'{expected}'"]
    assert "Stopped at step" in said["stopped"]
    assert (folder / "log.ended").exists()


def test_elsewhere_nothing_is_special():
    assert zero_gpu.spaces is None and "spaces" not in sys.modules
    registry = ModelRegistry(device=torch.device("cpu"))
    assert zero_gpu.line(registry) is line_for("cpu")
    assert list(zero_gpu.compute(registry, lambda given, *rest: iter([given, rest]), (1, 2), 0)) == [registry, (1, 2)]


def test_without_its_package_zero_gpu_hardware_is_like_any_other():
    environment = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": str(ROOT)}
    told = "from tabs.common import zero_gpu; print(zero_gpu.spaces)"
    done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["None"], done.stderr
