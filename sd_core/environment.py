"""What is set in this process's environment, before torch is imported."""

import os

# How long OpenMP's threads wait for one another awake before they sleep: long enough for the gaps between two layers,
# too short to hold a processor that somebody else needs. Measured in benchmarks/LOG.md.
SPINS = {
    "GOMP_SPINCOUNT": "1000",  # of GNU's OpenMP, in torch for Linux: turns of a loop; 300,000 if unset
    "KMP_BLOCKTIME": "0",  # of LLVM's and Intel's, in torch for macOS and Windows: milliseconds; 200 if unset
}
CHOSEN = ("OMP_WAIT_POLICY", *SPINS)


def limit_spinning() -> None:
    """Lets threads that wait sleep soon, so that the program stays fast beside others. OpenMP reads this as torch loads
    it. Nothing changes where the user has set how threads wait."""
    if not any(name in os.environ for name in CHOSEN):
        os.environ |= SPINS
