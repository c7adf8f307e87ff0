"""The settings of the Generate tab: the components, and what they mean as a request."""

import html
import secrets
from dataclasses import dataclass

import gradio as gr
from torch import Tensor

from sd_core.errors import CheckpointError, UserError
from sd_core.generation.request import (
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER,
    DEFAULT_STRENGTH,
    DEFAULT_VARIATION,
    MAX_COUNT,
    MAX_GUIDANCE,
    MAX_STEPS,
    SAMPLERS,
    GenerationRequest,
)
from sd_core.generation.seeds import Noise
from sd_core.models.denoiser import STEPS
from sd_core.models.registry import ModelRegistry
from sd_core.models.text import reads_chinese
from sd_core.pictures.decoding import NO_PICTURE, fit_picture, open_picture
from sd_core.pictures.pixels import to_float
from tabs.common.errors import plain_error
from tabs.common.forms import QUIET, Form, seed_box, whole
from tabs.common.words import T, in_their_language, language_of, say

PICTURES = 16  # at first
EXAMPLES = 6  # that are offered at a time
WORDS_PER_PAGE = 80


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

    def request(self, registry: ModelRegistry) -> GenerationRequest:
        """The request they make. Raises UserError if one of them makes no sense."""
        resolution = registry.describe(self.model).model.resolution
        variation_of = self.variation_of.strip()
        return GenerationRequest(
            prompt=self.prompt,
            negative_prompt=self.negative,
            count=whole(self.count),
            sampler=self.sampler,
            steps=whole(self.steps),
            guidance=self.guidance,
            seed=secrets.randbelow(2**31) if self.new_seed or self.seed is None else whole(self.seed),
            start=start_picture(self.start, resolution) if self.start else None,
            strength=self.strength,
            variation_of=Noise.parse(variation_of) if variation_of else None,
            variation_strength=self.variation_strength,
        )


def model_choices(registry: ModelRegistry, visitor: gr.Request | None = None) -> list[tuple[str, str]]:
    """The choices of the model picker: all that draw, with what tells them apart."""
    return [(_shown(registry, name, visitor), name) for name in registry.names()]


def _shown(registry: ModelRegistry, name: str, visitor: gr.Request | None) -> str:
    try:
        model = registry.describe(name).model
    except CheckpointError:  # it went away in the meantime
        return name
    key = "fast_model_choice" if model.few_steps else "model_choice"
    return say(visitor, key, name=name, side=model.resolution, steps=model.usual_steps)


def start_picture(path: str, resolution: int) -> Tensor:
    """The picture to start from, [3, resolution, resolution] in [-1, 1]: its middle. Raises PictureError."""
    return to_float(fit_picture(open_picture(path), resolution))


