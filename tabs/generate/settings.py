"""The settings of the Generate tab: the components, and what they mean as a request."""

import html
import secrets
from dataclasses import dataclass

import gradio as gr
from torch import Tensor

from sd_core.errors import UserError
from sd_core.generation.request import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    DEFAULT_STRENGTH,
    DEFAULT_VARIATION,
    MAX_COUNT,
    MAX_GUIDANCE,
    MAX_STEPS,
    SAMPLERS,
    GenerationRequest,
)
from sd_core.generation.seeds import Noise
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.decoding import NO_PICTURE, fit_picture, open_picture
from sd_core.pictures.pixels import to_float
from tabs.common.errors import plain_error
from tabs.common.forms import Form, seed_box, whole
from tabs.common.words import T, in_their_language, say

PICTURES = 4  # at first
WORDS_PER_PAGE = 80


@dataclass
class Controls(Form):
    """The components whose values make a request."""

    model: gr.Dropdown
    prompt: gr.Textbox
    negative: gr.Textbox
    count: gr.Slider
    sampler: gr.Dropdown
    steps: gr.Slider
    guidance: gr.Slider
    seed: gr.Number
    new_seed: gr.Checkbox
    variation_of: gr.Textbox
    variation_strength: gr.Slider
    start: gr.Image
    strength: gr.Slider

    def chosen(self, values: dict) -> "Values":
        """What they hold, of the `values` of some components."""
        return Values(**self.held(values))


@dataclass(frozen=True)
class Values:
    """What `Controls` hold."""

    model: str | None
    prompt: str
    negative: str
    count: float
    sampler: str
    steps: float
    guidance: float
    seed: float | None
    new_seed: bool
    variation_of: str
    variation_strength: float
    start: str | None
    strength: float

    def request(self, registry: ModelRegistry, **changed) -> GenerationRequest:
        """The request they make, with other values for what is `changed`: then it does not matter what stands here.

        Raises:
            UserError: one of them makes no sense.
        """
        resolution = registry.describe(self.model).model.resolution
        start = self.start if "start" not in changed else None
        variation_of = (self.variation_of or "").strip() if "variation_of" not in changed else ""
        values = dict(
            prompt=self.prompt or "",
            negative_prompt=self.negative or "",
            count=whole(self.count),
            sampler=self.sampler,
            steps=whole(self.steps),
            guidance=self.guidance,
            seed=secrets.randbelow(2**31) if self.new_seed or self.seed is None else whole(self.seed),
            start=start_picture(start, resolution) if start else None,
            strength=self.strength,
            variation_of=Noise.parse(variation_of) if variation_of else None,
            variation_strength=self.variation_strength,
        )
        return GenerationRequest(**(values | changed))


def start_picture(path: str, resolution: int) -> Tensor:
    """The picture to start from, [3, resolution, resolution] in [-1, 1]: its middle. Raises PictureError."""
    return to_float(fit_picture(open_picture(path), resolution))


def prompt_box() -> gr.Textbox:
    return gr.Textbox(
        label=T("prompt"),
        placeholder=T("prompt_placeholder"),
        lines=1,
        max_lines=4,
        scale=5,
        min_width=280,
        elem_id="prompt",
    )


def build_controls(registry: ModelRegistry, prompt: gr.Textbox) -> tuple[Controls, gr.Button, gr.Accordion]:
    """Draws the settings. Returns them, the button that brings the last seed back, and the box of the start picture."""
    names = registry.names()
    model = gr.Dropdown(names, value=names[0] if names else None, label=T("model"), elem_id="model")
    count = gr.Slider(1, MAX_COUNT, PICTURES, step=1, label=T("count"), elem_id="count")
    with gr.Group():
        seed = seed_box(0, label=T("seed"), elem_id="seed")
        new_seed = gr.Checkbox(True, label=T("new_seed"), container=True, elem_id="new-seed")
    reuse = gr.Button(T("reuse_seed"), size="sm", elem_id="reuse-seed")
    with gr.Accordion(T("advanced"), open=False, elem_id="advanced"):
        negative = gr.Textbox(label=T("negative"), info=T("negative_info"), elem_id="negative")
        sampler = gr.Dropdown(
            [(s.label, key) for key, s in SAMPLERS.items()],
            value=DEFAULT_SAMPLER,
            label=T("sampler"),
            elem_id="sampler",
        )
        steps = gr.Slider(1, MAX_STEPS, DEFAULT_STEPS, step=1, label=T("steps"), elem_id="steps")
        guidance = gr.Slider(
            0,
            MAX_GUIDANCE,
            DEFAULT_GUIDANCE,
            step=0.1,
            label=T("guidance"),
            info=T("guidance_info"),
            elem_id="guidance",
        )
        variation_of = gr.Textbox(label=T("variation_of"), info=T("variation_of_info"), elem_id="variation-of")
        variation_strength = gr.Slider(
            0, 1, DEFAULT_VARIATION, step=0.01, label=T("variation_strength"), elem_id="variation-strength"
        )
    with gr.Accordion(T("image_to_image"), open=False, elem_id="image-to-image") as start_box:
        start = gr.Image(
            label=T("start"), type="filepath", image_mode=None, sources=["upload", "clipboard"], height=220,
            buttons=["fullscreen"], elem_id="start",
        )  # fmt: skip
        strength = gr.Slider(
            0.05, 1, DEFAULT_STRENGTH, step=0.05, label=T("strength"), info=T("strength_info"), elem_id="strength"
        )
    controls = Controls(
        model, prompt, negative, count, sampler, steps, guidance, seed, new_seed,
        variation_of, variation_strength, start, strength,
    )  # fmt: skip
    start.upload(_check_start, start, start, show_progress="hidden", api_visibility="private").failure(
        _bad_start, None, start, show_progress="hidden", api_visibility="private"
    )
    return controls, reuse, start_box


