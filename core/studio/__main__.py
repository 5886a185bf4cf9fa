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
from types import FrameType

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
        "--host", type=_host, default="127.0.0.1", help="address to serve it at (default: 127.0.0.1, this machine only)"
    )
    flags.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which a proxy in front of the page is reached, repeatable",
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
        import python_multipart  # noqa: F401  # reads uploads
        import starlette  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise UserError(
            f"the page needs the package '{error.name}', which is not installed: pip install 'medweave[studio]'"
        ) from None

    with _listening(options.host, options.port) as address:
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
        every = ("*",) if options.host in _EVERY else (options.host,)
        hosts = (*every, *_LOOPBACK, *options.allow_host)
        app = create_app(Model(bundle), upload_bytes=options.max_upload * 10**6, hosts=hosts)
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"{bundle.networks.folder.name}: http://{host}:{options.port}  (Ctrl+C ends it)", flush=True)

        class Server(uvicorn.Server):
            """Stops studies and streams of events first: it would wait for them otherwise."""

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                app.state.jobs.stop()
                super().handle_exit(sig, frame)

        settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        try:
            Server(settings).run(sockets=[address])
        finally:
            app.state.jobs.close()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address; `UserError` where it cannot."""
    try:
        address = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        # On Windows a second server would share the port.
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        address.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        address.bind((host, port))
        address.listen()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        todo = "choose another with --port" if host in _LOOPBACK else "correct --host, or choose another --port"
        raise UserError(f"{host} port {port}: cannot be served ({reason}); {todo}") from None
    return address


def _host(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the host is empty; give an address, or leave the flag out")
    return text


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
