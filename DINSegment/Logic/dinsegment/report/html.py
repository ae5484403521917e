"""A report as one HTML file that needs no other: styles and pictures are in it. It fits paper and a phone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from dinsegment.report.bars import bar_of
from dinsegment.report.content import Report, Row, Table
from dinsegment.report.figures import Picture

STYLE = """
:root { --ink: #1d2127; --faint: #b9bfc8; --band: #c9dcee; --outside: #a33c00; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; color: var(--ink); background: var(--paper);
  font: 0.92rem/1.4 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
header { border-bottom: 1px solid var(--faint); padding-bottom: 0.4rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.02rem; margin: 1.2rem 0 0.2rem; }
.made { float: right; color: #5b636e; font-size: 0.85rem; }
dl { display: flex; flex-wrap: wrap; gap: 0.1rem 1.1rem; margin: 0.3rem 0 0; }
dl div { display: flex; gap: 0.35rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.16rem 0.5rem 0.16rem 0; vertical-align: top; }
table.ranges { table-layout: fixed; }
.ranges thead th:first-child { width: 34%; }
thead th { font-weight: 400; color: #5b636e; font-size: 0.85rem; border-bottom: 1px solid var(--faint); }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
tbody td.number:nth-of-type(1) { font-weight: 600; }
.mark, .remark { color: var(--outside); font-weight: 600; font-size: 0.82rem; }
svg { display: block; width: 8rem; height: 1rem; }
figure { margin: 0.8rem 0; }
img { max-width: 100%; height: auto; display: block; }
.pictures { display: flex; flex-wrap: wrap; gap: 0.6rem; align-items: flex-start; }
ol, ul { margin: 0.2rem 0; padding-left: 1.4rem; }
ol li::marker { color: var(--outside); font-weight: 600; }
footer { margin-top: 1.4rem; border-top: 1px solid var(--faint); padding-top: 0.4rem; font-weight: 600; }
@media (max-width: 34rem) {
  body { padding: 0.7rem; }
  .made { float: none; display: block; }
  thead { display: none; }
  tbody tr { display: flex; flex-wrap: wrap; gap: 0 0.8rem; padding: 0.35rem 0; border-bottom: 1px solid #e3e6ea; }
  tbody th { flex-basis: 100%; }
  th, td { padding: 0; }
  td:empty { display: none; }
}
@media print { body { max-width: none; padding: 0; font-size: 8.5pt; } figure, tr { break-inside: avoid; } }
"""


def write_html(report: Report, pictures: Sequence[Picture]) -> bytes:
    """The report as one HTML file in UTF-8.

    Args:
        report: What stands in it.
        pictures: In the order in which they are shown.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}, DINSegment</title><style>{STYLE}</style></head><body>",
        f'<header><span class="made">{escape(report.made_by)}</span><h1>{escape(report.title)}</h1>',
    ]
    if report.patient:
        known = "".join(f'<div><dt>{escape(a)}</dt><dd dir="auto">{escape(b)}</dd></div>' for a, b in report.patient)
        parts.append(f"<dl>{known}</dl>")
    parts.append("</header><main>")
    parts += [_table(table) for table in report.tables]
    parts.append(f'<div class="pictures">{"".join(_picture(picture) for picture in pictures)}</div>')
    parts.append(_list("Check", report.findings, "ol"))
    parts.append(_list("Not measured", report.left_out, "ul"))
    parts.append(_list("How to read it", report.notes, "ul"))
    parts.append(f"</main><footer>{escape(report.note)}</footer></body></html>\n")
    return "".join(parts).encode("utf-8", "backslashreplace")


def _table(table: Table) -> str:
    ranges = table.has_ranges
    kind = ' class="number"' if table.has_ranges else ""
    heads = "".join(f"<th{kind}>{escape(name)}</th>" for name in table.columns)
    heads += "<th>Normal</th><th></th>" if ranges else ""
    rows = "".join(_row(row, kind, ranges) for row in table.rows)
    style = ' class="ranges"' if ranges else ""
    head = f"<thead><tr><th></th>{heads}</tr></thead>"
    return f"<h2>{escape(table.title)}</h2><table{style}>{head}<tbody>{rows}</tbody></table>"


def _row(row: Row, kind: str, ranges: bool) -> str:
    marks = "".join(f' <span class="mark">[{mark}]</span>' for mark in row.marks)
    remark = f'<div class="remark">{escape(row.remark)}</div>' if row.remark else ""
    cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row.cells)
    if ranges:
        cells += f"<td>{escape(row.range_text)}</td><td>{_bar(row)}</td>"
    return f"<tr><th>{escape(row.name)}{marks}{remark}</th>{cells}</tr>"


def _bar(row: Row) -> str:
    if row.range is None or row.value is None:
        return ""
    bar = bar_of(row.value, row.range)
    x = 120 * bar.value
    if bar.place == "within":
        mark = f'<circle cx="{x:.1f}" cy="8" r="3.4" fill="#1d2127"/>'
    else:
        way = -1 if bar.place == "below" else 1
        mark = f'<path d="M{x + 5 * way:.1f} 8L{x - 3 * way:.1f} 12.5V3.5Z" fill="#a33c00"/>'
    band = f'<rect x="{120 * bar.low:.1f}" y="4" width="{120 * (bar.high - bar.low):.1f}" height="8" fill="#c9dcee"/>'
    told = {"below": "below the normal range", "within": "within the normal range", "above": "above the normal range"}
    return (
        f'<svg viewBox="0 0 120 16" role="img" aria-label="{told[bar.place]}">'
        f'<path d="M0 8H120" stroke="#b9bfc8"/>{band}{mark}</svg>'
    )


def _picture(picture: Picture) -> str:
    kind = "svg+xml" if picture.data.lstrip().startswith(b"<") else "png"
    data = base64.b64encode(picture.data).decode("ascii")
    width = round(96 * picture.width)
    return f'<figure><img alt="{escape(picture.text)}" width="{width}" src="data:image/{kind};base64,{data}"></figure>'


def _list(title: str, texts: Sequence[str], kind: str) -> str:
    if not texts:
        return ""
    return f"<h2>{title}</h2><{kind}>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</{kind}>"
