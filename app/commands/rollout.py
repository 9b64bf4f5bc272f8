"""Play a world by a list of codes and write what happens as a film.

Without WORLD the bundled world is played.

examples:
  genie rollout -o film.mp4                                             the bundled world
  genie rollout runs/mine -o film.mp4                                   random actions from the world's first prompt
  genie rollout runs/mine --actions hold:2 --steps 60 -o a.gif -o a.png
  genie rollout runs/mine --prompt photo.jpg --actions 0,0,3,3 -o film.mp4
"""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.commands.devices import add_device_option
from app.worlds import add_speed_options

if TYPE_CHECKING:
    import numpy as np

    from torch_bridge.world import World

NAME = "rollout"
HELP = "write a film of a world that is played by a list of codes"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "world", nargs="?", metavar="WORLD", help="folder of a world, or of the run that made it (default: the bundled)"
    )
    parser.add_argument(
        "-o", "--out", action="append", required=True, metavar="FILE", help=".mp4, .gif or .png; several"
    )
    parser.add_argument(
        "--prompt", metavar="FILE|NAME", help="video, image, or one of the world's own (default: its first)"
    )
    parser.add_argument(
        "--actions", default="random", metavar="0,0,3|random|hold:2", help="codes or their names (default: random)"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="frames to generate (default: the list's length, or 100)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of random actions, and of what a flow head draws (default: 0)"
    )
    parser.add_argument("--crop", default="center", metavar="center|fit|x,y,w,h", help="how the prompt is framed")
    parser.add_argument("--noise-level", type=float, metavar="X", help="context noise told to the dynamics")
    parser.add_argument("--clamp", type=float, metavar="X", help="cut off generated w beyond X standard deviations")
    parser.add_argument("--temperature", type=float, metavar="X", help="of a flow head's draws: 1 as learned, 0 none")
    parser.add_argument(
        "--reencode", type=int, metavar="N", help="go on from the encoded frame every N steps; 0: never"
    )
    parser.add_argument("--plain", action="store_true", help="the frames alone, without the panel of codes")
    add_speed_options(parser, runtime="eager", weights="float32")
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Load, play, write."""
    from app.actions import parse_actions
    from app.film import check_film_path
    from app.prompts import find_prompt
    from app.worlds import choose_world, load_world, user_error

    for path in args.out:
        check_film_path(path)
    world = load_world(choose_world(args.world), args.device, args.runtime, args.weights)
    usage, names = [code.usage for code in world.codes], [code.name for code in world.codes]
    codes = parse_actions(args.actions, args.steps, usage, args.seed, names)
    name, prompt = find_prompt(
        args.prompt, world.prompts, size=world.size, fps=world.fps, window=world.config.window, crop=args.crop
    )
    try:
        world.reset(
            prompt,
            noise_level=args.noise_level,
            clamp=args.clamp,
            temperature=args.temperature,
            reencode_every=args.reencode,
            seed=args.seed,
        )
    except ValueError as error:
        raise user_error("--noise-level, --clamp, --temperature, --reencode, --seed", error) from error
    rate = _film(world, prompt, codes, args.out, plain=args.plain)
    films = ", ".join(args.out)
    if args.runtime != "eager":
        print(f"drawn by {world.runtime}")
        print(f"encoded by {world.encoding}")
    if args.weights != "float32":
        print(f"weights of the dynamics in {world.weights}")
    print(f"{len(codes)} frames of {world.size}x{world.size} from prompt {name}, {rate:.1f} frames/s: {films}")
    return 0


def _film(
    world: "World", prompt_THWC: "np.ndarray", codes_S: "np.ndarray", paths: Sequence[str], *, plain: bool
) -> float:
    """Write the prompt and the generated frames to all films; returns the generated frames a second."""
    from tqdm import tqdm

    from app.film import film_writers
    from app.overlay import Overlay

    panel = Overlay(world.codes, world.size)
    spent = 0.0
    with film_writers(paths, world.fps) as writers:

        def add(frame_HWC: "np.ndarray", held: int | None, note: str) -> None:
            picture = panel.enlarge(frame_HWC) if plain else panel.draw(frame_HWC, held, note)
            for writer in writers:
                writer.add(picture)

        for frame_HWC in prompt_THWC:
            add(frame_HWC, None, "")
        for number, code in enumerate(tqdm(codes_S, desc="rollout", unit="frame", leave=False, disable=None), start=1):
            began = time.perf_counter()
            frame_HWC = world.step(int(code))
            spent += time.perf_counter() - began
            add(frame_HWC, int(code), str(number))
    return len(codes_S) / spent
