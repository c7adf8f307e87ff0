"""Assembles the tabs into a page and serves it: `python app.py`.

Address and port come from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT. Importing this file does no work; `demo`, which
`gradio app.py` looks for, is built when it is asked for.
"""

import importlib.util
import os
import threading
from contextlib import suppress
from pathlib import Path

import sd_core  # noqa: F401  before torch, for whose threads it sets the environment
from tabs.common.hosting import is_zero_gpu

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: no outside connections
if is_zero_gpu():
    with suppress(ImportError):
        import spaces  # noqa: F401  before torch, in which it changes how CUDA is found

MAX_WAITING = 64  # jobs in the queue
CLEAN_EVERY, KEEP_FOR = 600, 4 * 3600  # seconds, for uploaded and generated files


def build():
    """The whole page as `gr.Blocks`."""
    import gradio as gr

    from tabs.common.forms import offering
    from tabs.common.inputs import Page
    from tabs.common.sessions import SESSIONS
    from tabs.common.words import T
    from tabs.common.zero_gpu import new_registry
    from tabs.generate.settings import model_choices
    from tabs.generate.tab import GenerateTab
    from tabs.restore.tab import RestoreTab
    from tabs.train.tab import TrainTab

    registry = new_registry()
    with Page(title="Small Stable Diffusion", delete_cache=(CLEAN_EVERY, KEEP_FOR)) as page:
        with gr.Row(elem_id="header"):  # an HTML text can hold one translation
            gr.HTML(f"<h1>{T('title')}</h1>", elem_id="heading")
            gr.HTML(f"<p>{T('subtitle')}</p>", elem_id="subheading")
        with gr.Tabs() as tabs:
            with gr.Tab(T("tab_generate"), id="generate") as generate_tab:
                drawn = GenerateTab(registry)
            with gr.Tab(T("tab_restore"), id="restore") as restore_tab:
                restored = RestoreTab(registry, restore_tab)
            with gr.Tab(T("tab_train"), id="train") as train_tab:
                TrainTab(registry, train_tab)
        quiet = dict(show_progress="hidden", api_visibility="private")

        def models(chosen: str | None, visitor: gr.Request):
            """Those of today: a run may have made one since the page was drawn."""
            choices = model_choices(registry, visitor)
            return offering(choices, chosen, otherwise=choices[0][1] if choices else None)

        gr.on([page.load, generate_tab.select], models, drawn.controls.model, drawn.controls.model, **quiet)
        drawn.result.send_to_restore.click(
            lambda path: (path or gr.skip(), gr.Tabs(selected="restore")),
            drawn.result.chosen_path,
            [restored.picture, tabs],
            **quiet,
        )
        page.unload(SESSIONS.leave)
    return page.queue(max_size=MAX_WAITING)


def launch_options() -> dict:
    """What `launch` is told."""
    import gradio as gr
    from starlette.middleware import Middleware

    from tabs.common.bodies import LimitedBodies
    from tabs.common.uploads import MAX_UPLOAD_BYTES
    from tabs.common.words import i18n
    from tabs.train.limits import Limits

    megabytes = Limits.of_environment().megabytes
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]  # the system's own: nothing is fetched
    theme = gr.themes.Soft(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        block_background_fill="white",
        checkbox_border_color="*neutral_300",
        input_border_color="*neutral_200",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        block_title_padding="0",
        block_label_background_fill="*background_fill_secondary",
        block_label_background_fill_dark="*neutral_800",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
    )
    tabs = Path(__file__).parent / "tabs"
    return dict(
        theme=theme,
        css_paths=tabs / "common" / "style.css",
        head=f"<script>{(tabs / 'generate' / 'drop.js').read_text('utf-8')}</script>",
        i18n=i18n(),
        max_file_size=megabytes * 2**20 if megabytes else MAX_UPLOAD_BYTES,
        run_history=False,
        app_kwargs={"middleware": [Middleware(LimitedBodies)]},
        mcp_server=importlib.util.find_spec("mcp") is not None,
    )


def warm_up() -> None:
    """Draws once with the newcomer's model, so that the first visitor need not wait for what happens only once."""
    from sd_core.errors import CheckpointError
    from sd_core.generation.pipeline import generate
    from sd_core.generation.request import GenerationRequest
    from sd_core.models.registry import FIRST, ModelRegistry

    with suppress(CheckpointError):
        for _ in generate(ModelRegistry().load(FIRST), GenerationRequest(prompt="", steps=1)):
            pass


def main() -> None:
    """Serves the page until interrupted."""
    from tabs.common.sessions import SESSIONS

    if not is_zero_gpu():  # where each visitor's job is done by another process
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
    try:
        build().launch(**launch_options())
    finally:
        SESSIONS.close()


def __getattr__(name: str):
    if name == "demo":
        globals()["demo"] = build()
        return globals()["demo"]
    raise AttributeError(name)


if __name__ == "__main__":
    main()
