"""``core.train --reuse RUN``: a run that begins with the autoencoders and the alignment of another."""

import json
import shutil

import pytest

from core.errors import MedWeaveWarning, UserError
from core.train import main as train
from core.training import reuse

SHORT = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "3", "--set=training.measure.samples=8"]
SHORT += ['--set=training.measure.only=["reconstruction"]']


@pytest.fixture(scope="module")
def earlier(work_folder):
    train([*SHORT, "--run", "earlier"])
    return work_folder / "earlier"


def progress(run):
    return json.loads((run / "progress.json").read_text())


def test_wanted_measures_alone_are_run(earlier):
    assert [title for title in progress(earlier)["stages"] if title.startswith("measure")] == ["measure reconstruction"]


def test_earlier_stages_are_taken_over_and_the_others_trained_anew(earlier):
    before = {path: path.read_bytes() for path in earlier.rglob("weights.safetensors")}
    changes = ["--set=diffuse.objective=clean", "--set=guide.partner_drop=0.3", "--seed", "3"]
    train([*SHORT, *changes, "--run", "later", "--reuse", "earlier"])
    later = earlier.parent / "later"
    stages, old = progress(later)["stages"], progress(earlier)["stages"]
    reused = [title for title in old if title.split()[0] in ("autoencoder", "align")]
    assert reused
    assert all(stages[title] == old[title] for title in reused)
    assert progress(later)["reused"] == str(earlier.resolve())
    same = {path.relative_to(later): path.read_bytes() for path in later.rglob("weights.safetensors")}
    for path, content in before.items():
        name = path.relative_to(earlier)
        if name.parts[0] in ("autoencoder", "align"):
            assert same[name] == content
        elif name.parts[0] == "diffuse":
            assert same[name] != content, name
    assert all(path.read_bytes() == content for path, content in before.items()), "the earlier run stays as it was"
    train([*SHORT, *changes, "--run", "later"])  # resumes without it
    assert progress(later)["stages"].keys() == stages.keys()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (["--set=autoencoder.perceptual_distance=l1"], r"perceptual_distance is 'l2' there, 'l1' here"),
        (["--set=training.autoencoder.batch=3"], r"training\.autoencoder\.batch is \d+ there, 3 here"),
        (["--reuse", "nowhere"], "nowhere: is no run folder"),
    ],
)
def test_what_cannot_be_reused_is_one_clear_error_and_leaves_nothing(earlier, changes, error):
    with pytest.raises(UserError, match=error):
        train([*SHORT, "--run", "other", "--reuse", "earlier", *changes])
    assert not (earlier.parent / "other").exists()


def test_another_alignment_is_trained_anew_with_a_warning(earlier):
    with pytest.warns(
        MedWeaveWarning, match=r"alignment is trained anew: align\.temperature is 0\.07 there, 0\.2 here"
    ):
        train([*SHORT, "--set=align.temperature=0.2", "--run", "aligned", "--reuse", "earlier"])
    stages, old = progress(earlier.parent / "aligned")["stages"], progress(earlier)["stages"]
    assert stages.keys() == old.keys()
    assert all(stages[title] == old[title] for title in old if title.startswith("autoencoder"))
    names = ("autoencoder", "align")
    same = {
        name: [(run / name).rglob("weights.safetensors") for run in (earlier, earlier.parent / "aligned")]
        for name in names
    }
    equal = {
        name: [a.read_bytes() == b.read_bytes() for a, b in zip(*map(sorted, same[name]), strict=True)]
        for name in names
    }
    assert all(equal["autoencoder"])
    assert not any(equal["align"])


def test_other_studies_or_an_unfinished_alignment_are_refused(earlier):
    folder = earlier.parent
    for name in ("other_data", "unfinished", "gone"):
        shutil.copytree(earlier, folder / name)
    changed = progress(earlier)
    (folder / "other_data" / "progress.json").write_text(json.dumps({**changed, "studies": "another"}))
    first = dict(list(changed["stages"].items())[:1])
    (folder / "unfinished" / "progress.json").write_text(json.dumps({**changed, "stages": first}))
    with pytest.raises(UserError, match="saw other studies"):
        train([*SHORT, "--run", "other", "--reuse", "other_data"])
    next((folder / "gone" / "align").rglob("weights.safetensors")).unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing; restore it"):
        train([*SHORT, "--run", "other", "--reuse", "gone"])
    with pytest.raises(UserError, match=r"has not finished phase"):
        train([*SHORT, "--run", "other", "--reuse", "unfinished"])
    assert not (folder / "other").exists()


def test_an_unknown_measure_is_named_before_anything_is_trained(earlier):
    with pytest.raises(UserError, match="sample sheets"):
        train([*SHORT, '--set=training.measure.only=["outlines"]', "--run", "other"])
    assert not (earlier.parent / "other").exists()


def test_an_interrupted_start_begins_again_and_a_run_that_began_otherwise_is_refused(earlier, monkeypatch):
    flags = [*SHORT, "--run", "interrupted", "--reuse", "earlier"]
    with monkeypatch.context() as patch:
        patch.setattr("core.training.reuse._linked", lambda source, target: _interrupt(source, target))
        with pytest.raises(KeyboardInterrupt):
            train(flags)
    train(flags)
    stages, old = progress(earlier.parent / "interrupted")["stages"], progress(earlier)["stages"]
    assert all(stages[title] == old[title] for title in old if title.startswith(("autoencoder", "align")))
    train(flags)  # a finished run that began so
    with pytest.raises(UserError, match=r"was not begun with --reuse interrupted; leave it out to resume"):
        train([*SHORT, "--run", "earlier", "--reuse", "interrupted"])
    with pytest.raises(UserError, match="is the new run itself"):
        train([*SHORT, "--run", "fresh", "--reuse", "fresh"])


def _interrupt(source, target):
    shutil.copy2(source, target)
    raise KeyboardInterrupt


def test_a_smaller_flow_takes_the_autoencoders_of_a_larger_one(earlier):
    smaller = ["--flow", "toy_grid-toy_vector", *SHORT[2:]]
    with pytest.warns(MedWeaveWarning, match=r"alignment is trained anew: flow\.align"):
        train([*smaller, "--run", "smaller", "--reuse", "earlier"])
    stages, old = progress(earlier.parent / "smaller")["stages"], progress(earlier)["stages"]
    assert all(stages[title] == old[title] for title in old if title.startswith("autoencoder"))


def test_settings_of_a_denoiser_or_of_decoding_do_not_matter():
    free, aligned = reuse._is_free, reuse._is_of_alignment
    assert free("parts.ct.denoiser.num_blocks")
    assert free("parts.text.autoencoder.decoding.beams")
    assert not free("parts.ct.autoencoder.widths")
    assert not free("parts.ct.preprocess.window")
    assert aligned("parts.text.prompt.token_dropout")
    assert not aligned("parts.ct.autoencoder.widths")
