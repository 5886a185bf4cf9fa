"""``python benchmarks/run.py CASE``: run a case, print its table, and keep it in ``benchmarks/results``.

A case is a module of ``benchmarks/cases`` with a function ``measure() -> list of rows``; a row is a flat dictionary.
Machines differ and are noisy, so a case measures its peer in the same run and reports the ratio.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))


def surroundings() -> dict[str, Any]:
    """Hardware, versions and commit of a measurement."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cpu": model[0].partition(": ")[2] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def main(case: str) -> None:
    """Measure one case."""
    known = sorted(path.stem for path in (HERE / "cases").glob("*.py") if "def measure(" in path.read_text())
    if case not in known:
        sys.exit(f"no case '{case}' (known: {', '.join(known)})")
    rows = import_module(f"benchmarks.cases.{case}").measure()
    result = {"case": case, **surroundings(), "rows": rows}
    print(table(rows))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{case}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
