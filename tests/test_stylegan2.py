import pytest
import torch
import torch.nn.functional as F
from upstream_reference import expected, normal, stylegan2_weights, thin

from torch_bridge.channels import width_at
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev
from torch_bridge.images import to_float, to_uint8
from torch_bridge.modulated import ModulatedConv2d
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.upstream import load_stylegan2, load_stylegan2_discriminator

TINY = GeneratorConfig(size=32, style_dim=16, n_mlp=2, channel_max=16)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def tiny() -> Generator:
    torch.manual_seed(0)
    generator = Generator(TINY)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.5)
    return generator


@pytest.fixture(scope="module", params=["32x1", "64x1", "256x2"])
def published(request) -> tuple[str, Generator]:
    return request.param, load_stylegan2(stylegan2_weights(f"{request.param}/generator"))


@torch.no_grad()
def test_generator_equals_published_code(published):
    name, generator = published
    reference, std = expected(), expected()[f"stylegan2/{name}/image_std"].min()
    w = generator.mapping(normal("z", 2, 512))
    assert abs(w.numpy() - reference[f"stylegan2/{name}/w"]).max() < 1e-4
    w_plus = normal("w_plus", 2, generator.rows, 512)
    # One sample at a time keeps the largest configuration within a laptop's memory and changes nothing.
    for key, latent in (("image", w), ("image_w_plus", w_plus)):
        image = torch.cat([generator.synthesis(latent[i : i + 1]) for i in range(2)])
        assert abs(thin(image) - reference[f"stylegan2/{name}/{key}"]).max() < 1e-4 * std, key


@pytest.mark.parametrize("name", ["32x1", "64x1", "256x2"])
@torch.no_grad()
def test_discriminator_equals_published_code(name):
    discriminator = load_stylegan2_discriminator(stylegan2_weights(f"{name}/discriminator"))
    size = discriminator.config.size
    logits = discriminator(normal("images", 4, 3, size, size)).numpy()
    assert abs(logits - expected()[f"stylegan2/{name}/logits"]).max() < 1e-4


@pytest.mark.parametrize(
    ("size", "multiplier", "generator", "mapping", "discriminator"),
    [
        (64, 1, 23_819_544, 2_101_248, 23_407_361),
        (128, 1, 24_525_213, 2_101_248, 23_882_369),
        (256, 1, 24_767_458, 2_101_248, 24_001_089),
        (256, 2, 30_034_338, 2_101_248, 28_864_129),
        (1024, 2, 30_370_060, 2_101_248, 29_012_513),
    ],
)
def test_parameter_counts_of_published_sizes(size, multiplier, generator, mapping, discriminator):
    with torch.device("meta"):
        built = Generator(GeneratorConfig(size, channel_multiplier=multiplier))
        critic = Discriminator(DiscriminatorConfig(size, multiplier))
    assert parameters(built) == generator
    assert parameters(built.style) == mapping
    assert parameters(critic) == discriminator


