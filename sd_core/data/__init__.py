"""Captioned pictures from built-in characters, CIFAR-10, or anybody's own folder or .zip."""

from sd_core.data.pack import pack
from sd_core.data.picture_set import PictureSet
from sd_core.data.sources import open_data
from sd_core.errors import DataError
from sd_core.pictures.archive import Skipped

__all__ = ["DataError", "PictureSet", "Skipped", "open_data", "pack"]
