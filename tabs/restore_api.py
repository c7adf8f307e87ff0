"""The Restore tab for programs: a named endpoint for `gradio_client`, HTTP and MCP."""

import gradio as gr

from sd_core.shelf import Shelf
from tabs.controls import whole
from tabs.repairing import Wanted, repair
from tabs.streaming import plain_error
from tabs.words import say


def build_api(shelf: Shelf) -> None:
    """Adds the endpoint /remove_noise, without anything to see."""

    def remove_noise(
        picture: str,
        sigma: float = 0,
        steps: float = 1,
        prompt: str = "",
        seed: float = 0,
        model: str = "",
        request: gr.Request = None,
    ) -> str:
        """Removes noise from a picture of the kind a model was trained on, and returns it as a PNG.

        Args:
            picture: The noisy picture; its centre is fitted to the model's own resolution.
            sigma: Its noise level on the scale 0-255; 0 has it measured.
            steps: 1 for the most faithful result, up to 50 for more detail, part of which is invented.
            prompt: What the picture shows; may be empty.
            seed: Another seed gives other details when there is more than 1 step.
            model: A name that the endpoint "models" lists; empty for the first one.

        Returns:
            The restored picture, as a PNG file at the model's resolution.
        """
        try:
            names = shelf.names()
            if not names:
                raise ValueError(say(request, "no_model"))
            if not picture:
                raise ValueError(say(request, "no_upload"))
            wanted = Wanted(picture, sigma or None, whole(steps), prompt, whole(seed))
            *_, last = repair(request, shelf, model or names[0], wanted)
        except Exception as error:
            raise plain_error(error) from error
        if last.repaired is None:
            raise gr.Error("The job was stopped before its end.", print_exception=False)
        return str(last.repaired.path)

    with gr.Group(visible=False):
        result = gr.Image(label="Restored", type="filepath")
        picture = gr.Image(type="filepath", image_mode=None, label="Picture")
        sigma, steps, seed = gr.Number(0, label="Noise level"), gr.Number(1, label="Steps"), gr.Number(0, label="Seed")
        prompt, model = gr.Textbox("", label="Prompt"), gr.Textbox("", label="Model")
        gr.Button().click(
            remove_noise, [picture, sigma, steps, prompt, seed, model], result, api_name="remove_noise",
            concurrency_limit=None,
        )  # fmt: skip