def _check_start(path: str | None, request: gr.Request):
    """Tells of a bad picture as soon as it is dropped, and takes it away."""
    try:
        if path:
            open_picture(path)
        return gr.skip()
    except UserError as error:
        gr.Warning(plain_error(error, request).message)
        return None


def _bad_start(request: gr.Request) -> None:
    gr.Warning(in_their_language(NO_PICTURE, request))


def left_out(
    registry: ModelRegistry, model: str | None, prompt: str, negative: str, visitor: gr.Request | None = None
) -> str:
    """A note in HTML about words of the prompts that the model does not know, and about prompts too long for it. Its
    words are chosen here, since an HTML text can hold only one that the browser translates."""
    try:
        vocabulary = registry.load(model).vocabulary if model else None
    except UserError:  # the page says so when it is asked to draw
        vocabulary = None
    if vocabulary is None:
        return ""
    both = [vocabulary.read(text or "") for text in (prompt, negative)]
    unknown = dict.fromkeys(word for read in both for word in read.unknown)
    notes = [say(visitor, key) for key, read in zip(("prompt_cut", "negative_cut"), both, strict=True) if read.cut]
    if unknown:
        marked = " ".join(f"<mark>{html.escape(word)}</mark>" for word in unknown)
        notes.insert(0, f"{say(visitor, 'left_out')} {marked}")
    return f'<div class="sd-note">{"<br>".join(notes)}</div>' if notes else ""


def build_word_browser(registry: ModelRegistry, controls: Controls) -> gr.Dataset:
    """The words the model knows; a click adds one to the prompt."""
    with gr.Accordion(T("words_known"), open=False, elem_id="words"):
        wanted = gr.Textbox(label=T("words_filter"), elem_id="words-filter")
        words = gr.Dataset(
            label=T("words_hint"), components=["textbox"], samples=known_words(registry, controls.model.value),
            samples_per_page=WORDS_PER_PAGE, elem_id="words-list",
        )  # fmt: skip

    def found(model: str | None, part: str | None):
        return gr.Dataset(samples=known_words(registry, model, part))

    quiet = dict(show_progress="hidden", api_visibility="private")
    gr.on(
        [wanted.change, controls.model.change],
        found,
        [controls.model, wanted],
        words,
        trigger_mode="always_last",
        **quiet,
    )
    words.click(lambda word, prompt: f"{prompt} {word[0]}".strip(), [words, controls.prompt], controls.prompt, **quiet)
    return words


def known_words(registry: ModelRegistry, model: str | None, part: str | None = None) -> list[list[str]]:
    """The words of a model that contain `part`, as rows for a table; `part` is None before its box was first shown."""
    words, part = registry.describe(model).words if model else (), (part or "").casefold().strip()
    return [[word] for word in sorted(words) if any(c.isalnum() for c in word) and part in word]


def build_examples(registry: ModelRegistry, controls: Controls, examples: gr.Dataset) -> None:
    """Wires the example prompts, which a click takes over, to the model they belong to."""
    quiet = dict(show_progress="hidden", api_visibility="private")
    examples.click(lambda row: row[0], examples, controls.prompt, **quiet)
    controls.model.change(lambda name: gr.Dataset(**example_rows(registry, name)), controls.model, examples, **quiet)


def example_rows(registry: ModelRegistry, model: str | None) -> dict:
    """The example prompts of a model as settings of a table, which is hidden if there are none."""
    rows = [[text] for text in registry.describe(model).origin.examples] if model else []
    return {"samples": rows, "visible": bool(rows)}
