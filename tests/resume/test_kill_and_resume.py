"""Killed at random moments in every phase and started again, a run equals the one that nobody disturbed."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

import core.cli.command
import core.train
from tests.resume.runs import FLOW, SHORT

STAGES = [
    "autoencoder toy_vector.autoencoder",
    "autoencoder toy_grid.autoencoder",
    "align 1 toy_vector-toy_grid",
    "diffuse toy_vector.denoiser",
    "diffuse toy_grid.denoiser",
    "joint all flows",
]
LAST = 39  # step of every stage

# What a run was started with, and a plan that holds the speed that was measured on the way.
_APART = ("config.toml", "plan.txt")


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run, but for those that name the run's own folder."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in _APART]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def position(run: Path) -> tuple[int, int]:
    """The number of a stage, and its step, that the log shows last; before all of them where it shows none."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return (STAGES.index(rows[-1]["phase"]), rows[-1]["step"]) if rows else (-1, LAST)


def in_stage(run: Path, number: int, step: int):
    """The log shows this step of this stage, or a later one."""
    return lambda: position(run) >= (number, step)


def writing(run: Path, pattern: str):
    """A file is being written."""

    def reached():
        try:
            return any(run.glob(f"{pattern}/.medweave-*"))
        except FileNotFoundError:  # a folder that was listed is gone: its stage has ended
            return False

    return reached


def stages_behind(run: Path) -> list[str]:
    """The stages that a run has finished."""
    try:
        return [*json.loads((run / "progress.json").read_text())["stages"]]
    except FileNotFoundError:
        return []


def finished(run: Path, number: int):
    """So many stages are behind us: the next one has not begun, or has just."""
    return lambda: len(stages_behind(run)) >= number


def kill_when(process, reached) -> bool:
    """SIGKILL at the first moment at which ``reached`` holds; false where the process ended before."""
    while process.is_alive():
        if reached():
            process.kill()
            break
        time.sleep(0.0005)
    process.join(100)
    return process.exitcode == -signal.SIGKILL


def moments(run: Path, draw: random.Random):
    """What to wait for, and the positions from which and below which the kill is to leave the log."""
    between = draw.sample(range(1, len(STAGES)), 2)
    for number in range(len(STAGES)):
        step = draw.randrange(5, 25)
        yield in_stage(run, number, step), (number, step), (number, LAST)
        if number + 1 in between:
            yield finished(run, number + 1), (number, LAST), (number + 1, 5)


def kill_between(start, run: Path, reached, first, end):
    """SIGKILL when ``reached`` holds. Where it came too late, on a busy machine, the run is put back and tried again."""
    before = run.with_name(f"before {run}")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(run, before)
    assert position(run) < first, "the run was to get there after its start"
    for _ in range(30):
        process = start("--run", str(run))
        if kill_when(process, reached) and first <= position(run) < end:
            return
        assert process.exitcode in (0, -signal.SIGKILL)
        shutil.rmtree(run)
        shutil.copytree(before, run)
    pytest.fail(f"30 kills came too late to find the run between {first} and {end}")


def in_progress(run: Path) -> list[str]:
    """The stages that a killed run has begun and not finished: they have steps in the log and are not behind it."""
    begun = {json.loads(line)["phase"] for line in (run / "metrics.jsonl").read_text().splitlines()}
    return sorted(begun - {*stages_behind(run)})


def test_a_run_killed_in_every_phase_equals_the_undisturbed_one(start, whole):
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments drawn with seed {seed}")
    run, killed = Path("killed"), []
    run.mkdir()
    for reached, first, end in moments(run, random.Random(seed)):
        kill_between(start, run, reached, first, end)
        killed += in_progress(run)
    assert {*killed} == {*STAGES}, f"a stage of every phase is killed half-way, with seed {seed}"
    last = start("--run", str(run))
    last.join(200)
    assert last.exitcode == 0
    expected, found = contents(whole), contents(run)
    steps = [(row["phase"], row["step"]) for row in map(json.loads, found["metrics.jsonl"].splitlines())]
    assert steps == [(stage, step) for stage in STAGES for step in range(LAST + 1)]
    assert found["metrics.jsonl"] == expected["metrics.jsonl"]
    assert found == expected, "weights, latents, table lines: bit for bit"


def test_killed_while_something_is_written(start, whole):
    """Between the files of a result, in the latent cache, in a checkpoint."""
    run, kills = Path("torn"), 0
    for pattern in ("checkpoints/*", "latents/*", "autoencoder/*", "align/*", "checkpoints/*"):
        kills += kill_when(start("--run", str(run)), writing(run, pattern))
    last = start("--run", str(run))
    last.join(200)
    assert last.exitcode == 0
    assert kills >= 2, f"{kills} of 5 kills hit a file being written"
    found = {name: content for name, content in contents(run).items() if "/.medweave-" not in f"/{name}"}
    assert found == contents(whole)


def train_here(*arguments):
    """The exit code of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        core.cli.command.run(core.train.main, [*FLOW, *SHORT, *arguments])
    return ended.value.code


def test_a_finished_run_is_not_trained_again(whole, capsys):
    before = contents(whole)
    assert train_here("--run", "whole") == 0
    shown = capsys.readouterr()
    assert "whole is finished already, nothing was trained" in shown.out
    assert "toy_vector → toy_grid retrieval, R@5, held out" in shown.out
    assert "40/40" not in shown.err
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "3"], "seed is 0 there, 3 here"),
        (["--set", "training.align.batch=9"], "training.align.batch is 32 there, 9 here"),
        (
            ["--set", "toy_grid.autoencoder.kl_weight=1"],
            "parts.toy_grid.autoencoder.kl_weight is not set there, 1 here",
        ),
    ],
)
def test_another_configuration_is_refused_with_the_difference(whole, capsys, arguments, expected):
    before = contents(whole)
    assert train_here("--run", "whole", *arguments) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: whole holds a run with another configuration: ")
    assert expected in line
    assert "\n" not in line
    assert contents(whole) == before


def test_two_processes_cannot_train_in_one_folder(start, capsys):
    first = start("--run", "twice")
    while first.is_alive() and not in_stage(Path("twice"), 0, 0)():
        time.sleep(0.001)
    assert train_here("--run", "twice") == 2
    assert "twice: another process trains in this folder" in capsys.readouterr().err
    first.kill()
    first.join(100)


def test_other_studies_are_refused(whole, folder, capsys):
    about = folder / "whole" / "progress.json"
    stored = about.read_text()
    about.write_text(json.dumps({**json.loads(stored), "data": "of somebody else"}))
    try:
        assert train_here("--run", "whole") == 2
    finally:
        about.write_text(stored)
    assert "the studies are not those that the run was started with" in capsys.readouterr().err
