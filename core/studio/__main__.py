"""``python -m core.studio``: a local page on which one describes a study, sees it appear, and downloads it.

The page is served to this machine only, unless ``--host`` says otherwise. What is uploaded lies in a temporary folder
until its study is made. Needs the extra ``studio`` (pip install 'medweave[studio]').
"""

from __future__ import annotations

import argparse
import socket
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from core.cli.command import Parser, path, run
from core.errors import MedWeaveWarning, UserError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERY = ("0.0.0.0", "::")  # noqa: S104  # addresses of this machine, by whichever name it is reached


def parser() -> Parser:
    """Return the parser of the flags of ``core.studio``."""
    flags = Parser(prog="python -m core.studio", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument(
        "--run", type=path, help="a run folder, a bundle, or the name of a packaged model (default: as core.generate)"
    )
    flags.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    flags.add_argument("--port", type=_port, default=7860, help="where the page is served (default: 7860)")
    flags.add_argument(
        "--host", default="127.0.0.1", help="address to serve it at (default: 127.0.0.1, this machine only)"
    )
    flags.add_argument(
        "--max-upload", type=_megabytes, default=256, metavar="MB", help="most that one study may upload (default: 256)"
    )
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse, open the model, and serve the page until it is interrupted."""
    options = parser().parse_args(arguments)
    try:
        import multipart  # noqa: F401  # python-multipart, which reads uploads
        import starlette  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise UserError(
            f"the page needs the package '{error.name}', which is not installed: pip install 'medweave[studio]'"
        ) from None

    with _free_port(options.host, options.port) as listening:
        from core.config.installation import load_installation
        from core.generate.sources import chosen_model, open_model
        from core.model.model import Model
        from core.studio.app import create_app

        installation = load_installation(options.registry)
        bundle = open_model(chosen_model(options.run, installation), installation.catalog, options.device)
        installation.warn_of_broken_plugins()
        if options.host not in _LOOPBACK:
            message = f"--host {options.host}: everybody who reaches this address can use the page, without a password"
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
        hosts = ("*",) if options.host in _EVERY else (*_LOOPBACK, options.host)
        app = create_app(Model(bundle), upload_bytes=options.max_upload * 10**6, hosts=hosts)
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"{bundle.networks.folder.name}: http://{host}:{options.port}  (Ctrl+C ends it)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
        server.run(sockets=[listening])


def _free_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address; `UserError` where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        todo = "choose another with --port" if host in _LOOPBACK else "correct --host, or choose another --port"
        raise UserError(f"{host} port {port}: cannot be served ({error.strerror or error}); {todo}") from None
    listening.listen()
    return listening


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; give a number from 1 to 65535")
    return int(text)


def _megabytes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; give whole megabytes, 1 to 100000")
    return int(text)


if __name__ == "__main__":
    run(main)
