"""A test set of planted images: bodies are discs, real and generated images are what a test gives."""

from types import SimpleNamespace

import numpy as np
import torch

from core.types import Batch, DataSpec, Geometry, Record

SIDE = 32
AXIAL = np.diag([10.0, 10.0, 10.0, 1.0])
PLANE = Geometry(affine=AXIAL, shape=(SIDE, SIDE))


def spec(units="1", value_range=(0.0, 1.0)):
    """Return the form of axial slices in some units."""
    return DataSpec(kind="grid", space=(SIDE, SIDE), units=units, value_range=value_range, default_geometry=PLANE)


def discs(radii, *, inside=0.0, outside=-1.0, hole=0.0):
    """Return canonical images ``sample 1 row column`` of discs in the middle, with a hole of air in each."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    distance = np.hypot(rows, columns)
    images = np.stack([np.where((distance < radius) & (distance >= hole), inside, outside) for radius in radii])
    return torch.from_numpy(images[:, None]).float()


class FakeTestSet:
    """Studies 0 to ``num`` - 1 of one patient each; ``real``, ``reconstructed`` and ``ways`` hold images by modality."""

    def __init__(self, specs, real, *, ways=None, reconstructed=None, pairs=(), given=None):
        self.specs, self.real, self.ways = specs, real, ways or {}
        self.other, self.pairs, self.given = reconstructed or real, pairs, given or {}
        num = len(next(iter(real.values())))
        self.grids, self.seed, self.centre, self.joint_indices = tuple(specs), 0, "report", list(range(num))
        self.run = SimpleNamespace(
            outputs=self.grids,
            parts=lambda name: SimpleNamespace(data=self.specs[name]),
            prompt_sources=lambda name: (),
        )
        self.bundle = SimpleNamespace(trained_pairs=tuple(pairs))
        records = [Record(patient=str(row), study=str(row), texts=dict.fromkeys(specs, "there")) for row in range(num)]
        self.studies = SimpleNamespace(records=records, indices_with=lambda *names: list(range(num)))

    def comparable_indices(self, *names):
        return list(self.joint_indices)

    def patients(self, indices):
        return list(indices)

    def data(self, name, indices, studies=None):
        return self.real[name][list(indices)]

    def reconstructed(self, name, indices):
        return [Batch(modality=name, data=self.other[name][list(indices)])]

    def joint_ways(self):
        return {
            way: {name: [Batch(modality=name, data=data)] for name, data in images.items()}
            for way, images in self.ways.items()
        }

    def generated(self, outputs, indices, *, given=(), title="", **settings):
        assert not settings
        return {name: [Batch(modality=name, data=self.given[given[0], name])] for name in outputs}
