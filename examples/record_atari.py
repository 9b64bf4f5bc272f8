"""Record game-play video with its true actions from an Atari game, headless.

    python examples/record_atari.py --game freeway --frames 3000 --out freeway.mp4
    python examples/record_atari.py --game boxing --only NOOP,UP,RIGHT,LEFT,DOWN --out boxing.mp4

Writes OUT.mp4 (H.264) and OUT.npz beside it, in the format of `record_vizdoom.py`. A sticky random policy plays.
Needs the extra `examples` (`pip install -e ".[examples]"`); the ROMs come with `ale-py`.

Reference: Bellemare et al., "The Arcade Learning Environment" (arXiv 1207.4708).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from record_vizdoom import sticky_actions, write_recording

FRAMES_PER_SECOND = 60


def make_game(game: str, seed: int):
    """A started emulator of `game` and its minimal action set."""
    from ale_py import ALEInterface, LoggerMode, roms

    known = roms.get_all_rom_ids()
    if game not in known:
        sys.exit(f"--game {game}: no such game. Choose one of {', '.join(sorted(known))}.")
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.setInt("random_seed", seed)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.loadROM(roms.get_rom_path(game))
    return emulator, emulator.getMinimalActionSet()


def play(emulator, actions, frames: int, skip: int, policy):
    """Yield (screen HWC uint8, action index taken at it, whether an episode begins here), `frames` times."""
    begins = True
    for _ in range(frames):
        if emulator.game_over():
            emulator.reset_game()
            begins = True
        screen, action = emulator.getScreenRGB(), next(policy)
        for _ in range(skip):
            emulator.act(actions[action])
        yield screen, action, begins
        begins = False


def name_of(action) -> str:
    """The emulator's name of an action, as in "UPRIGHT"."""
    return str(action).rsplit(".", 1)[-1]


def chosen_actions(actions, names: list[str]) -> list:
    """Those of the game's actions that `names` names, in that order."""
    by_name = {name_of(action): action for action in actions}
    if unknown := [name for name in names if name not in by_name]:
        sys.exit(f"--only {','.join(unknown)}: the game has no such action. Choose from {', '.join(by_name)}.")
    return [by_name[name] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="freeway", help="name of the game (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=3000, help="frames to record (default: %(default)s)")
    parser.add_argument("--skip", type=int, default=4, help="emulator frames a frame (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold", type=float, default=6.0, help="mean frames of an action (default: %(default)s)")
    parser.add_argument("--only", help="play these actions alone, as in NOOP,UP,RIGHT,LEFT,DOWN")
    parser.add_argument("--crf", type=int, default=23, help="H.264 quality, lower is better (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="video to write, ending in .mp4")
    args = parser.parse_args()
    emulator, actions = make_game(args.game, args.seed)
    if args.only:
        actions = chosen_actions(actions, args.only.split(","))
    rng = np.random.default_rng(args.seed)
    policy = sticky_actions(rng, np.full(len(actions), 1 / len(actions)), args.hold)
    names = [name_of(action) for action in actions]
    steps = play(emulator, actions, args.frames, args.skip, policy)
    write_recording(args.out, steps, names, FRAMES_PER_SECOND, args.skip, args.crf)


if __name__ == "__main__":
    main()
