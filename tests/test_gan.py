"""Adversarial losses against hand-written formulas, their second derivatives, mixing and the moving average."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_bridge.augment import GROUPS, augment
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.gan import Ema, discriminator_loss, generator_loss, path_length_penalty, r1_penalty, sample_w
from torch_bridge.stylegan2 import Generator, GeneratorConfig

# Of a slope, and of the penalty itself where a slope is small. Measured over 4 seeds: the difference is at most 1e-9 of
# the penalty, which is the rounding of a difference of two penalties over 2e-6.
RELATIVE, ABSOLUTE = 1e-6, 5e-9


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_losses_equal_the_logistic_formulas() -> None:
    real, fake = torch.tensor([[0.5], [-2.0]]), torch.tensor([[1.5], [0.0]])
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    expected = -(math.log(sigmoid(0.5)) + math.log(sigmoid(-2))) / 2
    expected -= (math.log(1 - sigmoid(1.5)) + math.log(1 - sigmoid(0))) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-5)
    assert generator_loss(fake).item() == pytest.approx(-(math.log(sigmoid(1.5)) + math.log(sigmoid(0))) / 2, rel=1e-5)


def test_r1_of_a_quadratic_critic_and_its_gradient() -> None:
    images = torch.rand((2, 3, 4, 4), generator=_rng()).requires_grad_()
    weight = nn.Parameter(torch.tensor(1.5))
    logits = (weight * images.square()).sum(dim=(1, 2, 3))[:, None]
    penalty = r1_penalty(logits, images)
    squares = images.detach().square().sum(dim=(1, 2, 3)).mean()
    assert torch.allclose(penalty, 4 * 1.5**2 * squares)
    penalty.backward()
    assert torch.allclose(weight.grad, 8 * 1.5 * squares)


def test_path_length_of_a_linear_generator_and_its_gradient() -> None:
    rows, dim, size = 2, 3, 4
    matrix = torch.randn((dim, 3 * size * size), generator=_rng(1))
    gain = nn.Parameter(torch.tensor(2.0))
    w = torch.randn((5, rows, dim), generator=_rng(2)).requires_grad_()
    images = (gain * (w.sum(1) @ matrix)).view(5, 3, size, size)
    penalty, mean = path_length_penalty(images, w, torch.tensor(0.0), rng=_rng(3), decay=0.25)
    y = torch.randn((5, 3, size, size), generator=_rng(3)) / size
    lengths = 2.0 * (y.flatten(1) @ matrix.T).norm(dim=1)  # both rows have the same gradient, so the row mean is it
    assert torch.allclose(mean, 0.25 * lengths.mean())
    assert torch.allclose(penalty, (lengths - mean).square().mean(), rtol=1e-4)
    assert not mean.requires_grad
    penalty.backward()
    expected = (2 * (lengths - mean) * lengths / 2.0).mean()
    assert torch.allclose(gain.grad, expected, rtol=1e-4)


def _in_float64(module: nn.Module, seed: int) -> nn.Module:
    """The module with random values in every parameter, so that none is at the zero where it starts."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=_rng(seed)))
    return module.double()


