"""Live play as a person sees it: a real server process, a real Chromium, frames that were shown, key to picture.

The server runs as `genie play` does; the page is asked for at least `--ask` frames a second by its own speed slider,
and goes on with the first action while no key is held. Keys are pressed at random moments, and the page's own clock
tells what was shown (`genie.stats()`): a key's time is from its press to the refresh that draws the first frame that
knew it. Prints JSON.

examples:
  python benchmarks/play_page.py -o page.json                     the `laptop` preset at 256 px, random weights
  python benchmarks/play_page.py --world runs/mine -o page.json
"""

import argparse
import json
import math
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from random_world import random_world
from rows import Row, figure

from torch_bridge.runtimes.measured import usable_cores

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]  # pictures are drawn in software, as in CI
PATIENCE = 300  # seconds until the server answers
WARM = 3.0  # seconds of play before anything is counted
SET_SPEED = """(place) => {
  const slider = document.getElementById("speed");
  slider.value = place;
  slider.dispatchEvent(new Event("input"));
}"""
SET_REST = """() => {
  const select = document.getElementById("rest");
  select.value = "0";
  select.dispatchEvent(new Event("change"));
}"""
FASTEST = 8.0  # factor of the world's own speed that the protocol takes


def start_server(world: str | None, port: int) -> subprocess.Popen[bytes]:
    """`genie play` in a process of its own, once it answers."""
    command = [sys.executable, "-m", "app.cli", "play", *([world] if world else []), "--port", str(port)]
    server = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    server.terminate()
    raise SystemExit(f"the server did not answer within {PATIENCE} s")


def chromium_path() -> str:
    """The browser; ends the script where there is none."""
    if path := next(filter(None, map(shutil.which, CHROMIUMS)), None):
        return path
    raise SystemExit(f"there is none of {', '.join(CHROMIUMS)}")


@contextmanager
def serving(world: str | None) -> Iterator[str]:
    """The address of a server of a world, the bundled one for None, which ends with the block."""
    port = free_port()
    server = start_server(world, port)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(page: Any, condition: str) -> None:
    """Wait for a condition on the page, whose policy forbids Playwright's own way."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"in vain: {condition}")
        page.wait_for_timeout(50)


def press_keys(page: Any, keys: list[str], seconds: float, rng: random.Random) -> None:
    """Hold random keys for random times, with pauses between."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = rng.choice(keys)
        page.keyboard.down(key)
        page.wait_for_timeout(rng.uniform(120, 500))
        page.keyboard.up(key)
        page.wait_for_timeout(rng.uniform(60, 300))


def measure(page: Any, *, ask: float, seconds: float, seed: int) -> dict[str, Any]:
    """Play for some seconds and read the page's own figures."""
    until(page, "genie.state().link === 'live' && genie.stats().shown > 0")
    world = page.evaluate("genie.state().world")
    halves = min(2 * math.log2(FASTEST), math.ceil(2 * math.log2(max(1.0, ask / world["fps"]))))  # the slider's steps
    keys = [str(number + 1) for number in range(min(9, len(world["codes"])))]
    page.evaluate(SET_SPEED, halves / 2)
    page.evaluate(SET_REST)  # the world goes on when no key is held, or pauses of the player would count as its own
    until(page, f"Math.abs(Math.log2(genie.state().speed) - {halves / 2}) < 0.01 && genie.state().rest === 0")
    rng = random.Random(seed)
    press_keys(page, keys, WARM, rng)
    before = page.evaluate("({ ...genie.stats(), step: genie.state().step, now: performance.now() })")
    press_keys(page, keys, seconds, rng)
    after = page.evaluate("({ ...genie.stats(), step: genie.state().step, now: performance.now() })")
    span = (after["now"] - before["now"]) / 1000
    latencies = sorted(page.evaluate("(from) => genie.latencies().slice(from)", before["presses"]))
    pick = lambda share: round(latencies[min(len(latencies) - 1, int(len(latencies) * share))], 1)  # noqa: E731
    return {
        "size": world["size"],
        "asked_fps": round(world["fps"] * 2 ** (halves / 2), 2),
        "shown_fps": round((after["shown"] - before["shown"]) / span, 2),
        "stepped_fps": round((after["step"] - before["step"]) / span, 2),
        "presses": len(latencies),
        "key_to_picture_ms": {"median": pick(0.5), "p95": pick(0.95)} if latencies else None,
        "seconds": round(span, 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", help="a world or a run (default: random weights at a preset's sizes)")
    parser.add_argument("--preset", default="laptop", help="of the random weights (default: laptop)")
    parser.add_argument("--ask", type=float, default=40.0, help="frames a second that are asked for (default: 40)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of play that are counted (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the keys (default: 0)")
    parser.add_argument("-o", "--out", type=Path, help="file for the result (JSON)")
    args = parser.parse_args()
    browser_path = chromium_path()
    with tempfile.TemporaryDirectory() as folder:
        world = args.world
        if world is None:
            world = str(Path(folder, args.preset))
            random_world(args.preset).save(world)
        with serving(world) as address:
            result = visit(address, browser_path, args)
    result |= {
        "world": args.world or f"{args.preset}, random weights",
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} cores",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    result |= {"benchmark": "play_page", "title": f"The page in a browser, {result['world']}"}
    result["rows"] = [asdict(row) for row in rows_of(result)]
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(f"{text}\n")


def rows_of(result: dict[str, Any]) -> list[Row]:
    """What must hold: frames that are seen, and how soon a key shows."""
    size = f"{result['size']}x{result['size']}"
    rows = [figure(f"{size} frames shown a second, {result['asked_fps']:g} asked", result["shown_fps"], "", least=30)]
    if (latency := result["key_to_picture_ms"]) is not None:
        rows.append(figure(f"{size} key to picture, median", latency["median"], "ms", most=100))
        rows.append(figure(f"{size} key to picture, 95th percentile", latency["p95"], "ms"))
    return rows


def visit(address: str, browser_path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Play in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        result = measure(page, ask=args.ask, seconds=args.seconds, seed=args.seed)
        result["browser"] = f"Chromium {browser.version}, software rendering"
        browser.close()
        return result


if __name__ == "__main__":
    main()
