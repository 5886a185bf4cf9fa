"""Weights and checkpoints on disk, and how an interrupted stage resumes from them.

They are safetensors files that describe themselves, written whole or not at all. The description stands as JSON in the
header of each file, with a digest of it and of all values: a file in which a bit has changed is not read. Nothing is
pickled, and states are loaded strictly.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.int8 import from_int8
from core.engine.progress import RunLog, say
from core.errors import MedWeaveWarning, UserError
from core.io import atomic_write

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from core.engine.distributed import Compute
    from core.engine.loop import StepLoop

WEIGHTS, ABOUT = "weights.safetensors", "about.json"
_KEY = "medweave"  # the one entry of the safetensors header: several would stand in an order of chance
_NUM_CHECKPOINTS = 2
_MOST = 6  # names in a message


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and their description as one file; an interruption leaves the old file or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    separate = _without_shared_memory(tensors)
    entry = {"about": about, "digest": digest_of(separate, json.dumps(about, sort_keys=True))}
    with atomic_write(path, overwrite=True) as temporary:
        save_file(separate, temporary, metadata={_KEY: json.dumps(entry, sort_keys=True)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors on the CPU and their description.

    Raises `UserError` where the file is missing, truncated, changed, or not written by MedWeave.
    """
    with _open_tensors(path) as (file, entry):
        # Cloned: memory of torch is aligned, so every run adds in the same order.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if digest_of(tensors, json.dumps(entry["about"], sort_keys=True)) != entry["digest"]:
            raise ValueError("its content is not what was written: it was changed, or damaged on the way")
        return tensors, entry["about"]


def read_about(path: Path) -> dict[str, Any]:
    """Return the description alone; `UserError` where the file is missing, truncated, or not written by MedWeave."""
    with _open_tensors(path) as (_, entry):
        return entry["about"]


def read_digest(path: Path) -> str:
    """Return the digest that was written with the tensors; `UserError` as in `read_about`."""
    with _open_tensors(path) as (_, entry):
        return entry["digest"]