def _assert_gradients(module: nn.Module, penalty: Callable[[], Tensor], seed: int) -> int:
    """Double backward against central differences, for every parameter along two directions; returns how many moved."""
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    moved = 0
    for number, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        for direction in torch.randn((2, *parameter.shape), generator=_rng(seed + number), dtype=torch.float64):
            step = 1e-6 * direction
            with torch.no_grad():
                parameter.add_(step)
            above = penalty().item()
            with torch.no_grad():
                parameter.sub_(2 * step)
            below = penalty().item()
            with torch.no_grad():
                parameter.add_(step)
            slope = 0.0 if gradient is None else (gradient * direction).sum().item()
            assert (above - below) / 2e-6 == pytest.approx(slope, rel=RELATIVE, abs=ABSOLUTE * above)
            moved += abs(slope) > 1e-4 * above
    return moved


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("p", [0.0, 0.8])
def test_gradient_of_r1_is_that_of_finite_differences(seed: int, p: float) -> None:
    """Also through the augmentation, as it is trained."""
    torch.manual_seed(seed)
    critic = _in_float64(Discriminator(DiscriminatorConfig(16, 1, 4)), seed)
    images = torch.randn((4, 3, 16, 16), generator=_rng(seed), dtype=torch.float64).requires_grad_()

    def penalty() -> Tensor:
        return r1_penalty(critic(augment(images, GROUPS, p, _rng(seed))), images)

    assert _assert_gradients(critic, penalty, seed) > 25


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_gradient_of_path_length_is_that_of_finite_differences(seed: int, decay: float) -> None:
    torch.manual_seed(seed)
    generator = _in_float64(Generator(GeneratorConfig(16, 6, 2, 1, 4)), seed)
    z = torch.randn((3, 6), generator=_rng(seed), dtype=torch.float64)
    noise = [image.double() for image in generator.draw_noise(3, _rng(seed))]

    def penalty(mean: Tensor, decay: float) -> tuple[Tensor, Tensor]:
        w_BLD = generator.mapping(z)[:, None].expand(-1, generator.rows, -1)
        return path_length_penalty(generator.synthesis(w_BLD, noise), w_BLD, mean, rng=_rng(seed), decay=decay)

    _, mean = penalty(torch.tensor(0.3, dtype=torch.float64), decay)
    found = torch.autograd.grad(penalty(torch.tensor(0.3, dtype=torch.float64), decay)[0], generator.conv1.conv.weight)
    fixed = torch.autograd.grad(penalty(mean, 0.0)[0], generator.conv1.conv.weight)
    assert torch.allclose(found[0], fixed[0], rtol=1e-12)  # the running mean is a constant to the gradient
    assert _assert_gradients(generator, lambda: penalty(mean, 0.0)[0], seed) > 25


class _Identity(nn.Module):
    rows = 6

    def mapping(self, z: torch.Tensor) -> torch.Tensor:
        return z


def test_mixing_takes_the_first_rows_from_one_w_and_the_rest_from_another() -> None:
    device = torch.device("cpu")
    w = sample_w(_Identity(), 64, 4, mixing=1.0, rng=_rng(), device=device)
    changes = (w[:, 1:] != w[:, :-1]).all(-1).sum(1)
    assert w.shape == (64, 6, 4)
    assert (changes == 1).all()
    unmixed = sample_w(_Identity(), 8, 4, mixing=0.0, rng=_rng(), device=device)
    assert torch.equal(unmixed, unmixed[:, :1].expand_as(unmixed))
    some = sample_w(_Identity(), 64, 4, mixing=0.5, rng=_rng(), device=device)
    assert 0 < (some[:, 0] != some[:, -1]).any(-1).sum() < 64


def test_ema_half_life_and_ramp() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, half_life=100, ramp=0.05)
    nn.init.ones_(module.weight)
    ema.update(module, images_seen=100_000, batch=100)
    assert ema.module.weight.item() == pytest.approx(0.5)
    assert ema.decay(images_seen=200, batch=10) == pytest.approx(0.5)  # half-life 10 = 5% of 200
    assert ema.decay(images_seen=0, batch=10) == 0.0


def test_ema_averages_floating_buffers_copies_counters_and_leaves_the_source_alone() -> None:
    module = nn.BatchNorm1d(2)
    ema = Ema(module, half_life=10, ramp=1.0)
    module.train()(torch.randn((8, 2), generator=_rng()) + 3)
    ema.update(module, images_seen=10, batch=10)
    assert torch.allclose(ema.module.running_mean, module.running_mean / 2)
    assert ema.module.num_batches_tracked == 1
    assert not ema.module.training
    assert module.weight.requires_grad
    assert not ema.module.weight.requires_grad
