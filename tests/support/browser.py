"""Headless Chromium: where it is, and the flags under which it looks at one page and leaves."""

from __future__ import annotations

import shutil

CHROMIUM: str | None = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HEADLESS = (
    "--headless",
    "--no-sandbox",  # as root it starts in no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # What the browser fetches for itself would look like the page's doing.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FLAGS = (
    *HEADLESS,
    "--virtual-time-budget=15000",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
)
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"
