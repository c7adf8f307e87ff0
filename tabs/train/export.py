"""What one does with a trained model: download it as a .zip, or push it to the Hugging Face Hub."""

import html
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import make_zip
from sd_core.runs.run import Run
from tabs.common.errors import plain_error
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say

QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass
class After:
    """The components."""

    make: gr.Button
    download: gr.DownloadButton
    pushed: gr.HTML


def build_after(registry: ModelRegistry, chosen: gr.State) -> After:
    """Draws the components and wires them to the run `chosen`."""
    with gr.Accordion(T("after"), open=False, elem_id="after"):
        with gr.Row():
            make = gr.Button(T("zip_make"), size="sm", elem_id="zip-make")
            download = gr.DownloadButton(T("zip_download"), size="sm", visible=False, elem_id="zip-download")
        repository = gr.Textbox(label=T("hub_repository"), max_lines=1, elem_id="hub-repository")
        token = gr.Textbox(
            label=T("hub_token"), info=T("hub_token_info"), type="password", max_lines=1, elem_id="hub-token"
        )
        with gr.Row():
            private = gr.Checkbox(True, label=T("hub_private"), container=True)
            push = gr.Button(T("hub_push"), size="sm", elem_id="hub-push")
        pushed = gr.HTML(elem_id="hub-pushed")

    export = ModelExport(registry)
    make.click(export.on_make, chosen, download, **QUIET)
    push.click(
        export.on_push, [chosen, repository, token, private], [token, pushed], show_progress="minimal",
        api_visibility="private",
    )  # fmt: skip
    return After(make, download, pushed)


@dataclass(frozen=True)
class ModelExport:
    """Hands on the models of runs."""

    registry: ModelRegistry

    def on_make(self, name: str, visitor: gr.Request):
        try:
            folder = SESSIONS.of(visitor).new_folder()
            copy = checkpoint.snapshot(self._saved(name, visitor), folder / name)
            packed = make_zip(sorted(copy.iterdir()), folder / f"{name}.zip")
        except (ValueError, OSError) as error:
            raise plain_error(error, visitor) from error
        yield gr.DownloadButton(visible=True)  # a button that is still hidden when it gets its file never hears of it
        yield gr.DownloadButton(value=packed, visible=True)  # a slow page may see only this one, see `lasting`

    def on_push(self, name: str, repository: str, token: str, private: bool, visitor: gr.Request):
        """The token is used here and nowhere kept: not by the page, not in a message."""
        try:
            if not (repository or "").strip() or not (token or "").strip():
                raise CheckpointError(say(visitor, "hub_needs"))
            with tempfile.TemporaryDirectory() as folder:
                copy = checkpoint.snapshot(self._saved(name, visitor), Path(folder) / name)
                address = checkpoint.push(copy, repository.strip(), token.strip(), private)
        except Exception as error:  # told in one sentence, without the token whatever it says
            said = plain_error(error, visitor)
            said.message = said.message.replace(token.strip(), "…") if (token or "").strip() else said.message
            raise said from None
        link = html.escape(address, quote=True)
        words = say(visitor, "hub_done")
        return "", f'<div class="sd-note">{words} <a href="{link}" target="_blank">{link}</a></div>'

    def _saved(self, name: str, visitor: gr.Request) -> Path:
        folder = Run(self.registry.runs / name).checkpoint
        if not name or not folder.is_dir():
            raise CheckpointError(say(visitor, "not_saved", name=name) if name else say(visitor, "no_run"))
        return folder


def news(after: After) -> dict:
    """Updates for a page that turns to another run."""
    return {after.download: gr.DownloadButton(visible=False), after.pushed: ""}
