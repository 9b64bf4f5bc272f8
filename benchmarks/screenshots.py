"""The pictures of the page in docs/images, made anew: a real server, a real Chromium, seconds of play.

    python benchmarks/screenshots.py                     docs/images/play_dark.png, play_compare.png, play_phone.png
    python benchmarks/screenshots.py --world runs/mine --folder /tmp/pictures

Each is of a page of its own.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from play_page import ARGUMENTS, chromium_path, serving, until

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
HOLD = 1500  # milliseconds that a key is held


def play(page: Any) -> None:
    """Some seconds of play; the last key stays held."""
    keys = [code["key"] for code in page.evaluate("genie.state().world.codes")]
    *pressed, held = (keys[number % len(keys)] for number in (1, 3, 1, 4))
    for key in pressed:
        page.keyboard.press(key, delay=HOLD)
    page.keyboard.down(held)
    page.wait_for_timeout(HOLD)


def compare(page: Any) -> None:
    """The world beside the true continuation, in the middle of it."""
    page.click("#compare")
    until(page, "genie.state().comparing && !document.getElementById('truth-figure').hidden")
    until(page, "2 * genie.state().step >= genie.state().truth")


VIEWS: dict[str, tuple[dict[str, Any], Callable[[Any], None]]] = {
    "play_dark": ({"viewport": WIDE, "color_scheme": "dark"}, play),
    "play_compare": ({"viewport": WIDE, "color_scheme": "dark"}, compare),
    "play_phone": ({"viewport": PHONE, "color_scheme": "light"}, play),
}


def main() -> None:
    """Start a server, make the pictures, stop it."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", help="a world or a run (default: the bundled one)")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="of the pictures (default: docs/images)")
    args = parser.parse_args()
    browser_path = chromium_path()
    args.folder.mkdir(parents=True, exist_ok=True)
    with serving(args.world) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        for name, (options, act) in VIEWS.items():
            page = browser.new_page(**options)
            page.goto(address)
            until(page, "genie.state().link === 'live' && genie.stats().shown > 0")
            act(page)
            page.screenshot(path=args.folder / f"{name}.png")
            page.close()
            print(args.folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
