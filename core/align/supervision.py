"""Labels and reports in alignment: masked negatives, soft targets, and a finding probe (method E1).

All of it is ours (docs/decisions/0016 to 0018). With ``align.equal_reports`` "negatives" and ``align.findings_weight``
0, alignment is the contrast and the invariance of the papers alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.align.findings import FindingProbe, StudyFindings
from core.align.losses import info_nce, scaled_cosines
from core.config.recipe import AlignChoice
from core.data.studies import Studies
from core.engine.distributed import Compute

Key = tuple[str, int]  # a modality, and the number of the draw that its studies come from


def semantic_matching(a: Tensor, b: Tensor, logit_scale: Tensor, similarity: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE with soft targets, both directions summed (method E1; MedCLIP, Wang et al. 2022).

    As `info_nce`, but the target of a row is spread over all entries in proportion to ``softmax(similarity /
    temperature)``; ``similarity`` ``batch batch``, symmetric, 1 for studies of equal content. The lower the
    ``temperature`` of the targets and the less similar the studies, the nearer it is to `info_nce`.
    """
    logits = scaled_cosines(a, b, logit_scale)
    target = F.softmax(similarity / temperature, dim=1)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


class LabelSupervision:
    """What labels and reports do in a round: which studies are no negatives of each other, and the finding probe.

    ``paired``: the studies of the round's pairs; ``trained``: the modalities whose encoders it trains; ``width`` of the
    pooled vectors. ``unpaired`` names, by trained modality, further studies whose findings are known.
    """

    def __init__(
        self,
        choice: AlignChoice,
        studies: Studies,
        findings: StudyFindings,
        *,
        paired: Collection[int],
        trained: Sequence[str],
        width: int,
        name: str,
        seed: int,
        compute: Compute,
    ) -> None:
        self._choice, self._studies, self._findings, self._compute = choice, studies, findings, compute
        names = findings.differing(paired) if choice.findings_weight else ()
        self.probe = FindingProbe(names, findings, width, seed, name) if names else None
        unpaired = {name: findings.unpaired(name, paired) for name in trained} if names else {}
        self.unpaired = {name: indices for name, indices in unpaired.items() if indices}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules that train along with the encoders, and are dropped after the round."""
        return {} if self.probe is None else {"findings": self.probe}

    def contrast(
        self, pair: tuple[str, str], indices: Sequence[int], a: Tensor, b: Tensor, logit_scale: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrast of a pair and, where pairs of studies are masked as negatives, their number.

        ``a`` and ``b`` ``batch width`` of unit norm, of the studies ``indices``. Soft targets are for a text and
        something else. Two images share more than findings, and are masked instead.
        """
        choice, studies = self._choice, self._studies
        has_text = any(studies.parts[name].data.kind == "tokens" for name in pair)
        if choice.equal_reports == "soft" and has_text:
            findings = [self._findings.all_of(index) for index in indices]
            similarity = self._compute.to_device(studies.similarity(pair, indices, findings))
            return semantic_matching(a, b, logit_scale, similarity, choice.target_temperature), {}
        if choice.equal_reports == "negatives":
            return info_nce(a, b, logit_scale), {}
        equal = self._compute.to_device(studies.same_text_mask(pair, indices))
        return info_nce(a, b, logit_scale, equal), {f"masked {'-'.join(pair)}": (equal.sum() - len(indices)) / 2}

    def losses(self, views: Sequence[Mapping[Key, Tensor]], drawn: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return the loss of the finding probe by modality: the mean over views, the sum over draws."""
        terms: dict[str, Tensor] = {}
        if self.probe is None:
            return terms
        for (name, draw), vectors in (item for pooled in views for item in pooled.items()):
            with torch.autocast(self._compute.device.type, enabled=False):
                term = self._choice.findings_weight * self.probe.loss(vectors, drawn[draw])
            terms[f"findings {name}"] = terms.get(f"findings {name}", 0) + term / len(views)
        return terms
