"""index.html: all studies of a run on one page, with thumbnails and links to their reports; its table can be sorted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from dinsegment.errors import printable
from dinsegment.studies.study import StudyResult
from dinsegment.studies.table import table_header, table_row
from dinsegment.tasks import Task

PAGE = "index.html"

NAMING = ("Input", "Folder", "Message", "Status")
"""Columns of studies.csv that have a place of their own here."""

STYLE = """
body { font: 0.92rem/1.4 system-ui, "Segoe UI", "Noto Sans", sans-serif; margin: 1rem; color: #1d2127; }
h1 { font-size: 1.4rem; margin: 0 0 0.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
thead button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: left; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
td.number { text-align: right; white-space: nowrap; }
img { width: 9rem; height: auto; display: block; }
.failed { color: #a33c00; font-weight: 600; }
footer { margin-top: 1rem; font-weight: 600; }
"""

SCRIPT = """
for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => {
  const head = button.parentElement, column = head.cellIndex, body = document.querySelector("tbody");
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => { const t = row.cells[column].dataset.value; return t === "" ? NaN : Number(t); };
  const text = row => row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    if (isNaN(x) && isNaN(y)) return text(a).localeCompare(text(b)) * (down ? -1 : 1);
    if (isNaN(x)) return 1;
    if (isNaN(y)) return -1;
    return (x - y) * (down ? -1 : 1);
  });
  body.append(...rows);
});
"""


def page_bytes(results: Sequence[StudyResult], task: Task, anonymous: bool = False) -> bytes:
    """The page, in UTF-8.

    Args:
        results: In the order in which they are listed at first.
        task: What was segmented.
        anonymous: Whether studies are called by their numbers, not by their files.
    """
    columns = [(n, name) for n, name in enumerate(table_header(task)) if name not in NAMING]
    heads = "".join(f"<th><button>{escape(name)}</button></th>" for name in ("Study", *(name for _, name in columns)))
    rows = "".join(_row(number, result, task, columns, anonymous) for number, result in enumerate(results, start=1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(task.title)}: {len(results)} studies, DINSegment</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(task.title)}: {len(results)} studies</h1>"
        f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<footer>Research tool, not a medical device.</footer><script>{SCRIPT}</script></body></html>\n"
    ).encode("utf-8", "backslashreplace")


def _row(number: int, result: StudyResult, task: Task, columns: Sequence[tuple[int, str]], anonymous: bool) -> str:
    folder = Path(result.folder)
    name = f"Study {number}" if anonymous else printable(folder.name)
    there = quote(folder.name, errors="surrogateescape")
    picture = links = ""
    if (folder / "report.html").is_file():
        links = f'<br><a href="{there}/report.html">Report</a> <a href="{there}/report.pdf">PDF</a>'
        picture = (
            f'<a href="{there}/report.html"><img loading="lazy" alt="Key slices of {escape(name)}" '
            f'src="{there}/thumbnail.png"></a>'
        )
    message = ""
    if result.status == "failed":
        message = "could not be segmented" if anonymous else result.message
        message = f'<br><span class="failed">{escape(message)}</span>'
    row = table_row(result, task)
    cells = ""
    for n, _ in columns:
        value = row[n] if _is_number(row[n]) else ""
        kind = ' class="number"' if value else ""
        cells += f'<td{kind} data-value="{value}">{escape(row[n])}</td>'
    return f'<tr><td data-value="">{picture}</td><td data-value="">{escape(name)}{links}{message}</td>{cells}</tr>'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
