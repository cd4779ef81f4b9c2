"""The page holds everything in itself, and says what the table says."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_logs import rccl_log
from made_studies import made_study
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ccl_dispatch.runtime.table import Platform
from ccl_dispatch.runtime.units import full_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.report.figures import figures, picture, titled
from ccl_dispatch.tuner.report.model import Report, make_report
from ccl_dispatch.tuner.report.page import _inline, page

CELLS = [Cell("all_gather", "eager", "first", dtype, 8) for dtype in ("bfloat16", "float32")]


@pytest.fixture(scope="module")
def report() -> Report:
    """The report of a made study of two cells."""
    return make_report(*made_study(CELLS))


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    """Its page."""
    return page(report)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_nothing_is_fetched_from_anywhere(text: str) -> None:
    """No element of the page names a file or an address, and the page forbids it to itself."""
    tags = _Tags()
    tags.feed(text)
    for tag, attributes in tags.seen:
        for name in ("src", "href", "xlink:href", "data", "action", "poster"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_names_inside_the_page_are_unique(text: str) -> None:
    """Each drawing keeps its own names: none refers to a part of another."""
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    referred = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
    assert referred <= set(names)


def test_foreign_text_stays_text(text: str) -> None:
    """Names, details and settings with markup in them are shown, not obeyed."""
    assert "made <up>" not in text
    assert "made &lt;up&gt;" in text
    assert "made up: signal 11 &lt;&amp;&gt;" in text
    assert "made up &amp; odd" in text


def test_the_page_says_what_the_table_says(report: Report, text: str) -> None:
    """Every cell with its bands, crossovers and exclusions, and that the figures were not measured."""
    for cell in report.table.cells:
        assert f'data-words="{cell.cell.name}"' in text
        for crossing in cell.crossovers:
            assert f"crossover at {full_size(crossing.at)}, between" in text
    assert text.count("excluded: odd at 1 MiB to 16 MiB: crashed") == len(CELLS)
    assert "replayed, not measured by this tool" in text
    assert report.table.digest in text


def test_a_machine_of_which_nothing_is_known_is_said_to_be_unknown() -> None:
    """What is replayed from a file that names no platform has one word for it, and no row of question marks."""
    study, results = made_study(CELLS)
    nowhere = Platform("", "", "", 0, "", {}, {})
    text = page(make_report(replace(study, platform=nowhere), results))
    assert "<dt>device</dt><dd>unknown</dd>" in text


def test_the_same_study_gives_the_same_page(text: str) -> None:
    """Made anew from the same samples the page is the same to the byte."""
    assert page(make_report(*made_study(CELLS))) == text


def test_pictures_are_the_same_figures(report: Report) -> None:
    """Each figure can be had as PNG and as SVG, one for each cell and three about the whole."""
    drawn = dict(figures(report))
    assert set(drawn) == {"overview", "progress", "time", *(cell.name.replace("/", "-") for cell in CELLS)}
    assert picture(drawn["overview"], "png").startswith(b"\x89PNG")
    assert b"all_gather/eager/first/float32/ws8" in picture(drawn["overview"], "svg")
    alone = picture(dict(titled(report))["all_gather-eager-first-float32-ws8"], "svg")
    assert b"all_gather/eager/first/float32/ws8: replayed on made up &amp; odd" in alone


@pytest.mark.parametrize("again", [0, 6])
def test_how_it_went_lies_within_its_figure(again: int) -> None:
    """No text leaves the picture or lies on another; one estimate alone is told in words, several are drawn."""
    meta, once = made_study(CELLS[:1])
    figure = dict(titled(make_report(meta, [*once, *once[:again]])))["progress"]
    canvas = FigureCanvasAgg(figure)
    figure.draw(canvas.get_renderer())  # type: ignore[no-untyped-call]
    heads = [*figure.texts, *(axis.title for axis in figure.axes), *(axis._left_title for axis in figure.axes)]  # type: ignore[attr-defined]
    boxes = [head.get_window_extent() for head in heads if head.get_text()]
    assert len(boxes) == 3
    width, height = canvas.get_width_height()
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    left = figure.axes[0]
    assert len(left.lines) == bool(again)
    assert any(" % at the end." in told.get_text() for told in left.texts) is not bool(again)


@pytest.mark.parametrize("times", [0.01, 1.0, 1000.0])
def test_texts_of_a_cell_lie_within_its_figure(report: Report, times: float) -> None:
    """However long the numbers at its axes are; alone it has a title, above both axes."""
    cell = report.cells[0]
    longer = {
        name: tuple(replace(at, low=times * at.low, median=times * at.median, high=times * at.high) for at in points)
        for name, points in cell.latencies.items()
    }
    wide = replace(report, cells=(replace(cell, latencies=longer), *report.cells[1:]))
    for drawn in (figures(wide), titled(wide)):
        figure = dict(drawn)["all_gather-eager-first-bfloat16-ws8"]
        canvas = FigureCanvasAgg(figure)
        figure.draw(canvas.get_renderer())  # type: ignore[no-untyped-call]
        width, height = canvas.get_width_height()
        boxes = [box for axis in figure.axes if (box := axis.get_tightbbox()) is not None]
        assert len(boxes) == 2
        for box in boxes:
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height
            assert all(title.get_window_extent().y0 >= box.y1 for title in figure.texts)


def test_numbers_that_are_read_keep_their_digits() -> None:
    """Places in a drawing are rounded, for the file's size; a tick of 0.025 stays 0.025."""
    drawing = (
        '<svg width="9" height="9" viewBox="0 0 9 9"><path d="M 1.23456 2.5&#10;L 3.999 4"/><text>0.025</text></svg>'
    )
    body = _inline(drawing, "name", "told")
    assert 'd="M 1.23 2.5&#10;L 4 4"' in body
    assert "<text>0.025</text>" in body


def test_the_command_writes_page_and_pictures_of_an_import(tmp_path: Path) -> None:
    """Also of a study without times, which has no progress to show."""
    times = {1 << power: (100.0, 1.0) for power in range(4, 14)}
    (tmp_path / "a.log").write_text("\n".join(rccl_log(times)))
    (tmp_path / "b.log").write_text("\n".join(rccl_log(dict.fromkeys(times, (50.0, 1.0)))))
    names = ("--backend", "a", "--backend", "b", "--baseline", "a", "--storage", "s.journal")
    assert ccl_dispatch("import", "a.log", "b.log", *names, folder=tmp_path).returncode == 0
    done = ccl_dispatch("report", "--storage", "s.journal", "--out", "r.html", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "How it went" not in (tmp_path / "r.html").read_text(encoding="utf-8")
    done = ccl_dispatch("report", "--storage", "s.journal", "--out", "p", "--format", "png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "all_gather-eager-first-float16-ws8.png",
        "overview.png",
    ]
