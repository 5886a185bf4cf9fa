"""Which writer an output gets, and what is said where there is none."""

from types import SimpleNamespace

import pytest

from core.contract.modality import PartConfig, Parts
from core.errors import UserError
from core.generate.output.writers import in_order, writers_of
from core.types import DataSpec


class NamedConfig(PartConfig):
    """A writer that is nothing but its name."""

    name: str

    def build(self):
        return self.name


class BrokenConfig(PartConfig):
    def build(self):
        import no_such_package_anywhere  # noqa: F401


DATA = DataSpec(kind="vector")
PARTS = {
    "a": Parts(data=DATA, writer=NamedConfig(name="a"), exports={"dicom": NamedConfig(name="a as dicom")}),
    "b": Parts(
        data=DATA, writer=NamedConfig(name="b"), exports={"dicom": BrokenConfig(), "csv": NamedConfig(name="c")}
    ),
    "c": Parts(data=DATA, writer=NamedConfig(name="c")),
    "d": Parts(data=DATA),
}
RUN = SimpleNamespace(parts=PARTS.__getitem__, config=SimpleNamespace(preset="tiny"))


def test_without_a_format_every_modality_has_its_own():
    assert writers_of(RUN, ("a", "b", "c"), None) == {"a": "a", "b": "b", "c": "c"}


def test_a_format_is_that_of_every_output():
    assert writers_of(RUN, ("a",), "dicom") == {"a": "a as dicom"}


def test_what_refers_to_another_file_is_written_after_it():
    writers = {"mask": SimpleNamespace(refers_to="b"), "a": SimpleNamespace(), "b": SimpleNamespace(refers_to=None)}
    assert in_order(writers) == ["a", "b", "mask"]


@pytest.mark.parametrize(
    ("outputs", "format", "expected"),
    [
        (("a", "b", "c"), "dicom", r"--format dicom: c cannot be written so \(can: a, b\)"),
        (("a", "b"), "csv", r"--format csv: a cannot be written so \(can: b\)"),
        (
            ("a", "b"),
            "dicm",
            r"--format dicm: no output has this format \(they have: csv, dicom\); did you mean 'dicom'\?",
        ),
        (("c",), "dicom", r"they have: none"),
        (("d",), None, "modality 'd' has no writer at preset 'tiny'"),
        (("b",), "dicom", r"part 'b\.exports\.dicom' needs the package 'no_such_package_anywhere'"),
    ],
)
def test_what_cannot_be_written_is_one_line(outputs, format, expected):
    with pytest.raises(UserError, match=expected):
        writers_of(RUN, outputs, format)
