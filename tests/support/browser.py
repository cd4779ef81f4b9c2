"""A real Chromium without a window: what it makes of a page, what it says about it, what it asks the network for."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
NO_CHROMIUM = "no Chromium on PATH (Debian: apt-get install chromium)"


class Opened(NamedTuple):
    """A page after its scripts ran.

    Attributes:
        dom: its elements, as text.
        console: lines of the console; of warnings and errors, as of all else.
        requests: addresses of the network that the page asked for. What Chromium asks its maker's servers is not in it.
        log: all that the browser said.
    """

    dom: str
    console: list[str]
    requests: list[str]
    log: str


def open_page(address: str, folder: Path, *options: str) -> Opened:
    """Open a page (a `file://` address, most likely) with a new profile in `folder`."""
    record = folder / "network.json"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--enable-logging=stderr",
            f"--log-net-log={record}",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1200,1600",
            *(options or ("--dump-dom",)),
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Opened(
        done.stdout,
        [line for line in done.stderr.splitlines() if "CONSOLE" in line],
        _requests(record),
        done.stderr,
    )


def _requests(record: Path) -> list[str]:
    """The addresses in Chromium's log of its network that were asked for on behalf of a page from file://."""
    events = json.loads(record.read_text(encoding="utf-8"))["events"]
    told = (event.get("params", {}) for event in events)
    return sorted({fact["url"] for fact in told if fact.get("network_isolation_key", "").startswith("file://")})
