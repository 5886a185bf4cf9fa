"""Files with bytes changed, lost and doubled, and what a reader may make of them."""

import random
import resource
import time
import warnings

import numpy as np

from core.errors import UserError

LIMIT_MB = 64  # that all mutations together may add to the process
LIMIT_S = 2.0  # of processor time, for one


def flipped(content, draw):
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def header_flipped(content, draw):
    """As above, in the first 2 KB: most of a file is pixels."""
    return flipped(content[:2048], draw) + content[2048:]


def cut(content, draw):
    return content[: draw.randrange(len(content))]


def torn(content, draw):
    """Bytes lost or doubled in the middle."""
    start, stop = sorted(draw.randrange(len(content)) for _ in range(2))
    stop = min(stop, start + draw.choice([1, 2, 8, 300]))
    return content[:start] + (b"" if draw.random() < 0.5 else content[start:stop] * 2) + content[stop:]


PLAIN = (flipped, header_flipped, cut, torn)


def outcome(reader, path):
    start = time.process_time()
    try:
        sample = reader.read(path)
    except UserError as error:
        line = str(error)
        assert "\n" not in line
        assert path.name in line or path.parent.name in line, line
        sample = None
    taken = time.process_time() - start
    assert taken < LIMIT_S, f"{taken:.1f} s"
    if sample is not None and isinstance(sample.data, str):
        assert sample.data.strip()
    elif sample is not None:
        assert sample.data.dtype == np.float32
        assert np.isfinite(sample.data).all()
        assert np.isfinite(sample.geometry.affine).all()
        assert sample.data.shape[1:] == sample.geometry.shape
    return sample


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attack(reader, seeds, path, num, target=None, mutations=PLAIN, wrap=bytes):
    """``num`` mutations of the files, each written to ``path``; how many were still read.

    ``target``: what is read, where it is not that path. ``wrap``: what lies around what is mutated, such as a checksum.
    """
    draw, num_read = random.Random(7), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in seeds:  # imports are no part of what is measured
            path.write_bytes(wrap(content))
            assert outcome(reader, target or path) is not None
        before = peak_mb()
        for number in range(num):
            content = draw.choice(seeds)
            for _ in range(draw.choice([1, 1, 2])):
                content = draw.choice(mutations)(content or b"\0", draw)
            path.write_bytes(wrap(content))
            try:
                num_read += outcome(reader, target or path) is not None
            except BaseException as error:
                copy = path.with_name(f"kept{number}")
                copy.write_bytes(wrap(content))
                raise AssertionError(f"mutation {number}, saved as {copy}: {error!r}") from error
    assert peak_mb() - before < LIMIT_MB
    return num_read
