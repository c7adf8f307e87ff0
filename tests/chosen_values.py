"""A choice of all settings of the Train tab, for its tests to vary."""

from tabs.train.new_run import Values

VALUES = Values(
    data="characters", styles=["adventurer"], count=50, files=None, fit="crop", template="{}", start="", fast=False,
    size="tiny", resolution=32, steps=100, batch=16, learning_rate=1e-3, ema=0.1, dropout=0.2, bf16=True, prompts="",
    seed=5, flips=True, name="",
)  # fmt: skip
