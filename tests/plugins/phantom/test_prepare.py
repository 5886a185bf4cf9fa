"""``python -m core.prepare``."""

import pytest

from core import prepare
from core.errors import UserError


def test_makes_the_requested_cohort(tmp_path, capsys):
    root = tmp_path / "small"
    prepare.main(["phantom", "--root", str(root), "--num", "1", "--workers", "1", "--quiet"])
    assert (root / "manifest.csv").is_file()
    assert str(root) in capsys.readouterr().out


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    prepare.main(["phantom", "--root", str(tmp_path / "none"), "--num", "7", "--dry-run"])
    assert not (tmp_path / "none").exists()
    assert "num 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["phantm"], "did you mean 'phantom'"),
        (["phantom", "--num", "0"], "count"),
    ],
)
def test_wrong_input_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        prepare.main(arguments)
