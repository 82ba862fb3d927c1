"""Finds and starts the system's Chromium without a window, and reads what its pages show."""

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
# The browser's own background requests would look like requests of the page.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
SETTLE_MS = 60_000
POLL_S = 0.2


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    """Starts Chromium without a window and closes it at the end of the block."""
    with sync_playwright() as playwright:
        # As root, Chromium starts only without its sandbox.
        browser = playwright.chromium.launch(
            executable_path=program, args=[*QUIET, "--disable-gpu"], chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            browser.close()


def wait_for_words(page: Page, *words: str) -> None:
    """Waits until the document contains all of them, also those that need scrolling to."""
    for wanted in words:
        page.wait_for_function(
            "words => document.documentElement.outerHTML.includes(words)",
            arg=wanted,
            timeout=SETTLE_MS,
        )


def in_frames(page: Page, expression: str, wanted: object) -> list[Any]:
    """Each frame's value of `expression`, once one is `wanted` or the time is up."""
    end = time.monotonic() + SETTLE_MS / 1_000
    while True:
        values = []
        for frame in page.frames:
            try:
                values.append(frame.evaluate(expression))
            except Error as error:  # a frame may be replaced while it is read
                values.append(str(error))
        if wanted in values or time.monotonic() > end:
            return values
        time.sleep(POLL_S)
