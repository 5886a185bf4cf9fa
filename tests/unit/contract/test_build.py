"""A part that cannot be built is one line that names it and says what to do."""

import pytest

from core.contract.build import MissingPackageError, build_part, install_command
from core.contract.modality import PartConfig, Shared
from core.errors import UserError
from core.plan.costs import parameter_table
from core.testing.toy import TOY_GRID


class Needs(PartConfig):
    def build(self):
        import sonopy_missing.deep  # noqa: F401


class Breaks(PartConfig):
    def build(self):
        raise ValueError("width 3 is not\na multiple of 2")


class Refuses(PartConfig):
    def build(self):
        raise UserError("no weights in /models; download them")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Needs(), "part 'ct.prompt' needs the package 'sonopy_missing', which cannot be imported"),
        (Needs(), "pip install sonopy_missing, or choose another preset"),
        (Breaks(), "part 'ct.prompt' cannot be built: ValueError: width 3 is not a multiple of 2; change its settings"),
        (Refuses(), "part 'ct.prompt': no weights in /models; download them"),
        (PartConfig(), "part 'ct.prompt' cannot be built: TypeError: PartConfig does not define build()"),
    ],
)
def test_one_line_names_modality_and_part(config, expected):
    with pytest.raises(UserError) as caught:
        build_part(config, "ct.prompt", ("ct",))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_told_apart():
    with pytest.raises(MissingPackageError):
        build_part(Needs(), "ct.prompt")


def test_a_shared_part_names_its_owners():
    with pytest.raises(UserError, match=r"part 'image\.prompt' of ct and mri cannot be built"):
        build_part(Shared("image.prompt", Breaks()), "image.prompt", ("ct", "mri"))


def test_the_extra_that_declares_a_package_is_named():
    assert install_command("medweave", "xformers") == "pip install 'medweave[cuda]'"
    assert install_command("medweave", "sonopy") == "pip install sonopy"
    assert install_command("", "sonopy") == "pip install sonopy"


def test_counting_parameters_names_the_part():
    from dataclasses import replace

    broken = replace(TOY_GRID, presets={"tiny": replace(TOY_GRID.parts("tiny"), denoiser=Breaks())})
    with pytest.raises(UserError, match=r"part 'toy_grid\.denoiser' cannot be built"):
        parameter_table({"toy_grid": broken}, "tiny")
