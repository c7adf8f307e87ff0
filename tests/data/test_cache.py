"""The cache of prepared pictures: bounded, the longest unused goes first, and nothing that is in use."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sd_core.data import cache
from sd_core.data.cache import cached, prune

PROGRAM = Path(__file__).parent.parent.parent
SIZE = 10 * 8 * 8 * 3  # bytes of pixels of an entry


@pytest.fixture
def make(tmp_path):
    """Makes the entry `name`, or finds it."""

    def entry(name: str) -> np.ndarray:
        def write(path: Path) -> dict:
            np.save(path, np.zeros((10, 8, 8, 3), np.uint8))
            return {"made": name}

        pixels, info = cached(tmp_path, name, {}, write)
        assert info == {"made": name}
        return pixels

    return entry


def names(root: Path) -> list[str]:
    return sorted(info.parent.name.split("-")[0] for info in root.glob("*/info.json"))


def age(root: Path, *in_order: str) -> None:
    for seconds, name in enumerate(in_order, start=1):
        [info] = root.glob(f"{name}-*/info.json")
        os.utime(info, (seconds, seconds))


def test_the_longest_unused_goes_first(make, tmp_path):
    for name in "abc":
        make(name)
    age(tmp_path, "c", "a", "b")
    make("c")  # used again
    gc.collect()
    prune(tmp_path, 2.5 * SIZE)
    assert names(tmp_path) == ["b", "c"]
    prune(tmp_path, 1.5 * SIZE)
    assert names(tmp_path) == ["c"]


def test_what_fits_stays(make, tmp_path):
    for name in "ab":
        make(name)
    prune(tmp_path, 10 * SIZE)
    assert names(tmp_path) == ["a", "b"]


def test_a_new_entry_makes_room_for_itself(make, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 1.5 * SIZE)
    for name in "abc":
        assert make(name).shape == (10, 8, 8, 3)
        gc.collect()
    assert names(tmp_path) == ["c"]


@pytest.mark.skipif(cache.fcntl is None, reason="files in use cannot be removed on this system")
def test_what_is_in_use_stays_even_as_a_part_of_it(make, tmp_path):
    part = make("a")[2:4]
    make("b")
    gc.collect()
    age(tmp_path, "a", "b")
    prune(tmp_path, 0)
    assert names(tmp_path) == ["a"]
    assert not part.any()
    del part
    gc.collect()
    prune(tmp_path, 0)
    assert names(tmp_path) == []


@pytest.mark.skipif(cache.fcntl is None, reason="files in use cannot be removed on this system")
def test_what_another_process_uses_stays_until_it_dies(make, tmp_path):
    make("a")
    gc.collect()
    script = "import sys\nfrom pathlib import Path\nfrom sd_core.data.cache import cached\n"
    script += "found = cached(Path(sys.argv[1]), 'a', {}, None)\nprint('held', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        prune(tmp_path, 0)
        assert names(tmp_path) == ["a"]
        other.kill()
    prune(tmp_path, 0)
    assert names(tmp_path) == []


def test_what_a_killed_process_left_half_made_is_removed_and_what_is_being_made_stays(tmp_path):
    (tmp_path / ".b-0123456789abcdef0123-abcdefgh" / "entry").mkdir(parents=True)

    def write(path: Path) -> dict:
        prune(tmp_path)
        assert [folder.name[:3] for folder in tmp_path.glob(".*-*-*/")] == [".a-"]
        np.save(path, np.zeros((10, 8, 8, 3), np.uint8))
        return {}

    cached(tmp_path, "a", {}, write)
    assert list(tmp_path.glob(".*-*-*/")) == []
    assert names(tmp_path) == ["a"]
