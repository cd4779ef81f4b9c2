"""The docs site is built without a warning, and its pages need nothing but themselves."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, NO_CHROMIUM, open_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# What a browser loads by itself, as opposed to what a reader may follow.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"(https?:)?//[^\"]*\""
    r"|<link\b[^>]*\brel=\"(?:stylesheet|icon|preload|preconnect|prefetch)\"[^>]*\bhref=\"(https?:)?//"
    r"|url\(\s*['\"]?(https?:)?//|@import"
)

# One page after the other in a frame of a phone's width: how wide what is in it is, and how wide the frame.
PROBE = """<pre></pre><script>
const widths = {};
(async () => {
  for (const page of PAGES) {
    const frame = document.createElement("iframe");
    frame.width = 400; frame.height = 800; frame.src = page;
    const loaded = new Promise((done) => { frame.onload = done; });
    document.body.append(frame);
    await loaded;
    const root = frame.contentDocument.documentElement;
    widths[page] = [root.scrollWidth, root.clientWidth];
    frame.remove();
  }
  document.querySelector("pre").textContent = JSON.stringify(widths);
})();
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (rule,) = re.findall(r"^\t\$\(BIN\)/python (-m sphinx .*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    *options, source, _ = rule.split()
    done = subprocess.run(
        [sys.executable, *options, "--doctree-dir", str(folder / "doctrees"), source, str(folder / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    advice = "A new page is named in one of the lists of docs/index.md; a link names a file or a heading that is there."
    assert done.returncode == 0, f"{done.stderr}\n{advice}"
    return folder / "html"


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    """A link to no page, one to no heading, an unknown reference and a page in no list each fail the build."""
    (tmp_path / "conf.py").write_text((DOCS / "conf.py").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("table-v1.schema.json", "config.schema.json", "events.schema.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "site.css").write_text("")
    (tmp_path / "index.md").write_text("# A\n\n[x](absent.md) [y](#absent) {ref}`absent` [z](lost.md#absent)\n")
    (tmp_path / "lost.md").write_text("# Lost\n")
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path / "html")], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    for words in ("'absent.md'", "'absent'", "undefined label: 'absent'", "lost.md:", "included in any toctree"):
        assert words in done.stderr, (words, done.stderr)
    assert done.stderr.count("WARNING") == 5, done.stderr


def test_every_page_of_the_folder_is_in_the_site(site: Path) -> None:
    """No Markdown file of docs/ was left out, but what is laid out for another place."""
    files = [path for path in DOCS.rglob("*.md") if DOCS / "examples" not in path.parents]
    pages = {path: site / path.relative_to(DOCS).with_suffix(".html") for path in files}
    assert len(pages) > 10
    assert [path for path, page in pages.items() if not page.is_file()] == []
    # Sphinx writes pages of its own over ours of these names, without a word.
    assert {path.stem for path in pages} & {"search", "genindex"} == set()


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    """No page, style or script of the site names a script, style, font or picture of another place."""
    texts = [path for path in site.rglob("*") if path.suffix in {".html", ".css", ".js"}]
    assert len(texts) > 20
    assert [path.name for path in texts if LOADED.search(path.read_text(encoding="utf-8"))] == []
    assert LOADED.search('<script src="https://x.org/a.js">')
    assert LOADED.search("@font-face { src: url(//x.org/f.woff2) }")


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_a_search_from_file_finds_pages_without_a_request(site: Path, tmp_path: Path) -> None:
    """Opened from file://, the search page finds the page about crossovers; console and network stay silent."""
    opened = open_page(
        (site / "search.html").as_uri() + "?q=crossover", tmp_path, "--dump-dom", "--virtual-time-budget=5000"
    )
    found = opened.dom.partition('id="search-results"')[2]
    assert re.search(r"<a href=\"architecture\.html[^\"]*\"", found), found[:2000]
    assert (opened.console, opened.requests) == ([], [])


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_a_request_and_an_error_would_be_seen(tmp_path: Path) -> None:
    """A page that asks for a picture and for data elsewhere, and then calls what is not there, is caught at all."""
    page = tmp_path / "page.html"
    asks = '<img src="http://127.0.0.1:9/a.png"><script>fetch("http://127.0.0.1:9/b").catch(() => 0); absent()</script>'
    page.write_text(asks)
    opened = open_page(page.as_uri(), tmp_path)
    assert opened.requests == ["http://127.0.0.1:9/a.png", "http://127.0.0.1:9/b"]
    assert len(opened.console) == 1


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_every_page_opens_from_file_and_fits_a_phone(site: Path, tmp_path: Path) -> None:
    """Opened from file:// on a phone's width, no page is wider than it; console and network stay silent."""
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    (site / "probe.html").write_text(PROBE.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    opened = open_page(
        (site / "probe.html").as_uri(),
        tmp_path,
        "--dump-dom",
        "--virtual-time-budget=60000",
        "--allow-file-access-from-files",
    )
    (site / "probe.html").unlink()
    widths: dict[str, list[int]] = json.loads(html.unescape(opened.dom.partition("<pre>")[2].partition("</pre>")[0]))
    assert [*widths] == pages
    assert {page: width for page, width in widths.items() if not 0 < width[0] <= width[1]} == {}
    assert (opened.console, opened.requests) == ([], [])
