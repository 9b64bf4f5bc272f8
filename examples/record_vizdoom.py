"""Record game-play video with its true actions from ViZDoom, headless.

    python examples/record_vizdoom.py --scenario basic --frames 3000 --out basic.mp4
    python examples/record_vizdoom.py --scenario health_gathering --resolution 320x240 --seed 7 --out gather.mp4
    python examples/record_vizdoom.py --scenario simpler_basic --buttons MOVE_FORWARD,TURN_LEFT --out walk.mp4

Writes OUT.mp4 (H.264) and OUT.npz beside it: `actions` (int32, one for each frame: the action taken *at* that frame, an
index into `action_names`), `cuts` (int64, frames at which a new episode begins), `action_names`, `fps`.
A sticky random policy plays: it draws an action and holds it for a geometrically distributed number of frames.
Needs the extra `examples` (`pip install -e ".[examples]"`).

Reference: Wydmuch, Kempka & Jaskowski, "ViZDoom Competitions" (arXiv 1809.03470).
"""

import argparse
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICS_PER_SECOND = 35
NOOP = "NOOP"


def make_game(scenario: str, resolution: str, seed: int, hud: bool, episode_tics: int, buttons: str | None = None):
    """A started `DoomGame` of a bundled scenario, RGB, without a window; `buttons` in place of the scenario's own."""
    import vizdoom

    path = Path(vizdoom.scenarios_path) / f"{scenario}.cfg"
    if not path.is_file():
        known = sorted(p.stem for p in Path(vizdoom.scenarios_path).glob("*.cfg"))
        sys.exit(f"--scenario {scenario}: no such scenario. Choose one of {', '.join(known)}.")
    sizes = vizdoom.ScreenResolution.__members__
    if f"RES_{resolution.upper()}" not in sizes:
        known = ", ".join(name.removeprefix("RES_").lower() for name in sizes)
        sys.exit(f"--resolution {resolution}: ViZDoom does not draw this size. Choose one of {known}.")
    game = vizdoom.DoomGame()
    game.load_config(str(path))
    game.set_screen_resolution(sizes[f"RES_{resolution.upper()}"])
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_seed(seed)
    game.set_render_hud(hud)
    if buttons is not None:
        game.set_available_buttons([_button(vizdoom.Button.__members__, name) for name in buttons.split(",")])
    if episode_tics:
        game.set_episode_timeout(episode_tics)
    game.init()
    return game


def _button(known, name: str):
    if name not in known:
        sys.exit(f"--buttons {name}: ViZDoom has no such button. Choose from {', '.join(sorted(known))}.")
    return known[name]


def sticky_actions(rng: np.random.Generator, weights: np.ndarray, hold: float) -> Iterator[int]:
    """Endless action indices: each drawn by `weights` and held for a geometric number of frames of mean `hold`."""
    while True:
        action = int(rng.choice(len(weights), p=weights))
        for _ in range(int(rng.geometric(1 / hold))):
            yield action


def play(game, frames: int, skip: int, policy: Iterator[int], blackout: bool) -> Iterator[tuple[np.ndarray, int, bool]]:
    """Yield (screen HWC uint8, action taken at it, whether an episode begins here) `frames` times.

    With `blackout`, an episode after the first begins with a black screen more.
    """
    buttons = game.get_available_buttons_size()
    presses = [[0.0] * buttons] + [[float(i == j) for j in range(buttons)] for i in range(buttons)]
    begins = True
    for _ in range(frames):
        if game.is_episode_finished():
            game.new_episode()
            begins = True
            if blackout:
                yield np.zeros_like(game.get_state().screen_buffer), 0, True
                begins = False
        screen, action = game.get_state().screen_buffer.copy(), next(policy)
        game.make_action(presses[action], skip)
        yield screen, action, begins
        begins = False


def averaged(screen: np.ndarray, blocks: int) -> np.ndarray:
    """The screen smaller by a whole factor: each pixel the mean of `blocks` x `blocks`, against flickering textures."""
    height, width = (side // blocks for side in screen.shape[:2])
    whole = screen[: height * blocks, : width * blocks].reshape(height, blocks, width, blocks, 3)
    return whole.mean((1, 3)).round().astype(np.uint8)


def parse_weights(text: str | None, names: list[str]) -> np.ndarray:
    """Action probabilities from "MOVE_LEFT=2,ATTACK=0.1"; 1 where nothing is said."""
    weights = dict.fromkeys(names, 1.0)
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        if name not in weights:
            sys.exit(f"--weights {part}: the scenario has no such action. Choose from {', '.join(names)}.")
        weights[name] = float(value)
    values = np.array([weights[name] for name in names])
    return values / values.sum()


def write_recording(
    out: Path, steps: Iterator[tuple[np.ndarray, int, bool]], names: list[str], ticks: int, skip: int, crf: int
) -> None:
    """Write the video `out` and its actions from (screen, action, whether an episode begins) at `ticks / skip` Hz."""
    rate = Fraction(ticks, skip)
    actions, cuts = [], []
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "slow"})
        stream.pix_fmt = "yuv420p"
        for i, (screen, action, begins) in enumerate(steps):
            if i == 0:
                stream.height, stream.width = screen.shape[:2]
            actions.append(action)
            if begins:
                cuts.append(i)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(screen, format="rgb24")))
        container.mux(stream.encode())
    np.savez_compressed(
        out.with_suffix(".npz"),
        actions=np.array(actions, np.int32),
        cuts=np.array(cuts, np.int64),
        action_names=np.array(names),
        fps=float(rate),
    )
    megabytes = out.stat().st_size / 1e6
    print(f"{out}: {len(actions)} frames, {len(cuts)} episodes, {float(rate):.2f} frames/s, {megabytes:.2f} MB")


def record(args: argparse.Namespace) -> None:
    """Play and write the video and its actions."""
    game = make_game(args.scenario, args.resolution, args.seed, args.hud, args.episode_tics, args.buttons)
    names = [NOOP] + [button.name for button in game.get_available_buttons()]
    policy = sticky_actions(np.random.default_rng(args.seed), parse_weights(args.weights, names), args.hold)
    steps = play(game, args.frames, args.skip, policy, args.blackout)
    steps = ((averaged(screen, args.average), action, begins) for screen, action, begins in steps)
    write_recording(args.out, steps, names, TICS_PER_SECOND, args.skip, args.crf)
    game.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="basic", help="name of a bundled scenario (default: %(default)s)")
    parser.add_argument("--resolution", default="320x240", help="screen size (default: %(default)s)")
    parser.add_argument("--average", type=int, default=1, metavar="N", help="of N x N pixels of the screen make one")
    parser.add_argument("--frames", type=int, default=3000, help="frames to record (default: %(default)s)")
    parser.add_argument("--skip", type=int, default=4, help="tics a frame, of 35 a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold", type=float, default=4.0, help="mean frames of an action (default: %(default)s)")
    parser.add_argument("--buttons", help="in place of the scenario's own, as in MOVE_FORWARD,TURN_LEFT,TURN_RIGHT")
    parser.add_argument("--weights", help="relative action probabilities, as in MOVE_LEFT=2,ATTACK=0.1")
    parser.add_argument("--episode-tics", type=int, default=0, help="episode length in tics (0: the scenario's own)")
    parser.add_argument("--blackout", action="store_true", help="a black frame between episodes, as many games draw")
    parser.add_argument("--hud", action="store_true", help="draw the status bar")
    parser.add_argument("--crf", type=int, default=23, help="H.264 quality, lower is better (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="video to write, ending in .mp4")
    record(parser.parse_args())


if __name__ == "__main__":
    main()
