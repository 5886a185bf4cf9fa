"""Who listens to whom by default: trained pairs in which the partner was shown to help (METHOD F4)."""

from types import SimpleNamespace

import pytest

from core.generate.bundle import Bundle
from core.generate.pipeline import helpful_couples, trained_couples

PAIRS = (("frontal", "lateral"), ("ct", "mri"))


class Learned(Bundle):
    """A bundle whose rounds have left these notes with their context encoders."""

    def __init__(self, **notes):
        self.notes = notes
        self.networks = SimpleNamespace(about=lambda key: {"listening": notes.get(key.partition(".")[2], [])})

    trained_pairs = PAIRS

    def coupled(self, modality):
        return True


def test_an_output_listens_to_trained_partners_that_help():
    bundle = Learned(mri=[["mri", "ct", True], ["ct", "mri", False]])
    names = ("frontal", "lateral", "ct", "mri")
    assert trained_couples(bundle, names, ())["ct"] == ("mri",)
    assert helpful_couples(bundle, names, ()) == {
        "frontal": ("lateral",),  # nothing was decided: as trained
        "lateral": ("frontal",),
        "ct": (),
        "mri": ("ct",),
    }


def test_what_is_given_was_asked_for():
    bundle = Learned(mri=[["ct", "mri", False], ["mri", "ct", True]])
    assert helpful_couples(bundle, ("ct",), ("mri",)) == {"ct": ("mri",)}


@pytest.mark.parametrize("noted_by", ["ct", "mri"])
def test_whoever_keeps_the_note(noted_by):
    bundle = Learned(**{noted_by: [["ct", "mri", False]]})
    assert not bundle.helps("ct", "mri")
    assert bundle.helps("mri", "ct")
