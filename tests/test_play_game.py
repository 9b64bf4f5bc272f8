"""One player's game: rewinding equals never having gone on, marks and codes make a branch anew, memory is bounded."""

import io

import numpy as np
import pytest
import worlds
from PIL import Image

from app.play import game as games
from app.play.gallery import Gallery, Prompt
from app.play.game import Game
from app.play.protocol import CUT, PROMPT, SNAPPED, Mark, Settings
from torch_bridge.world import World

CODES = [3, 3, 0, 5, 5, 5, 1, 2, 7, 7, 0, 0, 4, 6, 6, 1, 3, 3, 2, 2]


@pytest.fixture(scope="module")
def world():
    return World(*worlds.world_parts(head="flow", reencode_every=3), device="cpu")


@pytest.fixture
def prompt(world):
    return next(Gallery(world.prompts).own())


def played(world, prompt, codes, seed=1):
    game = Game(world)
    game.start(prompt, seed, Settings())
    return game, [game.step(code).jpeg for code in codes]


def back(game, step):
    *way, last = game.rewind(step)
    assert all(part is None for part in way)
    return last


@pytest.mark.parametrize("step", [0, 1, 7, 8, 13, 20])
def test_rewound_and_played_again_gives_the_same_frames(world, prompt, step):
    game, jpegs = played(world, prompt, CODES)
    frame = back(game, step)
    assert (frame.step, frame.flags) == (step, CUT | (PROMPT if step == 0 else 0))
    assert frame.jpeg == (jpegs[step - 1] if step else frame.jpeg)
    assert [game.step(code).jpeg for code in CODES[step:]] == jpegs[step:]
    assert game.codes() == played(world, prompt, CODES)[0].codes()


def test_a_snapshot_leaves_the_second_half_of_an_encoding_to_the_next_step(world, prompt, monkeypatch):
    """Steps 3, 6, 9 are due here, and snapshots taken at each of three steps."""
    monkeypatch.setattr(games, "FIRST_INTERVAL", 3)
    game, stages, done = Game(world), world.networks.encode.stages, []
    game.start(prompt, 1, Settings())
    first, second = stages
    monkeypatch.setattr(world.networks.encode, "stages", [counted(first, "1", done), counted(second, "2", done)])
    seen = []
    for code in CODES[:7]:
        game.step(code)
        seen.append("".join(done))
        done.clear()
    assert seen == ["", "", "1", "2", "", "1", "2"]


def counted(stage, mark, done):
    return lambda given: done.append(mark) or stage(given)


def test_another_branch_differs_and_going_back_again_works(world, prompt):
    game, jpegs = played(world, prompt, CODES)
    back(game, 10)
    other = [game.step(6).jpeg for _ in range(5)]
    assert other != jpegs[10:15]
    back(game, 9)
    assert [game.step(code).jpeg for code in CODES[9:]] == jpegs[9:]


def test_marks_and_codes_make_the_branch_anew(world, prompt):
    game, _ = played(world, prompt, CODES[:4])
    game.change(Settings(temperature=0.3))
    game.step(2)
    assert game.snap().flags & SNAPPED
    game.step(1)
    game.change(Settings(noise_level=0.2))
    last = game.step(5).jpeg
    marks = {mark.step: mark for mark in game.marks()}
    assert {step: (mark.snap, mark.settings) for step, mark in marks.items()} == {
        4: (False, Settings(temperature=0.3)),
        5: (True, None),
        6: (False, Settings(noise_level=0.2)),
    }
    for first in range(game.step_number + 1):
        assert [(mark.step, mark.snap, mark.settings) for mark in game.marks(first)] == [
            (mark.step, mark.snap, mark.settings) for mark in game.marks() if mark.step >= first
        ]
    anew = Game(world)
    anew.start(prompt, 1, game.first_settings)
    for step, code in enumerate([code for code, count in game.codes() for _ in range(count)]):
        if (mark := marks.get(step)) is not None:
            if mark.snap:
                anew.snap()
            if mark.settings is not None:
                anew.change(mark.settings)
        frame = anew.step(code)
    assert frame.jpeg == last
    back(game, 6)  # beyond the snap
    assert game.settings == Settings(noise_level=0.2)  # as the player has set it, not as it was
    back(game, 5)
    game.change(Settings(temperature=0.3))
    game.step(1)
    game.change(Settings(noise_level=0.2))
    assert game.step(5).jpeg == last


