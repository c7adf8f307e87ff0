"""Damages: what each does to a picture, where it says the picture is lost, and that it is the same every time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.common import psnr
from sd_core.degradation import operators
from sd_core.degradation.operators import GaussianNoise, damaged
from sd_core.diffusion.noise import to_levels, to_unit
from sd_core.errors import UserError


def picture(height: int = 64, width: int = 64) -> torch.Tensor:
    """A smooth picture with edges: a tilted ramp, a disc and some stripes."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    planes = torch.stack([0.6 * x, 0.5 * (x + y) / 2, -0.4 * y])
    planes[:, x**2 + y**2 < 0.4] += 0.3
    planes[:, (x * 12).floor() % 3 == 0] -= 0.2
    return planes.clamp(-1, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


STRONGER = {  # each damage from weak to strong
    "GaussianNoise": [GaussianNoise(s) for s in (5, 15, 50, 100)],
    "PoissonNoise": [operators.PoissonNoise(p) for p in (1000, 100, 10)],
    "DefocusBlur": [operators.DefocusBlur(r) for r in (0.6, 1.5, 4)],
    "MotionBlur": [operators.MotionBlur(n, 20) for n in (2, 6, 14)],
    "Downscale": [operators.Downscale(f) for f in (1.5, 2, 4)],
    "Jpeg": [operators.Jpeg(q) for q in (95, 50, 5)],
    "WebP": [operators.WebP(q) for q in (95, 40, 0)],
    "Fading": [operators.Fading(s) for s in (0.1, 0.4, 0.9)],
    "ColourCast": [operators.ColourCast(s) for s in (5, 20, 60)],
    "Scratches": [operators.Scratches(s, 2) for s in (0.02, 0.1, 0.4)],
    "Tears": [operators.Tears(s, 4) for s in (0.02, 0.1, 0.4)],
    "Scribbles": [operators.Scribbles(s, 5) for s in (0.02, 0.1, 0.4)],
    "Blocks": [operators.Blocks(s, 2) for s in (0.02, 0.1, 0.4)],
    "Holes": [operators.Holes(s) for s in (0.02, 0.1, 0.4)],
    "Dust": [operators.Dust(s) for s in (0.005, 0.02, 0.1)],
    "Stains": [operators.Stains(o) for o in (0.1, 0.4, 0.9)],
}
LOSING = ("Scratches", "Tears", "Scribbles", "Blocks", "Holes", "Dust", "Stains")
ALL = [pytest.param(damages[1], id=name) for name, damages in STRONGER.items()]


@pytest.mark.parametrize("one", ALL)
def test_the_same_generator_gives_the_same_damage(one):
    first, second = (one(picture(), seeded(1)) for _ in range(2))
    assert torch.equal(first.picture, second.picture)
    assert torch.equal(first.mask, second.mask)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("one", ALL)
def test_shape_and_range_are_kept_at_any_size(one, height, width, seed):
    result = one(torch.rand(3, height, width, generator=seeded(seed)) * 2 - 1, seeded(seed))
    assert result.picture.shape == (3, height, width)
    assert result.mask.shape == (1, height, width)
    assert result.picture.abs().max() <= 1 + 1e-6
    assert set(result.mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", STRONGER)
def test_stronger_is_farther_from_the_original(name):
    clean = picture()

    def closeness(one) -> float:
        return sum(float(psnr(one(clean, seeded(s)).picture[None], clean[None])) for s in range(8))

    ratios = [closeness(one) for one in STRONGER[name]]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > ratios[-1]


@pytest.mark.parametrize("one", ALL)
def test_the_original_is_not_touched(one):
    clean = picture()
    one(clean, seeded())
    assert torch.equal(clean, picture())


@pytest.mark.parametrize("name", LOSING)
def test_what_lies_outside_the_mask_is_as_it_was(name):
    clean = picture()
    result = STRONGER[name][2](clean, seeded())
    assert 0 < result.mask.mean() < 1
    outside = (result.mask == 0).expand_as(clean)
    assert (result.picture - clean)[outside].abs().max() < 0.07  # what covers less than 1/32 of a pixel shows little


@pytest.mark.parametrize("name", ["Scratches", "Scribbles", "Tears", "Holes"])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_as_much_is_covered_as_was_asked_for(name, share):
    one = getattr(operators, name)(share) if name == "Holes" else getattr(operators, name)(share, 3)
    covered = [float(one(picture(96, 96), seeded(s)).mask.mean()) for s in range(6)]
    assert share * 0.8 < sum(covered) / 6 < share + 0.08


def test_a_blur_after_a_scratch_spreads_what_is_lost():
    scratch, blur = operators.Scratches(0.05, 2), operators.DefocusBlur(3)
    sharp = damaged(picture(), [scratch], seeded())
    smeared = damaged(picture(), [scratch, blur], seeded())
    assert smeared.mask.sum() > sharp.mask.sum()
    assert (smeared.mask >= sharp.mask).all()


def test_the_noise_level_is_on_the_scale_of_8_bits():
    noisy = GaussianNoise(25)(torch.zeros(3, 64, 64), seeded()).picture
    assert noisy.std() * 127.5 == pytest.approx(25, rel=0.03)


def test_photon_noise_is_stronger_where_it_is_bright():
    noisy = operators.PoissonNoise(50)(torch.tensor([-0.8, 0.5])[:, None].expand(3, 2, 4000), seeded()).picture
    assert noisy[:, 1].std() > 2 * noisy[:, 0].std()


def test_units_convert_both_ways():
    assert to_levels(to_unit(25.0)) == pytest.approx(25)
    assert to_unit(127.5) == 1


@pytest.mark.parametrize(
    "nothing",
    [GaussianNoise(0), operators.Fading(0), operators.ColourCast(0), operators.Downscale(1), operators.Blocks(0)],
)
def test_no_damage_changes_nothing(nothing):
    assert torch.allclose(nothing(picture(), seeded()).picture, picture(), atol=1e-5)


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: GaussianNoise(-1), lambda: GaussianNoise(256), lambda: GaussianNoise(float("nan")),
        lambda: operators.Jpeg(0), lambda: operators.Downscale(0.5), lambda: operators.Scratches(1.5, 2),
        lambda: operators.Fading(2), lambda: operators.PoissonNoise(0),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused_in_one_sentence(impossible):
    with pytest.raises(UserError, match="must be (between|a whole number from) "):
        impossible()


def test_an_unknown_kernel_is_refused():
    with pytest.raises(UserError, match="kernel must be nearest, box, bilinear, bicubic or lanczos"):
        operators.Downscale(2, "magic")
