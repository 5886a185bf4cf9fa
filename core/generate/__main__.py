"""``python -m core.generate``: write synthetic studies with a trained run.

A prompt describes a study: a text, or a file of another modality. A condition is a file of the study itself, and the
outputs follow it. Every file states that it is synthetic and how it was generated. A command that was stopped resumes
when it is given again.
"""

from __future__ import annotations

import gc
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.command import Parser, path, run
from core.errors import MedWeaveWarning, UserError
from core.generate.sampling_flags import add_sampling_flags, require_weights, sampler_with

if TYPE_CHECKING:
    from core.generate.bundle import Bundle


_FORMER_FLAGS = {"--given": "--condition", "--couple": "--coupling", "--scale": "--guidance-scale"}
_MOST = 1_000_000  # studies in one folder


def parser() -> Parser:
    """Return the parser of the flags of ``core.generate``."""
    flags = Parser(prog="python -m core.generate", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument(
        "--prompt", action="append", default=[], metavar="MODALITY=VALUE", help="a text or a file, repeatable"
    )
    flags.add_argument(
        "--negative-prompt",
        action="append",
        default=[],
        metavar="MODALITY=VALUE",
        help="what guidance leads away from, in place of the null prompt; a text or a file, repeatable",
    )
    flags.add_argument(
        "--condition", action="append", default=[], metavar="MODALITY=FILE", help="a part of the study, repeatable"
    )
    flags.add_argument("--output", help="modalities to generate, comma-separated (default: all outputs of the run)")
    flags.add_argument("--num", type=int, default=4, help="number of studies (default: 4)")
    flags.add_argument("--out", type=path, required=True, help="folder for the studies and the contact sheet")
    flags.add_argument("--run", type=path, help="the run folder (default: that of the default recipe and preset)")
    flags.add_argument("--seed", type=int, default=0, help="one number decides every draw (default: 0)")
    add_sampling_flags(flags)
    flags.add_argument(
        "--coupling",
        type=_coupling,
        choices=("auto", "trained", "all", "none"),
        default="auto",
        help="which outputs are partners of each other: of the pairs of the guide flow those that were shown to gain"
        " from it (auto, default), every one (trained), all, or none",
    )
    flags.add_argument(
        "--batch", type=int, default=16, help="studies generated at once (default: 16); changes rounding alone"
    )
    flags.add_argument(
        "--keep-prompt",
        action="store_true",
        help="write prompts from text files out; otherwise, and for other files, the SHA-256",
    )
    flags.add_argument(
        "--format", metavar="NAME", help="file format of all outputs, e.g. dicom (default: each modality's own)"
    )
    flags.add_argument("--overwrite", action="store_true", help="replace generated studies that are there")
    flags.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    for former, flag in _FORMER_FLAGS.items():
        flags.add_former_name(former, flag)
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse, open the run, generate, write."""
    options = parser().parse_args(arguments)
    for name in ("num", "batch"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be 1 or more")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must be 0 or more")
    if options.num > _MOST:
        raise UserError(f"--num {options.num}: at most {_MOST} in one folder; use several, each with its own --seed")

    from core.config.installation import load_installation
    from core.generate.bundle import open_bundle

    installation = load_installation(options.registry)
    registry, catalog = installation.registry, installation.catalog
    folder = options.run or Path("runs") / f"{registry.default_recipe}-{registry.default_preset}"
    bundle = open_bundle(folder, catalog.modalities, catalog.broken, options.device)
    installation.warn_of_broken_plugins()  # the run needs none of them, or open_bundle would have stopped

    from core.generate.output_folder import SHEET
    from core.generate.request import GenerationRequest
    from core.generate.write import write_studies

    prompts, given = _named_values("--prompt", options.prompt), _named_values("--condition", options.condition)
    require_weights(options.prompt_weight, prompts)
    requested = options.output.split(",") if options.output is not None else None
    outputs, config = _outputs(bundle, requested, tuple(given)), bundle.run.config
    request = GenerationRequest(
        outputs=outputs,
        prompts=prompts,
        negative=_named_values("--negative-prompt", options.negative_prompt),
        prompt_weights=options.prompt_weight,
        given=given,
        num=options.num,
        seed=options.seed,
        batch=options.batch,
        coupling=options.coupling,
        keep_prompt=options.keep_prompt,
        sampler=sampler_with(config.sampler, options, outputs, config.aliases),
    )
    write_studies(bundle, request, options.out, format=options.format, overwrite=options.overwrite)
    written = "1 study" if request.num == 1 else f"{request.num} studies"
    print(f"{written} ({', '.join(request.outputs)}) in {options.out}; see {SHEET} there")


def _coupling(value: str) -> str:
    """Return the value of ``--coupling``; that of earlier versions is accepted with a warning."""
    if value == "helpful":
        message = "--coupling helpful is called --coupling auto now; the former value will go with the next version"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return "auto"
    return value


def _named_values(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """Return the values of a repeatable ``MODALITY=VALUE`` flag by modality; `UserError` where one stands twice."""
    pairs = [_pair(flag, text) for text in texts]
    if len(dict(pairs)) < len(pairs):
        names = ", ".join(name for name, _ in pairs)
        raise UserError(f"{flag}: a modality stands there twice ({names}); give each once")
    return dict(pairs)


def _pair(flag: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UserError(f"{flag} {text}: write it as MODALITY=VALUE, e.g. {flag} text='No pleural effusion.'")
    return name.strip(), value


def _outputs(bundle: Bundle, requested: Sequence[str] | None, given: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities to generate; aliases of the run stand for their members."""
    if requested is None:
        return tuple(name for name in bundle.run.outputs if name not in given)
    aliases = bundle.run.config.aliases
    names = [member for name in requested for member in aliases.get(name.strip(), (name.strip(),))]
    if not all(names):
        raise UserError(f"--output {','.join(requested)}: names modalities, comma-separated")
    return tuple(dict.fromkeys(names))


if __name__ == "__main__":
    # Libraries create millions of objects that stay; a tenth of importing went to garbage collection among them.
    gc.set_threshold(100_000, 20, 100)
    run(main)
