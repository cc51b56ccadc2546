"""Pages as headless Chromium shows them, driven over its DevTools protocol."""

import base64
import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket


class Page:
    """A page in a browser of its own."""

    def __init__(self, address: str):
        # Chromium refuses an origin that it was not told of.
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._number = 0
        self.complaints: list[str] = []
        """What the browser logged: errors, and whatever the page's own policy kept it from loading."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer's result. Raises KeyError for an error."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._socket.recv())
        if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(answer["params"]))
        if answer.get("method") == "Network.requestWillBeSent":
            url = answer["params"]["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.complaints.append(f"request for {url}")
        return answer

    def close(self) -> None:
        self._socket.close()

    def show(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Loads the file as a screen of that many pixels would show it."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media="screen", features=scheme)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.send("Page.navigate", url=path.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """Of JavaScript, which the protocol runs though the page's policy forbids it to the page."""
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self) -> bytes:
        """PNG of the whole page."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """As a printer that was told to save ink gets it."""
        self.send("Emulation.setEmulatedMedia", media="", features=[])
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])


@contextlib.contextmanager
def chromium(executable: str, profile: Path) -> Iterator[Page]:
    command = [
        executable, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            page = Page(_address(profile / "DevToolsActivePort", process))
            with contextlib.closing(page):
                yield page
        finally:
            process.kill()


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    """Of the browser's first page, once it has one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        # The file may be there and still be empty.
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            port = int(file.read_text().split()[0])
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{port}/json"
            ) as pages:
                return str(next(page["webSocketDebuggerUrl"] for page in json.load(pages) if page["type"] == "page"))
        time.sleep(0.1)
    raise TimeoutError("Chromium opens no page")
