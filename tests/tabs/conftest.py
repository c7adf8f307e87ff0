"""What tests of the page share: the page itself, served with an untrained model."""

import importlib
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.training.setup import new_restorer

CAPTIONS = ("adventurer with long red hair, glasses, on a blue background", "lorelei with short black hair, beard")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, awaken):
    """A folder with an untrained 16×16 generator, "characters", and a "restorer" that changes pictures a little."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    model = awaken(Denoiser(ModelConfig.generator("tiny", 16), Vocabulary.learn(CAPTIONS)))
    checkpoint.save(model, folder / "characters", checkpoint.Origin(examples=CAPTIONS))
    restorer = new_restorer("tiny", 16, 0)
    with torch.no_grad():
        for parameter in list(restorer.parameters())[-2:]:  # the last layer, which is 0 before training
            parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    checkpoint.save(restorer, folder / "restorer")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_uploads(tmp_path_factory):
    """A folder of uploads for this process alone: a page that closes tidies away its own, which others may share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def own_files(tmp_path_factory):
    """The folder in which this process makes visitors' folders from now on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("visitors")))
        yield Path(tempfile.tempdir)


@pytest.fixture(scope="session")
def built(checkpoints, tmp_path_factory):
    """Builds the page, with those models and runs of its own; gives its program and the page."""

    @contextmanager
    def building():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SD_CORE_CHECKPOINTS", str(checkpoints))
            patch.setenv("SD_CORE_RUNS", str(tmp_path_factory.mktemp("runs")))
            patch.setenv("SD_CORE_DEVICE", "cpu")
            app = importlib.import_module("app")
            yield app, app.build()

    return building


@pytest.fixture(scope="session")
def served(built):
    """The address of the page."""
    with built() as (app, page):
        _, address, _ = page.launch(
            **app.launch_options(), server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
        )
    yield address
    page.close()
