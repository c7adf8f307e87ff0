"""How well pictures are repaired, beside the best-known ways that need no training.

    python -m benchmarks.restoration --data PHOTOGRAPHS.zip

Photographs (`--data`, a folder or .zip that no model was trained on) and large characters of held-out seeds, micah,
which no model ever saw, among them: colour denoising, inpainting, mixed damage nobody tells the model about, clean
pictures, and how much of the damage is found. Holes in characters are filled by the generator. Needs the packages
bm3d, opencv-python-headless and scikit-image. `--parts` chooses tables, `--photos` and `--characters` how many
pictures.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import common
from benchmarks.common import psnr
from sd_core.data.characters.draw import EVALUATION_STYLE, STYLES, character, render
from sd_core.data.pairs import open_clean
from sd_core.degradation import operators
from sd_core.degradation.operators import Damage, damaged
from sd_core.diffusion.noise import to_unit
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import VIEWS, Denoiser
from sd_core.pictures.metrics import ssim
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.detection import find_damage
from sd_core.restoration.inpainting import fill
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest
from sd_core.restoration.routing import expert, spread_crops

LEVELS = (15, 25, 50)
SHARES = (0.05, 0.2)
STEPS = (1, 4, 12)
CHARACTER_SIDE = 384
SUBSET = 8  # pictures for peers that take long
PEERS_OF_NOISE = ("BM3D", "non-local means", "wavelet")
PUBLISHED_WAYS = ("CBM3D", "DnCNN", "IRCNN", "FFDNet", "DRUNet")
PUBLISHED = (
    (33.52, 33.90, 33.86, 33.87, 34.30),
    (30.71, 31.24, 31.16, 31.21, 31.69),
    (27.38, 27.95, 27.86, 27.96, 28.51),
)
HOLE_SIDE = 512  # pixels of a picture with a wide hole, at most
SHOWN_WAYS, SHOWN_SIDE, ROWS_SHOWN = ("Telea", "restorer alone", "ours"), 240, 8  # of the panel of wide holes
PEERS_OF_HOLES = ("Telea", "Navier-Stokes", "biharmonic")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="photographs that no model was trained on")
    parser.add_argument("--painted", type=Path, help="painted pictures that no model was trained on, for wide holes")
    parser.add_argument("--model", type=Path, default=CHECKPOINTS / "restorer")
    parser.add_argument("--generator", type=Path, default=CHECKPOINTS / "characters")
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--characters", type=int, default=24)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(arguments)
    model = checkpoint.load(options.model, options.device)
    photos = [
        to_float(torch.from_numpy(p.copy())) for p in open_clean(str(options.data), count=options.photos).pictures
    ]
    characters = held_out(options.characters, CHARACTER_SIDE)
    for part in options.parts:
        title, measure = PARTS[part]
        body = measure(model, photos, characters, options)
        painted = f" --painted {options.painted.name}" if options.painted else ""
        command = f"python -m benchmarks.restoration --data {options.data.name}{painted} --parts {part}"
        common.report(f"restoration-{part}", title, command, body, options.device, options.results)


def held_out(count: int, side: int) -> list[Tensor]:
    """Characters of seeds no model was trained on, every fourth of the style that none was trained on."""
    styles = [style.name for style in STYLES]
    chosen = [EVALUATION_STYLE if i % 4 == 3 else styles[i % len(styles)] for i in range(count)]
    return [to_float(torch.from_numpy(render(character(s, 5000 + i).svg, side).copy())) for i, s in enumerate(chosen)]


# Denoising


@torch.inference_mode()
def one_step(model: Denoiser, noisy: Tensor, sigma: float | None) -> Tensor:
    """The model's answer to a noisy picture that no file has clipped or rounded, as published tables have it."""
    model = expert(model, spread_crops(noisy.permute(1, 2, 0)).permute(0, 3, 1, 2), sigma)
    restored, _ = model.at_once(Conditioning.of(noisy[None].to(model.device), sigma=sigma), len(VIEWS))
    return restored[0].clamp(-1, 1).cpu()


