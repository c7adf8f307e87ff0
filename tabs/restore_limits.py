"""What the Restore tab allows: everything on one's own machine, less on a public Space.

The environment variable SD_CORE_RESTORE overrides what is found: `limited` sets a Space's limit anywhere, and `free`
lifts it.
"""

from tabs.hosting import allowed
from tabs.sessions import Visitor
from tabs.words import add_words, say

# That a model computes for one repair: about ten minutes on two cores, as long as a training may last there.
MOST_PIXELS = 800_000_000

add_words({
    "too_much_work": (
        "This repair takes {times:.1f} times the work that is allowed here: lower the steps, the candidates or the "
        "enlargement, mark less, or use a smaller picture.",
        "这次修复的工作量是此处上限的 {times:.1f} 倍：请减少步数、候选数量、放大倍数或标出的区域，或使用较小的图片。",
    ),
})  # fmt: skip


def check_work(pixels: int, visitor: Visitor | None) -> None:
    """Raises ValueError if a repair for which a model computes so many pixels is more than is allowed here."""
    if pixels > MOST_PIXELS and allowed("SD_CORE_RESTORE", ("limited", "free")) == "limited":
        raise ValueError(say(visitor, "too_much_work", times=max(1.1, pixels / MOST_PIXELS)))
