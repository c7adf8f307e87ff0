"""A save that is killed or fails loses nothing, and whoever reads meanwhile finds a whole model."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_checkpoints import mark_of, marked

from sd_core.errors import CheckpointError
from sd_core.models import weights
from sd_core.models.checkpoint import load, save
from sd_core.models.denoiser import Denoiser, ModelConfig

FILES = {"README.md", "config.json", "model.safetensors"}


class Killed(BaseException):
    """Ends a save as abruptly as an exception can."""


class KillAt:
    """Raises `Killed` in place of, or right after, the n-th file operation, and at every later one: it stays dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, afterwards: bool):
        self.left, self.afterwards, self.dead = n, afterwards, False
        for name in ("mkdir", "replace", "unlink", "fsync"):
            monkeypatch.setattr(os, name, self._deadly(getattr(os, name)))
        monkeypatch.setattr(Path, "write_text", self._deadly(Path.write_text))
        monkeypatch.setattr(weights, "save_file", self._deadly(weights.save_file))

    def _deadly(self, operation):
        @functools.wraps(operation)
        def wrapped(*args, **kwargs):
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left > 0:
                return operation(*args, **kwargs)
            self.dead = True
            if self.afterwards:
                operation(*args, **kwargs)
            raise Killed

        return wrapped


def killed_saves(folder: Path, afterwards: bool):
    """Saves over and over, each time killed one file operation later, until a save survives. Yields after each kill."""
    for n in range(1, 200):
        with pytest.MonkeyPatch.context() as patch:
            KillAt(patch, n, afterwards)
            try:
                save(marked(0.5), folder)
            except Killed:
                pass
            else:
                assert n > 8, "the file operations were not seen"
                return
        yield n
    raise AssertionError("no save ever survived")


@pytest.mark.parametrize("afterwards", [False, True])
def test_a_kill_at_any_file_operation_leaves_the_old_model_or_the_new_one(folder, afterwards):
    found = set()
    for n in killed_saves(folder, afterwards):
        if n == 1:
            save(marked(0.25), folder)
            continue
        found.add(mark_of(folder))
        save(marked(0.25), folder)  # and the next save works, and tidies up
        assert mark_of(folder) == 0.25
        assert {p.name for p in folder.iterdir()} == FILES
    assert found == {0.25, 0.5}
    assert mark_of(folder) == 0.5


def test_a_kill_during_the_first_save_leaves_a_whole_model_or_none(folder):
    found = set()
    for _ in killed_saves(folder, afterwards=True):
        try:
            found.add(mark_of(folder))
        except CheckpointError as error:
            assert "is not a model" in str(error)
            found.add(None)
        shutil.rmtree(folder, ignore_errors=True)  # a kill before anything was written
    assert found == {None, 0.5}


SAVE_AND_BE_KILLED = """
import os, signal, sys, time, torch
from pathlib import Path
from sd_core.models.checkpoint import load, save
from sd_core.models.denoiser import Denoiser, ModelConfig

torch.set_num_threads(1)
folder = Path(sys.argv[1])
model = Denoiser(ModelConfig("restorer", "tiny", 8, 1))

def save_filled_with(value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    save(model, folder)

save_filled_with(0.25)
for i in range(12):
    process = os.fork()
    if not process:
        while True:
            save_filled_with(0.5)
            save_filled_with(0.25)
    time.sleep(0.005 * i)  # any moment is as good as any other: the claim holds for all
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    values = {float(value) for p in load(folder).parameters() for value in (p.min(), p.max())}
    assert values in ({0.25}, {0.5}), values
print("whole after every kill")
"""


def test_a_killed_process_leaves_a_whole_model(folder):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SAVE_AND_BE_KILLED, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "whole after every kill\n", done.stderr[-2000:]


def test_whoever_reads_while_a_model_is_replaced_finds_one_of_the_two(generator, vocabulary, saved):
    """A page may load a run's model at the very moment it is saved again, with more words or even another shape."""
    newer = Denoiser(ModelConfig("generator", "tiny", 8, 2), vocabulary.with_words_of(["a zebra"]))
    done = threading.Event()

    def save_over_and_over():
        while not done.is_set():
            save(newer, saved)
            save(generator, saved)

    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save_over_and_over)
        found = [load(saved) for _ in range(15)]
        done.set()
        saving.result()
    assert {(model.config.patch, "zebra" in model.vocabulary.words) for model in found} <= {(1, False), (2, True)}


def test_a_failed_save_leaves_no_rubbish(folder, monkeypatch):
    save(marked(0.25), folder)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(marked(0.5), folder)
    assert {p.name for p in folder.iterdir()} == FILES
    assert mark_of(folder) == 0.25
