"""How good a released generator is: does it draw what the prompt says, how far are its pictures from real ones, does
it copy?

    python -m benchmarks.quality --model checkpoints/characters
    python -m benchmarks.quality --model checkpoints/cifar10 --data cifar10-train.zip --held-out cifar10-test.zip

A small classifier, trained on real pictures and checked on held-out ones, reads pictures that were generated from the
full captions of held-out ones with the shipped defaults. Prints

- prompt accuracy: the share of prompted attributes that the classifier finds, beside its accuracy on real pictures;
- the Fréchet distance between generated and held-out real pictures, beside that between two disjoint sets of real ones,
  on the classifier's features and, for characters, on a published network's;
- how far generated pictures are from their closest training pictures, beside how far held-out real ones are.

It writes a panel of generated pictures beside their closest training pictures, and a grid of samples, to
benchmarks/panels. Pictures of more than 64 pixels are reduced for all but the published network. Without --data,
the built-in characters are drawn: minutes, once. Everything prepared is kept in the cache folder.
"""

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks import common
from benchmarks.classifier import Classifier, correct, trained
from benchmarks.features import published_features
from benchmarks.frechet import frechet_distance
from benchmarks.labelled import CAPTIONED_STYLES, HIDDEN, PROMPTED, characters, classes, named
from sd_core.data.characters.draw import FIRST_TRAINING_SEED, HELD_OUT_SEEDS
from sd_core.device import inference_autocast, synchronize
from sd_core.diffusion.noise import draw_noise, picture_generators
from sd_core.generation.pipeline import guided
from sd_core.generation.request import DEFAULT_GUIDANCE, DEFAULT_SAMPLER, SAMPLERS
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_pixels

JUDGED_AT = 64  # pixels a side that larger pictures are reduced to for the classifier and the search for copies
SHOWN_AT = 128  # and for the grid of samples
ENOUGH = 0.98  # of the classifier's answers on held-out characters must be right, or it is no judge
CHUNK = {"cpu": 16}  # pictures drawn at a time; elsewhere, where memory and caches are large, ACCELERATOR_CHUNK
ACCELERATOR_CHUNK = 256
COMPARED = 500  # pictures whose closest training picture is looked for
NEAREST = 3
PANEL_ROWS, PANEL_COLUMNS = 8, 2  # generated pictures in the panel of neighbours
SAMPLE_ROWS, SAMPLE_COLUMNS = 6, 8
GAP = 4  # pixels between pictures of a panel
PANEL_BYTES = 300_000
STEADY = 0  # picture i is drawn from seed STEADY + i


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--data", help="training pictures, one folder per class; the built-in characters if left out")
    parser.add_argument("--held-out", help="with --data: pictures of the same classes that the model never saw")
    parser.add_argument(
        "--styles", nargs="+", default=list(CAPTIONED_STYLES), help="the styles to draw, which the model must know"
    )
    parser.add_argument(
        "--train-count",
        type=int,
        default=10_000,
        help="training pictures in these styles, for the judge and to look for copies",
    )
    parser.add_argument("--count", type=int, default=5000, help="pictures to generate, and in each set of real ones")
    parser.add_argument("--epochs", type=int, help="of the classifier; 4 for characters, 12 for classes")
    parser.add_argument("--sampler", choices=SAMPLERS, default=DEFAULT_SAMPLER)
    parser.add_argument("--steps", type=int, help="as the model usually takes")
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--panels", type=Path, default=common.PANELS, help="the folder for pictures")
    options = parser.parse_args(arguments)
    if bool(options.data) != bool(options.held_out):
        parser.error("--data and --held-out go together.")

    model = checkpoint.load(options.model, options.device)
    name, resolution = options.model.resolve().name, min(model.config.resolution, JUDGED_AT)
    if options.data:
        training, held_out = classes(options.data, resolution), classes(options.held_out, resolution)
        if held_out.values != training.values:
            parser.error("The two sets of pictures do not have the same classes.")
    else:
        if 2 * options.count > len(HELD_OUT_SEEDS) * len(options.styles):
            parser.error("There are not enough held-out characters for two sets of that size.")
        training = characters(options.styles, FIRST_TRAINING_SEED, options.train_count, resolution)
        held_out = characters(options.styles, HELD_OUT_SEEDS.start, 2 * options.count, resolution)
    if 2 * options.count > len(held_out):
        parser.error(f"Two sets of {options.count} need more than the {len(held_out)} held-out pictures.")
    shuffled = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))
    prompted, other = held_out[shuffled[: options.count]], held_out[shuffled[options.count : 2 * options.count]]

    classifier = trained(training, options.epochs or (12 if options.data else 4), options.device)
    started = time.perf_counter()
    steps = options.steps or model.config.usual_steps
    large = drawn(model, prompted.prompts, options.sampler, steps, options.guidance)
    speed = options.count / (time.perf_counter() - started)
    generated = reduced(large, resolution)

    found, features = classifier.read(generated)
    real_found, real_features = classifier.read(prompted.pixels)
    other_found, other_features = classifier.read(other.pixels)
    all_real = torch.cat([real_found, other_found]), torch.cat([prompted.labels, other.labels])
    floor = frechet_distance(real_features, other_features)
    distance = frechet_distance(features, other_features)
    guidance = "no guidance" if model.config.few_steps else f"guidance {options.guidance:g}"
    sampled = f"{options.sampler}, {steps} steps, {guidance}"

    near_generated, nearest = closest(generated[:COMPARED], training.pixels)
    near_real, _ = closest(other.pixels[:COMPARED], training.pixels)
    options.panels.mkdir(parents=True, exist_ok=True)
    shown = PANEL_ROWS * PANEL_COLUMNS
    rows = [
        np.concatenate([generated[i : i + 1], training.pixels[nearest[i].numpy()]])
        for i in range(min(shown, len(generated)))
    ]
    save_panel(neighbour_panel(rows), options.panels / f"{name}-neighbours.png")
    few = reduced(large[: SAMPLE_ROWS * SAMPLE_COLUMNS], SHOWN_AT)
    save_panel(sheet(few, SAMPLE_COLUMNS), options.panels / f"{name}-samples.png")
    lines = [f"{i + 1}. {prompt}" for i, prompt in enumerate(prompted.prompts[: SAMPLE_ROWS * SAMPLE_COLUMNS])]
    captions = [f"The pictures of {name}-samples.png, row by row from the left.", "", *lines]
    (options.panels / f"{name}-samples.md").write_text("\n".join(captions) + "\n", "utf-8")

    body = [
        f"{options.count:,} pictures by {sampled}, at {speed:.1f} pictures/s, from full captions of held-out pictures.",
        accuracy_table(classifier, found, prompted.labels, *all_real),
        common.table(
            ["Fréchet distance on the classifier's features", f"{options.count:,} pictures each"],
            [
                ["generated to held-out real", f"{distance:.3g}"],
                ["real to held-out real, disjoint", f"{floor:.3g}"],
            ],
        ),
        *published(options, model.config.resolution, shuffled, large),
        common.table(
            ["distance to the closest training picture (RMS, of 255)", "median", "smallest"],
            [
                ["generated", f"{near_generated.median():.1f}", f"{near_generated.min():.1f}"],
                ["held-out real", f"{near_real.median():.1f}", f"{near_real.min():.1f}"],
            ],
        ),
        f"![Generated pictures, each beside its {NEAREST} closest training pictures](panels/{name}-neighbours.png)\n\n"
        f"Each generated picture (left) beside its {NEAREST} closest of {len(training):,} training pictures.",
        f"![Samples](panels/{name}-samples.png)\n\nTheir prompts are in [{name}-samples.md](panels/{name}-samples.md).",
    ]
    command = f"python -m benchmarks.quality --model checkpoints/{name}"
    command += " --data TRAIN.zip --held-out TEST.zip" if options.data else ""
    command += f" --count {options.count}" + (f" --epochs {options.epochs}" if options.epochs else "")
    common.report(f"quality-{name}", f"Quality of {name}", command, "\n\n".join(body), options.device, options.results)


