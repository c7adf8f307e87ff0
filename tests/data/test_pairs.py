"""Pairs to learn restoration from: what is clean stays clean, and what is told is true."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.data.augmentation import painted_over
from sd_core.data.pairs import CleanPictures, crop, open_clean, sloppy
from sd_core.errors import DataError


@pytest.fixture(scope="module")
def clean() -> CleanPictures:
    random = np.random.default_rng(0)
    smooth = [
        np.asarray(Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((200, 150))) for _ in range(3)
    ]
    return CleanPictures("smooth", tuple(smooth))


@pytest.fixture(scope="module")
def pairs(clean):
    return [clean.pair(32, torch.Generator().manual_seed(i)) for i in range(300)]


def test_a_pair_comes_from_its_generator_alone(clean):
    first, second = (clean.pair(32, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.damaged, second.damaged)
    assert torch.equal(first.clean, second.clean)


def test_pairs_have_the_shapes_and_range_of_pictures(pairs):
    for pair in pairs:
        assert pair.clean.shape == pair.damaged.shape == (3, 32, 32)
        assert pair.mask.shape == (1, 32, 32)
        assert pair.clean.abs().max() <= 1


def test_about_one_pair_in_ten_is_undamaged(pairs):
    share = sum(torch.equal(p.clean, p.damaged) for p in pairs) / len(pairs)
    assert 0.05 < share < 0.2


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_as_many_pairs_as_wished_are_noisy(clean, share):
    made = [clean.pair(16, torch.Generator().manual_seed(i), share) for i in range(200)]
    changed = sum(bool((p.damaged != p.clean).all(dim=0).float().mean() > 0.5 and not p.mask.any()) for p in made) / 200
    assert share - 0.15 < changed < share + (1 - share) / 2
    assert abs(sum(bool(p.mask.any()) for p in made) / 200 - 0.7 * (0.9 - share)) < 0.15


def test_a_specialist_learns_white_noise_and_marked_places_and_nothing_else(clean):
    made = [clean.pair(32, torch.Generator().manual_seed(i), 0.6, specialist=True) for i in range(200)]
    noisy, marked = ([p for p in made if p.mask.any() == lost] for lost in (False, True))
    assert 100 < len(noisy) < 140
    told = [p for p in noisy if p.told_sigma is not None]
    assert 0.3 < len(told) / len(noisy) < 0.7
    assert all(not p.told_mask.any() for p in told)
    assert_told_truly(told)
    assert all(p.told_sigma == 0 and (p.told_mask >= p.mask).all() for p in marked)
    assert all(((p.damaged - p.clean).abs() * (1 - p.mask)).max() < 0.1 for p in marked)  # a tear's faint edge


def test_a_told_mask_covers_what_is_lost(pairs):
    told = [p for p in pairs if p.told_mask is not None and p.mask.any()]
    assert len(told) > 50
    assert all((p.told_mask >= p.mask).all() for p in told)


def test_a_told_noise_level_is_the_true_one(pairs):
    noisy = [p for p in pairs if p.told_sigma]
    assert len([p for p in noisy if not p.mask.any()]) > 20
    assert len([p for p in noisy if p.mask.any()]) > 2
    assert_told_truly(noisy)


def assert_told_truly(noisy):
    """The noise of pairs is as strong as is told, where no file clips it."""
    for pair in noisy:
        kept = (pair.clean.abs() < 1 - 3 * pair.told_sigma) & (pair.mask == 0)
        inside = kept.all(dim=0).expand_as(pair.clean)
        if inside.sum() > 1000:
            assert (pair.damaged - pair.clean)[inside].std() == pytest.approx(pair.told_sigma, rel=0.12)


def test_some_damage_must_be_found_and_some_is_told(pairs):
    lost = [p for p in pairs if p.mask.any()]
    assert 0.1 < sum(p.told_mask is None for p in lost) / len(lost) < 0.6


def test_crops_come_at_the_pictures_own_scale_or_smaller(clean):
    for seed in range(20):
        piece = crop(clean.pictures[0], 64, torch.Generator().manual_seed(seed))
        assert piece.shape == (3, 64, 64)


def test_painting_keeps_shape_and_range_and_changes_the_picture():
    flat = torch.zeros(3, 48, 48)
    for seed in range(30):
        painted = painted_over(flat, torch.Generator().manual_seed(seed))
        assert painted.shape == flat.shape
        assert painted.abs().max() <= 1
        assert not torch.equal(painted, flat)


def test_a_persons_mask_is_no_smaller_than_the_damage():
    mask = torch.zeros(1, 20, 20)
    mask[:, 8:10, 8:10] = 1
    grown = [sloppy(mask, torch.Generator().manual_seed(s)) for s in range(20)]
    assert all((g >= mask).all() for g in grown)
    assert len({float(g.sum()) for g in grown}) > 2


def test_pictures_keep_their_own_size_and_small_ones_are_skipped(tmp_path):
    for name, size in (("a", (90, 70)), ("b", (300, 80)), ("small", (20, 200))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    found = open_clean(str(tmp_path))
    assert sorted(p.shape for p in found.pictures) == [(70, 90, 3), (80, 300, 3)]
    assert {s.file for s in found.skipped} == {"small.png", "broken.jpg"}


def test_nothing_to_learn_from_is_told_in_one_sentence(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "tiny.png")
    with pytest.raises(DataError, match="No picture of at least 64×64"):
        open_clean(str(tmp_path))


def test_an_archives_useless_entries_are_named_and_the_others_used(tmp_path):
    random = np.random.default_rng(0)

    def png() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (70, 70, 3), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    good = png()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in (("a.png", good), ("b.png", good), ("c.png", png()), ("../d.png", png()), ("e.png", b"no")):
            archive.writestr(name, data)
        archive.writestr("f.png", damaged := png())
    raw = (tmp_path / "set.zip").read_bytes()
    middle = raw.index(damaged) + len(damaged) // 2
    (tmp_path / "set.zip").write_bytes(raw[:middle] + b"DAMAGED" + raw[middle + 7 :])
    found = open_clean(str(tmp_path / "set.zip"))
    assert len(found) == 2
    reasons = {skipped.file: skipped.reason for skipped in found.skipped}
    assert reasons["b.png"] == "the same picture as a.png"
    assert "out of the archive" in reasons["../d.png"]
    assert reasons.keys() == {"b.png", "../d.png", "e.png", "f.png"}


def test_only_the_chosen_styles_are_drawn_large(tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path))
    monkeypatch.setattr("sd_core.data.pairs.DRAWN_SIDE", 24)
    chosen = open_clean("characters", count=3, styles=["lorelei"])
    assert [picture.shape for picture in chosen.pictures] == [(24, 24, 3)] * 3
    assert "Lorelei" in chosen.credits and chosen.credits.count("” by ") == 1
    assert open_clean("characters", count=3).credits.count("” by ") > 1
