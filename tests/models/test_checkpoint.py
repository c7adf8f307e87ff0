"""A model folder: what is saved is what is loaded, and a bad folder is refused in plain words."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import ORIGIN, mark_of, marked, strip
from torch import nn

from sd_core.errors import CheckpointError
from sd_core.models.checkpoint import describe, load, save
from sd_core.models.codec import Autoencoder, Latents
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import Denoiser

# Round trip


def test_a_loaded_generator_gives_the_pictures_of_the_saved_one(generator, saved):
    loaded = load(saved)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = ["a red square", "a zebra 🦓"]
    ours, theirs = (m.given(prompts)(x, torch.tensor(1.0)) for m in (generator, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.02)
    assert (theirs - ours).abs().mean() < 0.002  # fp16 keeps eleven bits
    assert loaded.config == generator.config
    assert loaded.vocabulary.words == generator.vocabulary.words
    assert loaded.vocabulary.read("a red zebra").unknown == ("zebra",)


def test_a_loaded_restorer_gives_the_pictures_of_the_saved_one(restorer, folder):
    save(restorer, folder)
    x, conditioning = torch.randn(1, 3, 8, 8), Conditioning.of(torch.rand(1, 3, 8, 8))
    loaded = load(folder)
    ours, theirs = (m.restored(x, torch.tensor(1.0), conditioning)[0] for m in (restorer, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.01 * float(ours.abs().max()))  # fp16 keeps eleven bits
    assert not (folder / "tokenizer.json").exists()


def test_saving_a_loaded_model_changes_nothing(saved, tmp_path):
    save(load(saved), tmp_path / "again", ORIGIN)
    before, after = load_file(saved / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (saved / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_a_loaded_model_is_frozen_and_in_float32(saved):
    model = load(saved)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_folder_holds_what_a_checkpoint_needs_and_nothing_else(saved):
    assert {p.name for p in saved.iterdir()} == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert {value.dtype for value in load_file(saved / "model.safetensors").values()} == {torch.float16}
    assert [p.name for p in saved.parent.iterdir()] == ["squares"]


def test_a_model_is_described(generator, saved):
    description = describe(saved)
    assert description.model == generator.config
    assert description.origin == ORIGIN
    assert set(description.words) == generator.vocabulary.words
    assert describe(strip(saved)) == description


def test_the_weights_file_is_all_that_is_needed(generator, saved):
    for beside in ("config.json", "tokenizer.json", "README.md"):
        (saved / beside).unlink()
    assert load(saved).vocabulary.words == generator.vocabulary.words
    assert describe(saved).origin == ORIGIN


def test_the_weights_file_counts_where_the_files_beside_it_say_something_else(generator, saved):
    rewrite_config(saved, words=["zebra"], model={"patch": 2})
    (saved / "tokenizer.json").write_text("{}")
    loaded = load(saved)
    assert loaded.config == generator.config
    assert loaded.vocabulary.words == generator.vocabulary.words


def test_an_older_checkpoint_is_loaded_from_its_three_files(generator, saved):
    loaded = load(strip(saved))
    assert loaded.config == generator.config
    assert loaded.vocabulary.words == generator.vocabulary.words


def test_a_restorer_in_the_place_of_a_generator_leaves_no_tokenizer(restorer, saved):
    save(restorer, saved)
    assert load(saved).config.kind == "restorer"
    assert not (saved / "tokenizer.json").exists()


def test_the_card_names_the_data_and_the_training(generator, saved):
    card = (saved / "README.md").read_text()
    size = f"{generator.parameter_count():,} parameters"
    for fact in ("squares, CC0", "300 steps", "1,200 pictures seen", "0.5 hours on two cores", size):
        assert fact in card


def test_a_card_of_ones_own_is_kept(generator, folder):
    save(generator, folder, ORIGIN, card="# Ours\n")
    assert (folder / "README.md").read_text() == "# Ours\n"


def test_saving_replaces_the_old_model(folder):
    for value in (0.25, 0.5):
        save(marked(value), folder)
        assert mark_of(folder) == value
    assert [p.name for p in folder.parent.iterdir()] == ["squares"]


# Models that work in latents


def test_a_generator_of_latents_brings_its_autoencoder_and_loads_by_itself(latent_generator, folder):
    save(latent_generator, folder, ORIGIN)
    for beside in ("config.json", "tokenizer.json", "README.md"):
        (folder / beside).unlink()
    loaded = load(folder)
    assert loaded.config == latent_generator.config and loaded.shape == latent_generator.shape == (4, 4, 4)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.codec.decode(x), latent_generator.codec.decode(x), rtol=0, atol=0.02)
    assert not any(name.startswith("codec.") for name in loaded.state_dict())
    assert load(folder).codec is loaded.codec, "a process has each autoencoder once"


def test_models_beside_the_autoencoder_share_it_and_a_copy_elsewhere_finds_the_released_one(
    latent_generator, small_autoencoder, tmp_path, monkeypatch
):
    released, copied = tmp_path / "released", tmp_path / "elsewhere" / "copied"
    small_autoencoder.save(released / "autoencoder")
    shared = replaced_codec(latent_generator, released / "autoencoder")
    save(shared, released / "drawings")
    assert not any(name.startswith("codec.") for name in load_file(released / "drawings" / "model.safetensors"))
    assert load(released / "drawings").codec is shared.codec
    shutil.copytree(released / "drawings", copied)
    refused(copied, "works in the latents of an autoencoder that is neither in it nor among the released models")
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(released))
    assert load(copied).codec is shared.codec


def test_another_autoencoder_is_not_taken_for_a_models_own(latent_generator, small_autoencoder, tmp_path):
    small_autoencoder.save(tmp_path / "autoencoder")
    model = replaced_codec(latent_generator, tmp_path / "autoencoder")
    save(model, tmp_path / "drawings")
    other = copy.deepcopy(small_autoencoder)
    other.std.mul_(2)
    other.save(tmp_path / "autoencoder")
    refused(tmp_path / "drawings", "Download the model again")
    save(model, tmp_path / "drawings")
    assert load(tmp_path / "drawings").codec is model.codec


def replaced_codec(model: Denoiser, folder: Path) -> Denoiser:
    """The same model with the autoencoder that was saved in `folder`."""
    return Denoiser(model.config, model.vocabulary, Latents.of(Autoencoder.load(folder)))


def test_a_hostile_autoencoder_inside_a_model_is_refused_in_a_sentence(latent_generator, folder):
    save(latent_generator, folder)
    rewrite_config(strip(folder), autoencoder={"widths": [1, 1, 10**12]})
    refused(folder, "must be at most 512")
    rewrite_config(folder, autoencoder={"widths": [512, 512, 512]})
    refused(folder, "does not fit its config.json")


# Bad folders


def refused(folder: Path | str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_missing_folder_is_refused_in_a_sentence(tmp_path):
    refused(tmp_path / "nothing", "is not a model: it has no config.json")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated_weights_are_refused_in_a_sentence(saved, length):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    refused(saved, "model.safetensors is truncated or not a safetensors file")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("length", [0, 1, 60, -3])
def test_truncated_json_is_refused_in_a_sentence(saved, file, length):
    strip(saved)
    (saved / file).write_bytes((saved / file).read_bytes()[:length])
    refused(saved, f"{file} is damaged")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(saved, missing):
    (strip(saved) / missing).unlink()
    refused(saved, re.escape(missing))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "3",
        "null",
        '"text"',
        "{}",
        '{"architectures": ["UNet2DConditionModel"]}',
        '{"format": 1}',
        '{"format": 1, "model": {"layers": 3}, "origin": {}}',
        '{"format": 1, "model": {"size": "huge"}, "origin": {}}',
        '{"format": 1, "model": {"resolution": "64"}, "origin": {}}',
        '{"format": 1, "model": [], "origin": {}}',
        "\udcff",
    ],
)
def test_a_foreign_configuration_is_refused_in_a_sentence(saved, content):
    (strip(saved) / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(saved, "config.json is damaged or foreign")


def rewrite_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= changes.pop("model", {})
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_newer_format_asks_for_a_newer_program(saved):
    rewrite_config(strip(saved), format=2)
    refused(saved, "is in format 2, and this program reads format 1. Update the program")


@pytest.mark.parametrize("change", [{"size": "small"}, {"patch": 2}, {"kind": "restorer"}])
def test_weights_of_another_shape_are_refused_in_a_sentence(saved, change):
    rewrite_config(strip(saved), model=change)
    refused(saved, "model.safetensors does not fit its config.json, beginning with")


def test_missing_and_surplus_weights_are_named(saved):
    file = saved / "model.safetensors"
    weights = load_file(file)
    bias = weights.pop("unet.stem.bias")
    save_file(weights, file)
    refused(saved, "beginning with unet.stem.bias")
    save_file(weights | {"unet.stem.bias": bias, "a.surplus": bias.clone()}, file)
    refused(saved, "beginning with a.surplus")


def test_a_tokenizer_of_another_model_is_refused_in_a_sentence(saved):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(strip(saved) / "tokenizer.json"))
    refused(saved, "tokenizer.json is damaged: The tokenizer lacks the tokens")


@pytest.mark.parametrize("inside", ["", "3", "[]", "{}", '{"config.json": 3}', '{"config.json": "{}"}', "[" * 100_000])
def test_foreign_texts_inside_the_weights_are_refused_in_a_sentence(restorer, saved, inside):
    file = saved / "model.safetensors"
    save_file(load_file(file), file, metadata={"sd_core": inside})
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError) as error:
        load(saved)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_pickle_under_a_safe_name_is_refused_and_runs_nothing(saved, tmp_path):
    weights = saved / "model.safetensors"
    torch.save({"weight": nn.Linear(2, 2).state_dict(), "trap": Trap(tmp_path / "sprung")}, weights)
    refused(saved, "model.safetensors is truncated or not a safetensors file")
    assert not (tmp_path / "sprung").exists()
    torch.load(weights.rename(tmp_path / "model.pt"), weights_only=False)
    assert (tmp_path / "sprung").exists()  # which is why it must not be unpickled
