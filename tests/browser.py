"""A headless Chromium, steered through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

# Text of a page, the shadow trees of its elements included, where TensorBoard has most of it.
_TEXT = """
(function text(node) {
  let found = node.nodeType === Node.TEXT_NODE ? node.textContent : '';
  if (node.nodeType === Node.ELEMENT_NODE && ['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.tagName)) return '';
  if (node.shadowRoot) found += text(node.shadowRoot);
  if (node.tagName === 'IFRAME' && node.contentDocument) found += text(node.contentDocument.body);
  for (const child of node.childNodes) found += ' ' + text(child);
  return found;
})(document.body).replace(/\\s+/g, ' ')
"""
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-allow-origins=*",
)  # fmt: skip


def chromium() -> str | None:
    """Where one is."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self.number = 0

    def send(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A command and its result; what the page tells meanwhile is dropped."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str) -> None:
        """Go there."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """What a piece of JavaScript gives."""
        return self.send("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """All that can be read."""
        return str(self.run(_TEXT) or "")

    def wait_for(self, *words: str, seconds: float = 60) -> str:
        """Until all of the words can be read; the text in any case."""
        end = time.monotonic() + seconds
        while True:
            text = self.text()
            if all(word in text for word in words) or time.monotonic() > end:
                return text
            time.sleep(0.5)

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def page(profile: Path, width: int = 1400, height: int = 900) -> Iterator[Page]:
    """A browser of its own with an empty profile."""
    program = chromium()
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, *_FLAGS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", "about:blank"]  # fmt: skip
    browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tab = Page(_tab(port))
        try:
            yield tab
        finally:
            tab.socket.close()
    finally:
        browser.terminate()
        browser.wait(30)


def _tab(port: int) -> str:
    for _ in range(120):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        except OSError:
            pass
        time.sleep(0.25)
    raise RuntimeError("Chromium did not start")
