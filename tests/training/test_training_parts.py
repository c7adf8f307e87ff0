"""A batch in parts, or shared by two processes, teaches what it teaches whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from small_trainings import CPU, assert_same, finish, new_trainer, weights, with_plain_gradients
from torch import Tensor

from sd_core.training.distributed import Peers

HERE = Path(__file__).parent.parent


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("parts", [2, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(pictures, parts):
    options = {
        "batch": 8,
        "steps": 3,
        "bf16": False,
        "learning_rate": 0.01,
        "caption_dropout": 0.5,
        "gradient_clip": 1e6,
    }
    start = weights(new_trainer(pictures, **options))
    whole, split = (with_plain_gradients(new_trainer(pictures, **options, accumulate=n)) for n in (1, parts))
    finish(whole)
    finish(split)
    assert largest_difference(weights(whole), start) > 1e-3
    assert largest_difference(weights(split), weights(whole)) < 1e-6


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """A folder with what two processes under torchrun ended with."""
    folder = tmp_path_factory.mktemp("torchrun")
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(HERE / "train_under_torchrun.py"), str(folder)]
    done = subprocess.run(command + script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ended(folder: Path, kind: str, rank: int) -> dict[str, Tensor]:
    return load_file(folder / f"{kind}-{rank}-of-2.safetensors")


@pytest.fixture
def alone(monkeypatch):
    """What one process with the whole batch ends with: a function from the kind of training."""
    monkeypatch.syspath_prepend(HERE)
    import train_under_torchrun

    def train(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
        trainer, losses = train_under_torchrun.train(kind, Peers())
        pictures = train_under_torchrun.uneven_captions()
        return weights(new_trainer(pictures)), weights(trainer), losses

    return train


@pytest.mark.parametrize("kind", ["sgd", "accumulated"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(two_processes, alone, kind):
    start, single, losses = alone(kind)
    both = ended(two_processes, kind, 0)
    assert largest_difference(single, start) > 1e-3
    assert largest_difference(single, both) < 1e-6
    assert both["losses"].tolist() == pytest.approx(losses, rel=1e-4)


def test_two_processes_end_with_the_weights_of_one_with_the_whole_batch(two_processes, alone):
    """With an optimizer that magnifies the last bits of a gradient, equality is to a small share of the way moved."""
    start, single, losses = alone("muon")
    both = ended(two_processes, "muon", 0)
    moved = sum(float((single[name] - start[name]).square().sum()) for name in start)
    apart = sum(float((single[name] - both[name]).square().sum()) for name in start)
    assert moved > 1e-2
    assert apart < 1e-4 * moved
    assert both["losses"].tolist() == pytest.approx(losses, rel=1e-3)


@pytest.mark.parametrize("kind", ["sgd", "accumulated", "muon"])
def test_two_processes_stay_together_to_the_last_bit(two_processes, kind):
    first, second = ended(two_processes, kind, 0), ended(two_processes, kind, 1)
    assert_same(first, second)


def test_without_torchrun_a_process_works_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert Peers.join(CPU) == Peers(rank=0, count=1)
