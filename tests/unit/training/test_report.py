"""The report of a run: verdicts, pictures, sections, curves with axes."""

import json
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from PIL import Image

from core.evaluate.table import MetricRow, as_text, sections
from core.training.report import write_report

ROWS = [
    MetricRow("autoencoder", "ct: mean absolute error, held out", 0.03),
    MetricRow("measure", "ct ↔ mri: outline Dice, real", 0.99, key="outline/real/ct+mri", section="outline"),
    MetricRow("measure", "ct ↔ mri: outline Dice, no prompt", 0.98, key="outline/no prompt/ct+mri", section="outline"),
    MetricRow("measure", "ct: coverage <b>", 0.5, "real 0.9", 0.4, 0.6, section="fidelity"),
]


def report(folder, losses):
    (folder / "samples").mkdir(parents=True)
    for name in ("real", "unprompted"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / f"samples/{name}.png")
    rows = [json.dumps({"phase": "joint all flows", "step": step, "loss": loss}) for step, loss in losses]
    (folder / "metrics.jsonl").write_text("\n".join([*rows, '{"torn": ']))
    config = SimpleNamespace(
        run=folder, recipe="medweave", preset="tiny", seed=0, flow=SimpleNamespace(main="ct-mri"),
        data=SimpleNamespace(names=("phantom",), pools="all"), phases=SimpleNamespace(run=("guide",)),
    )  # fmt: skip
    return write_report(config, ROWS).read_text()


def test_what_people_look_for_comes_first(tmp_path):
    page = report(tmp_path, [(0, 5.0), (20, 2.0), (40, 1.0)])
    headings = re.findall(r"<h[23][^>]*>([^<]*)</h", page)
    assert headings == ["In brief", "Pictures", "Metrics", "Autoencoders", "Outline", "Fidelity", "Training"]
    assert page.index("Generated together without a prompt") < page.index("as the data set has them")
    assert "coverage &lt;b&gt;" in page
    for number in range(3):
        assert f'href="#section-{number}"' in page
        assert f'id="section-{number}"' in page


def test_a_curve_has_axes_in_steps_and_loss(tmp_path):
    page = report(tmp_path, [(step, 4 - step / 500) for step in range(0, 1001, 20)])
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    assert labels[:3] == ["0", "500", "1,000"]
    high, middle, low = map(float, labels[3:])
    assert low == 2
    assert 3.8 < high <= 4
    assert abs(middle - (low + high) / 2) < 0.01
    points = [tuple(map(float, point.split(","))) for point in re.search(r'points="([^"]*)"', page)[1].split()]
    assert [points[0][0], points[-1][0]] == [70, 990]
    assert all(first[1] <= second[1] for first, second in pairwise(points)), "it falls"


def test_a_curve_of_one_point_or_of_one_value_is_drawn(tmp_path):
    assert "<polyline" in report(tmp_path / "one", [(0, 1.0)])
    assert "<polyline" in report(tmp_path / "flat", [(0, 1.0), (20, 1.0)])


def test_the_printed_table_has_sections(tmp_path):
    lines = as_text(ROWS).splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == ["autoencoders", "outline", "fidelity"]
    assert len({line.index(" 0.") for line in lines if " 0." in line[40:]}) >= 1
    assert [(heading, len(rows)) for heading, rows in sections(ROWS)] == [
        ("autoencoders", 1), ("outline", 2), ("fidelity", 1),
    ]  # fmt: skip
