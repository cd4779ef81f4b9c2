"""The page in a real Chromium: no error, no request, and its controls do what they say."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, NO_CHROMIUM, open_page
from made_studies import made_study
from matplotlib.image import imread

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.report.model import make_report
from ccl_dispatch.tuner.report.page import page

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)

CELLS = [Cell("all_gather", "eager", "first", dtype, 8) for dtype in ("bfloat16", "float32")]
CELLS.append(Cell("reduce_scatter", "graph_copy_in", "first", "float8_e4m3fnuz", 8))  # as long as a name gets

# Before anything of the page: what goes wrong from here on is kept.
EARLY = """<script>
window.found = [];
addEventListener("error", (event) => window.found.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => window.found.push(event.violatedDirective));
</script>"""
# After all of the page: use the controls as a reader would, and write down what is then seen.
LATE = """<script>
const seen = {};
const shown = () => cells.filter((cell) => cell.offsetHeight > 0).length;
const paper = () => getComputedStyle(document.body).backgroundColor;
const ink = () => getComputedStyle(document.querySelector("svg text")).fill;
const filter = (words) => {
  document.getElementById("filter").value = words;
  document.getElementById("filter").dispatchEvent(new Event("input", {bubbles: true}));
};
seen.all = shown();
filter("float32"); seen.one = shown();
filter("float32 nothing"); seen.none = shown(); seen.told = !document.getElementById("none").hidden;
filter(""); seen.again = shown();
seen.open = cells.filter((cell) => cell.open).length;
fold.click(); seen.folded = cells.filter((cell) => cell.open).length;
fold.click(); seen.unfolded = cells.filter((cell) => cell.open).length;
cells[0].open = false; filter("float32");
dispatchEvent(new Event("beforeprint"));
seen.printed = cells.filter((cell) => cell.open && cell.offsetHeight > 0).length;
dispatchEvent(new Event("afterprint")); seen.afterwards = [shown(), cells[0].open];
cells[0].open = true; filter("");
seen.before = [paper(), ink()];
document.getElementById("theme").click(); seen.after = [paper(), ink()];
document.getElementById("theme").click(); seen.back = [paper(), ink()];
seen.drawings = [...document.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect().height > 100);
seen.wider = document.documentElement.scrollWidth > innerWidth;
document.body.style.width = "390px"; seen.narrow = document.body.scrollWidth;
seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
seen.errors = window.found;
document.body.innerHTML = "<pre id=probe></pre>";
document.getElementById("probe").textContent = JSON.stringify(seen);
</script>"""


@pytest.fixture(scope="module")
def text() -> str:
    """The page of a made study."""
    return page(make_report(*made_study(CELLS)))


@pytest.fixture(scope="module")
def seen(text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script above saw, and what the browser's console said."""
    file = tmp_path_factory.mktemp("browser") / "report.html"
    # The page's own script is a classic one: what it declares is there for the one behind it.
    file.write_text(
        text.replace("<title>", f"{EARLY}<title>", 1).replace("</body>", f"{LATE}</body>"), encoding="utf-8"
    )
    opened = open_page(file.as_uri(), file.parent)
    match = re.search(r'<pre id="probe">(.*?)</pre>', opened.dom, flags=re.DOTALL)
    assert match, opened.log
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found | {"console": opened.console, "network": opened.requests}


def test_it_opens_without_an_error_or_a_request(seen: dict[str, Any]) -> None:
    """Nothing is on the console, nothing was refused by the page's own policy, nothing was fetched."""
    assert (seen["console"], seen["errors"], seen["requests"], seen["network"]) == ([], [], [], [])


def test_the_filter_shows_the_cells_with_these_words(seen: dict[str, Any]) -> None:
    """All, one, none with a word that says so, and all again."""
    assert [seen[key] for key in ("all", "one", "none", "told", "again")] == [3, 1, 0, True, 3]


def test_cells_fold_and_unfold(seen: dict[str, Any]) -> None:
    """One click folds all, the next opens all."""
    assert [seen[key] for key in ("open", "folded", "unfolded")] == [3, 0, 3]


def test_dark_and_light_change_paper_and_drawings(seen: dict[str, Any]) -> None:
    """A click changes the colour of the paper and of the ink in the drawings, another changes them back."""
    assert seen["before"] == seen["back"]
    assert all(old != new for old, new in zip(seen["before"], seen["after"], strict=True))


def test_everything_is_drawn_and_fits(seen: dict[str, Any]) -> None:
    """Every figure has a size, and the page is no wider than the window, nor than a phone."""
    assert seen["drawings"]
    assert all(seen["drawings"])
    assert not seen["wider"]
    assert seen["narrow"] == 390


def test_what_is_printed_is_everything(seen: dict[str, Any]) -> None:
    """Folded cells and those that the filter left out are printed, and are afterwards as they were."""
    assert seen["printed"] == 3
    assert seen["afterwards"] == [1, False]


def test_a_screenshot_shows_both_backends(text: str, tmp_path: Path) -> None:
    """The colours of the bands' backends are on the screen."""
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    open_page((tmp_path / "report.html").as_uri(), tmp_path, f"--screenshot={tmp_path / 'screen.png'}")
    pixels = (255 * imread(tmp_path / "screen.png")[:, :, :3]).round().astype(int).reshape(-1, 3)
    for colour in ((0, 114, 178), (213, 94, 0)):
        assert (pixels == colour).all(axis=1).any()