@torch.no_grad()
def drawn(model: Denoiser, prompts: Sequence[str], sampler: str, steps: int, guidance: float) -> np.ndarray:
    """One picture per prompt, uint8 [N, R, R, 3]; picture i from seed STEADY + i."""
    walk = SAMPLERS[sampler]
    side = model.config.resolution
    chunk = CHUNK.get(model.device.type, ACCELERATOR_CHUNK)
    sigmas = model.config.sigmas(steps)
    made = np.empty((len(prompts), side, side, 3), np.uint8)
    for start in tqdm(range(0, len(prompts), chunk), desc="generate", unit="batch"):
        some = prompts[start : start + chunk]
        seeds = list(range(STEADY + start, STEADY + start + len(some)))
        noise = partial(draw_noise, picture_generators(seeds), model.shape, model.device)
        x = noise() * sigmas[0].float()
        with inference_autocast(model.device):
            denoiser = guided(model, some, [""] * len(some), guidance)
            *_, last = walk.walk(denoiser, x, sigmas, *([noise] if walk.random else []))
        made[start : start + chunk] = to_pixels(model.codec.decode(last.x.float())).numpy()
    synchronize(model.device)
    return made


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 [N, R, R, 3] at `side` pixels, by the mean of each square; those no larger as they are."""
    if pixels.shape[1] <= side:
        return pixels
    block = pixels.shape[1] // side
    squares = pixels.reshape(len(pixels), side, block, side, block, 3)
    return squares.mean((2, 4), dtype=np.float32).round().astype(np.uint8)


def published(options: Namespace, resolution: int, shuffled: Tensor, generated: np.ndarray) -> list[str]:
    """The Fréchet distances on a published network's features, of characters at their full size."""
    if options.data:
        return []
    held_out = characters(options.styles, HELD_OUT_SEEDS.start, 2 * options.count, resolution)
    parts = shuffled[: options.count], shuffled[options.count : 2 * options.count]
    real, other = (published_features(held_out.pixels[part.numpy()], options.device) for part in parts)
    made = published_features(generated, options.device)
    rows = [
        ["generated to held-out real", f"{frechet_distance(made, other):.3g}"],
        ["real to held-out real, disjoint", f"{frechet_distance(real, other):.3g}"],
    ]
    return [common.table([f"the same on EfficientNet-Lite0's features, at {resolution} pixels", ""], rows)]


