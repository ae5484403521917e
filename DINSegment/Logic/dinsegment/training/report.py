"""The files of an evaluation: numbers as JSON and CSV, and one page that needs nothing else, to be kept."""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.files import write_json
from dinsegment.manifest import Kind, check_replaceable, staged
from dinsegment.models.entries import read_entries
from dinsegment.training.evaluation import FUNCTION, Evaluation
from dinsegment.training.figures import DARK, EXPERT, LIGHT, MODEL, agreement_png, dice_png, picture_png

PUBLISHED: dict[str, dict[str, Any]] = {
    "heart": {
        "data": "ACDC, 20 test patients",
        "dice": {"mean": 0.9325, "RV": 0.9216, "Myo": 0.9108, "LV": 0.9650},
    },
    "abdomen": {
        "data": "Synapse, 12 test cases",
        "dice": {
            "mean": 0.8549, "Aorta": 0.8912, "GB": 0.7432, "KL": 0.8747, "KR": 0.8585,
            "Liver": 0.9471, "PC": 0.7382, "SP": 0.9230, "SM": 0.8631,
        },
    },
}  # fmt: skip
"""DIN's Dice per task as published (J. Noh, W. Jeon, J. Park, doi 10.1016/j.patrec.2025.08.018, tables of ACDC and
Synapse)."""

MEASUREMENTS = {
    "edv_ml": ("End-diastolic volume", "ml"),
    "esv_ml": ("End-systolic volume", "ml"),
    "sv_ml": ("Stroke volume", "ml"),
    "ef": ("Ejection fraction", "%"),
    "mass_g": ("Myocardial mass", "g"),
}
"""Title and unit of what of a heart's function is compared."""

