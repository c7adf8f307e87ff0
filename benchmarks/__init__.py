"""What is claimed of the program, measured."""

import sd_core  # noqa: F401  before torch, for whose threads it sets the environment, here as in the program
