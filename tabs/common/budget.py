"""How much work a visitor of a public Space may ask for in a while, so that nobody keeps its processor for himself.

A picture of 100 million pixels may be a file of a few kilobytes, and opening it takes seconds. So pixels are counted
before they are decoded, for each network address. On one's own machine nothing is.
"""

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path

from sd_core.errors import PictureError, UserError
from sd_core.pictures.decoding import opened
from tabs.common.hosting import allowed
from tabs.common.sessions import Visitor
from tabs.common.words import say

MOST_PIXELS = 1_000_000_000  # 25 of the largest pictures that are repaired
WINDOW = 600  # seconds
MOST_VISITORS = 10_000
IPV6_NETWORK = 64  # bits: a single visitor has all the addresses of such a network


class Budget:
    """What each visitor has had in the last while.

    Args:
        most: of anything that can be counted.
        seconds: how long it takes until what was had is forgotten.
    """

    def __init__(self, most: int, seconds: float):
        self.most, self._seconds = most, seconds
        self._had: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, visitor: Visitor | None, amount: int) -> None:
        """Notes so much for a visitor. Raises UserError, and notes nothing, if that is too much."""
        key = address_of(visitor) or getattr(getattr(visitor, "client", None), "host", None) or ""
        now = time.monotonic()
        with self._lock:
            had = self._had.setdefault(key, deque())
            self._had.move_to_end(key)
            while had and now - had[0][0] > self._seconds:
                had.popleft()
            if sum(spent for _, spent in had) + amount > self.most:
                raise UserError(say(visitor, "much_work", minutes=self._seconds / 60))
            had.append((now, amount))
            while len(self._had) > MOST_VISITORS:
                self._had.popitem(last=False)


DECODED = Budget(MOST_PIXELS, WINDOW)


def check_picture(path: Path, visitor: Visitor | None) -> None:
    """Raises UserError if opening this picture is more than the visitor may ask for now."""
    if allowed("SD_CORE_RESTORE", ("limited", "free")) == "free":
        return
    try:
        with opened(path) as picture:
            pixels = picture.width * picture.height
    except PictureError:  # told by whoever opens it
        return
    DECODED.spend(visitor, pixels)


def address_of(visitor: Visitor | None) -> str:
    """The network address that a request comes from; "" where that cannot be told.

    Behind proxies, such as a Space's, it is the last public one that they name: what stands before it may be written by
    the visitor.
    """
    named = (getattr(visitor, "headers", None) or {}).get("x-forwarded-for", "").split(",")
    client = getattr(getattr(visitor, "client", None), "host", None) or ""
    for text in [*reversed(named), client]:
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            continue
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_global:
            whole = address.version == 4
            return str(address if whole else ipaddress.ip_network((address, IPV6_NETWORK), strict=False))
    return ""
