"""A model's card on the page: what its README says, without what only the Hub reads."""

import gradio as gr
import pytest
import torch

from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from tabs.common.model_card import MOST, build_model_card

CARD = "---\nlicense: mit\n---\n\n# mine\n\nDraws squares.\n"


@pytest.fixture
def registry(generator, tmp_path):
    checkpoint.save(generator, tmp_path / "models" / "mine", card=CARD)
    return ModelRegistry(tmp_path / "models", tmp_path / "runs", torch.device("cpu"))


def shown(registry: ModelRegistry, name: str | None) -> str:
    with gr.Blocks() as page:
        build_model_card(registry, gr.Dropdown([name], value=name))
    (card,) = [part for part in page.blocks.values() if isinstance(part, gr.Markdown)]
    return card.value


def test_it_says_what_the_card_says_without_the_front_matter(registry):
    assert shown(registry, "mine") == "# mine\n\nDraws squares."


def test_a_model_without_a_card_or_none_at_all_shows_nothing(registry):
    (registry.folder("mine") / checkpoint.CARD).unlink()
    assert shown(registry, "mine") == shown(registry, "gone") == shown(registry, None) == ""


def test_a_card_of_any_length_is_shown_in_part(registry):
    (registry.folder("mine") / checkpoint.CARD).write_text("x" * 10 * MOST)
    assert len(shown(registry, "mine")) == MOST
