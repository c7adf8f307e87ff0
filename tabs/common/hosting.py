"""Where the app is hosted, told by its environment, and how far its owner lets visitors go there."""

import os
from collections.abc import Mapping

from sd_core.errors import UserError


def is_zero_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a Hugging Face Space on ZeroGPU hardware, which lends a GPU for moments."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")


def allowed(name: str, choices: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> str:
    """What the owner set the environment variable `name` to; by default "limited" on a Space, which is public, and
    "free" elsewhere. Raises UserError if that is none of the `choices`."""
    said = environment.get(name, "").strip().lower()
    if said not in ("", *choices):
        raise UserError(f"{name} is {said!r}, but must be {', '.join(choices[:-1])} or {choices[-1]}.")
    return said or ("limited" if environment.get("SPACE_ID") else "free")
