"""A small generator, saved."""

from pathlib import Path

import pytest
from small_checkpoints import ORIGIN

from sd_core.models.checkpoint import save
from sd_core.models.denoiser import Denoiser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "squares"


@pytest.fixture
def saved(generator: Denoiser, folder: Path) -> Path:
    save(generator, folder, ORIGIN)
    return folder
