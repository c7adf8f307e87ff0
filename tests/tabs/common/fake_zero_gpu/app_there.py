"""Generates and restores as the app does on ZeroGPU hardware. Run by test_zero_gpu.py, which reads what it prints."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import torch
from gradio.context import LocalContext

import app
from sd_core.generation.request import GenerationRequest
from sd_core.pictures.original import open_original
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import RestoreRequest
from tabs.common.sessions import SESSIONS
from tabs.common.zero_gpu import PIXELS_PER_SECOND, compute, new_registry
from tabs.generate.job import Walk, draw
from tabs.restore.job import RestoreJobRequest, propose, repair

said = {"demo": type(app.build()).__name__, "spaces": sys.modules["spaces"].__file__}
torch.set_num_threads(1)
torch.rand(600, 600) @ torch.rand(600, 600)  # threads that a fork does not take along
folder, picture = Path(sys.argv[1]), sys.argv[2]
visitor = gr.Request(SimpleNamespace(headers={}), session_hash="somebody")
LocalContext.request.set(visitor)
registry = new_registry()
said["device"] = str(registry.device)
mask = torch.zeros(40, 56, dtype=torch.bool)
mask[10:30, 20:25] = True


def last(shown):
    *_, newest = shown
    return newest


def nothing(registry):
    yield 0


def error_of(shown):
    try:
        last(shown)
    except Exception as error:
        return [type(error).__name__, str(error)]


request = GenerationRequest("red hair", count=2, steps=3, seed=5, start=torch.zeros(3, 16, 16))
said["drawn"] = [str(path) for path in last(draw(visitor, registry, "characters", request)).batch.paths]
said["frames"] = len(SESSIONS.of(visitor).trajectory.frames)
walked = draw(visitor, registry, "characters", GenerationRequest("hair", steps=2), Walk(3, 4))
said["walked"] = len(last(walked).batch.paths)
wanted = RestoreJobRequest(picture, "restorer", RestoreRequest(mask, steps=2, candidates=3))
said["repaired"] = last(repair(visitor, registry, wanted)).repaired.paths
wanted = RestoreJobRequest(picture, "characters", RestoreRequest(mask, steps=2))
said["filled"] = last(repair(visitor, registry, wanted)).repaired.paths
wanted = RestoreJobRequest(picture, "characters", RestoreRequest(whole=True, sigma=20))
said["cleaned"] = last(repair(visitor, registry, wanted)).repaired.paths
said["found"] = last(propose(visitor, registry, "restorer", open_original(picture))).shape
elsewhere = RestoreJobRequest(picture, "characters", RestoreRequest(mask, square=CropBox(40, 0, 10)))
said["error"] = error_of(repair(visitor, registry, elsewhere))
shown = draw(visitor, registry, "characters", GenerationRequest("hair", count=64, steps=100))
for item in shown:
    if item.preview:
        break
SESSIONS.of(visitor).stop()
said["stopped"] = last(shown).status
for pixels in (10 * PIXELS_PER_SECOND, 10**12):
    list(compute(registry, nothing, (), pixels))
(folder / "said.json").write_text(json.dumps(said))
