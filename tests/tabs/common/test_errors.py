"""How errors reach people."""

import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from sd_core.errors import CheckpointError, PictureError, UserError
from sd_core.models import checkpoint
from sd_core.pictures.decoding import open_picture
from tabs.common.errors import plain_error, without_paths


def a_visitor(language):
    return gr.Request(SimpleNamespace(headers={"accept-language": language}))


def test_errors_are_told_in_one_plain_sentence():
    assert plain_error(UserError("Too many.")).message == "Too many."
    assert "memory" in plain_error(RuntimeError("DefaultCPUAllocator: can't allocate memory")).message
    assert "memory" in plain_error(MemoryError()).message
    error = gr.Error("As it was.")
    assert plain_error(error) is error


@pytest.mark.parametrize("bug", [ValueError("secret/path"), KeyError("secret/path"), OSError("secret/path")])
def test_a_bug_is_no_users_mistake_and_is_found_in_the_log_by_what_the_page_says(bug, caplog):
    def buggy():
        raise bug

    try:
        buggy()
    except Exception as error:
        said = plain_error(error, a_visitor("en")).message
    reference = re.search(r"\(reference ([0-9a-f]{6})\)", said)[1]
    assert "secret" not in said
    assert reference in caplog.text and "in buggy" in caplog.text and "secret/path" in caplog.text
    assert re.search(r"（编号 [0-9a-f]{6}）", plain_error(bug, a_visitor("zh-CN")).message)


@pytest.mark.parametrize(
    ("text", "told_as"),
    [
        ("/home/user/app/checkpoints/mine has no tokenizer.json.", "mine has no tokenizer.json."),
        ("[Errno 28] No space left: '/srv/My Runs/a.png'", "[Errno 28] No space left: 'a.png'"),
        ('C:\\Users\\me\\x.zip cannot be read; see "/tmp/a b/".', 'x.zip cannot be read; see "a b".'),
        ("There is no .zip at /data/pets; check the path.", "There is no .zip at pets; check the path."),
        ("choose 1/2 or and/or https://example.org/a/b", "choose 1/2 or and/or https://example.org/a/b"),
        ("/home/Jane Doe/app/mine is not a model; train one/two.", "mine is not a model; train one/two."),
        ("There is no model 'runs/mine'.", "There is no model 'runs/mine'."),
    ],
)  # fmt: skip
def test_a_servers_paths_are_told_as_names(text, told_as):
    assert without_paths(text) == told_as


def test_a_broken_model_is_told_by_its_name(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.describe(tmp_path / "mine")
    assert plain_error(caught.value).message.startswith("mine is not a model")


def test_a_file_that_was_tidied_away_is_told_in_the_visitors_language(tmp_path):
    for read in (open_picture, Path.read_bytes):
        with pytest.raises((PictureError, FileNotFoundError)) as caught:
            read(tmp_path / "gone.png")
        assert "open or make the picture again" in plain_error(caught.value).message
        assert "重新打开" in plain_error(caught.value, a_visitor("zh-CN")).message