PLOTTED = ("edv_ml", "esv_ml", "ef", "mass_g")

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ m.model }} on {{ m.split }}: evaluation</title>
<style>
:root { --paper: #ffffff; --ink: #1d2127; --faint: #5b6470; --rule: #d5dae1; --note: #fff4e0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e8eaed; --faint: #a7afba; --rule: #3a404a; --note: #352a17; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 68rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .8rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--rule); padding: .3rem .8rem .3rem 0; text-align: right; white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } .interval, .faint { color: var(--faint); font-size: .87em; }
.note { background: var(--note); border-radius: .4rem; padding: .5rem .9rem; }
dl { display: grid; gap: .15rem 1.2rem; grid-template-columns: max-content 1fr; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
img { display: block; height: auto; max-width: 100%; }
.key::before { border-top: 3px solid; content: ""; display: inline-block; margin: 0 .4em .25em 0; width: 1.8em; }
.expert::before { border-color: {{ expert_color }}; } .model::before { border-color: {{ model_color }};
  border-top-style: dashed; }
</style>
</head>
<body>
{% macro plot(images, text) -%}
<picture><source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{{ images[1] }}">
<img alt="{{ text }}" src="data:image/png;base64,{{ images[0] }}"></picture>
{%- endmacro %}
{% macro cell(value, interval, digits) -%}
<td>{{ value | number(digits) }}{% if interval and interval[0] | defined_number %}
{{ " " }}<span class="interval">({{ interval[0] | number(digits) }} to {{ interval[1] | number(digits) }})</span>
{%- endif %}</td>
{%- endmacro %}
<h1>{{ m.model }} compared with experts</h1>
<p class="note">A research tool, not a medical device: nothing here is meant for diagnosis or treatment.</p>
<dl>
<dt>Model</dt><dd>{{ m.model }}{% if entry %}: {{ entry.description }} Trained on {{ entry.data.name }}.{% endif %}</dd>
<dt>Task</dt><dd>{{ title }}: {{ segments | join(", ") }}</dd>
<dt>Data</dt><dd>{{ m.data }}, {{ m.split }}: {{ m.cases | length }} cases of {{ patients }} patients</dd>
<dt>Command</dt><dd><code>{{ m.command }}</code></dd>
<dt>Date</dt><dd>{{ m.date }}</dd>
<dt>Device</dt><dd>{{ m.device }}, {{ "%.1f" | format(m.seconds_per_case) }} s per case</dd>
<dt>Versions</dt><dd>{% for k, v in m.versions.items() %}{{ k }} {{ v }}{{ ", " if not loop.last }}{% endfor %}</dd>
</dl>

{% if m.failed %}
<p class="note">{{ m.failed | length }} cases failed and are not in any number:</p>
<ul>{% for case in m.failed %}<li>{{ case.case }}: {{ case.message }}</li>{% endfor %}</ul>
{% endif %}
<h2>Scores</h2>
<div class="wide"><table>
<tr><th></th><th>Dice</th>{% if published %}<th>Dice, published</th>{% endif %}
{% if recorded %}<th>Dice, recorded</th>{% endif %}
<th>HD95, mm</th><th>Average surface distance, mm</th><th>Volume error, ml</th></tr>
{% for name in m.dice %}
<tr><td>{{ "Mean" if name == "mean" else name }}</td>{{ cell(m.dice[name], m.intervals.dice[name], 4) }}
{% if published %}<td>{{ published.dice[name] | number(4) }}</td>{% endif %}
{% if recorded %}<td>{{ recorded.dice[name] | number(4) }}</td>{% endif %}
{{ cell(m.hd95_mm[name], m.intervals.hd95_mm[name], 2) }}{{ cell(m.asd_mm[name], m.intervals.asd_mm[name], 2) }}
{{ cell(m.volume_mae_ml[name], m.intervals.volume_mae_ml[name], 1) }}</tr>
{% endfor %}
{% for phase, means in m.phases.items() %}
<tr><td>Mean at {{ phase }}</td>{{ cell(means.mean, m.intervals.phases[phase].mean, 4) }}</tr>
{% endfor %}
</table></div>
<p class="faint">Means over cases, each case a whole volume at its own resolution. In parentheses 95&nbsp;% intervals:
percentiles of 2000 bootstrap resamples of the patients
{%- if patients < 20 %}; of so few patients they are somewhat too narrow{% endif %}. HD95: the larger of the
95th percentiles of the distances between the surfaces, in three dimensions.
Volume error: mean absolute difference.
{{ " " }}{% if published %}Published: DIN as in its paper, {{ published.data }}, doi
10.1016/j.patrec.2025.08.018.{% endif %}
{{ " " }}{% if recorded %}Recorded: what this model scored on {{ recorded.split }} when it was published.{% endif %}</p>
{% for name, counts in m.empty.items() if counts.values() | sum %}
<p>{{ name }}: {{ counts.only_expert }} cases in which only the expert has it, {{ counts.only_model }} in which only the
model has it (Dice 0), {{ counts.neither }} in which neither has it (Dice 1). They have no surface distance and are
not in the means of these.</p>
{% endfor %}
<h3>Dice of every case</h3>
{{ plot(dice_plot, "Dice of every case per segment, as dots over a box from quartile to quartile with the median") }}

{% if m.function %}
<h2>Function of the left ventricle</h2>
<div class="wide"><table>
<tr><th></th><th>Mean absolute error</th><th>Bias</th><th>Limits of agreement</th><th>Patients</th></tr>
{% for name, f in m.function.items() %}
<tr><td>{{ measurements[name][0] }}, {{ measurements[name][1] }}</td>{{ cell(f.mae, m.intervals.function[name], 2) }}
<td>{{ f.bias | number(2) }}</td><td>{{ f.lower_limit | number(2) }} to {{ f.upper_limit | number(2) }}</td>
<td>{{ f.patients }}{% if f.undefined %} ({{ f.undefined }} not defined){% endif %}</td></tr>
{% endfor %}
</table></div>
<p class="faint">End diastole and end systole are the frames that the data set names. Bias is model minus expert;
between the limits of agreement lie 95&nbsp;% of normally distributed differences. Errors of the ejection fraction are
in percentage points.</p>
{{ plot(agreement_plot, "Bland-Altman plots of " ~ plotted | join(", ")) }}
{% endif %}

<h2>Cases of the lowest Dice</h2>
<p><span class="key expert">expert</span> &emsp; <span class="key model">model</span> &emsp;
<span class="faint">The slices that differ most, as acquired and enhanced.</span></p>
{% for case, image in worst %}
<h3>{{ case.case }}{{ ", " ~ case.phase if case.phase }}: Dice {{ case.dice.mean | number(4) }}</h3>
<p class="faint">{% for name in segments %}{{ name }} {{ case.dice[name] | number(4) }}, HD95
{{ case.hd95_mm[name] | number(1) }} mm, {{ case.model_ml[name] | number(1) }} ml (expert
{{ case.expert_ml[name] | number(1) }}){{ "; " if not loop.last }}{% endfor %}
{%- for warning in case.warnings %}<br>{{ warning }}{% endfor %}</p>
<img alt="Slices of {{ case.case }} with both outlines" src="data:image/png;base64,{{ image }}">
{% endfor %}

<h2>Every case</h2>
<details><summary>{{ m.cases | length }} cases: Dice, and HD95 in mm</summary>
<div class="wide"><table>
<tr><th>Case</th><th>Phase</th><th>Mean Dice</th>{% for n in segments %}<th>{{ n }}</th>{% endfor %}
{% for n in segments %}<th>HD95 {{ n }}</th>{% endfor %}</tr>
{% for case in m.cases %}
<tr><td>{{ case.case }}</td><td>{{ case.phase }}</td><td>{{ case.dice.mean | number(4) }}</td>
{% for n in segments %}<td>{{ case.dice[n] | number(4) }}</td>{% endfor %}
{% for n in segments %}<td>{{ case.hd95_mm[n] | number(2) }}</td>{% endfor %}</tr>
{% endfor %}
</table></div></details>
</body>
</html>
"""


KIND: Kind = "evaluation"
"""Of these files, as the list of them says (`manifest`)."""

FILES = ("metrics.json", "cases.csv", "patients.csv", "report.html")


def check_output(output: Path, overwrite: bool = False) -> None:
    """Refuses, before anything is computed, to write an evaluation where it would replace what is not the tool's.

    Raises:
        OutputError: Names what is in the way.
    """
    check_replaceable(output, KIND, FILES, overwrite)


def write_evaluation(
    evaluation: Evaluation, output: Path, split: str, command: str, overwrite: bool = False, scores: bool = True
) -> None:
    """Writes metrics.json, cases.csv, patients.csv and report.html into `output`, in the place of those before.

    Args:
        evaluation: What to write.
        output: A folder; created if missing.
        split: Name of the split.
        command: The command that was given.
        overwrite: Whether files of an evaluation before are replaced although somebody has changed them.
        scores: False for cases.csv alone, where numbers over all cases would lack some.

    Raises:
        OutputError: Something could not be written, or is in the way; then all is as before.
    """
    with staged(output, KIND, overwrite) as folder:
        _write_cases(evaluation, folder / "cases.csv")
        if not scores:
            return
        summary = {**evaluation.summary(), "split": split, "command": command}
        page = html_report(evaluation, summary)
        write_json(_without_nan(summary), folder / "metrics.json")
        _write_patients(evaluation, folder / "patients.csv")
        (folder / "report.html").write_text(page, encoding="utf-8")


def html_report(evaluation: Evaluation, summary: dict[str, Any]) -> str:
    """The page.

    Args:
        evaluation: Has the pictures and the values that are plotted.
        summary: Of the evaluation, with `split` and `command`.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "defined_number": math.isfinite}
    entry = next((e for e in read_entries() if e.name == evaluation.model), None)
    by_name = {case["case"]: case for case in summary["cases"]}
    plotted = [n for n in PLOTTED if evaluation.patients]
    pairs = {n: np.array([p.values(n) for p in evaluation.patients]) for n in plotted}
    return environment.from_string(TEMPLATE).render(
        m=summary,
        title=evaluation.task.title,
        segments=evaluation.names,
        patients=len({c.patient for c in evaluation.cases}),
        entry=entry,
        published=PUBLISHED.get(evaluation.task.name),
        recorded=entry.scores if entry and "dice" in entry.scores else None,
        measurements=MEASUREMENTS,
        plotted=[MEASUREMENTS[n][0] for n in plotted],
        dice_plot=[_base64(dice_png(evaluation.values("dice"), evaluation.names, look)) for look in (LIGHT, DARK)],
        agreement_plot=[
            _base64(agreement_png([(*MEASUREMENTS[n], *pairs[n].T) for n in plotted], look)) if plotted else ""
            for look in (LIGHT, DARK)
        ],
        worst=[(by_name[picture.case], _base64(picture_png(picture))) for picture in evaluation.worst],
        expert_color=EXPERT,
        model_color=MODEL,
    )


def _write_cases(evaluation: Evaluation, path: Path) -> None:
    """One row per case and segment, and one per case that failed."""
    scores = ("dice", "hd95_mm", "asd_mm", "model_ml", "expert_ml", "difference_ml")
    _write_csv(
        ("case", "patient", "phase", "segment", *scores, "seconds", "message"),
        [
            *(
                (c.case, c.patient, c.phase, name, *(getattr(s, n) for n in scores), round(c.seconds, 3), "")
                for c in evaluation.cases
                for name, s in c.segments.items()
            ),
            *((c.case, c.patient, c.phase, "", *[""] * len(scores), "", c.message) for c in evaluation.failed),
        ],
        path,
    )


def _write_patients(evaluation: Evaluation, path: Path) -> None:
    """One row per patient: model, expert and difference of every measurement; none where nothing beats."""
    pairs = [(p.patient, [p.values(name) for name in FUNCTION]) for p in evaluation.patients]
    _write_csv(
        ("patient", *(f"{name}_{who}" for name in FUNCTION for who in ("model", "expert", "difference"))),
        ((patient, *(v for m, e in values for v in (m, e, m - e))) for patient, values in pairs),
        path,
    )


def _write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> None:
    """A number that is not defined is an empty field."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows)


def _without_nan(content: Any) -> Any:
    """JSON knows no NaN: null stands for it."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _number(value: float | None, digits: int) -> str:
    """A number as the page shows it; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