def test_widths():
    assert [width_at(r, 2, 512) for r in (4, 32, 64, 128, 256, 512, 1024)] == [512, 512, 512, 256, 128, 64, 32]
    assert width_at(64, 4, 512) == 512
    small = Generator(GeneratorConfig(64, style_dim=128, n_mlp=4, channel_max=64))
    assert parameters(small) < 1_000_000
    with pytest.raises(ValueError, match="power of two"):
        GeneratorConfig(size=96)


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_equals_grouped_form(upsample, demodulate):
    torch.manual_seed(0)
    layer = ModulatedConv2d(6, 5, 3, 8, demodulate=demodulate, upsample=upsample)
    x, w = torch.randn(4, 6, 7, 7), torch.randn(4, 8)
    weight = layer.weight * layer.modulation(w)[:, None, :, None, None] * layer.scale
    if demodulate:
        weight = weight / torch.sqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    grouped = x.reshape(1, 24, 7, 7)
    if upsample:
        y = F.conv_transpose2d(grouped, weight.transpose(1, 2).reshape(24, 5, 3, 3), stride=2, groups=4)
        want = layer.blur(y.reshape(4, 5, 15, 15))
    else:
        want = F.conv2d(grouped, weight.reshape(20, 6, 3, 3), padding=1, groups=4).reshape(4, 5, 7, 7)
    torch.testing.assert_close(layer(x, w), want, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_noise_modes(tiny):
    w = torch.randn(3, 16)
    same = tiny.synthesis(w)
    assert torch.equal(same, tiny.synthesis(w, noise="fixed"))
    stored = [getattr(tiny.noises, f"noise_{i}") for i in range(len(tiny.noise_shapes))]
    assert torch.equal(same, tiny.synthesis(w, noise=stored))
    drawn = [tiny.synthesis(w, noise="random", generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(same, tiny.synthesis(w, noise="none"))
    twins = tiny.synthesis(w[:1].expand(2, -1), noise="random")
    assert not torch.allclose(twins[0], twins[1])
    with pytest.raises(ValueError, match="'fixed', 'random', 'none'"):
        tiny.synthesis(w, noise="some")
    with pytest.raises(ValueError, match="noise images were given"):
        tiny.synthesis(w, noise=stored[:-1])


@torch.no_grad()
def test_rows_of_w(tiny):
    w = torch.randn(2, 16)
    rows = w[:, None].expand(-1, tiny.rows, -1)
    assert tiny.rows == 8
    torch.testing.assert_close(tiny.synthesis(rows), tiny.synthesis(w), rtol=1e-4, atol=1e-4)
    for row in range(tiny.rows):
        changed = rows.clone()
        changed[:, row] += 1
        assert not torch.allclose(tiny.synthesis(changed), tiny.synthesis(w)), row
    with pytest.raises(ValueError, match=r"\(B, 8, D\)"):
        tiny.synthesis(rows[:, :5])


@torch.no_grad()
def test_mean_w_depends_on_the_seed_alone(tiny):
    state = torch.get_rng_state()
    assert torch.equal(tiny.mean_w(500, 3), tiny.mean_w(500, 3))
    assert not torch.equal(tiny.mean_w(500, 3), tiny.mean_w(500, 4))
    assert torch.equal(state, torch.get_rng_state())


def test_double_backward_is_finite(tiny):
    torch.manual_seed(0)
    critic = Discriminator(DiscriminatorConfig(32, channel_max=16))
    images = torch.randn(4, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    w = torch.randn(2, tiny.rows, 16, requires_grad=True)
    image = tiny.synthesis(w, noise="random")
    (path,) = torch.autograd.grad((image * torch.randn_like(image)).sum(), w, create_graph=True)
    path.square().sum().sqrt().backward()
    gradients = [p.grad for m in (critic, tiny) for p in m.parameters() if p.grad is not None]
    assert len(gradients) > 40
    assert all(g.isfinite().all() for g in gradients)
    assert critic.convs[1].conv1[0].weight.grad.abs().max() > 0
    assert tiny.convs[0].conv.weight.grad.abs().max() > 0
    tiny.zero_grad()


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4), (10, 2), (12, 4)])
def test_minibatch_deviation_takes_every_batch(batch, group):
    x = torch.randn(batch, 3, 4, 4)
    plane = minibatch_stddev(x)[:, 3]
    strided = [x[i :: batch // group] for i in range(batch // group)]
    want = torch.stack([torch.sqrt(g.var(0, unbiased=False) + 1e-8).mean() for g in strided])
    torch.testing.assert_close(plane, want.repeat(group)[:, None, None].expand(-1, 4, 4))


def test_features_are_the_residual_blocks():
    critic = Discriminator(DiscriminatorConfig(32, channel_max=16))
    shapes = [tuple(f.shape) for f in critic.features(torch.zeros(2, 3, 32, 32))]
    assert shapes == [(2, 16, 16, 16), (2, 16, 8, 8), (2, 16, 4, 4)]
    with pytest.raises(ValueError, match="Images must be"):
        critic(torch.zeros(2, 3, 16, 16))


def test_frames_survive_conversion():
    frames = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 1)[:, :, :252].reshape(2, 3, 84, 3)
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    for batch in (frames, every, frames[None]):
        images = to_float(batch)
        assert images.min() >= -1
        assert images.max() <= 1
        assert images.shape[-3] == batch.shape[-1]
        assert torch.equal(to_uint8(images), batch)
    assert to_float(every).flatten()[[0, -1]].tolist() == [-1, 1]
    assert to_uint8(torch.tensor([-3.0, 0.001, 3.0]).reshape(1, 3, 1, 1)).flatten().tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match="uint8"):
        to_float(torch.zeros(1, 2, 2, 3))
