"""What the autoencoders keep (METHOD 6)."""

from __future__ import annotations

from collections.abc import Iterator

from core.curriculum.measures.subjects import Subjects, joined
from core.curriculum.table import Line, line
from core.evaluate.reconstruction import reconstruction
from core.evaluate.survival import exact_share, survival


def reconstructions(subjects: Subjects) -> Iterator[Line]:
    """PSNR and SSIM of images, findings that survive in texts."""
    for name in subjects.run.outputs:
        places = subjects.places(name)
        if not places:
            continue
        made, who = subjects.reconstructed(name, places), subjects.patients(places)
        kind = subjects.run.parts(name).data.kind
        if kind == "grid":
            found = reconstruction(subjects.data(name, places), joined(made), patients=who, seed=subjects.seed)
            yield line(f"{name}: autoencoder, PSNR dB", found["psnr_db"])
            yield line(f"{name}: autoencoder, SSIM", found["ssim"])
        elif kind == "tokens":
            before = subjects.texts(name, [subjects.studies.batch(name, places)])
            after = subjects.texts(name, made)
            told = subjects.told(before, places)
            if any(told):
                kept = survival(told, subjects.told(after, places), patients=who, seed=subjects.seed)
                yield line(f"{name}: autoencoder, all findings survive", kept.whole)
            yield line(
                f"{name}: autoencoder, word for word", exact_share(before, after, patients=who, seed=subjects.seed)
            )
