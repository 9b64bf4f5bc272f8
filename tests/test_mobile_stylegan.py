import pytest
import torch
from upstream_reference import expected, mobile_weights, normal, thin

from torch_bridge.mobile_stylegan import PlayDecoder, Student, StudentConfig
from torch_bridge.stylegan2 import GeneratorConfig
from torch_bridge.upstream import load_mobile_stylegan

SMALL = StudentConfig(size=64, style_dim=12, channels=(32, 32, 16, 8))


@pytest.fixture(scope="module")
def small() -> Student:
    torch.manual_seed(0)
    student = Student(SMALL)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith(("noise.weight", "bias")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in student.named_buffers():
            if name.endswith("style_inv"):
                buffer.normal_()  # as in published files
    return student


@pytest.fixture(scope="module", params=["64-512", "256-128", "256-256"])
def published(request) -> tuple[str, Student]:
    return request.param, load_mobile_stylegan(mobile_weights(request.param))


@torch.no_grad()
def test_student_and_play_decoder_equal_published_code(published):
    name, student = published
    noise = [normal(f"noise.{i}", *shape) for i, shape in enumerate(student.noise_shapes)]
    play = student.for_play(noise)
    for key, w in (("image", normal("w", 1, 512)), ("image_w_plus", normal("w_plus", 1, student.rows, 512))):
        want = expected()[f"mobile_stylegan/{name}/{key}"]
        assert abs(thin(student(w, noise)) - want).max() < 1e-4 * want.std(), key
        assert abs(thin(play(w)) - want).max() < 1e-4 * want.std(), key
    for i, head in enumerate(student.wavelet_heads(normal("w", 1, 512), noise)):
        mean, std = expected()[f"mobile_stylegan/{name}/freq_{i}_mean_std"]
        assert abs(head.mean() - mean) < 1e-4 * std
        assert abs(head.std() - std) < 1e-4 * std


@pytest.mark.parametrize(
    ("size", "multiplier", "total", "heads"),
    [
        (128, 1, 7_178_565, 1_075_248),
        (256, 1, 7_502_163, 1_209_660),
        (256, 2, 8_372_819, 1_344_060),
        (512, 2, 8_696_417, 1_478_472),
        (1024, 2, 8_852_079, 1_545_684),
    ],
)
def test_parameter_counts_of_published_sizes(size, multiplier, total, heads):
    with torch.device("meta"):
        student = Student(StudentConfig.from_generator(GeneratorConfig(size, channel_multiplier=multiplier)))
        play = PlayDecoder(student.config)
    assert sum(p.numel() for p in student.parameters()) == total
    noise_strengths = 2 * len(student.layers) + 1
    assert sum(p.numel() for p in play.parameters()) == total - heads - noise_strengths


@torch.no_grad()
@pytest.mark.parametrize("with_noise", [False, True])
@pytest.mark.parametrize("rows", [1, SMALL.rows])
def test_play_decoder_equals_student(small, with_noise, rows):
    noise = [torch.randn(shape) for shape in small.noise_shapes] if with_noise else None
    w = torch.randn(3, 12) if rows == 1 else torch.randn(3, rows, 12)
    play = small.for_play(noise)
    torch.testing.assert_close(play(w), small(w, noise), rtol=1e-4, atol=1e-4)
    restored = PlayDecoder(small.config, fixed_noise=with_noise)
    restored.load_state_dict(play.state_dict())
    assert torch.equal(restored(w), play(w))
    torch.testing.assert_close(play.bands_apart()(w), play(w), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Take the bands apart first, then round"):
        play.with_rounded_products(w).bands_apart()
    shared = [tensor.data_ptr() for tensor in play.bands_apart().state_dict().values()]
    assert shared == [tensor.data_ptr() for tensor in play.state_dict().values()]
    assert not any(p.requires_grad for p in play.parameters())


@torch.no_grad()
def test_images_heads_and_forward_agree(small):
    w = torch.randn(2, small.rows, 12)
    image, heads = small.images(w)
    torch.testing.assert_close(image, small(w), rtol=1e-4, atol=1e-4)
    assert [tuple(h.shape) for h in heads] == [(2, 12, r, r) for r in (4, 8, 16, 32)]
    for head, again in zip(heads, small.wavelet_heads(w), strict=True):
        assert torch.equal(head, again)
    with pytest.raises(ValueError, match="noise tensors were given"):
        small(w, [torch.zeros(1, 1, 4, 4)])


@torch.no_grad()
def test_noise_of_a_batch_is_shared_or_its_own(small):
    w = torch.randn(1, 12).expand(2, -1)
    shared = [torch.randn(shape) for shape in small.noise_shapes]
    image = small(w, shared)
    torch.testing.assert_close(image[0], image[1], rtol=1e-4, atol=1e-4)
    own = [torch.randn(s[0], 2, *s[1:]) for s in small.noise_shapes]
    image = small(w, own)
    torch.testing.assert_close(image[:1], small(w[:1], [n[:, 0] for n in own]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(image[1:], small(w[:1], [n[:, 1] for n in own]), rtol=1e-4, atol=1e-4)


def test_new_weights_keep_the_variance():
    torch.manual_seed(0)
    student = Student(StudentConfig(256, 64, (128, 128, 128, 128, 96, 64)))
    with torch.no_grad():
        deviations = [head.std().item() for head in student.wavelet_heads(torch.randn(4, 64))]
    assert min(deviations) > 0.4
    assert max(deviations) < 2.5


def test_every_parameter_is_trained_by_the_heads(small):
    noise = [torch.randn(shape) for shape in small.noise_shapes]
    image, heads = small.images(torch.randn(2, 12), noise)
    (image.square().mean() + sum(h.square().mean() for h in heads)).backward()
    untrained = [name for name, p in small.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    small.zero_grad()
    assert untrained == []
    assert all("style_inv" not in name for name, _ in small.named_parameters())


@pytest.mark.parametrize(
    ("size", "channels", "match"),
    [(64, (32, 32), "widths"), (64, (32, 30, 32, 32), "multiples of 4"), (60, (8, 8, 8), "power of two")],
)
def test_configs_that_make_no_network_are_refused(size, channels, match):
    with pytest.raises(ValueError, match=match):
        StudentConfig(size, 16, channels)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_play_decoder_exports_with_five_dimensions_at_most(small):
    play, w = small.for_play(), torch.randn(1, 12)
    exported = torch.export.export(play, (w,))
    torch.testing.assert_close(exported.module()(w), play(w), rtol=1e-4, atol=1e-4)
    values = [node.meta["val"] for node in exported.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert len(values) > 50
    assert max(value.ndim for value in values) == 5
    torch.testing.assert_close(torch.jit.trace(play, w)(w + 1), play(w + 1), rtol=1e-4, atol=1e-4)


def test_activations_are_channels_last(small):
    assert small(torch.randn(2, 12)).is_contiguous(memory_format=torch.channels_last)
