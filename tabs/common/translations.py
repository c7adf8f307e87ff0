"""What the library says of bad input, in Simplified Chinese: of its sentences, those that people most often meet on the
page; others stay as they are. The library itself speaks English only, as its command line does.
"""

import functools
import re

import gradio as gr

from sd_core.pictures.decoding import NO_PICTURE
from tabs.common.words import reads_chinese

LONGEST = 400  # characters: a pattern with several gaps takes far longer on a long text than it is worth

# {} stands for whatever is in its place; a translation takes it as it comes, or by {0}, {1} what it needs.
SENTENCES = {
    # pictures
    "This picture is too large; up to {} million pixels are allowed.": "图片太大，最多允许 {} 百万像素。",
    NO_PICTURE: "文件已损坏、不是图片，或格式不受支持；支持 PNG、JPEG、WebP、AVIF、GIF、BMP 和 TIFF。",
    "This picture carries no settings; use a PNG as it was downloaded from a Stable Diffusion tool.": (
        "该图片不含生成设置；请使用从 Stable Diffusion 工具原样下载的 PNG。"
    ),
    "This picture has {} pixels; at least {} are needed.": "该图片为 {} 像素，至少需要 {}。",
    "The mask has {} pixels and the picture {}; they must have the same size.": (
        "蒙版为 {} 像素，而图片为 {}，两者大小必须相同。"
    ),
    # repairing
    "Mark the damage first, or clean the whole picture.": "请先标出损坏处，或选择清理整张图片。",
    "Mark what is missing first.": "请先标出缺失的部分。",
    "The marks belong to another picture; mark the damage again.": "这些标记属于另一张图片，请重新标出损坏处。",
    "Nothing is marked in the square; move the square, or mark what is missing in it.": (
        "方块内没有标记；请移动方块，或在其中标出缺失的部分。"
    ),
    "A picture can be enlarged {} times, not {}.": "图片可放大 {} 倍，不能放大 {} 倍。",
    "Only a whole picture can be enlarged.": "只有清理整张图片时才能放大。",
    "Enlarged {} times it would have more than {} million pixels.": "放大 {} 倍后将超过 {} 百万像素。",
    # generating
    "A prompt may have up to {} characters.": "提示词最多 {} 个字符。",
    "The strength of image to image must be above 0 and at most 1, not {}.": (
        "图生图的强度必须大于 0 且不超过 1，当前为 {}。"
    ),
    "The number of pictures must be a whole number from 1 to {}, not {}.": "图片数量必须是 1 到 {} 的整数，当前为 {}。",
    "There is no sampler {}; samplers are {}.": "没有采样器 {}；可用的有 {}。",
    "The number of steps must be a whole number from 1 to {}, not {}.": "步数必须是 1 到 {} 的整数，当前为 {}。",
    "The guidance scale must be between 0 and {}, not {}.": "引导强度必须在 0 到 {} 之间，当前为 {}。",
    "A seed is a whole number from 0 to {}, not {}.": "随机种子是 0 到 {} 的整数，当前为 {}。",
    'A variation starts from a seed such as 12, or from a variation such as "12 7:0.3", not {}.': (
        "变体来源应为种子，例如 12，或另一个变体，例如 “12 7:0.3”，当前为 {}。"
    ),
    "Noise is blended in by a share between 0 and 1, not {}.": "混入噪声的比例必须在 0 到 1 之间，当前为 {}。",
    "The strength of a variation must be between 0 and 1, not {}.": "变体强度必须在 0 到 1 之间，当前为 {}。",
    "A walk has from 2 to {} frames, not {}.": "漫步的帧数为 2 到 {}，当前为 {}。",
    "There is no model {}; choose one from the list.": "没有模型 {}，请从列表中选择。",
    # training
    "{} cannot be read as a .zip ({}); pack the pictures again.": "无法将 {} 作为 .zip 读取（{}），请重新打包图片。",
    "{} holds {} files, more than {}; split it.": "{} 含有 {} 个文件，超过了 {} 个，请拆分。",
    "{} would unpack to {} GiB, which is too much; split it.": "{} 解压后有 {} GiB，太大了，请拆分。",
    "{} would unpack to {} times its size, as no pictures do; it is refused.": (
        "{} 解压后是原来的 {} 倍，不可能是图片，已拒绝。"
    ),
    "There are no pictures in {}; add some, as .jpg or .png for example.": (
        "{} 中没有图片；请加入一些，例如 .jpg 或 .png。"
    ),
    "No picture of at least {} pixels was found in {}.": "{1} 中没有至少 {0} 像素的图片。",
    "CIFAR-10 could not be downloaded ({}); check the connection and try again, or use a .zip of it with one folder "
    "per class.": "无法下载 CIFAR-10（{}）；请检查网络后重试，或使用每类一个文件夹的 .zip。",
    "Choose at least one style, for the built-in characters only.": "请至少选择一种画风（仅限内置角色）。",
    "A run's name has up to 64 letters, digits, spaces, dots and dashes, and begins and ends with a letter or digit.": (
        "训练名称最多 64 个字符，可含字母、数字、空格、点和短横线，并以字母或数字开头和结尾。"
    ),
    "There is a run named {} already.": "已有名为 {} 的训练。",
    "There is no run named {} any more.": "名为 {} 的训练已不存在。",
    "{} is being worked on. Stop it first.": "{} 正在训练，请先停止。",
    "{} is being worked on already.": "{} 已在训练中。",
    "There was not enough memory; choose a smaller batch, size or resolution.": (
        "内存不足；请减小每步图片数、模型大小或分辨率。"
    ),
    "The loss is not a number any more at step {}. {}": "第 {0} 步的损失不再是数字。请从上次保存处以更低的学习率继续。",
    "The loss exploded to {} by step {}. {}": "到第 {1} 步损失激增至 {0}。请从上次保存处以更低的学习率继续。",
    "It was interrupted; it can be resumed.": "训练被中断，可以继续。",
    "Its process ended without a word; it can be resumed.": "训练进程意外结束，可以继续。",
    "Its process was killed (SIGKILL), perhaps for want of memory; it can be resumed.": (
        "训练进程被终止（SIGKILL），可能是内存不足；可以继续。"
    ),
    "A few steps took more than three minutes; choose a smaller size or resolution.": (
        "几步就用了三分钟以上；请选择更小的模型或分辨率。"
    ),
    "There is not enough memory for this; choose a smaller batch, size or resolution.": (
        "内存不足；请减小每步图片数、模型大小或分辨率。"
    ),
    "The disk is full. What was saved last is intact: make room and resume.": (
        "磁盘已满。上次保存的内容完好：请腾出空间后继续。"
    ),
    # any numbers, where none of the sentences above is meant
    "The {} must be between {} and {}, not {}.": "{}必须在 {} 到 {} 之间，而不是 {}。",
    "The number of {} must be a whole number from 1 to {}, not {}.": "{}数必须是 1 到 {} 的整数，而不是 {}。",
    "{} must be a whole number, not {}.": "{}数必须是整数，而不是 {}。",
}

NAMES = {  # of numbers inside those sentences
    "strength": "强度",
    "noise level": "噪声强度",
    "guidance scale": "引导强度",
    "number of steps": "步数",
    "number of candidates": "候选数量",
    "steps": "步",
    "Steps": "步",
    "candidates": "候选",
    "Candidates": "候选",
    "pictures": "图片",
}


def in_their_language(sentence: str, visitor: gr.Request | None) -> str:
    """A sentence of the library as `visitor` reads it; in English where no other is known."""
    if reads_chinese(visitor) and len(sentence) <= LONGEST:
        for pattern, chinese in _patterns():
            if found := pattern.fullmatch(sentence):
                return chinese.format(*(NAMES.get(part, part) for part in found.groups()))
    return sentence


@functools.cache
def _patterns() -> list[tuple[re.Pattern, str]]:
    return [(re.compile("(.+?)".join(map(re.escape, s.split("{}")))), chinese) for s, chinese in SENTENCES.items()]