@contextmanager
def _open_tensors(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file, json.loads((file.metadata() or {})[_KEY])
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no description; it was not written by MedWeave") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON to a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def digest_of(tensors: Mapping[str, Tensor], description: str = "") -> str:
    """Return a digest of these tensors and a text; equal names and values give an equal digest."""
    import torch

    digest = blake2b(description.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, none sharing memory: safetensors rejects tied weights that do."""
    seen: set[int] = set()
    separate = {}
    for name, value in tensors.items():
        moved = value.detach().cpu().contiguous()
        separate[name] = moved.clone() if moved.data_ptr() in seen else moved
        seen.add(separate[name].data_ptr())
    return separate


def save_weights(module: Module, folder: Path, about: Mapping[str, Any], attached: Iterable[Tensor] = ()) -> None:
    """Write the module's state and its description into a folder; an interruption leaves the old weights or the new.

    The description stands in the header of the weights, so that the two always agree; ``about.json`` is a readable
    copy. ``attached``: parameters and buffers of other weight sets that hang in the module, and are left out.
    """
    others = {id(tensor) for tensor in attached}
    state = {name: value for name, value in module.state_dict(keep_vars=True).items() if id(value) not in others}
    write_tensors(folder / WEIGHTS, {name: value.detach() for name, value in state.items()}, about)
    write_json(folder / ABOUT, about)


def load_weights(module: Module, folder: Path) -> dict[str, Any]:
    """Load a module's state strictly and return its description.

    Raises `UserError` where the file is missing or damaged, names or shapes differ, or a value is not finite.
    """
    with _readable(folder):
        state, about = read_tensors(folder / WEIGHTS)
        state = from_int8(state)
    require_same_tensors(state, module.state_dict(), folder)
    _require_finite({name: state[name] for name, _ in module.named_parameters() if name in state}, folder)
    module.load_state_dict(state, strict=True)
    return about


def load_about(folder: Path) -> dict[str, Any]:
    """Return the description of saved weights; `UserError` where the file is missing or damaged."""
    with _readable(folder):
        return read_about(folder / WEIGHTS)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder}: no readable weights ({error}); train this part, or name another folder") from error


def require_same_tensors(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: Path) -> None:
    """Raise `UserError` where names or shapes of stored tensors differ from the expected ones."""
    missing, extra = expected.keys() - stored.keys(), stored.keys() - expected.keys()
    if missing or extra:
        raise UserError(
            f"{where}: weights do not fit (missing: {_few(missing)}; unknown: {_few(extra)}): was it another"
            " preset or part? train again, or name another folder"
        )
    wrong = [
        f"{name} {tuple(stored[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected
        if expected[name].shape != stored[name].shape
    ]
    if wrong:
        raise UserError(f"{where}: weights of another size ({'; '.join(wrong[:3])}): was it another preset?")


def _require_finite(state: Mapping[str, Tensor], where: Path) -> None:
    """Raise `UserError` where a weight is not finite: whatever it made would not be either."""
    wrong = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if wrong:
        raise UserError(f"{where}: weights are not finite ({_few(wrong)}); train this part again, or restore the file")


def _few(names: Collection[str]) -> str:
    """Join the first names, and state how many more there are."""
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return (", ".join(sorted(names)[:_MOST]) or "none") + more


class Checkpoints:
    """The two newest checkpoints of one stage: ``<folder>/<stage>/<step>.safetensors``.

    One file holds a whole state: tensors as safetensors, the rest as JSON in its header. It appears by a rename, so an
    incomplete file is never read as a state.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder = folder / re.sub(r"[^\w.+-]+", "_", stage)

    def save(self, step: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write the state before step ``step``, then delete all but the two newest."""
        write_tensors(self.folder / f"{step:09d}.safetensors", tensors, about)
        for old in self._paths()[:-_NUM_CHECKPOINTS]:
            old.unlink()

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the newest readable state, or ``None``; an unreadable file is skipped with a warning."""
        for path in reversed(self._paths()):
            try:
                return read_tensors(path)
            except UserError as error:
                warnings.warn(MedWeaveWarning(f"{error}; resumes from an earlier checkpoint"), stacklevel=2)
        return None

    def remove_partial_files(self) -> None:
        """Remove files that an interrupted process left incomplete."""
        for path in self.folder.glob(".medweave-*"):
            path.unlink()

    def remove(self) -> None:
        """Remove every checkpoint: the stage is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other stages have folders there
            self.folder.parent.rmdir()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def resume_stage(loop: StepLoop, checkpoints: Checkpoints, log: RunLog, compute: Compute) -> None:
    """Continue a stage where an interrupted process left it: load its newest checkpoint, and cut the log to it.

    Where there is none, the start is saved, so that the log has a size to be cut to.
    """
    newest = checkpoints.newest()
    if newest is not None:
        state, about = newest
        loop.restore(state, checkpoints.folder)
        log.cut(about["log_bytes"])
        if loop.step > 0:
            say(f"{loop.stage.title}: resumes at step {loop.step}", silent=not compute.is_main)
    compute.barrier()
    if compute.is_main:
        checkpoints.remove_partial_files()
        if newest is None:
            save_stage(loop, checkpoints, log, compute)


def save_stage(loop: StepLoop, checkpoints: Checkpoints, log: RunLog, compute: Compute) -> None:
    """Write a checkpoint of a stage; the main process does it for all."""
    if not compute.is_main:
        return
    stage = loop.stage
    about = {
        "phase": stage.phase,
        "stage": stage.title,
        "step": loop.step,
        "steps": stage.steps,
        "schedule": {"learning_rate": stage.learning_rate, "warmup": stage.training.warmup},
        "seed": loop.seed,
        "log_bytes": log.size(),
    }
    checkpoints.save(loop.step, loop.state(), about)
