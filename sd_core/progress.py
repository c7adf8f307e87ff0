"""How work that takes long tells how far it is, where it is no generator."""

from collections.abc import Callable

OnProgress = Callable[[int, int], None]  # called with (done, in all); what it raises ends the work


def unwatched(done: int, total: int) -> None:
    """Of work that nobody watches."""
