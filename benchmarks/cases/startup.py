"""How long a user waits before anything happens: ``--help`` under 1 s, ``import core.api`` under 0.3 s.

Each command is a process of its own; the bare interpreter is the peer, run in turn with the others.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import core.api": ["-c", "import core.api"],
    "import core.api, one name": ["-c", "from core.api import Modality"],
    "core.train --help": ["-m", "core.train", "--help"],
    "core.check --help": ["-m", "core.check", "--help"],
    "core.check": ["-m", "core.check"],
}
RUNS = 9


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure() -> list[dict[str, Any]]:
    """Median, minimum and maximum of every command, and the ratio to the bare interpreter."""
    for arguments in COMMANDS.values():  # byte code is compiled once, on the first run after an installation
        seconds(arguments)
    times = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    peer = statistics.median(times["python -c pass"])
    return [
        {
            "command": name,
            "median_s": round(statistics.median(values), 3),
            "min_s": round(min(values), 3),
            "max_s": round(max(values), 3),
            "ratio": round(statistics.median(values) / peer, 1),
        }
        for name, values in times.items()
    ]
