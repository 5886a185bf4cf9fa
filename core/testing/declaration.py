"""Contract checks of every part: what is declared can be built, stored, sent to workers and restored."""

from __future__ import annotations

import pickle
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import tomli_w

from core.contract.modality import NAME, PROTOCOLS, PartConfig, Shared, Writer
from core.testing.checks import CheckContext, CheckFailed, NotApplicable, check, random_state, randomised, require

_FILE_PARTS = ("reader", "preprocess", "augment", "writer")


@check
def name_is_lower_case(ctx: CheckContext) -> None:
    """The name of a modality is one lower-case word."""
    require(NAME.fullmatch(ctx.modality.name) is not None, f"'{ctx.modality.name}' is not [a-z][a-z0-9_]*")


@check
def builds_without_network(ctx: CheckContext) -> None:
    """Every part builds on a CPU with no network."""
    with _no_network():
        for name in ctx.parts.declared():
            ctx.part(name)
        for config in ctx.parts.exports.values():
            config.build()


@check
def parts_keep_their_protocol(ctx: CheckContext) -> None:
    """Every part has the methods and attributes of its kind."""
    for name in ctx.parts.declared():
        _require_members(name, ctx.part(name), PROTOCOLS[name])
    for name, config in ctx.parts.exports.items():
        _require_members(f"export '{name}'", config.build(), Writer)


def _require_members(name: str, part: Any, protocol: type) -> None:
    missing = [member for member in _members(protocol) if not hasattr(part, member)]
    require(not missing, f"{name}: {type(part).__name__} has no {', '.join(missing)}")


@check
def config_survives_toml(ctx: CheckContext) -> None:
    """A config written to TOML and read back is equal."""
    exports = {f"export '{name}'": config for name, config in ctx.parts.exports.items()}
    for name, declared in (ctx.parts.declared() | exports).items():
        config = declared.config if isinstance(declared, Shared) else declared
        text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
        again = _restored(type(config), tomllib.loads(text), name)
        require(again == config, f"{name}: {config!r} came back as {again!r}")


@check
def pickles_to_workers(ctx: CheckContext) -> None:
    """Reader, preprocessor, augmenter and writer can be sent to a loader worker."""
    parts = {name: ctx.part(name) for name in _FILE_PARTS if name in ctx.parts.declared()}
    exports = {f"export '{name}'": config.build() for name, config in ctx.parts.exports.items()}
    for name, part in (parts | exports).items():
        try:
            again = pickle.loads(pickle.dumps(part))  # noqa: S301 - bytes written by the line itself
        except Exception as error:
            raise CheckFailed(f"{name}: {type(part).__name__} cannot be pickled: {error}") from error
        require(type(again) is type(part), f"{name}: unpickled as {type(again).__name__}")


@check
def state_restores_outputs(ctx: CheckContext) -> None:
    """A part restored from another's state dict computes the same numbers."""
    import torch

    seen = False
    for name in ("prompt", "autoencoder", "denoiser"):
        if name not in ctx.parts.declared():
            continue
        # Randomised: behind a zero-initialised output every two parts agree.
        first, second = randomised(ctx.part(name, seed=0)), ctx.part(name, seed=1).eval()
        state = {key: value.clone() for key, value in first.state_dict().items()}
        second.load_state_dict(state, strict=True)
        with torch.no_grad():
            expected, restored = _outputs(ctx, name, first), _outputs(ctx, name, second)
        require(torch.equal(expected, restored), f"{name}: outputs differ after the state was restored")
        seen = True
    if not seen:
        raise NotApplicable("no trained part")


@check
def leaves_global_randomness(ctx: CheckContext) -> None:
    """Encoding, decoding, prompting and denoising neither read nor advance a global random state."""
    import torch

    for name in ("prompt", "autoencoder", "denoiser"):
        if name not in ctx.parts.declared():
            continue
        part = ctx.part(name).eval()
        before = random_state()
        with torch.no_grad():
            output = _outputs(ctx, name, part)
            if name == "autoencoder":
                part.decode(output)
        require(random_state() == before, f"{name}: a global random state moved")


def _outputs(ctx: CheckContext, name: str, part: Any) -> Any:
    if name == "prompt":
        return part(ctx.batch()).pooled
    if name == "autoencoder":
        return part.encode(ctx.batch()).mean
    import torch

    return part(ctx.latent(), torch.zeros(3), ctx.conditioning())


def _members(protocol: type) -> list[str]:
    declared = [*vars(protocol), *vars(protocol).get("__annotations__", {})]
    return [name for name in declared if not name.startswith("_") or name == "__call__"]


def _restored(kind: type[PartConfig], table: dict[str, Any], name: str) -> PartConfig:
    try:
        return kind.model_validate(table)
    except ValueError as error:
        raise CheckFailed(f"{name}: the config is refused when read back: {error}") from error


@contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise CheckFailed("a part opens a network connection while it is built")

    original = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = original  # type: ignore[method-assign]
