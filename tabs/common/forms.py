"""Small form parts that several tabs share."""

import gradio as gr


def whole(number: float) -> int | float:
    """5.0 as 5; anything that is no whole number stays, for the request's own check to name it."""
    return int(number) if number == number and abs(number) < 2**53 and number == int(number) else number


def seed_box(value: int, **look) -> gr.Number:
    """A field for a seed. It knows no limits: of those Gradio speaks English only, and the request checks them too."""
    return gr.Number(value, precision=0, **look)
