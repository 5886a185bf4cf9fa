"""``report.html`` of a run: verdicts, pictures, the table by section, loss curves; in one file without scripts."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from core.config.run_config import RunConfig
from core.evaluate.sample_sheets import FOLDER
from core.evaluate.table import MetricRow, sections
from core.evaluate.verdicts import head_cells
from core.io import atomic_write

REPORT = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; width: 100% } td, th { padding: .2rem .6rem; text-align: left; vertical-align: top }
tr:nth-child(even) { background: #f4f6f8 } td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 } img { max-width: 100%; border: 1px solid #ccd } figcaption { color: #555 }
td.good { color: #1a6b34 } td.limited { color: #8a5a00 } td.poor { color: #9b1c1c } td.not_measured { color: #777 }
svg { width: 100%; background: #fafbfc; border: 1px solid #ccd } svg text { font-size: 14px; fill: #555 }
.note { color: #7a1f1f }
"""
_CAPTIONS = {  # in the order of the page: what was generated comes first
    "unprompted": "Generated together without a prompt: synthetic, no patient.",
    "prompted": "Generated together, each row from its prompt. The prompts in the first column are real.",
    "real": "Studies of the test split as the data set has them, of patients unless it is computed; mind its licence.",
    "reconstructed": "The same patients through the autoencoders: the upper bound of what can be generated.",
}
_POINTS = 200  # at most, of a curve

Point = tuple[int, float]  # a step, and the loss at it


def write_report(config: RunConfig, table: Sequence[MetricRow]) -> Path:
    """Write the report of a finished run and return its path."""
    body = "\n".join(
        (*_head(config), *_verdicts(table), *_pictures(config.run / FOLDER), *_table(table), *_curves(config.run))
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>MedWeave run</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
    path = config.run / REPORT
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _head(config: RunConfig) -> Iterator[str]:
    yield f"<h1>{escape(config.recipe)} at {escape(config.preset)}: {escape(config.flow.main)}</h1>"
    yield '<p class="note">Research software. Generated images and reports are synthetic and not for diagnosis.</p>'
    settings = {
        "data sets": ", ".join(config.data.names),
        "phases": ", ".join(config.phases.run),
        "seed": config.seed,
        "pools": config.data.pools,
    }
    yield "<p>" + " · ".join(f"{key}: {escape(str(value))}" for key, value in settings.items()) + "</p>"


def _verdicts(table: Sequence[MetricRow]) -> Iterator[str]:
    """Yield the head of the table, where there is one."""
    cells = head_cells(table)
    if not cells:
        return
    yield "<h2>In brief</h2><table><tr><th>verdict</th><th>question</th><th>value</th><th>of and beside</th></tr>"
    for grade, title, value, rest in cells:
        first = f'<td class="{grade.replace(" ", "_")}">{escape(grade)}</td><td>{escape(title)}</td>'
        yield f'<tr>{first}<td class="number">{value}</td><td>{escape(rest)}</td></tr>'
    yield "</table>"


def _table(table: Sequence[MetricRow]) -> Iterator[str]:
    titles = ("metric", "value", "95 % interval", "reference")
    headings = [heading for heading, _ in sections(table)]
    links = " · ".join(f'<a href="#section-{number}">{escape(each)}</a>' for number, each in enumerate(headings))
    yield f"<h2>Metrics</h2><nav><p>{links}</p></nav>"
    for number, (heading, rows) in enumerate(sections(table)):
        yield f'<h3 id="section-{number}">{escape(heading.capitalize())}</h3>'
        yield "<table><tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
        for row in rows:
            cells = (escape(row.what), f"{row.value:.4f}", row.interval, escape(row.reference))
            kinds = ("", ' class="number"', "", "")
            yield "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
        yield "</table>"


def _pictures(folder: Path) -> Iterator[str]:
    yield "<h2>Pictures</h2>"
    for name, caption in _CAPTIONS.items():
        path = folder / f"{name}.png"
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            yield (
                f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )


def _curves(run: Path) -> Iterator[str]:
    yield "<h2>Training</h2>"
    for stage, points in _losses(run / "metrics.jsonl").items():
        yield f"<figure>{_curve(points)}<figcaption>{escape(stage)}: loss by step</figcaption></figure>"


def _losses(path: Path) -> Mapping[str, list[Point]]:
    """Return step and loss by stage; a line that an interruption has torn is left out, as is a loss of NaN."""
    losses: dict[str, list[Point]] = {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            row = json.loads(text)
            if isinstance(row["loss"], int | float) and math.isfinite(row["loss"]):
                losses.setdefault(str(row["phase"]), []).append((int(row["step"]), float(row["loss"])))
    return losses


def _curve(points: Sequence[Point]) -> str:
    """Return losses over steps as an SVG line between labelled axes.

    The axis of the loss ends at its 95th percentile: what falls fast at the start is cut.
    """
    shown = [*points[: -1 : max(1, -(-len(points) // _POINTS))], points[-1]]
    values = sorted(loss for _, loss in shown)
    low, high = values[0], values[min(len(values) - 1, int(0.95 * len(values)))]
    span, last = (high - low) or 1.0, max(1, shown[-1][0])
    left, right, top, bottom = 70, 990, 10, 130

    def position(step: int, loss: float) -> str:
        x = left + (right - left) * step / last
        y = bottom - (bottom - top) * (min(loss, high) - low) / span
        return f"{x:.1f},{y:.1f}"

    line = " ".join(position(step, loss) for step, loss in shown)
    across = [(left, "start", "0"), ((left + right) / 2, "middle", f"{last // 2:,}"), (right, "end", f"{last:,}")]
    labels = [f'<text x="{x:.0f}" y="{bottom + 22}" text-anchor="{anchor}">{text}</text>' for x, anchor, text in across]
    labels += [
        f'<text x="{left - 8}" y="{y + 5}" text-anchor="end">{value:.3g}</text>'
        for y, value in ((top, high), ((top + bottom) // 2, (low + high) / 2), (bottom, low))
    ]
    return (
        '<svg viewBox="0 0 1000 160" role="img">'
        f"<title>loss from {shown[0][1]:.4f} to {shown[-1][1]:.4f}, at least {low:.4f}</title>"
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#8a8f98"/>{"".join(labels)}'
        f'<polyline fill="none" stroke="#2456a6" stroke-width="1.5" points="{line}"/></svg>'
    )