class Controls(Form):
    """Draws the settings, whose values make a request.

    Attributes:
        reuse: the button that brings the last seed back.
        start_box: the box of the picture to start from.
    """

    made = Values

    def __init__(self, registry: ModelRegistry, prompt: gr.Textbox):
        self._registry, self.prompt = registry, prompt
        models = model_choices(registry)
        first = models[0][1] if models else None
        self.model = gr.Dropdown(models, value=first, label=T("model"), elem_id="model")
        self.count = gr.Slider(1, MAX_COUNT, PICTURES, step=1, label=T("count"), elem_id="count")
        with gr.Group():
            self.seed = seed_box(0, label=T("seed"), elem_id="seed")
            self.new_seed = gr.Checkbox(True, label=T("new_seed"), container=True, elem_id="new-seed")
        self.reuse = gr.Button(T("reuse_seed"), size="sm", elem_id="reuse-seed")
        with gr.Accordion(T("advanced"), open=False, elem_id="advanced"):
            self._draw_advanced(first)
        with gr.Accordion(T("image_to_image"), open=False, elem_id="image-to-image") as self.start_box:
            self.start = gr.Image(
                label=T("start"), type="filepath", image_mode=None, sources=["upload", "clipboard"], height=220,
                buttons=["fullscreen"], elem_id="start",
            )  # fmt: skip
            self.strength = gr.Slider(
                0.05, 1, DEFAULT_STRENGTH, step=0.05, label=T("strength"), info=T("strength_info"), elem_id="strength"
            )
        checked = self.start.upload(_check_start, self.start, self.start, **QUIET)
        checked.failure(_bad_start, None, self.start, **QUIET)

    def _draw_advanced(self, model: str | None) -> None:
        guided = self._is_guided(model)
        self.negative = gr.Textbox(label=T("negative"), info=T("negative_info"), visible=guided, elem_id="negative")
        samplers = [(sampler.label, name) for name, sampler in SAMPLERS.items()]
        self.sampler = gr.Dropdown(samplers, value=DEFAULT_SAMPLER, label=T("sampler"), elem_id="sampler")
        self.steps = gr.Slider(1, MAX_STEPS, self._usual_steps(model), step=1, label=T("steps"), elem_id="steps")
        self.guidance = gr.Slider(
            0, MAX_GUIDANCE, DEFAULT_GUIDANCE, step=0.1, label=T("guidance"), info=T("guidance_info"),
            visible=guided, elem_id="guidance",
        )  # fmt: skip
        self.variation_of = gr.Textbox(label=T("variation_of"), info=T("variation_of_info"), elem_id="variation-of")
        self.variation_strength = gr.Slider(
            0, 1, DEFAULT_VARIATION, step=0.01, label=T("variation_strength"), elem_id="variation-strength"
        )
        self.model.input(self._usual_steps, self.model, self.steps, **QUIET)
        self.model.change(self._on_model, self.model, [self.negative, self.guidance], **QUIET)

    def _on_model(self, model: str | None) -> tuple[gr.Textbox, gr.Slider]:
        guided = self._is_guided(model)
        return gr.Textbox(visible=guided), gr.Slider(visible=guided)

    def _is_guided(self, model: str | None) -> bool:
        """Whether guidance and what it keeps away from do something: a model of few steps has them built in."""
        return model is None or not self._registry.describe(model).model.few_steps

    def _usual_steps(self, model: str | None) -> int:
        return self._registry.describe(model).model.usual_steps if model else STEPS


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


def build_word_browser(registry: ModelRegistry, controls: Controls) -> None:
    """The words the model knows; a click adds one to the prompt."""
    with gr.Accordion(T("words_known"), open=False, elem_id="words"):
        wanted = gr.Textbox(label=T("words_filter"), elem_id="words-filter")
        words = gr.Dataset(
            label=T("words_hint"), components=["textbox"], samples=known_words(registry, controls.model.value),
            samples_per_page=WORDS_PER_PAGE, elem_id="words-list",
        )  # fmt: skip

    def found(model: str | None, part: str | None):
        return gr.Dataset(samples=known_words(registry, model, part))

    shown = [controls.model, wanted]
    gr.on([part.change for part in shown], found, shown, words, trigger_mode="always_last", **QUIET)
    words.click(lambda word, prompt: f"{prompt} {word[0]}".strip(), [words, controls.prompt], controls.prompt, **QUIET)


def known_words(registry: ModelRegistry, model: str | None, part: str | None = None) -> list[list[str]]:
    """The words of a model that contain `part`, as rows for a table; `part` is None before its box was first shown."""
    words, part = registry.describe(model).words if model else (), (part or "").casefold().strip()
    return [[word] for word in sorted(words) if any(c.isalnum() for c in word) and part in word]


def build_examples(registry: ModelRegistry, controls: Controls, examples: gr.Dataset) -> None:
    """Wires the example prompts, which a click takes over, to the model they belong to and to who looks at them."""

    def of_model(model: str | None, visitor: gr.Request):
        return gr.Dataset(**example_rows(registry, model, visitor))

    examples.click(lambda row: row[0], examples, controls.prompt, **QUIET)
    gr.on(None, of_model, controls.model, examples, **QUIET)  # when the page opens, and whenever the model changes


def example_rows(registry: ModelRegistry, model: str | None, visitor: gr.Request | None = None) -> dict:
    """Some example prompts of a model as settings of a table, which is hidden if there are none."""
    texts = examples_of(registry, model, visitor)
    return {"samples": [[text] for text in texts[:EXAMPLES]], "visible": bool(texts)}


def examples_of(registry: ModelRegistry, model: str | None, visitor: gr.Request | None) -> list[str]:
    """A model's example prompts, first those in the visitor's language."""
    texts = registry.describe(model).origin.examples if model else ()
    return sorted(texts, key=lambda text: reads_chinese([text]) != (language_of(visitor) == "zh"))
