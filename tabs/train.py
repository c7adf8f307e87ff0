"""The Train tab."""

import gradio as gr


def build() -> None:
    """Draws the tab inside the current `gr.Tab`."""
    gr.Markdown("This tab is not built yet.")
