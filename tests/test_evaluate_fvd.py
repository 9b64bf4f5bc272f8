"""Frechet video distance, with a network of a few numbers in the place of I3D."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluate_fakes import ShiftWorld, make_store

from train.errors import UserError
from train.evaluate import evaluate, fvd
from train.evaluate.fvd import load_i3d
from train.evaluate.profile import PROFILES

SMALL = replace(PROFILES["quick"], clips=4, drift_clips=2, drift_steps=(16,))


class Means(torch.nn.Module):
    """Takes what I3D takes; features are the means of each colour in a corner of the first and the last frame."""

    def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        assert video.shape[1:] == (3, 16, 224, 224)
        corner = video[:, :, :, :56, :56].mean((3, 4))
        return torch.cat([corner[:, :, 0], corner[:, :, -1]], 1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt"
    torch.jit.script(Means()).save(str(path))
    return path


def test_features_are_of_all_frames_between_minus_one_and_one(weights):
    clips = np.zeros((5, 16, 20, 20, 3), np.uint8)
    clips[:, 0, ..., 0] = 255
    clips[:, -1, ..., 2] = 51
    found = load_i3d(weights)(clips)
    np.testing.assert_allclose(found, [[1, -1, -1, -1, -1, -0.6]] * 5, atol=1e-6)


@pytest.fixture(scope="module")
def trees(weights, tmp_path_factory):
    store, _ = make_store((110, 90, 80))
    out = tmp_path_factory.mktemp("fvd")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fvd, "CLIPS", 12)
        given = {"profile": SMALL, "only": ("drift",), "i3d": weights, "log": lambda _: None}
        return {kind: evaluate(ShiftWorld(kind), store, out=out / kind, **given) for kind in ("perfect", "copy")}


def test_a_perfect_world_is_at_no_distance_and_a_standing_one_at_some(trees):
    assert trees["perfect"]["fvd"] == pytest.approx(0, abs=1e-9)
    assert trees["copy"]["fvd"] > 1e-4
    said = trees["copy"]["details"]["fvd"]
    assert (said["n"], said["frames"], said["wanted_clips"]) == (12, 16, 12)
    assert said["interval"][0] <= trees["copy"]["fvd"] <= said["interval"][1]


def test_without_the_file_it_is_null_and_says_what_to_do(tmp_path):
    store, _ = make_store((60,))
    tree = evaluate(ShiftWorld("copy"), store, out=tmp_path, profile=SMALL, only=("drift",), log=lambda _: None)
    assert tree["fvd"] is None
    assert "--i3d" in tree["details"]["fvd"]["reason"]


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(b"nothing")
    wrong = tmp_path / "wrong.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(wrong))
    for path in (tmp_path / "missing.pt", other, wrong):
        with pytest.raises(UserError, match=path.name):
            load_i3d(path)
