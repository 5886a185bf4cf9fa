"""The classifier learns what can be seen, from known labels alone, and the same from the same seed."""

import numpy as np
import pytest
import torch

import core  # noqa: F401
from core.align.findings import finding_loss
from core.errors import UserError
from core.evaluate.finding_classifier import FindingClassifier, augment, classifier_scores, train_classifier

torch.set_num_threads(1)


def discs(num: int, seed: int, space: tuple[int, ...] = (24, 24)) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, with a bright disc near the start (finding 0) or the end (finding 1) of the last axis; 2 cannot be seen."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, 3)) < 0.5).astype(np.float32)
    axes = np.meshgrid(*[np.arange(size) for size in space], indexing="ij")
    data = 0.2 * rng.normal(size=(num, *space))
    for row in range(num):
        for finding, share in enumerate((0.25, 0.75)):
            centre = [size / 2 for size in space[:-1]] + [space[-1] * share]
            square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
            data[row] += labels[row, finding] * 0.6 * (square < 9)
    return torch.from_numpy(data.clip(-1, 1)).float()[:, None], torch.from_numpy(labels)


def auroc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    higher = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float(((higher > 0).float() + 0.5 * (higher == 0)).mean())


@pytest.mark.parametrize("space", [(24, 24), (12, 12, 12)], ids=["2-D", "3-D"])
def test_it_reads_what_can_be_seen_and_knows_sides(space):
    data, labels = discs(160, 0, space)
    classifier = train_classifier(data, labels, seed=0, epochs=8, width=4)
    assert not classifier.training
    unseen, truth = discs(100, 1, space)
    scores = classifier_scores(classifier, unseen, batch=33)
    assert scores.shape == (100, 3)
    assert [auroc(scores[:, finding], truth[:, finding]) > 0.95 for finding in (0, 1)] == [True, True]
    assert 0.3 < auroc(scores[:, 2], truth[:, 2]) < 0.7, "what is not there is not read"
    mirrored = classifier_scores(classifier, unseen.flip(-1))
    assert auroc(mirrored[:, 0], truth[:, 1]) > 0.95, "the other side's finding is what a mirrored image shows"


def test_the_same_seed_is_the_same_classifier_and_nothing_else_changes():
    data, labels = discs(64, 0)
    before = torch.get_rng_state()
    first, again, other = (train_classifier(data, labels, seed=seed, epochs=2, width=4) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(classifier_scores(first, data), classifier_scores(again, data))
    assert not torch.equal(classifier_scores(first, data), classifier_scores(other, data))


def test_the_loss_counts_known_labels_alone():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 30.0]])
    labels = torch.tensor([[1.0, float("nan")], [0.0, float("nan")]])
    assert float(finding_loss(logits, labels)) == pytest.approx((np.log(2) + np.log1p(np.exp(-1))) / 2)
    assert float(finding_loss(logits, torch.full((2, 2), float("nan")))) == 0.0


def test_unknown_labels_train_nothing():
    """Wrong answers that are called unknown do no harm; given as they are, they do."""
    data, labels = discs(160, 0)
    wrong = torch.arange(160) % 2 == 0
    hidden, lied = labels.clone(), labels.clone()
    hidden[wrong, 0] = float("nan")
    lied[wrong, 0] = 1 - labels[wrong, 0]
    unseen, truth = discs(100, 1)
    found = [
        classifier_scores(train_classifier(data, one, seed=0, epochs=10, width=4), unseen)[:, 0]
        for one in (hidden, lied)
    ]
    assert auroc(found[0], truth[:, 0]) > 0.95
    assert auroc(found[1], truth[:, 0]) < 0.85


def test_a_finding_that_nobody_knows_keeps_its_first_weights_but_for_decay():
    data, labels = discs(64, 0)
    labels[:, 1] = float("nan")
    classifier = train_classifier(data, labels, seed=0, epochs=2, width=4)
    fresh = train_classifier(data, labels, seed=0, epochs=0, width=4)
    ratio = classifier.head.weight[1] / fresh.head.weight[1]
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), atol=1e-5), "no gradient, weight decay alone"
    assert not torch.allclose(classifier.head.weight[0] / fresh.head.weight[0], ratio, atol=1e-2)


def test_brightness_and_contrast_tell_nothing():
    data, labels = discs(32, 0)
    classifier = train_classifier(data, labels, seed=0, epochs=1, width=4)
    assert torch.allclose(
        classifier_scores(classifier, data), classifier_scores(classifier, 0.5 * data + 0.2), atol=1e-3
    )


def test_varied_images_are_never_mirrored():
    """A ramp along every axis keeps its direction; images differ, and the generator alone decides."""
    ramp = torch.linspace(-1, 1, 16).expand(64, 1, 16, 16)
    for image in (ramp, ramp.transpose(2, 3)):
        moved = augment(image, torch.Generator().manual_seed(0))
        assert (moved[:, 0, -1, -1] > moved[:, 0, 0, 0]).all()
        assert torch.equal(moved, augment(image, torch.Generator().manual_seed(0)))
        assert moved.std(0).max() > 0.01
    still = augment(ramp, torch.Generator().manual_seed(0), jitter=0.0)
    assert torch.allclose(still / still[:, :, :, -1:], ramp, atol=1e-4), "without jitter only the contrast changes"


def test_small_images_pass_and_unfit_input_is_refused():
    assert FindingClassifier(2, 3, dims=2, width=2)(torch.randn(2, 2, 8, 8)).shape == (2, 3)
    with pytest.raises(UserError, match="2 or 3 axes, found 1"):
        FindingClassifier(1, 1, dims=1)
    with pytest.raises(UserError, match="found 1 and 1"):
        train_classifier(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1), seed=0)
    with pytest.raises(UserError, match="found 4 and 3"):
        train_classifier(torch.zeros(4, 1, 8, 8), torch.zeros(3, 1), seed=0)
