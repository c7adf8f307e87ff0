"""What the Train tab allows on a public Space: little to each visitor, whatever name he comes under."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from chosen_values import VALUES

from sd_core.errors import RunError
from sd_core.models.registry import ModelRegistry
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, Status
from sd_core.training.config import TrainingConfig
from tabs.common.budget import address_of
from tabs.train import limits
from tabs.train.limits import Limits, is_owner, new_browser, own

HOME, CAFE = "93.184.216.34", "151.101.1.69"


@pytest.fixture
def registry(checkpoints, tmp_path):
    return ModelRegistry(checkpoints, tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a run as the page does on a Space."""
    monkeypatch.setattr(queue, "ensure_keeper", lambda root: None)

    def create(name: str, browser: str = "", minutes: float = 10, visitor=None) -> Run:
        config = RunConfig("characters", size="tiny", resolution=8, minutes=minutes, training=TrainingConfig(steps=10))
        run = Run.create(name, config, tmp_path / "runs")
        if browser:
            own(run, browser, visitor)
        return run

    return create


@pytest.fixture
def run(make):
    return make("mine")


def at(*forwarded: str, client: str = "10.0.0.7") -> SimpleNamespace:
    """A request as it comes through a Space's proxy."""
    headers = {"x-forwarded-for": ", ".join(forwarded)} if forwarded else {}
    return SimpleNamespace(headers=headers, client=SimpleNamespace(host=client))


def test_ones_own_machine_has_no_limits():
    assert Limits.of_environment({}) == Limits()
    assert Limits().note(None) == ""


@pytest.mark.parametrize(
    ("environment", "refusal", "minutes"),
    [
        ({"SPACE_ID": "me/space"}, "", 10),
        ({"SPACE_ID": "me/space", "SD_CORE_TRAIN": "free"}, "", 0),
        ({"SD_CORE_TRAIN": "limited"}, "", 10),
        ({"SPACE_ID": "me/space", "SD_CORE_TRAIN": "off"}, "train_off", 10),
        ({"SPACE_ID": "me/space", "SPACES_ZERO_GPU": "true"}, "train_zero", 10),
    ],
)
def test_the_environment_sets_the_limits(environment, refusal, minutes):
    limits = Limits.of_environment(environment)
    assert (limits.refusal, limits.minutes) == (refusal, minutes)
    assert bool(limits.note(None)) == bool(refusal or minutes)
    with pytest.raises(ValueError, match="SD_CORE_TRAIN"):
        Limits.of_environment({"SD_CORE_TRAIN": "maybe"})


LIMITED = Limits.of_environment({"SD_CORE_TRAIN": "limited"})


@pytest.mark.parametrize("wrong", [{"size": "large"}, {"resolution": 512}, {"batch": 128}, {"count": 5000}])
def test_a_space_refuses_what_is_too_large_for_it(registry, wrong):
    with pytest.raises(RunError, match="allowed here"):
        dataclasses.replace(VALUES, **wrong).create(registry, LIMITED)
    assert VALUES.create(registry, LIMITED).config().minutes == 10


def test_only_the_browser_that_started_a_run_steers_it(run):
    mine, other = new_browser(), new_browser()
    own(run, mine, at(HOME))
    assert is_owner(run, mine) and not is_owner(run, other) and not is_owner(run, "")
    noted = (run.folder / limits.OWNER).read_text()
    assert mine not in noted and HOME not in noted
    LIMITED.check_steer(run, mine, None)
    Limits().check_steer(run, other, None)
    with pytest.raises(RunError, match="Only the browser"):
        LIMITED.check_steer(run, other, None)


def test_a_visitor_has_one_run_at_a_time_on_a_space(make, registry):
    mine = new_browser()
    run = make("mine", mine)
    LIMITED.check_start(mine, registry.runs, None)
    queue.enqueue(run)
    with pytest.raises(RunError, match="mine"):
        LIMITED.check_start(mine, registry.runs, None)
    LIMITED.check_start(new_browser(), registry.runs, None)
    Limits().check_start(mine, registry.runs, None)


def test_a_fresh_browser_at_the_same_address_is_the_same_visitor(make, registry):
    queue.enqueue(make("mine", new_browser(), visitor=at(HOME)))
    with pytest.raises(RunError, match="network address: mine"):
        LIMITED.check_start(new_browser(), registry.runs, at(HOME))
    with pytest.raises(RunError, match="network address: mine"):
        LIMITED.check_start(new_browser(), registry.runs, at("1.2.3.4", HOME))  # a header that the visitor began
    LIMITED.check_start(new_browser(), registry.runs, at(CAFE))


@pytest.mark.parametrize(
    ("visitor", "address"),
    [
        (None, ""),
        (at(), ""),
        (at(client=HOME), HOME),
        (at(HOME), HOME),
        (at("nonsense", HOME, "10.1.2.3"), HOME),
        (at("1.2.3.4", HOME), HOME),
        (at(f"::ffff:{HOME}"), HOME),
        (at("2606:4700::6810:84e5"), "2606:4700::/64"),
        (SimpleNamespace(headers=None, client=None), ""),
    ],
)
def test_an_address_is_the_last_public_one_that_a_proxy_names(visitor, address):
    assert address_of(visitor) == address


def test_all_visitors_together_have_so_many_runs_and_no_more(make, registry):
    for number in range(LIMITED.unfinished):
        LIMITED.check_start(new_browser(), registry.runs, None)
        queue.enqueue(make(f"run{number}", new_browser()))
    with pytest.raises(RunError, match="6 runs"):
        LIMITED.check_start(new_browser(), registry.runs, None)
    Limits().check_start(new_browser(), registry.runs, None)


def test_going_on_obeys_what_starting_does(make):
    mine = new_browser()
    first, second = make("first", mine), make("second", mine)
    for run in (first, second):
        run.write_status(Status("paused", step=2, steps=10))
        LIMITED.check_resume(run, mine, None)
    queue.enqueue(first)
    with pytest.raises(RunError, match="first"):
        LIMITED.check_resume(second, mine, None)
    LIMITED.check_resume(first, mine, None)  # which may be made longer while it waits


def test_a_run_that_had_its_time_is_not_resumed(run):
    run.write_status(Status("finished", seconds_worked=601))
    with pytest.raises(RunError, match="10 minutes"):
        LIMITED.check_resume(run, new_browser(), None)
    Limits().check_resume(run, new_browser(), None)


@pytest.mark.parametrize("minutes", [0, 60])
def test_a_run_from_before_the_limits_does_not_go_on_without_them(make, minutes):
    run = make("old", minutes=minutes)
    with pytest.raises(RunError, match="without the limits"):
        LIMITED.check_resume(run, new_browser(), None)
    Limits().check_resume(run, new_browser(), None)


def test_where_training_is_off_nothing_is_started_resumed_measured_or_looked_at(make, registry):
    off = Limits.of_environment({"SD_CORE_TRAIN": "off"})
    mine = new_browser()
    run = make("mine", mine)
    for check in (
        lambda: off.check_allowed(None),
        lambda: off.check_start(mine, registry.runs, None),
        lambda: off.check_steer(run, mine, None),
        lambda: off.check_resume(run, mine, None),
    ):
        with pytest.raises(RunError, match="switched off"):
            check()


def test_a_large_upload_is_refused_on_a_space(tmp_path):
    file = tmp_path / "large.zip"
    with open(file, "wb") as opened:
        opened.truncate(65 * 2**20)
    with pytest.raises(RunError, match="65 MB"):
        LIMITED.check_upload([file], None)
    Limits().check_upload([file], None)
