"""DCMTK reads the report: its tree keeps the rules of Basic Text SR, its words are those that were written."""

import subprocess


def test_the_report_is_read_by_dcmtk(program, study):
    command = [program("dsrdump"), "--print-all-codes", "--print-long-values", str(study / "slice/text.dcm")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    told = [line for line in said.splitlines() if line.startswith(("E:", "W:"))]
    assert told in ([], ["W: The VR checker does not support this Specific Character Set: ISO_IR 192"]), said
    assert "Basic Text SR Document" in said
    for phrase in (
        '(59776-5,LN,"Findings")',
        "Small left pleural effusion.",
        '(19005-8,LN,"Impressions")',
        "SYNTHETIC",
    ):
        assert phrase in said
