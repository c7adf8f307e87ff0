"""Opens what a name of a dataset stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.progress import OnProgress, unwatched


def open_data(
    source: str,
    resolution: int,
    *,
    count: int | None = None,
    styles: Sequence[str] | None = None,
    chinese: bool = True,
    fit: Literal["crop", "pad", "squash"] = "crop",
    caption_template: str = "{}",
    cache: Path | None = None,
    progress: OnProgress = unwatched,
) -> PictureSet:
    """Open a data set by name or path, every picture `resolution` pixels square.

    source: "characters", "cifar10", or the path of a folder or .zip of pictures (see folder.py for captions).
    count: how many characters to draw; for other sources, at most this many pictures, spread evenly over the set.
    styles: the character styles to draw, the released ones when None.
    chinese: caption some of the characters in Chinese.
    fit: how pictures of another shape become square: "crop" the middle, "pad" with white, or "squash".
    caption_template: what a class folder's name becomes; "{}" is the name, "{a}" the name with its article.
    cache: where prepared pictures are kept, $SD_CORE_CACHE or ~/.cache/sd_core when None.
    progress: called with (pictures done, pictures in all).

    Raises DataError, in one sentence for the user, when there is nothing to train on.
    """
    if resolution < 1:
        raise DataError(f"Pictures cannot be {resolution} pixels wide; ask for a resolution of at least 1.")
    if count is not None and count < 1:
        raise DataError(f"A set cannot have {count} pictures; ask for at least 1.")
    if styles is not None and source != "characters":
        raise DataError("Styles can be chosen for the built-in characters only; leave them out for other data.")
    how = dict(cache=cache, progress=progress)
    if source == "characters":
        from sd_core.data.characters.draw import DEFAULT_COUNT, STYLES, draw_set, training_seeds

        names = [style.name for style in STYLES] if styles is None else list(styles)
        wanted = DEFAULT_COUNT if count is None else count
        return draw_set(names, training_seeds(wanted, names), resolution, count=wanted, chinese=chinese, **how)
    if source == "cifar10":
        from sd_core.data.cifar10 import open_cifar10

        return open_cifar10(resolution, count=count, **how)
    from sd_core.data.folder import open_folder

    return open_folder(Path(source), resolution, count=count, fit=fit, caption_template=caption_template, **how)
