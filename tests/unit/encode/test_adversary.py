"""The patch adversary: its losses, who trains whom, and that it resumes like everything else."""

import pytest
import torch

from core.config.autoencoder import AutoencoderChoice
from core.config.preset import Training
from core.encode.adversary import adversary_of
from core.encode.train import FurtherLosses, train_autoencoder
from core.engine.distributed import Compute
from core.engine.progress import RunLog
from core.engine.trainer import Trainer
from core.errors import UserError
from core.nn import GridAutoencoderConfig
from core.types import Batch, DataSpec

CHOICE = AutoencoderChoice(adversarial_weight=0.25, adversary_channels=8, adversary_layers=2)
CONFIG = GridAutoencoderConfig(channels=1, space=(16, 16), downsample=2, widths=(8, 8), num_blocks=1, norm_groups=4)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[2, 3])
def game(request):
    """Adversary, data and reconstruction."""
    shape = (3, 1, *(16,) * request.param)
    return adversary_of(CHOICE, 1, request.param, 0), draws(*shape), draws(*shape, seed=1).requires_grad_()


def test_none_without_a_weight():
    assert adversary_of(AutoencoderChoice(), 1, 2, 0) is None


def test_the_losses_are_the_least_squares_of_the_game(game):
    adversary, data, fake = game
    terms = adversary.losses(data, fake)
    real, made = adversary.network(data)[-1], adversary.network(fake)[-1]
    torch.testing.assert_close(terms["adversarial"], 0.25 * (made - 1).square().mean())
    torch.testing.assert_close(terms["adversary"], 0.25 * (made.square().mean() + (real - 1).square().mean()) / 2)


def test_each_loss_trains_one_player(game):
    adversary, data, fake = game
    adversary.losses(data, fake)["adversarial"].backward(retain_graph=True)
    assert fake.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in adversary.parameters())
    fake.grad = None
    adversary.losses(data, fake)["adversary"].backward()
    assert fake.grad is None
    assert all(weight.grad is not None for weight in adversary.parameters())


def test_a_sample_does_not_see_its_batch(game):
    adversary, data, _ = game
    torch.testing.assert_close(adversary.network(data)[-1][:1], adversary.network(data[:1])[-1], atol=1e-5, rtol=1e-4)


class OneKind:
    """Studies of one modality, as `train_autoencoder` uses them."""

    def __init__(self):
        spec = DataSpec(kind="grid", space=(16, 16), channels=1, units="", value_range=(-1, 1))
        self.parts = {"thing": type("Parts", (), {"data": spec})}
        self.data = draws(12, 1, 16, 16).clamp(-1, 1)

    def require_indices_with(self, name):
        return list(range(12))

    def batch(self, name, indices):
        return Batch(modality=name, data=self.data[list(indices)])


class Interruption(Exception):
    pass


@pytest.fixture
def train(tmp_path):
    def run(folder, *, start=2, stop=None, accumulate=1, choice=CHOICE):
        torch.manual_seed(0)
        module, adversary = CONFIG.build(), adversary_of(choice, 1, 2, 0)
        first = {name: value.clone() for name, value in adversary.state_dict().items()}
        log = RunLog(tmp_path / folder / "metrics.jsonl")
        trainer = Trainer(compute=Compute("cpu"), log=log, folder=tmp_path / folder, seed=0, log_every=1, save_every=3)
        plain, calls = adversary.losses, []

        def losses(*arguments):
            calls.append(len(calls))
            if stop is not None and len(calls) > stop:
                raise Interruption
            return plain(*arguments)

        adversary.losses = losses
        training = Training(steps=8, batch=4, learning_rate=1e-3, ema=0.5, accumulate=accumulate)
        further = FurtherLosses(adversary=adversary, start=start)
        try:
            train_autoencoder(trainer, "thing", module, ["thing"], OneKind(), training, further)
        except Interruption:
            return None
        return module.state_dict(), adversary.state_dict(), first, len(calls)

    return run


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_it_starts_at_its_step_and_learns(train):
    _, adversary, first, calls = train("whole", start=5)
    assert calls == 3
    assert not equal(adversary, first)
    _, adversary, first, calls = train("never", start=8)
    assert calls == 0
    assert equal(adversary, first)


def test_an_interrupted_game_resumes_to_the_same_weights(train):
    whole = train("whole")
    assert train("killed", stop=3) is None
    resumed = train("killed")
    assert resumed[3] < whole[3], "it began at a checkpoint"
    assert equal(whole[0], resumed[0])
    assert equal(whole[1], resumed[1])


def test_accumulation_plays_the_same_game(train):
    whole, parts = train("whole"), train("parts", accumulate=2)
    for first, second in zip(whole[:2], parts[:2], strict=True):
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], atol=2e-4, rtol=1e-3, msg=name)


def test_an_autoencoder_that_hides_its_reconstruction_is_refused():
    further = FurtherLosses(adversary=adversary_of(CHOICE, 1, 2, 0))
    plain = type("Plain", (), {"loss": lambda *_: {}})()
    with pytest.raises(UserError, match=r"Plain.* has no 'reconstruct_with_loss'"):
        further.losses(plain, Batch(modality="thing", data=draws(1, 1, 16, 16)), torch.Generator(), "thing", 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perceptual_weight": 1.0}, "give perceptual_from"),
        ({"train": False, "adversarial_weight": 1.0}, "train = false leaves the autoencoders as they are"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderChoice(**settings)
