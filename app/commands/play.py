"""Play a world in the browser, live.

Without WORLD the bundled world is played. Serves one page on this machine alone and opens it; Ctrl-C ends it.

examples:
  genie play                                  the bundled world
  genie play runs/mine
  genie play runs/mine --port 9000 --no-browser
  genie play runs/mine --host 0.0.0.0         for a phone in the same network: the address has a token
"""

import argparse
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.commands.devices import add_device_option
from app.worlds import add_speed_options
from train.errors import UserError

if TYPE_CHECKING:
    from torch_bridge.world import World

NAME = "play"
HELP = "play a world in the browser"
PORT = 8321
PORTS_TRIED = 20
UPLOAD_MARGIN = 4096  # bytes beside an upload's own


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "world", nargs="?", metavar="WORLD", help="folder of a world, or of the run that made it (default: the bundled)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, help=f"port (default: {PORT}, or the next that is free)")
    parser.add_argument(
        "--token",
        help="that the address must carry on another --host (default: drawn anew; a page outlives a restart "
        "of the server only with the same)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--sessions", type=int, default=20, metavar="N", help="pages at once (default: 20)")
    parser.add_argument(
        "--idle", type=float, default=15, metavar="MINUTES", help="after which a page is sent away (default: 15)"
    )
    add_speed_options(parser, runtime="auto", weights="auto")
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Load, warm up, serve until Ctrl-C."""
    if args.sessions < 1:
        raise UserError(f"--sessions {args.sessions}", "nobody could play", "Give at least 1.")
    if not args.idle > 0:
        raise UserError(f"--idle {args.idle:g}", "every page would be sent away at once", "Give minutes above 0.")
    if args.port is not None and not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port}", "there is no such port", "Give 0 to 65535; 0 takes any that is free.")
    if args.token is not None and not (len(args.token) >= 8 and args.token.isascii() and args.token.isprintable()):
        raise UserError("--token", "it can be guessed, or no address can carry it", "Give 8 plain characters or more.")
    from app.worlds import choose_world, is_bundled, load_world

    listening = listen(args.host, args.port)
    with listening:
        path = choose_world(args.world)
        place = path.resolve()  # "." has no name
        name = place.name if is_bundled(path) or place.name != "world" else place.parent.name
        if {args.runtime, args.weights} & {"auto", "measure", "compile"}:
            print("choosing how to compute the frames; a large world takes up to a minute, the first time", flush=True)
        world = load_world(path, args.device, args.runtime, args.weights)
        if not world.prompts:
            print("this world has no prompt of its own: drop an image or a short video on the page", file=sys.stderr)
        print(f"drawn by {world.runtime}")
        print(f"encoded by {world.encoding}")
        print(f"weights of the dynamics in {world.weights}")
        print(f"{name}: {world.size}x{world.size}, {warm_up(world):.1f} ms a frame on this machine", flush=True)
        serve(world, name, listening, args)
    return 0


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket: bound alone, it would not keep another `genie play` from the same port.

    Raises:
        UserError: the address is none of this machine's, or the port is taken.
    """
    tried = [port] if port is not None else range(PORT, PORT + PORTS_TRIED)
    for number in tried:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        except (socket.gaierror, OverflowError, UnicodeError) as error:
            raise UserError(f"--host {host}", f"port {number} there is no address", "Give a name or an IP.") from error
        bound = socket.socket(family, kind)
        try:
            if os.name == "posix":  # elsewhere it would let two programs have one port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen()
            return bound
        except (OSError, OverflowError) as error:
            bound.close()
            if number != tried[-1] and getattr(error, "errno", None) == errno.EADDRINUSE:
                continue
            fault = f"port {number} of {host} cannot be used ({getattr(error, 'strerror', None) or error})"
            raise UserError("genie play", fault, "Choose another --port or --host.") from error
    raise AssertionError("a port was returned or refused")


def warm_up(world: "World", steps: int = 16) -> float:
    """Compile everything that play needs; returns the median milliseconds of a step."""
    import statistics
    import time

    import numpy as np

    frames = next(iter(world.prompts.values()), np.zeros((1, world.size, world.size, 3), np.uint8))
    session = world.session()
    session.reset(frames)
    session.step(0)
    session.snap()
    session.snapshot()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        session.step(0)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def serve(world: "World", name: str, listening: socket.socket, args: argparse.Namespace) -> None:
    """Serve until Ctrl-C, and open the browser once the server answers."""
    import threading
    import webbrowser

    import uvicorn

    from app.play.access import is_loopback, new_token
    from app.play.server import ServerConfig, build_app
    from app.play.uploads import UPLOAD_BYTES

    token = None if is_loopback(args.host) else args.token or new_token()
    app = build_app(world, name, ServerConfig(args.sessions, args.idle * 60, token))
    address = address_of(listening, args.host, token)
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=UPLOAD_BYTES + UPLOAD_MARGIN,
        ws_per_message_deflate=False,  # frames are JPEG already
        timeout_graceful_shutdown=2,
    )
    print(f"playing at {address}   (Ctrl-C ends it)", flush=True)
    if not args.no_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    uvicorn.Server(config).run(sockets=[listening])
    raise KeyboardInterrupt  # a signal ended it: uvicorn raises it again, unless whoever started us ignores it


def network_address() -> str:
    """This machine's address in its network; its name where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation (RFC 5737)
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def address_of(listening: socket.socket, host: str, token: str | None) -> str:
    """What a browser opens: for all addresses of the machine, that by which its network knows it."""
    port = listening.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = network_address()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={quote(token)}" if token else "")
