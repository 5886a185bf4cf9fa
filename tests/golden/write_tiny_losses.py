"""Write ``tiny_losses.json`` anew from the log of a run: only when the change of what is computed was meant.

The run is that of ``tests/cli/test_phantom_job.py``: 48 phantom patients, ten steps, every step logged.
Usage: ``python tests/golden/write_tiny_losses.py RUN/metrics.jsonl``
"""

import json
import sys
from pathlib import Path

NUM_LOSSES = 10


def first_losses(log):
    """Stage to its first ten losses, in the order of training."""
    losses = {}
    for line in Path(log).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        losses.setdefault(row["phase"], []).append(row["loss"])
    return {stage: values[:NUM_LOSSES] for stage, values in losses.items()}


if __name__ == "__main__":
    path = Path(__file__).with_name("tiny_losses.json")
    path.write_text(json.dumps(first_losses(sys.argv[1]), indent=1) + "\n", encoding="utf-8")
