"""What one does with a trained model: download it as a .zip, or push it to the Hugging Face Hub."""

import html
import tempfile
from pathlib import Path

import gradio as gr

from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import make_zip
from sd_core.runs.run import Run
from tabs.common.errors import plain_error
from tabs.common.forms import QUIET
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say


class Export:
    """Draws the components, and hands on the model of the run `chosen`."""

    def __init__(self, registry: ModelRegistry, chosen: gr.State):
        self._registry = registry
        with gr.Accordion(T("after"), open=False, elem_id="after"):
            with gr.Row():
                make = gr.Button(T("zip_make"), size="sm", elem_id="zip-make")
                self.download = gr.DownloadButton(T("zip_download"), size="sm", visible=False, elem_id="zip-download")
            repository = gr.Textbox(label=T("hub_repository"), max_lines=1, elem_id="hub-repository")
            token = gr.Textbox(
                label=T("hub_token"), info=T("hub_token_info"), type="password", max_lines=1, elem_id="hub-token"
            )
            with gr.Row():
                private = gr.Checkbox(True, label=T("hub_private"), container=True)
                push = gr.Button(T("hub_push"), size="sm", elem_id="hub-push")
            self.pushed = gr.HTML(elem_id="hub-pushed")
        make.click(self.on_make, chosen, self.download, **QUIET)
        push.click(
            self.on_push, [chosen, repository, token, private], [token, self.pushed], show_progress="minimal",
            api_visibility="private",
        )  # fmt: skip

    def on_make(self, name: str, visitor: gr.Request):
        folder = SESSIONS.of(visitor).new_folder()
        copy = checkpoint.snapshot(self._saved(name, visitor), folder / name)
        packed = make_zip(sorted(copy.iterdir()), folder / f"{name}.zip")
        yield gr.DownloadButton(visible=True)  # a button that is still hidden when it gets its file never hears of it
        yield gr.DownloadButton(value=packed, visible=True)  # a slow page may see only this one, see `lasting`

    def on_push(self, name: str, repository: str, token: str, private: bool, visitor: gr.Request):
        """The token is used here and nowhere kept: not by the page, not in a message."""
        repository, token = repository.strip(), token.strip()
        if not repository or not token:
            raise CheckpointError(say(visitor, "hub_needs"))
        saved = self._saved(name, visitor)
        try:
            with tempfile.TemporaryDirectory() as folder:
                copy = checkpoint.snapshot(saved, Path(folder) / name)
                address = checkpoint.push(copy, repository, token, private)
        except Exception as error:  # whatever it says is told without the token
            said = plain_error(error, visitor)
            said.message = said.message.replace(token, "…")
            raise said from None
        link = html.escape(address, quote=True)
        words = say(visitor, "hub_done")
        return "", f'<div class="sd-note">{words} <a href="{link}" target="_blank">{link}</a></div>'

    def _saved(self, name: str, visitor: gr.Request) -> Path:
        folder = Run(self._registry.runs / name).checkpoint
        if not name or not folder.is_dir():
            raise CheckpointError(say(visitor, "not_saved", name=name) if name else say(visitor, "no_run"))
        return folder

    def news(self) -> dict:
        """Updates for a page that turns to another run."""
        return {self.download: gr.DownloadButton(visible=False), self.pushed: ""}
