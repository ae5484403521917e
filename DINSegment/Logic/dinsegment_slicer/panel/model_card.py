"""What is said of a model: scores, training data, licence, where its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from dinsegment.errors import ModelError
from dinsegment.models.entries import ModelEntry, told_by
from dinsegment.models.settings import WeightsSettings
from dinsegment.models.weights import is_available
from dinsegment.tasks import TASKS
from dinsegment_slicer.i18n import tr as _


def model_card(entry: ModelEntry, settings: WeightsSettings) -> str:
    """Rich text for a label; colours and fonts are the theme's."""
    told = _told_by(entry)
    rows = [
        (_("Finds"), _finds(entry)),
        (_("Test scores"), _scores(entry)),
        (_("Trained on"), _data(entry.data)),
        (_("Licence"), escape(entry.license)),
        *((_("Told by"), _other(one)) for one in told),
        (_("Weights"), _weights([entry, *told], settings)),
    ]
    body = "".join(
        f'<tr><td style="padding-right: 8px"><b>{title}</b></td><td>{text}</td></tr>' for title, text in rows if text
    )
    return f"<p>{escape(entry.description)}</p><table>{body}</table>"


def _finds(entry: ModelEntry) -> str:
    task = TASKS.get(entry.task)
    return escape(", ".join(s.name.lower() for s in task.segments)) if task else ""


def _scores(entry: ModelEntry) -> str:
    scores = entry.scores
    dice = scores.get("dice", {})
    if not dice:
        return _("none yet")
    # weights.json has the abbreviations of the literature, which not every clinician knows.
    task = TASKS.get(entry.task)
    names = {segment.abbreviation: segment.name.lower() for segment in task.segments} if task else {}
    each = ", ".join(f"{escape(names.get(name, name))} {v:.3f}" for name, v in dice.items() if name != "mean")
    text = _("mean Dice {mean:.3f} ({each}) over {cases} volumes").format(
        mean=dice.get("mean", float("nan")), each=each, cases=scores.get("cases", "?")
    )
    if scores.get("hd95_mm", {}).get("mean") is not None:
        text += _("; 95 % Hausdorff distance {mm:.1f} mm").format(mm=scores["hd95_mm"]["mean"])
    if scores.get("ef_mae") is not None:
        text += _("; ejection fraction off by {points:.1f} points on average").format(points=scores["ef_mae"])
    command = escape(str(scores.get("command", "")))
    return f'<span title="{command}">{text}</span>'


def _data(data: dict[str, Any]) -> str:
    parts = [
        f"{escape(str(data.get('name', '')))}: {escape(str(data.get('split', '')))}",
        escape(str(data.get("citation", ""))),
        _("Licence of the data: {license}").format(license=escape(str(data.get("license", "")))),
    ]
    return "<br>".join(part for part in parts if part)


def _told_by(entry: ModelEntry) -> tuple[ModelEntry, ...]:
    """The models that tell this one what to expect; none where one is missing, which who segments is told."""
    try:
        return told_by(entry.context)
    except ModelError:
        return ()


def _other(entry: ModelEntry) -> str:
    return f"{escape(entry.name)}: {escape(entry.description)}<br>{_data(entry.data)}"


def _weights(needed: Sequence[ModelEntry], settings: WeightsSettings) -> str:
    size = _("{size:.1f} MB").format(size=sum(one.weights["size"] for one in needed) / 1e6)
    isHere = all(is_available(one, settings=settings) for one in needed)
    here = _("on this machine") if isHere else _("downloaded at the first use")
    return f"{size}, {here}"
