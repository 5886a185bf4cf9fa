"""``python -m core.train --flow text-xray,text-ct,ct-mri``: train a model along a flow.

A flow is a list of edges "source-target"; each edge is a round, and their order is that of training. Several sources
join with +, and an alias of registry.toml stands for a group. --plan shows what would happen, and stops.
"""

from __future__ import annotations

import os
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from core.cli.command import Parser, path, run

if TYPE_CHECKING:
    from pathlib import Path

    from core.config.installation import Installation
    from core.flow.run import Run

_NO_SETTING = ("plan", "registry", "processes", "reuse")  # what no run file holds


def parser() -> Parser:
    """The flags of ``core.train``; everything else is TOML or ``--set``."""
    flags = Parser(prog="python -m core.train", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument("--flow", help="edges in the order of training, e.g. text-xray,text-ct,ct-mri")
    flags.add_argument("--recipe", help="the method: medweave, medm2g, medcodi_m, codi_xr, medisyn or your own")
    flags.add_argument("--preset", help="the sizes: tiny, tiny3d, small, paper")
    flags.add_argument("--data", help="data sets of registry.toml, comma-separated")
    flags.add_argument("--phase", help="phases to run, comma-separated: autoencoder,align,diffuse,guide")
    flags.add_argument("--config", type=path, help="a run file (TOML), e.g. the config.toml of an earlier run")
    flags.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting, repeatable")
    flags.add_argument("--run", type=path, help="the run folder (default: runs/RECIPE-PRESET)")
    flags.add_argument("--reuse", type=path, help="begin with the autoencoders and the alignment of this earlier run")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    flags.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    flags.add_argument("--seed", type=int, help="one number decides every draw (default: 0)")
    flags.add_argument("--steps", type=int, help="steps of every phase")
    flags.add_argument("--extended", action="store_true", help="the preset's extended training")
    flags.add_former_name("--long", "--extended")
    flags.add_argument("--processes", type=int, help="processes that divide a CPU's work (default: one per thread)")
    flags.add_argument("--plan", action="store_true", help="print rounds, data and costs, and stop")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse the flags, check the run, and train it."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or several processes warn of weights that a step leaves out

    from core.config.installation import load_installation
    from core.config.run_config import Flags
    from core.engine.distributed import resolve_device
    from core.flow.run import resolve_run
    from core.plan.compatibility import require_compatible
    from core.plan.describe import describe_plan

    installation = load_installation(options.registry)
    choices = {name: value for name, value in vars(options).items() if name not in _NO_SETTING}
    resolved = resolve_run(installation, Flags(**choices))
    config = resolved.config
    device = resolve_device(config.device)
    if options.plan:
        registry, datasets = installation.registry, installation.catalog.datasets
        print(f"{describe_plan(resolved, registry, datasets)}\nnothing was trained: leave --plan out to do it")
        return
    resolved.require_parts()
    require_compatible(resolved)

    from core.engine.processes import companions, follow_parent, num_processes, started_by_others

    follow_parent()
    number = 1 if started_by_others() else num_processes(options.processes, config.training, device.type)
    with companions(number, "core.train", arguments):
        _train(resolved, installation, options.reuse)


def _train(resolved: Run, installation: Installation, reuse: Path | None) -> None:
    """Train the run and print its table."""
    from core.engine.distributed import Compute
    from core.generate.networks import require_whole_weights
    from core.plan.describe import describe_plan
    from core.training import TrainingSession, as_text, head_text, train

    config, registry, datasets = resolved.config, installation.registry, installation.catalog.datasets
    compute = Compute(config.device, config.attention)
    session = TrainingSession(resolved, registry, datasets, compute, reuse)
    session.folder.write_plan(partial(describe_plan, resolved, registry, datasets))
    table = train(session)
    if compute.is_main:
        if not session.trained_any:
            require_whole_weights(config.run)
            print(f"{config.run} is finished already, nothing was trained; its table:\n")
        if head := head_text(table):
            print(f"{head}\n")
        print(f"{as_text(table)}\n\nweights, log and configuration: {config.run}; look at {config.run / 'report.html'}")
        if "diffuse" in config.phases.run:
            print(f"next: python -m core.generate --run {config.run} --out generated")
    compute.close()


if __name__ == "__main__":
    run(main)
