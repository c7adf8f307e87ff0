"""Which accelerator is used, and that a CPU is left as it is."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from sd_core import device

CPU = torch.device("cpu")
CPU_INFO = Path("/proc/cpuinfo")


def test_the_environment_chooses_the_device(monkeypatch):
    monkeypatch.setenv("SD_CORE_DEVICE", "cpu")
    assert device.best_device() == CPU
    monkeypatch.setenv("SD_CORE_DEVICE", "cuda:1")
    assert device.best_device() == torch.device("cuda", 1)


def test_an_unknown_device_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("SD_CORE_DEVICE", "abacus")
    with pytest.raises(ValueError, match="SD_CORE_DEVICE is 'abacus', but must be cpu"):
        device.best_device()


def test_an_accelerator_is_used_where_there_is_one(monkeypatch):
    monkeypatch.delenv("SD_CORE_DEVICE", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert device.best_device() == torch.device("cuda")


def test_without_an_accelerator_the_cpu_is_used(monkeypatch):
    monkeypatch.delenv("SD_CORE_DEVICE", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device.best_device() == CPU


@pytest.mark.parametrize(("tiles", "vectors"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_cpu_trains_in_bfloat16_if_it_has_units_for_it_and_draws_in_float32(monkeypatch, tiles, vectors):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    with device.autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if tiles or vectors else torch.float32)
    with device.inference_autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(not CPU_INFO.exists(), reason="the system does not name the processor's flags there")
def test_units_for_bfloat16_are_those_that_the_processor_names():
    named = set(CPU_INFO.read_text("utf-8").split())
    assert device.has_fast_bf16(CPU) == bool(named & {"amx_tile", "avx512_bf16"})


def test_a_cpu_is_not_compiled_for():
    assert not device.compile_pays(CPU)


@pytest.mark.parametrize(("enabled", "fast", "mixed"), [(True, True, True), (True, False, False), (False, True, False)])
def test_mixed_precision_is_used_only_where_wanted_and_fast(monkeypatch, enabled, fast, mixed):
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: fast)
    context = device.autocast(CPU, enabled)
    assert isinstance(context, nullcontext) != mixed
    with context:
        dtype = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert dtype == (torch.bfloat16 if mixed else torch.float32)


def test_a_device_is_described_in_words(monkeypatch):
    assert device.describe(CPU) == f"CPU, {torch.get_num_threads()} threads"
    assert device.describe(torch.device("mps")) == "MPS"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    assert device.describe(torch.device("cuda")) == "NVIDIA H100"


def test_waiting_for_work_concerns_accelerators_only(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    device.synchronize(CPU)
    assert waited == []
    device.synchronize(torch.device("cuda"))
    assert waited == [torch.device("cuda")]
