"""Each way to start the program tells waiting threads to sleep soon, before torch is imported, unless the user did."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WATCHED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# Python imports this by itself as it starts. Where torch is about to be imported it writes down what is set, and ends
# the process; torchrun's own process, which imports torch as well, goes on to start the program.
WATCH = """
import json, os, sys

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "torch" and "torch.distributed.run" not in sys.orig_argv[:3]:
            with open(os.environ["WATCH_LOG"], "a") as log:
                json.dump({name: os.environ.get(name) for name in json.loads(os.environ["WATCHED"])}, log)
            os._exit(0)

sys.meta_path.insert(0, Watch)
"""
ENTRIES = {
    "the app": ["app.py"],
    "drawing": ["-m", "sd_core", "generate", "a cat"],
    "restoring": ["-m", "sd_core", "restore", "README.md", "--out", "none.png"],
    "training": ["-m", "sd_core", "train", "--run", "."],
    "an estimate": ["-m", "sd_core.training.estimate", "{}"],
    "a benchmark": ["-m", "benchmarks.speed"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "-m", "--", "sd_core", "train", "--run", "."],
}


def set_at_import(arguments: list[str], folder: Path, chosen: dict[str, str]) -> dict[str, str | None]:
    """What is set when a fresh process, in which the user has `chosen` something, is about to import torch."""
    (folder / "sitecustomize.py").write_text(WATCH)
    (folder / "config.json").write_text("{}")
    environment = {name: value for name, value in os.environ.items() if name not in WATCHED} | chosen
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "WATCH_LOG": str(folder / "log"),
        "WATCHED": json.dumps(WATCHED),
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (folder / "log").exists(), done.stderr
    return json.loads((folder / "log").read_text())


@pytest.mark.parametrize("entry", ENTRIES)
def test_threads_that_wait_are_told_to_sleep_soon_before_torch_is_imported(entry, tmp_path):
    arguments = [str(tmp_path) if argument == "." else argument for argument in ENTRIES[entry]]
    assert set_at_import(arguments, tmp_path, {}) == {
        "GOMP_SPINCOUNT": "1000",
        "OMP_WAIT_POLICY": None,
    }


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_has_chosen_for_waiting_threads_stays(chosen, tmp_path):
    found = set_at_import(ENTRIES["drawing"], tmp_path, chosen)
    assert found == dict.fromkeys(WATCHED) | chosen
