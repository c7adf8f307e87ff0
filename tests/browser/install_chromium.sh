#!/bin/sh
# Installs a Chromium for the browser tests: Debian's as root, Playwright's otherwise. The one argument is the environment's bin.
set -eu
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-cjk
else
    "$1/playwright" install chromium
fi
