"""The report as one HTML file: figures, texts, style and script inside it, nothing fetched from anywhere."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from importlib.resources import files

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted, full_size, gain_text, gain_texts, percent, short_size
from ccl_dispatch.tuner.evidence.disturbed import disturbed_in_words
from ccl_dispatch.tuner.evidence.ranks import slow_ranks_of
from ccl_dispatch.tuner.report.figures import FAINT, INK, figures, picture
from ccl_dispatch.tuner.report.model import CellReport, Report
from ccl_dispatch.tuner.sizes import exact_span, span_text

# Nothing but what is in the file may be used, and the browser holds the page to it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

_EVIDENCE = {"study": "study", "host": "host", "measured from": "measured_from", "measured to": "measured_to"}
# What is read out instead of the figures; those of cells have their numbers in the table below them.
_ALTERNATIVES = {
    "overview": "Which backend the table uses, by cell and size",
    "progress": "Estimated regret, and the share of octaves decided otherwise than at the end, over the time",
    "time": "Seconds of each cell in collectives and around them",
}
_PROGRESS = (
    "The table was built again after a part of the visits: what was left to win by its own estimate, and how much of "
    "the measured range it decided otherwise than the whole study. There is an estimate from where on every cell was "
    "measured from end to end, which in a short sweep is near its end."
)


def page(report: Report) -> str:
    """The whole file's text; the same report gives the same text."""
    table = report.table
    drawn = {
        name: _inline(
            picture(figure, "svg", salt=name, transparent=True).decode(),
            name,
            _ALTERNATIVES.get(name) or f"{name}: latency of each backend by size, and how many times faster it is",
        )
        for name, figure in figures(report)
    }
    here = files("ccl_dispatch.tuner.report")
    style = (here / "report.css").read_text(encoding="utf-8")
    script = (here / "report.js").read_text(encoding="utf-8")
    title = f"{table.name}: {' or '.join(table.candidates)} instead of {table.baseline}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{_safe(title)}</title>",
        f"<style>\n{style}</style></head><body>",
        f"<header><h1>{_safe(title)}</h1>",
        '<div class="controls">',
        '<input id="filter" type="search" placeholder="cells with these words" aria-label="cells with these words">',
        '<button id="fold" type="button">fold all</button>',
        '<button id="theme" type="button">dark or light</button></div></header><main>',
        *_summary(report),
        "<section><h2>The whole table</h2>",
        f"<p>Outside these sizes and cells {_safe(table.baseline)} is used.</p>",
        f"<figure>{drawn.pop('overview')}</figure></section>",
        "<section><h2>Cells</h2>",
        _legend(table),
        '<p id="none" role="status" hidden>No cell has these words.</p>',
    ]
    for cell in report.cells:
        name = cell.table.cell.name
        parts += _cell_part(table, cell, drawn.pop(name.replace("/", "-")))
    parts.append("</section>")
    if "progress" in drawn:
        parts += [
            "<section><h2>How it went</h2>",
            f"<p>{_PROGRESS}</p><figure>{drawn['progress']}</figure>",
            f"<h3>Where the time went</h3><figure>{drawn['time']}</figure></section>",
        ]
    parts += [f"</main><script>\n{script}</script></body></html>"]
    return "\n".join(parts) + "\n"


def _legend(table: Table) -> str:
    sure = f"{percent(table.policy.confidence)} confidence intervals"
    return (
        "<p>Above: median latency of the slowest rank, bars from the 25th to the 75th percentile. Below: how many "
        f"times faster than {_safe(table.baseline)}, bars are {sure}, cut at the "
        "edge; the grey band is a tie. Ground: what the table uses. Dashed: a crossover, on the ruled ground of the "
        "sizes between which it lies. A dotted line is a size with a choice of its own, a cross a size at which a "
        "backend is excluded.</p>"
    )


