"""Headless Chromium, the one of the system: where it is, and how it looks at a page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Error, Page, sync_playwright

CHROMIUM: str | None = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# What the browser fetches for itself would look like the page's doing.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
SETTLE_MS = 60_000
POLL_S = 0.2


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    """Chromium without a window; it ends with the block."""
    with sync_playwright() as playwright:
        # As root Chromium starts in no other way than without its sandbox.
        browser = playwright.chromium.launch(
            executable_path=program, args=[*QUIET, "--disable-gpu"], chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            browser.close()


def wait_for_words(page: Page, *words: str) -> None:
    """Waits until the document holds all of them, whether a reader must scroll to them or not."""
    for wanted in words:
        page.wait_for_function(
            "words => document.documentElement.outerHTML.includes(words)",
            arg=wanted,
            timeout=SETTLE_MS,
        )


def in_frames(page: Page, expression: str, wanted: object) -> list[Any]:
    """Each frame's value of `expression`, as soon as one is `wanted` or the time is up."""
    end = time.monotonic() + SETTLE_MS / 1_000
    while True:
        values = []
        for frame in page.frames:
            try:
                values.append(frame.evaluate(expression))
            except Error as error:  # a frame may be replaced while it is asked
                values.append(str(error))
        if wanted in values or time.monotonic() > end:
            return values
        time.sleep(POLL_S)
