"""Finds the browser that the tests drive: Debian's Chromium, or the one Playwright installed. Exits 1 without one."""

import os
import shutil
import sys

# Without a sandbox it also runs as root in a container, and without background networking it asks nobody anything.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """The path of a Chromium, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


if __name__ == "__main__":
    sys.exit(0 if chromium() else 1)