def accuracy_table(
    classifier: Classifier, found: Tensor, labels: Tensor, real_found: Tensor, real_labels: Tensor
) -> str:
    """Prompt accuracy by attribute and in total. The total counts what prompts name of PROMPTED (or of the classes)."""
    said, real_said = named(classifier.values, labels), named(classifier.values, real_labels)
    right, real_right = correct(found, labels), correct(real_found, real_labels)
    rows, counted, unsure = [], [], []

    def row(title: str, column: int | list[int], mine: Tensor, reals: Tensor) -> list[str]:
        mine, reals = mine[:, column], reals[:, column]
        shares = [share(right[:, column], mine), share(real_right[:, column], reals)]
        return [title, *(f"{100 * s:.1f}%" for s in shares), f"{int(mine.sum()):,}"]

    for i, attribute in enumerate(classifier.values):
        in_total = attribute in (*PROMPTED, "class")
        counted += [i] if in_total else []
        rows.append(row(attribute if in_total else f"{attribute} (not in the total)", i, said, real_said))
        unsaid, real_unsaid = (labels != HIDDEN) & ~said, (real_labels != HIDDEN) & ~real_said
        if unsaid[:, i].any():
            rows.append(row(f"no {attribute}, unsaid (not in the total)", i, unsaid, real_unsaid))
        if share(real_right[:, i], real_labels[:, i] != HIDDEN) < ENOUGH and attribute != "class":
            unsure.append(attribute)
    rows.append(row("**total**", counted, said, real_said))
    text = common.table(["prompted attribute", "found in generated", "found in held-out real", "prompts"], rows)
    if unsure:
        text += f"\n\nThe classifier itself is below {ENOUGH:.0%} on held-out real pictures for: {', '.join(unsure)}."
    return text


def share(right: Tensor, counted: Tensor) -> float:
    """The share of what is counted that is right; not a number if nothing is counted."""
    return float(right[counted].double().mean())


def closest(pixels: np.ndarray, training: np.ndarray, block: int = 2000) -> tuple[Tensor, Tensor]:
    """Root mean squared pixel distance [N] to the closest training picture and indices [N, NEAREST] of the nearest."""
    queries = torch.from_numpy(pixels.reshape(len(pixels), -1)).float()
    size = queries.square().sum(1, keepdim=True)
    distances = []
    for start in range(0, len(training), block):
        some = torch.tensor(training[start : start + block].reshape(-1, queries.shape[1]), dtype=torch.float32)
        distances.append(size + some.square().sum(1) - 2 * queries @ some.T)
    squared, indices = torch.cat(distances, 1).clamp(min=0).topk(min(NEAREST, len(training)), largest=False)
    return (squared[:, 0] / queries.shape[1]).sqrt(), indices


def sheet(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures uint8 [N, R, R, 3] side by side on white, row by row."""
    side, rows = pictures.shape[1], -(-len(pictures) // columns)
    canvas = np.full((rows * (side + GAP) - GAP, columns * (side + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (side + GAP), (i % columns) * (side + GAP)
        canvas[y : y + side, x : x + side] = picture
    return canvas


def neighbour_panel(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of a generated picture and its neighbours, in PANEL_COLUMNS blocks; a gap sets the generated one apart."""
    columns = list(_blocks([_row(row) for row in rows]))
    gap = np.full((columns[0].shape[0], 6 * GAP, 3), 255, np.uint8)
    parts: list[np.ndarray] = []
    for column in columns:
        missing = columns[0].shape[0] - column.shape[0]
        parts += [gap] * bool(parts) + [np.pad(column, ((0, missing), (0, 0), (0, 0)), constant_values=255)]
    return np.concatenate(parts, 1)


def _row(pictures: np.ndarray) -> np.ndarray:
    gap = np.full((pictures.shape[1], 2 * GAP, 3), 255, np.uint8)
    return np.concatenate([pictures[0], gap, sheet(pictures[1:], len(pictures) - 1)], 1)


def _blocks(rows: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), PANEL_ROWS):
        yield sheet_of_rows(rows[start : start + PANEL_ROWS])


def sheet_of_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of one width, one below the other with a gap between."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, gap)]
    return np.concatenate(parts[:-1])


def save_panel(pixels: np.ndarray, file: Path) -> None:
    """Writes a PNG, with a palette if it would otherwise be larger than a repository should carry."""
    picture = Image.fromarray(pixels)
    picture.save(file, optimize=True)
    if file.stat().st_size > PANEL_BYTES:
        picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
