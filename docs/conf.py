"""The docs site: Sphinx reads the Markdown pages of this folder (`make docs`).

Broken links and anchors, and pages that no table of contents in index.md names, are errors. Nothing is loaded from the
network when a page is opened, and search works from file:// as well.
"""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ccl-dispatch"
release = version = version_of("ccl-dispatch")

extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "index"
language = "en"
# Laid out for another place: no page of this one.
exclude_patterns = ["examples"]
# Every reference must lead somewhere; `make docs` turns warnings into errors.
nitpicky = True
# Headings have the anchors that code hosts give them: a link works in both places.
myst_heading_anchors = 4

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Under a lasting name, for editors; a link to them is a download like any other.
html_extra_path = ["table-v1.schema.json", "config.schema.json", "events.schema.json"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Summaries of what a search finds would be fetched page by page, which a browser refuses from file://.
html_show_search_summary = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# Of a console block the commands are copied, without prompt and output.
copybutton_prompt_text = "$ "

# Pages that live elsewhere in the repository and are included in one of this folder: links to them lead to that one.
INCLUDED = {
    "../CHANGELOG.md": "changelog.md",
    "../tables/README.md": "tables.md",
    "../tests/data/measurements/README.md": "measurements.md",
}


def setup(app: Sphinx) -> None:
    """Ask to see each page before it is parsed."""
    app.connect("source-read", _lead_to_included)


def _lead_to_included(_app: Sphinx, _page: str, source: list[str]) -> None:
    for elsewhere, here in INCLUDED.items():
        source[0] = source[0].replace(f"]({elsewhere}", f"]({here}")
