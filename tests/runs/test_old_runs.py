"""Runs that earlier versions of the program wrote are read, and gone on with."""

import json

import pytest
from small_runs import finish

from sd_core.errors import RunError
from sd_core.runs.run import Run, Status
from sd_core.training.config import TrainingConfig

# As version e1bcc8b, before the settings were pydantic's, wrote a run that was paused before its first save.
CONFIG = """{
 "data": "/nowhere/squares.zip",
 "kind": "generator",
 "styles": null,
 "count": null,
 "caption_template": "{}",
 "fit": "crop",
 "size": "tiny",
 "resolution": 8,
 "start": "",
 "minutes": 0.0,
 "training": {
  "steps": 6,
  "batch": 4,
  "accumulate": 1,
  "optimizer": "muon",
  "learning_rate": 0.003,
  "weight_decay": 0.01,
  "warmup": 2,
  "cooldown": 0,
  "gradient_clip": 1.0,
  "ema_share": 0.05,
  "ema_pictures": 500000,
  "sigma_mean": 0.0,
  "sigma_std": 1.7,
  "one_step_share": 0.75,
  "noisy_share": 0.5,
  "specialist": false,
  "caption_dropout": 0.1,
  "flips": true,
  "bf16": true,
  "seed": 0,
  "sample_every": 3,
  "save_every": 3,
  "sample_prompts": [
   "a red square",
   "a blue square"
  ]
 }
}"""
STATUS = """{
 "state": "paused",
 "reason": "",
 "prepared": 0,
 "pictures": 0,
 "drawn": 0,
 "draws": 0,
 "step": 1,
 "steps": 6,
 "pictures_seen": 4,
 "loss": 1.3118435144424438,
 "learning_rate": 0.0015,
 "pictures_per_second": 14.016536906467547,
 "seconds_left": 1.426885980000634,
 "seconds_worked": 0.46,
 "memory": 782999552,
 "device": "CPU, 1 threads"
}"""
CONTROL = """{
 "wish": "pause",
 "steps": 6,
 "ticket": 1
}"""
METRICS = """{"step": 1, "steps": 6, "pictures_seen": 4, "loss": 1.3118435144424438, "learning_rate": 0.0015, \
"gradient_norm": 1.911135196685791, "pictures_per_second": 14.016536906467547, "seconds_left": 1.426885980000634, \
"seconds": 0.46}
"""


@pytest.fixture
def old(tmp_path, archive) -> Run:
    folder = tmp_path / "runs" / "old"
    (folder / "samples").mkdir(parents=True)
    files = {"config.json": CONFIG, "status.json": STATUS, "control.json": CONTROL, "metrics.jsonl": METRICS}
    for name, text in files.items():
        (folder / name).write_text(text.replace("/nowhere/squares.zip", str(archive)))
    (folder / "lock").touch()
    return Run(folder)


def test_an_old_run_is_read_as_it_was_written(old):
    config = old.config()
    expected = TrainingConfig(
        steps=6, batch=4, warmup=2, sample_every=3, save_every=3, sample_prompts=("a red square", "a blue square")
    )
    assert config.training == expected
    assert (config.kind, config.size, config.resolution, config.styles) == ("generator", "tiny", 8, None)
    assert old.status() == Status(**json.loads(STATUS))
    assert [line["step"] for line in old.metrics()] == [1]


def test_an_old_run_is_gone_on_with(old):
    old.wish("run")
    assert finish(old).status().state == "finished"
    assert [line["step"] for line in old.metrics()] == [1, 2, 3, 4, 5, 6]


def test_settings_that_came_later_have_their_defaults_in_an_older_run(old):
    values = json.loads(CONFIG)
    for later in ("minutes", "fit", "kind"):
        del values[later]
    for later in ("specialist", "noisy_share", "one_step_share"):
        del values["training"][later]
    (old.folder / "config.json").write_text(json.dumps(values | {"styles": ["adventurer"], "data": "characters"}))
    config = old.config()
    assert (config.kind, config.styles, config.training.noisy_share) == ("generator", ("adventurer",), 0.5)


@pytest.mark.parametrize("changed", [{"future": 1}, {"training": {"future": 1}}, {"count": "many"}, {"minutes": -1}])
def test_settings_of_a_newer_version_are_refused_in_one_sentence(old, changed):
    (old.folder / "config.json").write_text(json.dumps({"data": "characters"} | changed))
    with pytest.raises(RunError, match=r"config\.json is damaged \((There is no setting|.* must be )[^\n]*\)\.$"):
        old.config()
