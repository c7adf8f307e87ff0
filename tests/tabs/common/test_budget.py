"""On a public Space nobody keeps the processor busy with pictures that are small files and huge once opened."""

import io
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from sd_core.data.preview import pixels_in
from sd_core.errors import UserError
from tabs.common.budget import MOST_PIXELS, Budget, check_picture
from tabs.train.limits import Limits

HOME, CAFE, LIBRARY = "93.184.216.34", "151.101.1.69", "140.82.121.3"


def at(address):
    return gr.Request(SimpleNamespace(headers={"x-forwarded-for": address}), session_hash="any")


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """36 million pixels in 36 kB."""
    path = tmp_path_factory.mktemp("bombs") / "bomb.png"
    Image.new("1", (6000, 6000)).save(path)
    return path


@pytest.fixture
def limited(monkeypatch):
    monkeypatch.setenv("SD_CORE_RESTORE", "limited")


def test_what_was_had_is_forgotten_after_a_while_and_is_each_visitors_own():
    budget = Budget(100, 0.2)
    budget.spend(at(HOME), 60)
    budget.spend(at(CAFE), 60)
    with pytest.raises(UserError, match="wait a little"):
        budget.spend(at(HOME), 60)
    budget.spend(at(HOME), 40)
    time.sleep(0.25)
    budget.spend(at(HOME), 100)


def test_a_visitor_opens_so_many_large_pictures_in_a_while(limited, bomb):
    begun = time.monotonic()
    for _ in range(MOST_PIXELS // 36_000_000):
        check_picture(bomb, at(HOME))
    with pytest.raises(UserError, match="smaller"):
        check_picture(bomb, at(HOME))
    check_picture(bomb, at(CAFE))
    assert time.monotonic() - begun < 10, "nothing of them is decoded"


def test_ones_own_machine_opens_whatever_one_likes(monkeypatch, bomb):
    monkeypatch.setenv("SD_CORE_RESTORE", "free")
    for _ in range(100):
        check_picture(bomb, at(HOME))
    Limits().check_pixels(bomb.parent, at(HOME))


def test_a_look_at_bombs_to_train_on_is_refused_before_they_are_opened(limited, bomb, tmp_path):
    space = Limits.of_environment({"SPACE_ID": "somebody/small-sd"})
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(bomb.read_bytes())
    begun = time.monotonic()
    with pytest.raises(UserError, match="smaller"):
        space.check_pixels(tmp_path, at(LIBRARY))
    space.check_pixels(tmp_path, at(LIBRARY), looked_at=10)
    assert time.monotonic() - begun < 10


def test_pixels_are_counted_wherever_a_file_tells_its_size(tmp_path):
    file = io.BytesIO()
    Image.effect_noise((2000, 1500), 50).save(file, "TIFF")  # 3 MB, its size at the end
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    (tmp_path / "b.png").write_bytes(b"none")
    (tmp_path / "c.txt").write_text("none")
    assert 3_000_000 <= pixels_in(tmp_path, MOST_PIXELS) < 3_100_000
