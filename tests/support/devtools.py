"""A small client of the Chrome DevTools Protocol: it looks into frames, in real time.

A dumped document does not show what is in its frames, and in virtual time a sandboxed frame, which
is a process of its own, stays blank.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.support.browser import HEADLESS

# Chromium speaks the protocol on descriptors 3 and 4. The shell puts them there: a function run
# between fork and exec could, in a process with threads, wait for ever.
ON_3_AND_4 = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'
CALL_S = 30.0
SETTLE_S = 60.0
POLL_S = 0.2


class Browser:
    """Chromium with one page open; it is killed on leaving the `with` block, however that ends."""

    def __init__(self, chromium: str, folder: Path) -> None:
        self._log = folder / "browser.log"
        self._unread = b""
        self._last_id = 0
        self._page: str | None = None
        self._frames: list[str] = []
        own = [f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1200"]
        command = [chromium, *HEADLESS, "--remote-debugging-pipe", *own, "about:blank"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", ON_3_AND_4, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the whole group, since the renderers are processes of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=CALL_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def open(self, url: str) -> None:
        """Goes to `url` and listens for the frames that will be in it."""
        target = self._result("Target.createTarget", {"url": "about:blank"})["targetId"]
        attach = {"targetId": target, "flatten": True}
        self._page = self._result("Target.attachToTarget", attach)["sessionId"]
        self._frames.clear()
        follow = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self._result("Target.setAutoAttach", follow, self._page)
        self._result("Page.navigate", {"url": url}, self._page)

    def text(self) -> str:
        """What a reader sees of the page itself, without its frames."""
        return str(self._evaluate("document.body ? document.body.innerText : ''", self._page))

    def in_frames(self, expression: str, wanted: object) -> list[Any]:
        """Each frame's value of `expression`, as soon as one is `wanted` or the time is up."""
        end = time.monotonic() + SETTLE_S
        while True:
            self._call("Target.getTargets")  # reads what has come about frames meanwhile
            values = [self._evaluate(expression, frame) for frame in tuple(self._frames)]
            if wanted in values or time.monotonic() > end:
                return values
            time.sleep(POLL_S)

    def _evaluate(self, expression: str, session: str | None) -> Any:
        """The value, or the error in words: a frame may be replaced while it is asked."""
        asked = {"expression": expression, "returnByValue": True}
        answer = self._call("Runtime.evaluate", asked, session)
        result = answer.get("result", {})
        if "error" in answer or "exceptionDetails" in result:
            return json.dumps(answer)
        return result["result"].get("value")

    def _result(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """The result of a call that has no reason to fail."""
        answer = self._call(method, params, session)
        assert "result" in answer, f"{method} failed: {answer}"
        return dict(answer["result"])

    def _call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Sends a message and waits for its answer; what else comes meanwhile is news of frames."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params or {}}
        self._send(message | ({"sessionId": session} if session else {}))
        end = time.monotonic() + CALL_S
        while True:
            answer = self._receive(end, method)
            if answer.get("id") == self._last_id:
                return answer
            self._note(answer)
            if session is not None and self._left(answer) == session:
                return {"error": "the frame left before it answered"}

    def _note(self, event: dict[str, Any]) -> None:
        """Keeps the list of frames that can be asked."""
        if event.get("method") == "Target.attachedToTarget":
            if event["params"]["targetInfo"]["type"] == "iframe":
                self._frames.append(event["params"]["sessionId"])
        elif (left := self._left(event)) in self._frames:
            self._frames.remove(left)

    @staticmethod
    def _left(event: dict[str, Any]) -> str | None:
        """The session that this event says is over, and which answers nothing any more."""
        over = event.get("method") == "Target.detachedFromTarget"
        return event["params"]["sessionId"] if over else None

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise AssertionError(f"the browser has ended: {self._last_words()}") from None

    def _receive(self, end: float, method: str) -> dict[str, Any]:
        """The next message, of which each ends in a zero byte."""
        assert self._process.stdout is not None
        while b"\0" not in self._unread:
            ready = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            assert ready[0], f"no answer to {method} in {CALL_S:.0f} s: {self._last_words()}"
            came = self._process.stdout.read(1 << 16)
            assert came, f"the browser ended during {method}: {self._last_words()}"
            self._unread += came
        message, self._unread = self._unread.split(b"\0", 1)
        return dict(json.loads(message))

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