def remove_by_peer(name: str, noisy: Tensor, sigma: float) -> Tensor:
    """A peer's answer. sigma is in units of [-1, 1]; the peers see the picture in [0, 1]."""
    from skimage.restoration import denoise_nl_means, denoise_wavelet

    picture, level = ((noisy + 1) / 2).permute(1, 2, 0).numpy(), sigma / 2
    if name == "BM3D":
        from bm3d import bm3d_rgb

        result = bm3d_rgb(picture, level)
    elif name == "non-local means":
        options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
        result = denoise_nl_means(picture, h=0.6 * level, sigma=level, **options)
    else:
        result = denoise_wavelet(picture, sigma=level, channel_axis=-1, convert2ycbcr=True)
    return torch.from_numpy(np.asarray(result, np.float32)).permute(2, 0, 1) * 2 - 1


def denoising(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    rows = []
    for level in LEVELS:
        sigma = to_unit(level)
        noisy = [
            p + sigma * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) for i, p in enumerate(photos)
        ]
        few = slice(0, min(SUBSET, len(photos)))
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "ours, sigma known": lambda y, s=sigma: one_step(model, y, s),
            "ours, sigma unknown": lambda y: one_step(model, y, None),
        }
        answers = {name: [way(y) for y in noisy] for name, way in ways.items()}
        for name in PEERS_OF_NOISE:
            answers[name] = [remove_by_peer(name, y, sigma) for y in (noisy[few] if name == "BM3D" else noisy)]
        for name, found in answers.items():
            everywhere = quality(found, photos) if len(found) == len(photos) else "-"
            rows.append([level, name, everywhere, quality(found[few], photos[few])])
    header = ["sigma", "", f"all {len(photos)}: PSNR dB / SSIM", f"first {SUBSET} by name"]
    published = [[level, *(f"{value:.2f}" for value in row)] for level, row in zip(LEVELS, PUBLISHED, strict=True)]
    beside = (
        "To stand beside, published PSNR on other photographs, CBSD68 (Zhang et al. 2021, arXiv:2008.13751, table 2); "
        "CBM3D is BM3D for colours:"
    )
    return "\n\n".join([common.table(header, rows), beside, common.table(["sigma", *PUBLISHED_WAYS], published)])


def quality(found: Iterable[Tensor], truth: Sequence[Tensor]) -> str:
    """Mean PSNR and SSIM."""
    pairs = list(zip(found, truth, strict=True))
    closeness = mean(float(psnr(a[None], b[None])) for a, b in pairs)
    likeness = mean(float(ssim(a[None], b[None])) for a, b in pairs)
    return f"{closeness:.2f} / {likeness:.4f}"


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


# Lost places


