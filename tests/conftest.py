"""`core` is imported first: it lets a CUDA build of torchvision be imported beside a CPU build of torch."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they bring

import core  # noqa: F401
