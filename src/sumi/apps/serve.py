"""`sumi serve`: a page for people and routes for programs, until it is told to end."""

import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sumi.apps.options import Parser
from sumi.errors import DependencyError, EngineError, OutputError, RequestError

if TYPE_CHECKING:
    from sumi.serve.settings import Settings

KEY = "SUMI_KEY"
"""The environment variable that may hold the key: other processes can read a command line."""
KEY_FILE = "key"
NEEDED = "sumi serve needs FastAPI and what goes with it: pip install 'sumi[serve]'"


def serve(words: Sequence[str]) -> None:
    """Open the studio: a page to make pictures on, and an API that clients of A1111 and OpenAI speak."""
    parser = Parser("sumi serve", serve)
    parser.add_argument(
        "-m", "--models", metavar="MODEL", action="append", default=[], help="a file, a folder, or a name; as many as wanted"
    )
    parser.add_argument("--folder", metavar="DIR", help="of the queue and the pictures (default: sumi/studio in your data folder)")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", metavar="N", type=int, default=7860, help="0: any that is free (default: 7860)")
    parser.add_argument("--host-name", metavar="NAME", action="append", default=[], help="another name that clients call it by")
    parser.add_argument("--open", action="store_true", help="ask for no key: on this machine alone")
    parser.add_argument("--device", metavar="NAME", action="append", help="a worker on this device; several for several (default: one)")
    parser.add_argument("--precision", metavar="TYPE", help="float32, float16 or bfloat16 (default: what the device is best at)")
    parser.add_argument("--batch", metavar="N", type=int, default=16, help="pictures that are computed together at most (default: 16)")
    parser.add_argument(
        "--memory", metavar="GB", type=float, help="of weights that a worker may keep loaded (default: half of this machine's)"
    )
    parser.add_argument("--log-prompts", action="store_true", help="prompts may stand in the log")
    parser.add_argument("-q", "--quiet", action="store_true", help="log warnings alone")
    args = parser.read(words)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DependencyError(NEEDED) from error
    _run(args)


def _run(args: Any) -> None:
    import logging

    from sumi.engine.engine import Engine
    from sumi.logs import to_stderr
    from sumi.serve.catalogue import found
    from sumi.serve.listening import bound, server
    from sumi.serve.settings import Settings, names

    if args.batch < 1:
        raise RequestError("--batch must be 1 or more")
    folder = Path(args.folder).expanduser() if args.folder else _data() / "sumi" / "studio"
    key = None if args.open else _key(folder)
    settings = Settings(args.host, args.port, key, names(args.host_name), args.log_prompts)
    to_stderr(logging.WARNING if args.quiet else logging.INFO)
    models = found(args.models)
    with bound(settings) as listening:
        settings = settings.at(listening.getsockname()[1])
        budget = None if args.memory is None else int(args.memory * 1e9)
        devices = tuple(args.device) if args.device else (None,)
        with Engine(folder, devices=devices, precision=args.precision, budget=budget, models=models, most=args.batch) as engine:
            from sumi.serve.app import Served

            running = server(Served(engine, settings), settings)
            _say(settings, folder)
            running.run(sockets=[listening])
            if not running.started:
                raise EngineError("the server could not start: see its log")


def _say(settings: "Settings", folder: Path) -> None:
    """Where it listens, and the key."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    address = f"http://{shown}:{settings.port}/"
    print(f"sumi listens on {host}:{settings.port}; pictures and the queue are in {folder}")
    print(f"open {address}" + ("" if settings.key is None else f"?key={settings.key}"))
    if settings.key is None:
        print("it asks for no key: every program of this machine can use it")
    else:
        print(f"clients show the key {settings.key}: as a bearer token, or as the password for /sdapi")
    sys.stdout.flush()


def _key(folder: Path) -> str:
    """The key of this folder: what the environment says, or one that is drawn at its first start and kept, for its owner to read alone."""
    if given := os.environ.get(KEY):
        return given
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn, temporary = secrets.token_urlsafe(24), folder / f".{KEY_FILE}-{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(drawn + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"the key in {path} cannot be kept or read ({error}): choose another --folder, or set {KEY}") from error


def _data() -> Path:
    """Where a user's data lie (XDG base directories)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _terminated(number: int, frame: object) -> NoReturn:
    """SIGTERM, as Ctrl-C: everything is closed on the way out."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(number)