def inside_psnr(found: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR [3, H, W] over the pixels of `mask` [H, W] alone."""
    error = (found - truth)[:, mask].double().square().mean()
    return float(10 * (4 / error.clamp(min=1e-12)).log10())


def filled_by_peer(name: str, picture: Tensor, mask: Tensor) -> Tensor:
    import cv2
    from skimage.restoration import inpaint_biharmonic

    pixels, hole = to_pixels(picture).numpy(), mask.numpy()
    if name == "biharmonic":
        result = inpaint_biharmonic(pixels / 255.0, hole, channel_axis=-1) * 255
    else:
        way = cv2.INPAINT_TELEA if name == "Telea" else cv2.INPAINT_NS
        result = cv2.inpaint(pixels, hole.astype(np.uint8), 5, way)
    return to_float(torch.from_numpy(np.clip(result, 0, 255).round().astype(np.uint8)))


def repaired(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Tensor:
    *_, last = restore(model, to_pixels(picture), request)
    return to_float(last.pictures[0])


def inpainting(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    rows = []
    for kind, pictures in (("photographs", photos[:SUBSET]), ("characters", characters[:SUBSET])):
        for damage_class, width in ((operators.Scratches, 3.0), (operators.Scribbles, 8.0)):
            for share in SHARES:
                cases = [
                    damaged(p, [damage_class(share, width)], torch.Generator().manual_seed(i))
                    for i, p in enumerate(pictures)
                ]
                masks = [c.mask[0] > 0 for c in cases]
                ours = [repaired(model, c.picture, RestoreRequest(mask=m)) for c, m in zip(cases, masks, strict=True)]
                answers = {"ours": ours} | {
                    name: [filled_by_peer(name, c.picture, m) for c, m in zip(cases, masks, strict=True)]
                    for name in PEERS_OF_HOLES
                }
                figures = [
                    mean(inside_psnr(a, p, m) for a, p, m in zip(found, pictures, masks, strict=True))
                    for found in answers.values()
                ]
                gain = figures[0] - max(figures[1:])
                rows.append(
                    [kind, damage_class.__name__, f"{share:.0%}", *(f"{f:.2f}" for f in figures), f"{gain:+.2f}"]
                )
    header = ["pictures", "damage", "covers", "ours", *PEERS_OF_HOLES, "ours - best peer"]
    return f"PSNR inside the mask, dB; {SUBSET} pictures a row.\n\n" + common.table(header, rows)


def holes(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    generator = checkpoint.load(options.generator, options.device)
    pictures = held_out(SUBSET * 2, generator.config.resolution)
    figures: dict[str, list[float]] = {name: [] for name in ("mean of 8", "single candidate", *PEERS_OF_HOLES)}
    for i, picture in enumerate(pictures):
        share = 0.1 + 0.15 * i / max(1, len(pictures) - 1)
        case = damaged(picture, [operators.Blocks(share)], torch.Generator().manual_seed(i))
        mask = case.mask[0] > 0
        *_, last = fill(generator, to_pixels(case.picture), mask, candidates=8, seed=i)
        candidates = to_float(torch.stack(last.pictures))
        figures["mean of 8"].append(inside_psnr(candidates.mean(0), picture, mask))
        figures["single candidate"].append(mean(inside_psnr(c, picture, mask) for c in candidates))
        for name in PEERS_OF_HOLES:
            figures[name].append(inside_psnr(filled_by_peer(name, case.picture, mask), picture, mask))
    rows = [[name, f"{mean(values):.2f}"] for name, values in figures.items()]
    side = generator.config.resolution
    text = f"One missing block of 10-25% in {len(pictures)} held-out {side}×{side} characters; PSNR inside it, dB.\n\n"
    return text + common.table(["", "PSNR"], rows)


def wide_holes(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    """Round holes a quarter as wide as the picture, in painted art and photographs, filled with pieces of it."""
    from benchmarks.features import published_network, unlike

    features = published_network(options.device)
    kinds = {"photographs": photos}
    if options.painted:
        painted = open_clean(str(options.painted), count=options.photos).pictures
        kinds["painted art"] = [to_float(torch.from_numpy(each.copy())) for each in painted]
    rows = []
    for kind, pictures in kinds.items():
        unlikeness, closeness, shown = defaultdict(list), defaultdict(list), []  # the panel is of the last kind
        for i, picture in enumerate(pictures):
            picture = picture[:, :HOLE_SIDE, :HOLE_SIDE]
            mask, around = round_hole(picture.shape[1:], i)
            hidden = torch.where(mask, 1.0, picture)
            answers = filled_each_way(model, hidden, mask)
            truth = features(to_pixels(picture)[around][None].numpy())
            for name, answer in answers.items():
                unlikeness[name].append(unlike(features(to_pixels(answer)[around][None].numpy()), truth))
                closeness[name].append(inside_psnr(answer, picture, mask))
            if min(picture.shape[1:]) >= SHOWN_SIDE:
                there = tuple(map(_shown, around, picture.shape[1:]))
                row = (hidden, *(answers[name] for name in SHOWN_WAYS), picture)
                shown.append([to_pixels(each)[there] for each in row])
        least = [min(each) for each in zip(*unlikeness.values(), strict=True)]
        for name, found in unlikeness.items():
            first = np.mean(np.array(found) == least)
            far = f"{mean(found):.3f}"
            rows.append([kind, len(pictures), name, far, f"{first:.0%}", f"{mean(closeness[name]):.2f}"])
    chosen = shown[:: max(1, len(shown) // ROWS_SHOWN)][:ROWS_SHOWN]
    tiles = torch.stack([each for row in chosen for each in row])
    common.PANELS.mkdir(exist_ok=True)
    grid(tiles, columns=len(chosen[0]), width=SHOWN_SIDE * len(chosen[0])).save(common.PANELS / "wide-holes.png")
    header = ["pictures", "", "filled by", "unlike the truth", "least unlike of all", "PSNR inside, dB"]
    text = (
        "How unlike a place looks is the distance of EfficientNet-Lite0's features there, from 0 to 4; a smear, the "
        "mean of all that may have been there, is close in PSNR and unlike anything. The panel shows, from the left: "
        f"the hole, {', '.join(SHOWN_WAYS)}, the truth.\n\n"
    )
    return text + common.table(header, rows) + "\n\n![holes, filled](panels/wide-holes.png)"


def filled_each_way(model: Denoiser, picture: Tensor, mask: Tensor) -> dict[str, Tensor]:
    from sd_core.restoration.exemplar import filled

    return {
        "ours": repaired(model, picture, RestoreRequest(mask)),
        "restorer alone": repaired(model, picture, RestoreRequest(mask, exemplars=False)),
        "PatchMatch alone": to_float(filled(to_pixels(picture), mask, mask, seed=0)),
        "Telea": filled_by_peer("Telea", picture, mask),
    }


def _shown(around: slice, length: int) -> slice:
    """Of a picture's side, as many pixels as the panel shows, those `around` a hole among them."""
    start = min(max(0, around.start), length - SHOWN_SIDE)
    return slice(start, start + SHOWN_SIDE)


def round_hole(size: Sequence[int], seed: int) -> tuple[Tensor, tuple[slice, slice]]:
    """A hole somewhere in a picture of (height, width), bool [H, W], and the square around it that is judged."""
    height, width = size
    radius = min(size) // 8
    rng = np.random.default_rng(seed)
    row, column = (int(rng.integers(2 * radius, side - 2 * radius)) for side in size)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    mask = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return mask, (slice(row - 2 * radius, row + 2 * radius), slice(column - 2 * radius, column + 2 * radius))


# Everything at once


def mixtures() -> list[list[Damage]]:
    """Damages as they come together, of middling strength."""
    return [
        [operators.GaussianNoise(20), operators.Jpeg(40)],
        [operators.DefocusBlur(1.5), operators.GaussianNoise(8)],
        [operators.Downscale(3), operators.Jpeg(60)],
        [operators.Fading(0.3), operators.PoissonNoise(80)],
        [operators.Scratches(0.04, 2), operators.Jpeg(40)],
        [operators.ColourCast(25), operators.WebP(20)],
        [operators.MotionBlur(6, 30), operators.GaussianNoise(10)],
        [operators.GaussianNoise(30), operators.Scribbles(0.03, 5)],
    ]


def mixed(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    rows = []
    for kind, pictures in (("photographs", photos), ("characters", characters)):
        before, after = [], []
        for i, picture in enumerate(pictures):
            case = damaged(picture, mixtures()[i % len(mixtures())], torch.Generator().manual_seed(i))
            answer = repaired(model, case.picture, RestoreRequest(whole=True))
            before.append(float(psnr(case.picture[None], picture[None])))
            after.append(float(psnr(answer[None], picture[None])))
        gains = np.subtract(after, before)
        rows.append([
            kind, len(pictures), f"{mean(before):.2f}", f"{mean(after):.2f}", f"{gains.mean():+.2f}",
            f"{(gains < 0).mean():.0%}", f"{gains.min():+.2f}",
        ])  # fmt: skip
    return common.table(["pictures", "", "damaged, dB", "repaired, dB", "gain", "worse", "worst"], rows)


def several_steps(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    """What is marked, and everything at once, in more steps, each of which is one of the answers that may be right."""
    rows = []
    for kind, pictures in (("photographs", photos[:SUBSET]), ("characters", characters[:SUBSET])):
        for steps in STEPS:
            marked, whole = [], []
            for i, picture in enumerate(pictures):
                how = {"steps": steps, "seed": 1000 + i}  # noise of its own, not that of the damage
                case = damaged(picture, [operators.Scribbles(0.05, 8)], torch.Generator().manual_seed(i))
                mask = case.mask[0] > 0
                answer = repaired(model, case.picture, RestoreRequest(mask=mask, **how))
                marked.append(inside_psnr(answer, picture, mask))
                case = damaged(picture, mixtures()[i % len(mixtures())], torch.Generator().manual_seed(i))
                whole.append(repaired(model, case.picture, RestoreRequest(whole=True, **how)))
            rows.append([kind, steps, f"{mean(marked):.2f}", quality(whole, pictures)])
    header = ["pictures", "steps", "scribbles over 5%, PSNR inside them", "mixed damage, PSNR dB / SSIM"]
    return f"{SUBSET} pictures a row, one candidate each.\n\n" + common.table(header, rows)


def clean(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    rows = []
    for kind, pictures in (("photographs", photos), ("characters", characters)):
        figures = [float(psnr(repaired(model, p, RestoreRequest(whole=True))[None], p[None])) for p in pictures]
        rows.append([kind, len(pictures), f"{mean(min(f, 99.0) for f in figures):.2f}", f"{min(figures):.2f}"])
    return common.table(["pictures", "", "mean PSNR, dB", "lowest"], rows)


def finding(model: Denoiser, photos: list[Tensor], characters: list[Tensor], options) -> str:
    rows = []
    for one in (
        operators.Scratches(0.05, 3),
        operators.Scribbles(0.05, 8),
        operators.Holes(0.1),
        operators.Dust(0.01, 2),
    ):
        for kind, pictures in (("photographs", photos), ("characters", characters)):
            hits = found = lost = 0
            for i, picture in enumerate(pictures):
                case = damaged(picture, [one], torch.Generator().manual_seed(i))
                mask, truth = find_damage(model, to_pixels(case.picture)), case.mask[0] > 0
                hits, found, lost = hits + int((mask & truth).sum()), found + int(mask.sum()), lost + int(truth.sum())
            rows.append([type(one).__name__, kind, f"{hits / max(1, found):.0%}", f"{hits / max(1, lost):.0%}"])
    text = "The proposed mask is 2 pixels larger than what was found, which costs precision on thin damage.\n\n"
    return text + common.table(["damage", "pictures", "precision", "recall"], rows)


PARTS = {
    "denoising": ("Restoring: colour noise of known and unknown level, photographs", denoising),
    "inpainting": ("Restoring: scratches and scribbles, mask known", inpainting),
    "holes": ("Restoring: missing parts of characters, drawn by the generator", holes),
    "wide-holes": ("Restoring: wide holes, filled with pieces from elsewhere in the picture", wide_holes),
    "mixed": ("Restoring: mixed damage, nothing told", mixed),
    "steps": ("Restoring: several steps", several_steps),
    "clean": ("Restoring: clean pictures stay as they are", clean),
    "finding": ("Restoring: damage found", finding),
}

if __name__ == "__main__":
    main()