def _summary(report: Report) -> Iterator[str]:
    table, platform = report.table, report.table.platform
    estimates = [cell.table.regret_estimate for cell in report.cells if cell.table.regret_estimate is not None]
    yield "<section>"
    if table.provenance != "measured":
        yield (
            f'<p class="note">These figures are {_safe(table.provenance)}, not measured by this tool. No machine '
            "matches this table.</p>"
        )
    known = platform.device_count or platform.device or platform.architecture
    kind = f" ({platform.architecture})" if platform.architecture else ""
    facts = [
        ("provenance", table.provenance),
        ("device", f"{platform.device_count or '?'} x {platform.device or 'unknown'}{kind}" if known else "unknown"),
        ("link", platform.link or "unknown"),
        (
            "a candidate must gain",
            f"{percent(table.policy.min_gain)} with {percent(table.policy.confidence)} confidence",
        ),
        ("calls timed", table.policy.timing.replace("_", " ")),
        ("estimated regret", f"{sum(estimates) / len(estimates):.2%} (mean of the cells)" if estimates else "unknown"),
        (
            "points",
            f"{sum(c.points for c in report.cells)}, in {counted(sum(c.visits for c in report.cells), 'visit')}",
        ),
        ("samples", f"{sum(c.samples for c in report.cells)}"),
        (
            "time of visits",
            (
                f"{sum(c.collective_seconds + c.other_seconds for c in report.cells):.1f} s, "
                f"{sum(c.collective_seconds for c in report.cells):.1f} s of them in collectives"
            ),
        ),
        ("executions", ", ".join(f"{name} {count}" for name, count in report.executions.items()) or "none"),
        *((key, str(table.evidence[of])) for key, of in _EVIDENCE.items() if table.evidence.get(of)),
        *((key, value or "unknown") for key, value in platform.versions.items()),
        *((f"${key}", value) for key, value in platform.settings.items()),
        ("digest", table.digest),
    ]
    warnings = [f"a slow rank: {item.text()}" for item in slow_ranks_of(table)]
    warnings += [told] if (told := disturbed_in_words(table)) else []
    yield "".join(f'<p class="note">{_safe(told)}</p>' for told in warnings)
    yield "<dl>" + "".join(f"<dt>{_safe(key)}</dt><dd>{_safe(value)}</dd>" for key, value in facts) + "</dl></section>"


def _cell_part(table: Table, cell: CellReport, drawing: str) -> Iterator[str]:
    answer = cell.table
    regret = "" if answer.regret_estimate is None else f", estimated regret {answer.regret_estimate:.2%}"
    yield f'<details class="cell" open data-words="{_safe(answer.cell.name)}"><summary>{_safe(answer.cell.name)}'
    effort = f"{counted(cell.points, 'point')}, {counted(cell.visits, 'visit')}, {counted(cell.samples, 'sample')}"
    yield f"<small>{effort}{regret}</small></summary><figure>{drawing}</figure>"
    yield '<div class="wide"><table><thead><tr><th>from</th><th>up to</th><th>use</th><th>why</th><th>gain</th>'
    yield "<th>interval</th><th>samples</th></tr></thead><tbody>"
    start = answer.measured_from
    for band in answer.bands:
        told, *bounds = gain_texts(band.gain or 0.0, *(band.interval or ()))
        gain = "" if band.gain is None else f"{told} against {band.against}"
        interval = " to ".join(bounds)
        why = band.reason(table.policy.min_gain)
        row = (short_size(start), short_size(band.up_to), band.use, why, gain, interval, str(band.samples))
        kind = ' class="base"' if band.use == table.baseline else ""
        yield f"<tr{kind}>" + "".join(f"<td>{_safe(value)}</td>" for value in row) + "</tr>"
        start = band.up_to
    yield "</tbody></table></div><ul>"
    for item in answer.crossovers:
        yield (
            f"<li>crossover at {_safe(full_size(item.at))}, between {_safe(short_size(item.low))} and "
            f"{_safe(short_size(item.high))}: {_safe(item.below)} below, {_safe(item.above)} above</li>"
        )
    for tie in answer.ties:
        yield f"<li>tie: {_safe(tie.backend)} at {_safe(span_text(tie.low, tie.high))}</li>"
    for out in answer.exclusions:
        what = f"{out.backend} at {exact_span(out.low, out.high)}: {out.reason}, {out.detail}"
        yield f'<li class="out">excluded: {_safe(what)}</li>'
    for entry in answer.overrides:
        what = f"exactly {full_size(entry.size)} (shape {list(entry.shape)}): {entry.use}, {gain_text(entry.gain)}"
        yield f"<li>{_safe(what)}</li>"
    for note in cell.notes:
        yield f"<li>{_safe(note)}</li>"
    yield "</ul></details>"


def _inline(svg: str, name: str, told: str) -> str:
    """A drawing to stand in a page: names of its own, what it shows in words, ink and lines in the page's colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\b(id="|href="#|url\(#)', lambda match: f"{match[1]}{name}.", body)
    body = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", body, count=1)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # A hundredth of a point is finer than any screen or printer; the other digits are half of the file. Only of places,
    # which lie in tags: what stands between tags is read.
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _hundredth, tag[0]), body)
    body = body.replace("<svg ", f'<svg role="img" aria-label="{_safe(told)}" ', 1)
    return body.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")


def _hundredth(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _safe(text: str) -> str:
    return html.escape(text)
