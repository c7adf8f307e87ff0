"""What the Train tab allows: everything on one's own machine, less on a public Space, as its owner has set it.

The environment variable SD_CORE_TRAIN overrides what is found: `off` switches training off, `limited` sets a Space's
limits anywhere, and `free` lifts them.
"""

import hashlib
import html
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from sd_core.data.preview import pixels_in
from sd_core.errors import RunError
from sd_core.models.unet import WIDTHS
from sd_core.runs.queue import waiting, working
from sd_core.runs.run import Run
from tabs.common.budget import DECODED, address_of
from tabs.common.hosting import allowed, is_zero_gpu
from tabs.common.words import add_words, say

RESOLUTIONS = (32, 64, 96, 128)
OWNER = "owner"  # the file, in a run's folder, that tells whose it is
_SALT = secrets.token_bytes(16)  # of addresses' marks: a list of all addresses would else tell whose they are

add_words({
    "train_off": (
        "Training is switched off here. Everything else works; to train, run this program on a machine of your own.",
        "此处已关闭训练功能，其他功能均可使用；如需训练，请在自己的机器上运行本程序。",
    ),
    "train_zero": (
        "Training is off here: this Space runs on ZeroGPU hardware, which lends its GPU for moments, as Generate and "
        "Restore borrow it, and not to a training that goes on by itself; to train, duplicate the Space onto CPU or "
        "GPU hardware, or run this program on a machine of your own.",
        "此处不能训练：此 Space 使用 ZeroGPU 硬件，GPU 只能短暂借用（“生成”和“修复”即如此），"
        "无法用于持续进行的训练；如需训练，请将 Space 复制到 CPU 或 GPU 硬件上，或在自己的机器上运行本程序。",
    ),
    "train_limited": (
        "Here a run lasts at most {minutes:g} minutes, with sizes {sizes}, up to {resolution} pixels, "
        "and uploads of up to {megabytes} MB; everybody sees the runs and their samples, and only the browser that "
        "started a run can steer it. The disk of a Space is wiped whenever it restarts: download what you want to "
        "keep.",
        "在此处，每次训练最长 {minutes:g} 分钟，模型大小限 {sizes}，分辨率不超过 {resolution} 像素，"
        "上传不超过 {megabytes} MB；所有人都能看到训练及其样本，但"
        "只有启动训练的浏览器可以控制它。Space 重启时磁盘会被清空：请下载需要保留的内容。",
    ),
    "not_yours": (
        "Only the browser that started this run can steer it.",
        "只有启动该训练的浏览器可以控制它。",
    ),
    "one_each": (
        "One run at a time for each visitor, and for each network address: {name} is not over yet.",
        "每位访客、每个网络地址同时只能有一个训练：{name} 尚未结束。",
    ),
    "too_many": (
        "{count} runs are being worked on or wait already, and there is no room for more here. Try again later.",
        "已有 {count} 个训练正在进行或排队，此处无法再增加。请稍后再试。",
    ),
    "without_limits": (
        "This run was begun without the limits that there are here now, so it cannot go on here.",
        "该训练开始时没有此处现在的限制，因此不能在此继续。",
    ),
    "time_is_over": (
        "A run has at most {minutes:g} minutes here, and this one has had them. Download it and go on elsewhere.",
        "此处每次训练最长 {minutes:g} 分钟，该训练已用完。请下载后在别处继续。",
    ),
    "upload_too_large": (
        "These files have {found:.0f} MB together; up to {megabytes} MB are allowed here.",
        "这些文件共 {found:.0f} MB；此处最多允许 {megabytes} MB。",
    ),
})  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        refusal: the key of the words that say why nothing is; "" where training is on.
        minutes: of work per run; 0 for any.
        sizes, resolutions, batch, count: the most, or those that there are.
        megabytes: of an upload; 0 for any.
        own_only: a run is steered only by the browser that started it, one run at a time each.
        unfinished: runs that are worked on or wait, of all visitors together, where `own_only`.
    """

    refusal: str = ""
    minutes: float = 0.0
    sizes: tuple[str, ...] = tuple(WIDTHS)
    resolutions: tuple[int, ...] = RESOLUTIONS
    batch: int = 256
    count: int = 24_000
    megabytes: int = 0
    own_only: bool = False
    unfinished: int = 6

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Those of this machine. Raises UserError where SD_CORE_TRAIN says something else than it may."""
        said = allowed("SD_CORE_TRAIN", ("off", "limited", "free"), environment)
        limited = cls("", 10.0, ("tiny", "small"), (32, 64), 64, 2000, 64, True)
        if said == "off":
            return replace(limited, refusal="train_off")
        if is_zero_gpu(environment):
            return replace(limited, refusal="train_zero")
        return limited if said == "limited" else cls()

    def words(self, visitor: gr.Request | None) -> str:
        """What a visitor should know; "" where everything is allowed."""
        if self.refusal:
            return say(visitor, self.refusal)
        if not self.minutes:
            return ""
        return say(
            visitor, "train_limited", minutes=self.minutes, sizes=", ".join(self.sizes),
            resolution=max(self.resolutions), megabytes=self.megabytes,
        )  # fmt: skip

    def note(self, visitor: gr.Request | None) -> str:
        """The same in HTML."""
        words = self.words(visitor)
        return f'<div class="sd-note"><mark>{html.escape(words)}</mark></div>' if words else ""

    # Every handler asks these, since a page's handlers can be called without the page.

    def check_allowed(self, visitor: gr.Request | None) -> None:
        """Raises RunError where nothing is allowed."""
        if self.refusal:
            raise RunError(say(visitor, self.refusal))

    def check_start(self, browser: str, root: Path, visitor: gr.Request | None, again: Run | None = None) -> None:
        """Raises RunError if this browser may not have a run worked on: a new one, or `again` one of its own."""
        self.check_allowed(visitor)
        if not self.own_only:
            return
        unfinished = [run for run in [*working(root), *waiting(root)] if again is None or run.name != again.name]
        for run in unfinished:
            if is_owner(run, browser) or _is_from(run, address_of(visitor)):
                raise RunError(say(visitor, "one_each", name=run.name))
        if len(unfinished) >= self.unfinished:
            raise RunError(say(visitor, "too_many", count=len(unfinished)))

    def check_upload(self, paths: list[Path], visitor: gr.Request | None) -> None:
        """Raises RunError if the files are too large together."""
        found = sum(path.stat().st_size for path in paths) / 2**20
        if self.megabytes and found > self.megabytes:
            raise RunError(say(visitor, "upload_too_large", found=found, megabytes=self.megabytes))

    def check_pixels(self, source: Path, visitor: gr.Request | None, looked_at: int | None = None) -> None:
        """Raises UserError if reading the pictures in a folder or .zip, or so many of them, is more work than a visitor
        may ask for in a while."""
        if self.minutes:
            DECODED.spend(visitor, pixels_in(source, DECODED.most, looked_at))

    def check_steer(self, run: Run, browser: str, visitor: gr.Request | None) -> None:
        """Raises RunError if this browser may not steer the run."""
        self.check_allowed(visitor)
        if not self.may_steer(run, browser):
            raise RunError(say(visitor, "not_yours"))

    def check_resume(self, run: Run, browser: str, visitor: gr.Request | None) -> None:
        """Raises RunError if the run may not go on: it has had its time, or a new one could not be started either."""
        self.check_start(browser, run.folder.parent, visitor, run)
        if not self.minutes:
            return
        if not 0 < run.config().minutes <= self.minutes:
            raise RunError(say(visitor, "without_limits"))
        if run.known_status().seconds_worked >= 60 * self.minutes:
            raise RunError(say(visitor, "time_is_over", minutes=self.minutes))

    def may_steer(self, run: Run, browser: str) -> bool:
        """Whether this browser may."""
        return not self.refusal and (not self.own_only or is_owner(run, browser))


def new_browser() -> str:
    """A name for a browser that it alone knows."""
    return secrets.token_hex(16)


def own(run: Run, browser: str, visitor: gr.Request | None = None) -> None:
    """Notes whose run it is, in a way from which neither the browser's name nor the visitor's address can be told."""
    address = address_of(visitor)
    marks = [_mark(browser.encode()), _mark(_SALT, address.encode()) if address else ""]
    (run.folder / OWNER).write_text("\n".join(marks), "utf-8")


def is_owner(run: Run, browser: str) -> bool:
    """Whether the run was started by this browser."""
    return bool(browser) and secrets.compare_digest(_marks(run)[0], _mark(browser.encode()))


def _is_from(run: Run, address: str) -> bool:
    """Whether the run was started from this address, since the app started."""
    return bool(address) and secrets.compare_digest(_marks(run)[1], _mark(_SALT, address.encode()))


def _marks(run: Run) -> tuple[str, str]:
    """Those of the browser and of the address that it was started by; "" where there is none."""
    try:
        lines = (run.folder / OWNER).read_text("utf-8").split("\n")
    except OSError:
        lines = []
    browser, address, *_ = *lines, "", ""
    return browser, address


def _mark(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
