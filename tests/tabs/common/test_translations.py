"""The library's sentences in Chinese reach those who read Chinese."""

import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from sd_core.generation.pipeline import walk_noises
from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.archive import open_files
from sd_core.pictures.masks import read_mask
from sd_core.pictures.original import open_original
from sd_core.restoration.request import RestoreRequest
from sd_core.restoration.upscaling import passes
from sd_core.runs.run import Run
from tabs.common.errors import plain_error
from tabs.common.words import catalogue, in_their_language


def visitor(language: str) -> gr.Request:
    return gr.Request(SimpleNamespace(headers={"accept-language": language}))


def test_each_takes_only_values_that_the_sentence_has():
    for sentence, chinese in catalogue("zh").items():
        if " " in sentence:
            assert set(re.findall(r"{(\w+)", chinese)) <= set(re.findall(r"{(\w+)", sentence)), sentence


def too_small(folder: Path) -> None:
    Image.new("RGB", (4, 5)).save(folder / "a.png")
    open_original(folder / "a.png")


def other_size(folder: Path) -> None:
    Image.new("L", (20, 30)).save(folder / "a.png")
    read_mask(folder / "a.png", (30, 40))


def no_zip(folder: Path) -> None:
    (folder / "pictures.zip").write_bytes(b"none")
    open_files(folder / "pictures.zip")


def too_large(folder: Path) -> None:
    passes((7000, 7000), 4)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (too_small, "该图片为 4×5 像素，至少需要 8×8。"),
        (other_size, "蒙版为 20×30 像素，而图片为 30×40，两者大小必须相同。"),
        (no_zip, "无法将 pictures.zip 作为 .zip 读取"),
        (too_large, "放大 4 倍后将超过 40 百万像素。"),
        (lambda folder: RestoreRequest(strength=3), "强度必须在 0 到 2 之间，而不是 3。"),
        (lambda folder: RestoreRequest(steps=2.5), "步数必须是 1 到 50 的整数，而不是 2.5。"),
        (lambda folder: RestoreRequest(seed=2**32), "随机种子是 0 到 4294967295 的整数，当前为 4294967296。"),
        (lambda folder: Run(folder / "mine").delete(), "名为 mine 的训练已不存在。"),
        (lambda folder: GenerationRequest(count=0), "图片数量必须是 1 到 64 的整数，而不是 0。"),
        (lambda folder: GenerationRequest(sampler="LMS"), "没有采样器 'LMS'；可用的有 dpmpp_2m"),
        (lambda folder: GenerationRequest(steps=2.5), "步数必须是 1 到 100 的整数，而不是 2.5。"),
        (lambda folder: GenerationRequest(guidance=99), "引导强度必须在 0 到 15 之间，而不是 99。"),
        (lambda folder: GenerationRequest(seed=-1), "随机种子是 0 到 4294967295 的整数，当前为 -1。"),
        (lambda folder: GenerationRequest(variation_strength=2), "变体强度必须在 0 到 1 之间，而不是 2。"),
        (lambda folder: Noise.parse("x"), "变体来源应为种子，例如 12，或另一个变体，例如 “12 7:0.3”，当前为 'x'。"),
        (lambda folder: Noise.parse("1 2:3"), "混入噪声的比例必须在 0 到 1 之间，当前为 3.0。"),
        (lambda folder: walk_noises(GenerationRequest(), 2, 500), "漫步的帧数为 2 到 120，当前为 500。"),
        (lambda folder: ModelRegistry(folder, folder).load("dreams"), "没有模型 'dreams'，请从列表中选择。"),
    ],
)
def test_they_reach_who_reads_chinese(trouble, said, tmp_path):
    with pytest.raises(ValueError) as caught:
        trouble(tmp_path)
    assert said in plain_error(caught.value, visitor("zh-CN,en;q=0.5")).message
    for other in (None, visitor("en-US,zh;q=0.5")):
        assert plain_error(caught.value, other).message == str(caught.value).replace(f"{tmp_path}/", "")


def test_what_has_no_translation_is_told_as_it_is():
    assert in_their_language("Something else.", visitor("zh")) == "Something else."
