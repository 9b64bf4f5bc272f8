"""Rollouts: the scan over cached steps against a loop that recomputes the whole past."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_dynamics import TINY, make

from genie_jax.rollout import rollout


@partial(jax.jit, static_argnums=0, static_argnames="noise_level")
def roll(model, params, w, before, after, noise_level=0.0):
    return rollout(model, params, w, before, after, noise_level=noise_level)


def prompt(frames: int, steps: int):
    w = jax.random.normal(jax.random.key(1), (2, frames, TINY.rows, TINY.style_dim))
    codes = jax.random.randint(jax.random.key(2), (2, frames - 1 + steps), 0, TINY.codes)
    return w, codes[:, : frames - 1], codes[:, frames - 1 :]


@pytest.mark.parametrize(("action", "frames"), [("add", 1), ("token", 3), ("add", 7)])
def test_equals_a_loop_that_recomputes_the_past(action, frames):
    model, params = make(action=action)
    w, before, after = prompt(frames, 9)
    fast = roll(model, params, w, before, after)
    codes, seen, total = jnp.concatenate([before, after], axis=1), w, frames + 9
    for t in range(frames, total):  # the future is padding, which a causal model does not see
        padded = jnp.pad(seen, ((0, 0), (0, total - 1 - t), (0, 0), (0, 0)))
        seen = jnp.concatenate([seen, model.apply(params, padded, codes)[:, t - 1 : t]], axis=1)
    np.testing.assert_allclose(fast, seen[:, frames:], atol=1e-4)


def test_the_first_code_leads_from_the_prompt_to_the_first_frame():
    model, params = make()
    w, before, after = prompt(5, 4)
    base = roll(model, params, w, before, after)
    other = roll(model, params, w, before, after.at[:, 0].set((after[:, 0] + 1) % TINY.codes))
    later = roll(model, params, w, before, after.at[:, 2].set((after[:, 2] + 1) % TINY.codes))
    assert np.abs(other[:, 0] - base[:, 0]).max() > 1e-4
    np.testing.assert_array_equal(later[:, :2], base[:, :2])
    assert np.abs(later[:, 2] - base[:, 2]).max() > 1e-4


def test_a_known_motion_is_continued_with_the_code_at_its_frame():
    """A model whose residual is the code's own embedding: frame t+1 is w_t plus the step of codes[t]."""
    model, params = make(layers=1, rows=1, style_dim=TINY.width, rotary_dims=0)
    params = jax.tree.map(jnp.zeros_like, params)
    params["embed"]["code"] = jnp.eye(TINY.codes, TINY.width)
    params["head"]["project_out"]["kernel"] = jnp.eye(TINY.width)
    w, codes = jnp.zeros((1, 2, 1, TINY.width)), jnp.array([[3, 1, 1, 4]])
    moved = np.asarray(roll(model, params, w, jnp.array([[2]]), codes))[0, :, 0] / TINY.width**0.5
    np.testing.assert_allclose(np.diff(moved, axis=0, prepend=0), np.eye(TINY.width)[[3, 1, 1, 4]], atol=1e-6)


def test_the_told_noise_level_reaches_every_step():
    model, params = make(context_noise=0.7)
    w, before, after = prompt(3, 3)
    clean, doubtful = (roll(model, params, w, before, after, noise_level=level) for level in (0.0, 0.5))
    assert (np.abs(clean - doubtful).max(axis=(0, 2, 3)) > 1e-3).all()


def test_prompt_codes_of_the_wrong_length_are_refused():
    model, params = make()
    w, before, after = prompt(3, 2)
    with pytest.raises(ValueError, match="codes"):
        rollout(model, params, w, jnp.pad(before, ((0, 0), (0, 1))), after)
