"""How errors reach people."""

from types import SimpleNamespace

import gradio as gr
import pytest

from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.pictures.decoding import open_picture
from tabs.common.errors import plain_error, told, without_paths


def test_errors_are_told_in_one_plain_sentence(caplog):
    assert plain_error(ValueError("Too many.")).message == "Too many."
    assert "memory" in plain_error(RuntimeError("DefaultCPUAllocator: can't allocate memory")).message
    assert "secret" not in plain_error(KeyError("secret/path")).message
    assert "secret/path" in caplog.text
    error = gr.Error("As it was.")
    assert plain_error(error) is error


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
    @told
    def handler(request: gr.Request):
        open_picture(tmp_path / "gone.png")

    @told
    def other(request: gr.Request):
        (tmp_path / "gone.png").read_bytes()

    chinese = gr.Request(SimpleNamespace(headers={"accept-language": "zh-CN"}))
    for function in (handler, other):
        with pytest.raises(gr.Error, match="open or make the picture again"):
            function(None)
        with pytest.raises(gr.Error, match="重新打开"):
            function(chinese)
