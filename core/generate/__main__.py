"""``python -m core.generate``: write synthetic studies with a trained run.

A prompt describes a study: a text, or a file of another modality. A condition is a file of the study itself, and the
outputs follow it. Every file states that it is synthetic and how it was generated. A command that was stopped resumes
when it is given again.
"""

from __future__ import annotations

import gc
import warnings
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from core.cli.command import Parser, path, run
from core.errors import MedWeaveWarning, UserError
from core.generate.sampling_flags import add_sampling_flags, require_weights, sampler_with

if TYPE_CHECKING:
    from core.engine.workers import Workers
    from core.generate.bundle import Bundle
    from core.generate.request import GenerationRequest


_FORMER_FLAGS = {"--given": "--condition", "--couple": "--coupling", "--scale": "--guidance-scale"}
_MOST = 1_000_000  # studies in one folder
_MOST_WORKERS = 512


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
    _add_table_flags(flags)
    flags.add_argument("--num", type=int, help="number of studies (default: 4; of a table, 1 for each row)")
    flags.add_argument("--out", type=path, required=True, help="folder for the studies and the contact sheet")
    flags.add_argument(
        "--run",
        type=path,
        help="the run folder, or a packaged model's name (default: the run of the default recipe)",
    )
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


def _add_table_flags(flags: Parser) -> None:
    """Add the flags that a table of requests has."""
    flags.add_argument(
        "--table", type=path, metavar="FILE", help="a request per row, .csv or .jsonl; failed rows are listed"
    )
    flags.add_argument("--shard", metavar="NUMBER/COUNT", help="generate one part of the table alone, e.g. 2/4")
    flags.add_argument(
        "--merge",
        type=path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="take over what a shard has made",
    )
    flags.add_argument("--workers", type=int, help="processes that share a table (default: one per core, on a GPU one)")
    flags.add_argument("--cluster", metavar="ADDRESS", default="", help="a Dask scheduler whose workers share a table")


def main(arguments: Sequence[str]) -> None:
    """Parse, open the run, generate, write."""
    options = parser().parse_args(arguments)
    _require_sense(options)

    from core.config.installation import load_installation
    from core.generate.sources import chosen_model, open_model

    installation = load_installation(options.registry)
    bundle = open_model(chosen_model(options.run, installation), installation.catalog, options.device)
    installation.warn_of_broken_plugins()  # the run needs none of them, or open_model would have stopped

    if options.table is not None:
        _generate_table(bundle, options)
    else:
        _generate(bundle, options)


def _require_sense(options: Namespace) -> None:
    """Raise `UserError` for numbers out of range, and for flags that do not go together."""
    for name in ("num", "batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: must be 1 or more")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must be 0 or more")
    if options.num is not None and options.num > _MOST:
        raise UserError(f"--num {options.num}: at most {_MOST} in one folder; use several, each with its own --seed")
    of_rows = ("prompt", "negative_prompt", "condition", "prompt_weight", "num")
    given = [name.replace("_", "-") for name in of_rows if getattr(options, name)]
    if options.table is not None and given:
        raise UserError(f"--{given[0]}: stands in the table, as a column of its own; leave it out of the command")
    if options.workers is not None and not 1 <= options.workers <= _MOST_WORKERS:
        raise UserError(f"--workers {options.workers}: give 1 to {_MOST_WORKERS}")
    for name in ("shard", "merge", "workers", "cluster"):
        if options.table is None and getattr(options, name):
            raise UserError(f"--{name}: goes with --table; name the table too")
    if options.shard and options.merge:
        raise UserError("--merge: takes all shards together; leave --shard out")


def _generate(bundle: Bundle, options: Namespace) -> None:
    from core.generate.output.folder import SHEET
    from core.generate.write import write_studies

    prompts, given = _named_values("--prompt", options.prompt), _named_values("--condition", options.condition)
    require_weights(options.prompt_weight, prompts)
    request = replace(
        _request(bundle, options, tuple(given)),
        prompts=prompts,
        negative=_named_values("--negative-prompt", options.negative_prompt),
        prompt_weights=options.prompt_weight,
        given=given,
        num=4 if options.num is None else options.num,
    )
    write_studies(bundle, request, options.out, format=options.format, overwrite=options.overwrite)
    print(f"{_studies(request.num)} ({', '.join(request.outputs)}) in {options.out}; see {SHEET} there")


def _generate_table(bundle: Bundle, options: Namespace) -> None:
    from core.generate.output.folder import FAILURES, SHEET
    from core.generate.table.plan import Shard
    from core.generate.table.read import read_table
    from core.generate.table.write import TableCommand, write_table

    shard = Shard() if options.shard is None else Shard.parse(options.shard)
    table = read_table(options.table, bundle.run.flows.union.modalities)
    command = TableCommand(
        table=table,
        common=_request(bundle, options, table.given),
        format=options.format,
        shard=shard,
        merged=options.merge,
        registry=options.registry,
    )
    failures = write_table(bundle, command, options.out, _workers(bundle, options), overwrite=options.overwrite)
    total = sum(map(len, command.batches()))
    if failures:
        first, listed = failures[0], options.out / FAILURES
        listed = f", see {listed}" if listed.is_file() else ""
        raise UserError(
            f"{len(failures)} rows or studies of {options.table} failed{listed}; the first: line"
            f" {first.line}, {first.study}: {first.reason}; correct them and repeat the command: it makes these alone"
        )
    if not total:
        print(f"--shard {shard}: has no studies, the table has too few batches of {options.batch}")
        return
    print(f"{_studies(total)} ({', '.join(command.common.outputs)}) in {options.out}; see {SHEET} there")


def _workers(bundle: Bundle, options: Namespace) -> Workers:
    from core.engine.workers import Workers, num_cores

    on_cpu = bundle.networks.compute.device.type == "cpu"
    return Workers(options.workers or (num_cores() if on_cpu else 1), options.cluster)


def _request(bundle: Bundle, options: Namespace, given: Sequence[str]) -> GenerationRequest:
    """Return what the flags say for all studies, without inputs."""
    from core.generate.request import GenerationRequest

    requested = options.output.split(",") if options.output is not None else None
    outputs, config = _outputs(bundle, requested, given), bundle.run.config
    return GenerationRequest(
        outputs=outputs,
        prompts={},
        given={},
        seed=options.seed,
        batch=options.batch,
        coupling=options.coupling,
        keep_prompt=options.keep_prompt,
        sampler=sampler_with(config.sampler, options, outputs, config.aliases),
    )


def _studies(number: int) -> str:
    return "1 study" if number == 1 else f"{number} studies"


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
