"""What a restorer is taught: pairs that follow from seed and step, and samples to look at."""

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.data.pairs import CleanPictures, Pair, crop
from sd_core.diffusion.noise import SIGMA_MAX, SigmaDistribution
from sd_core.errors import TrainingFailed
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Samples
from sd_core.training.objectives.base import BatchSlice
from sd_core.training.objectives.restoration import RestorationLoss, RestorationObjective
from sd_core.training.setup import new_generator, new_restorer
from sd_core.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clean() -> CleanPictures:
    random = np.random.default_rng(0)
    made = [Image.fromarray(random.integers(0, 256, (5, 7, 3), np.uint8)).resize((160, 130)) for _ in range(4)]
    return CleanPictures("colours", tuple(np.asarray(picture) for picture in made))


def new_trainer(clean: CleanPictures, model_seed: int = 0, **options) -> Trainer:
    config = TrainingConfig(**{"steps": 6, "batch": 4, "warmup": 0, "save_every": 3, "sample_every": 100, **options})
    trainer = Trainer(new_restorer("tiny", 32, model_seed), clean, config, CPU)
    trainer.objective.sample_pairs, trainer.objective.sample_side = 2, 32
    trainer.objective.loader.workers = 0  # which costs no start
    return trainer


def new_restoration_objective(
    clean: CleanPictures, one_step_share: float = 0.5, workers: int = 0
) -> RestorationObjective:
    sigmas = SigmaDistribution(-1.8, 1.2)
    return RestorationObjective(new_restorer("tiny", 32, 0), clean, 7, 8, sigmas, one_step_share, 0.5, workers=workers)


def shown(taught: RestorationObjective, share: BatchSlice) -> list[torch.Tensor]:
    """What a share of step 3 shows, its parts joined."""
    return [torch.cat(part) for part in zip(*taught.examples(3, share, CPU), strict=True)]


class FadedPictures(CleanPictures):
    """Whose damage is of one kind, soon learnt."""

    def pair(self, side: int, generator: torch.Generator, *_) -> Pair:
        clean = crop(self.pictures[0], side, generator)
        nothing = torch.zeros_like(clean[:1])
        return Pair(clean, clean / 2, nothing, nothing, None)


def test_a_restorer_learns_to_repair(clean):
    faded = FadedPictures("faded", clean.pictures)
    trainer = new_trainer(faded, steps=60, batch=8, learning_rate=5e-3, warmup=5, one_step_share=1.0)

    def loss() -> float:
        with torch.no_grad():
            unseen = trainer.objective.examples(10**6, BatchSlice(0, 8, 1), CPU)
            return sum(float(trainer.objective.loss(*example)) for example in unseen)

    before = loss()
    for _ in trainer.run():
        pass
    assert loss() < before - 0.7  # six decibels


def test_a_stopped_and_resumed_restorer_has_the_same_weights(clean):
    through, stopped, resumed = (new_trainer(clean, seed) for seed in (0, 0, 5))
    for _ in through.run():
        pass
    for event in stopped.run():
        if type(event).__name__ == "Saved":
            state = stopped.state()
            break
    resumed.load_state(*state)
    for _ in resumed.run():
        pass
    first, second = through.state()[0], resumed.state()[0]
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_parts_of_a_batch_are_the_batch(clean):
    taught = new_restoration_objective(clean)
    whole, halves, split = (
        shown(taught, share) for share in (BatchSlice(0, 8, 1), BatchSlice(0, 8, 2), BatchSlice(4, 8, 1))
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, halves, strict=True))
    assert all(torch.equal(a[4:], b) for a, b in zip(whole, split, strict=True))


@pytest.mark.parametrize("parts", [1, 2])
def test_pairs_made_ahead_are_those_made_when_asked_for(clean, parts):
    here, elsewhere = (new_restoration_objective(clean, workers=workers) for workers in (0, 1))
    list(elsewhere.examples(2, BatchSlice(0, 8, parts), CPU))
    alone = shown(here, BatchSlice(0, 8, 1))
    assert all(torch.equal(a, b) for a, b in zip(shown(elsewhere, BatchSlice(0, 8, parts)), alone, strict=True))
    elsewhere.close()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="workers are forked")
def test_a_training_that_is_left_in_between_leaves_no_process_behind(clean):
    others = multiprocessing.active_children()
    trainer = new_trainer(clean, steps=100)
    trainer.objective.loader.workers = 1
    training = trainer.run()
    next(training)
    assert len(multiprocessing.active_children()) == len(others) + 1
    training.close()
    assert multiprocessing.active_children() == others


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_the_share_of_one_step_answers_is_as_configured(clean, share, count):
    sigma = shown(new_restoration_objective(clean, share), BatchSlice(0, 8, 1))[1]
    assert int((sigma == SIGMA_MAX).sum()) == count


def test_samples_are_damaged_restored_and_clean_side_by_side(clean):
    trainer = new_trainer(clean)
    first, second = trainer.samples(), trainer.samples()
    assert isinstance(first, Samples)
    assert first.pictures.shape == (2, 3, 32, 96)
    assert torch.equal(first.pictures, second.pictures)


def test_a_restorer_whose_loss_explodes_stops(clean):
    trainer = new_trainer(clean, steps=40, save_every=1, learning_rate=30.0)
    with pytest.raises(TrainingFailed, match="exploded|not a number"):
        list(trainer.run())
    assert trainer.step < 40


def test_lost_places_are_judged_by_themselves():
    """The same error in one pixel of a hundred costs more if that pixel was to be repaired than if it was there."""
    answer = torch.zeros(1, 3, 10, 10)
    answer[..., 0, 0] = 0.5

    class Model(torch.nn.Module):
        def restored(self, x, sigma, conditioning):
            return answer, torch.zeros_like(answer[:, :1])

    def loss(row: int) -> float:
        mask = torch.zeros(1, 1, 10, 10)
        mask[..., row, 0] = 1
        x0 = torch.zeros_like(answer)
        return float(RestorationLoss(Model())(x0, torch.ones(1), x0, x0, mask, mask, mask))

    assert loss(row=0) > 3 * loss(row=1)


def test_each_kind_of_model_has_its_kind_of_pictures(clean, squares):
    pictures, config = squares(6), TrainingConfig(steps=1, batch=2)
    with pytest.raises(ValueError, match="learns from pairs"):
        Trainer(new_restorer("tiny", 32, 0), pictures, config, CPU)
    with pytest.raises(ValueError, match="learns from captions"):
        Trainer(new_generator(pictures, "tiny", 0), clean, config, CPU)
