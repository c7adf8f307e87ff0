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
from tabs.common.words import say

RESOLUTIONS = (32, 64, 96, 128, 256)
OWNER = "owner"  # the file, in a run's folder, that tells whose it is
_SALT = secrets.token_bytes(16)  # of addresses' marks: a list of all addresses would else tell whose they are


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        refusal: the key of the words that say why nothing is; "" where training is on.
        minutes: of work per run; 0 for any.
        sizes, resolutions, batch, count: the most, or those that there are. Where `minutes` are limited, `count` goes
            for one's own pictures, too: of more, so many are used.
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
        limited = cls("", 10.0, ("tiny", "small"), (32, 64, 256), 64, 2000, 64, True)
        if said == "off":
            return replace(limited, refusal="train_off")
        if is_zero_gpu(environment):
            return replace(limited, refusal="train_zero")
        return limited if said == "limited" else cls()

    def note(self, visitor: gr.Request | None) -> str:
        """What a visitor should know, in HTML; "" where everything is allowed."""
        if not self.refusal and not self.minutes:
            return ""
        words = say(
            visitor, self.refusal or "train_limited", minutes=self.minutes, sizes=", ".join(self.sizes),
            resolution=max(self.resolutions), count=self.count, megabytes=self.megabytes,
        )  # fmt: skip
        return f'<div class="sd-note"><mark>{html.escape(words)}</mark></div>'

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