def test_what_is_out_of_range_changes_nothing(world, prompt):
    game, jpegs = played(world, prompt, CODES[:5])
    for wrong in (Settings(noise_level=9.0), Settings(clamp=-1.0)):
        with pytest.raises(ValueError, match="must"):
            game.change(wrong)
        with pytest.raises(ValueError, match="must"):
            game.start(prompt, 0, wrong)
    for step in (6, 10**6):
        with pytest.raises(ValueError, match="no step"):
            back(game, step)
    assert game.newest().jpeg == jpegs[-1]
    assert game.step(CODES[5]).jpeg == played(world, prompt, CODES[:6])[1][-1]


def test_history_is_bounded(world, prompt, monkeypatch):
    monkeypatch.setattr(games, "FRAMES_KEPT", 40)
    monkeypatch.setattr(games, "SNAPSHOTS_KEPT", 4)
    monkeypatch.setattr(games, "FIRST_INTERVAL", 2)
    codes = np.random.default_rng(0).integers(0, 8, 150).tolist()
    game, jpegs = played(world, prompt, codes)
    kept = [moment for moment in game._moments if moment.jpeg is not None]
    assert len(kept) == 41  # the oldest step that can be gone back to, and those after it
    assert len(game._snapshots) <= 6
    assert game.oldest == 110
    with pytest.raises(ValueError, match="from 110 to 150"):
        back(game, 109)
    assert back(game, 110).jpeg == jpegs[109]
    assert [game.step(code).jpeg for code in codes[110:]] == jpegs[110:]
    assert [jpeg for _, _, jpeg in game.stretch(0, 999)] == jpegs[109:]
    back(game, 112)
    with pytest.raises(ValueError, match="from 110 to 112"):  # what was forgotten does not come back
        back(game, 80)
    assert [jpeg for _, _, jpeg in game.stretch(0, 999)] == jpegs[109:112]
    assert game.step(codes[112]).jpeg == jpegs[112]


def test_marks_of_a_replay_are_checked_before_it(world):
    game = Game(world)
    game.check([Mark(step=0, snap=True), Mark(step=1, settings=Settings(clamp=2.0))])
    with pytest.raises(ValueError, match="must"):
        game.check([Mark(step=3, settings=Settings(clamp=-1.0))])


def test_a_comparison_begins_from_half_a_clip(world, prompt):
    game = Game(world)
    led = game.start(prompt, 0, Settings(), compare=True)
    assert (game.frames_used, game.truth_frames, len(led)) == (8, 8, 8)
    assert led == world.infer_actions(prompt.frames_THWC)[7:].tolist()
    frames = [game.step(code) for code in [*led, 0]]
    assert frames[8].truth is None
    for frame, truth in zip(frames, prompt.frames_THWC[8:], strict=False):
        shown = np.asarray(Image.open(io.BytesIO(frame.truth))).astype(int)
        assert np.abs(shown - truth).mean() < 4
    short = Prompt("x", "x", prompt.frames_THWC[:3], True)
    with pytest.raises(ValueError, match="4 are the least"):
        game.start(short, 0, Settings(), compare=True)


def test_two_games_do_not_disturb_each_other(world, prompt):
    alone = played(world, prompt, CODES)[1]
    one, two = Game(world), Game(world)
    one.start(prompt, 1, Settings())
    two.start(prompt, 2, Settings(temperature=2.0))
    assert [(one.step(code).jpeg, two.step(7))[0] for code in CODES] == alone
