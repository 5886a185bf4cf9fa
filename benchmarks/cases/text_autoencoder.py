"""How well reports survive the text autoencoder of the preset ``tiny``, trained on the phantom's report grammar.

Two rows per trained network, reconstructions from the posterior mean and from a mean with noise (a diffusion's errors),
and the floor: the same measures for the reconstruction of another report. The clock is this process's CPU time, so
that other processes do not count.

``python -m benchmarks.cases.text_autoencoder FILE`` writes the tokenizer that the plugin ships.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CPU_S, BATCH, LEARNING_RATE, WARM_UP = 300.0, 32, 2e-3, 20
TRAINED, HELD_OUT = 20_000, 512


def reports(count: int, seed: int) -> list[str]:
    """Reports of the phantom's grammar."""
    from plugins.phantom.anatomy.findings import draw_findings
    from plugins.phantom.report.grammar import write_report

    rng = np.random.default_rng(seed)
    return [write_report(draw_findings(rng), rng) for _ in range(count)]


def canonical(parts: Any, texts: list[str]) -> list[Any]:
    """Token ids of texts."""
    from core.api import Sample

    tokenizer = parts.preprocess.build()
    return [tokenizer.apply(Sample(modality="text", data=text)) for text in texts]


def train(module: Any, batches: Iterator[Any], cpu_s: float) -> int:
    """Train for so much CPU time; returns the number of steps. Warm-up, then a cosine, as in a run."""
    import torch

    optimizer = torch.optim.AdamW(module.parameters(), LEARNING_RATE)
    draws, start, steps = torch.Generator().manual_seed(0), time.process_time(), 0
    while (done := (time.process_time() - start) / cpu_s) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (steps + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        torch.stack(list(module.loss(next(batches), draws).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        steps += 1
    return steps


def drawn_batches(samples: list[Any], spec: Any) -> Iterator[Any]:
    """Batches drawn with replacement, for ever."""
    from core.preprocess import collate

    rng = np.random.default_rng(0)
    while True:
        yield collate([samples[place] for place in rng.integers(len(samples), size=BATCH)], spec)


def sentences(report: str) -> list[str]:
    """Sentences without the titles of sections."""
    return [part.strip() for part in re.split(r"(?<=[.])\s+|Findings:|Impression:", report) if part.strip()]


def soundness(written: list[str], known: set[str]) -> dict[str, float]:
    """Shares: sentences that training reports have; reports that contradict themselves, and that repeat a word."""
    from plugins.phantom.report.reading import read_report

    parts = [sentences(report) for report in written]
    read = [[read_report(sentence) for sentence in part] for part in parts]
    present = [{name for one in all_of for name, about in one.items() if about.present} for all_of in read]
    absent = [{name for one in all_of for name, about in one.items() if not about.present} for all_of in read]
    count = len(written)
    return {
        "known": round(sum(sentence in known for part in parts for sentence in part) / sum(map(len, parts)), 4),
        "contradictions": round(sum(bool(a & b) for a, b in zip(present, absent, strict=True)) / count, 4),
        "repeated_words": round(sum(bool(re.search(r"(?i)\b(\w+) \1\b", report)) for report in written) / count, 4),
    }


def survival(tokenizer: Any, found: Any, originals: list[Any], texts: list[str], known: set[str]) -> dict[str, Any]:
    """Shares: tokens at their place, whole texts, reports whose every statement is read as before, findings alone.

    With them the soundness of what is written.
    """
    from core.preprocess import uncollate
    from plugins.phantom.report.reading import read_report

    tokens = exact = statements = findings = total = 0
    reports_written = [str(tokenizer.invert(row).data) for row in uncollate(found)]
    for row, written, original, text in zip(uncollate(found), reports_written, originals, texts, strict=True):
        same = min(len(row.data), len(original.data))
        tokens += int((row.data[:same] == original.data[:same]).sum())
        total += len(original.data)
        exact += written == text
        before, after = read_report(text), read_report(written)
        statements += before == after
        findings += {n for n, s in before.items() if s.present} == {n for n, s in after.items() if s.present}
    shares = {"tokens": tokens / total, "exact": exact / len(texts), "statements": statements / len(texts)}
    shares["findings"] = findings / len(texts)
    return {**{name: round(value, 4) for name, value in shares.items()}, **soundness(reports_written, known)}


def measure() -> list[dict[str, Any]]:
    """Train once and measure on held-out reports."""
    import torch

    from core.preprocess import collate
    from plugins.text.modality import TEXT

    torch.set_num_threads(1)
    torch.manual_seed(0)
    parts = TEXT.parts("tiny")
    module, tokenizer = parts.autoencoder.build(), parts.preprocess.build()
    trained_on = reports(TRAINED, 1)
    known = {sentence for report in trained_on for sentence in sentences(report)}
    steps = train(module, drawn_batches(canonical(parts, trained_on), parts.data), CPU_S)
    texts = reports(HELD_OUT, 2)
    originals = canonical(parts, texts)
    module.eval()
    with torch.no_grad():
        posterior = module.encode(collate(originals, parts.data))
    mean, spread = posterior.mean, posterior.mean.std(0)
    about = {"steps": steps, "cpu_s": CPU_S, **latent_state(posterior)}
    rows = []
    for noise in (0.0, 0.1, 0.3, 0.5):
        draws = torch.Generator().manual_seed(3)
        start = time.perf_counter()
        found = module.decode(mean + noise * spread * torch.randn(mean.shape, generator=draws))
        seconds = round(time.perf_counter() - start, 2)
        rows.append(
            {"noise": noise, **survival(tokenizer, found, originals, texts, known), "decode_s": seconds, **about}
        )
    floor = survival(tokenizer, module.decode(mean.roll(1, 0)), originals, texts, known)
    return [*rows, {"noise": "another report", **floor}]


def latent_state(posterior: Any) -> dict[str, Any]:
    """Divergence in nats, features whose mean varies (Burda's active units, variance above 0.01), and their spread."""
    from core.nn.autoencoders.optimus import feature_divergence

    variance = posterior.mean.var(0)
    return {
        "kl": round(float(feature_divergence(posterior).sum(1).mean()), 1),
        "active": f"{int((variance > 0.01).sum())} of {len(variance)}",
        "variance": round(float(variance.mean()), 4),
        "posterior_std": round(float((0.5 * posterior.logvar).exp().mean()), 4),
    }


def write_tokenizer(path: Path, vocabulary: int = 1024) -> None:
    """The tokenizer that the plugin ships."""
    from core.api import train_tokenizer

    path.write_text(train_tokenizer(reports(TRAINED, 1), vocabulary), encoding="utf-8")


if __name__ == "__main__":
    write_tokenizer(Path(sys.argv[1]))
