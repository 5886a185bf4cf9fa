"""Laws of every part: what is declared can be built, stored, sent and restored."""

from __future__ import annotations

import pickle
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import tomli_w

from core.contract.modality import NAME, PROTOCOLS, PartConfig, Shared, Writer
from core.testing.laws import Bench, LawBroken, NotApplicable, demand, law, random_state, randomised

_FILE_PARTS = ("reader", "preprocess", "augment", "writer")


@law
def name_is_lower_case(bench: Bench) -> None:
    """The name of a modality is one lower-case word."""
    demand(NAME.fullmatch(bench.modality.name) is not None, f"'{bench.modality.name}' is not [a-z][a-z0-9_]*")


@law
def builds_without_network(bench: Bench) -> None:
    """Every part builds on a CPU with no network."""
    with _no_network():
        for name in bench.parts.declared():
            bench.part(name)
        for config in bench.parts.exports.values():
            config.build()


@law
def parts_keep_their_protocol(bench: Bench) -> None:
    """Every part has the methods and attributes of its kind."""
    for name in bench.parts.declared():
        _demand_members(name, bench.part(name), PROTOCOLS[name])
    for name, config in bench.parts.exports.items():
        _demand_members(f"export '{name}'", config.build(), Writer)


def _demand_members(name: str, part: Any, protocol: type) -> None:
    missing = [member for member in _members(protocol) if not hasattr(part, member)]
    demand(not missing, f"{name}: {type(part).__name__} has no {', '.join(missing)}")


@law
def config_survives_toml(bench: Bench) -> None:
    """A config written to TOML and read back is equal."""
    exports = {f"export '{name}'": config for name, config in bench.parts.exports.items()}
    for name, declared in (bench.parts.declared() | exports).items():
        config = declared.config if isinstance(declared, Shared) else declared
        text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
        again = _restored(type(config), tomllib.loads(text), name)
        demand(again == config, f"{name}: {config!r} came back as {again!r}")


@law
def pickles_to_workers(bench: Bench) -> None:
    """Reader, preprocessor, augmenter and writer can be sent to a loader worker."""
    parts = {name: bench.part(name) for name in _FILE_PARTS if name in bench.parts.declared()}
    exports = {f"export '{name}'": config.build() for name, config in bench.parts.exports.items()}
    for name, part in (parts | exports).items():
        try:
            again = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own bytes, made a moment ago
        except Exception as error:
            raise LawBroken(f"{name}: {type(part).__name__} cannot be pickled: {error}") from error
        demand(type(again) is type(part), f"{name}: unpickled as {type(again).__name__}")


@law
def state_restores_outputs(bench: Bench) -> None:
    """A part restored from another's state dict computes the same numbers."""
    import torch

    seen = False
    for name in ("prompt", "autoencoder", "denoiser"):
        if name not in bench.parts.declared():
            continue
        # Randomised: behind a zero-initialised output every two parts agree.
        first, second = randomised(bench.part(name, seed=0)), bench.part(name, seed=1).eval()
        state = {key: value.clone() for key, value in first.state_dict().items()}
        second.load_state_dict(state, strict=True)
        with torch.no_grad():
            expected, found = _outputs(bench, name, first), _outputs(bench, name, second)
        demand(torch.equal(expected, found), f"{name}: outputs differ after the state was restored")
        seen = True
    if not seen:
        raise NotApplicable("no trained part")


@law
def leaves_global_randomness(bench: Bench) -> None:
    """Encoding, decoding, prompting and denoising neither read nor advance a global random state."""
    import torch

    for name in ("prompt", "autoencoder", "denoiser"):
        if name not in bench.parts.declared():
            continue
        part = bench.part(name).eval()
        before = random_state()
        with torch.no_grad():
            output = _outputs(bench, name, part)
            if name == "autoencoder":
                part.decode(output)
        demand(random_state() == before, f"{name}: a global random state moved")


def _outputs(bench: Bench, name: str, part: Any) -> Any:
    if name == "prompt":
        return part(bench.batch()).pooled
    if name == "autoencoder":
        return part.encode(bench.batch()).mean
    import torch

    return part(bench.latent(), torch.zeros(3), bench.conditioning())


def _members(protocol: type) -> list[str]:
    declared = [*vars(protocol), *vars(protocol).get("__annotations__", {})]
    return [name for name in declared if not name.startswith("_") or name == "__call__"]


def _restored(kind: type[PartConfig], table: dict[str, Any], name: str) -> PartConfig:
    try:
        return kind.model_validate(table)
    except ValueError as error:
        raise LawBroken(f"{name}: the config is refused when read back: {error}") from error


@contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise LawBroken("a part opens a network connection while it is built")

    original = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = original  # type: ignore[method-assign]
