"""Rows of w in generator and student: layers of one resolution read one row, whatever the size and the mixture."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_bridge.gan import sample_w
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.w_plus import student_noise, student_rows, teacher_rows

SIZES = [(64, 10, 11), (128, 12, 14), (256, 14, 17), (1024, 18, 23)]  # rows of generator and of student
DIM = 6


def _networks(size: int) -> tuple[Generator, Student]:
    torch.manual_seed(0)
    config = GeneratorConfig(size, DIM, 1, 1, 4)
    return Generator(config), Student(StudentConfig.from_generator(config))


def _numbered(rows: int) -> Tensor:
    return torch.arange(float(rows))[None, :, None].expand(1, -1, DIM)


def _rows_read(module: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Name of each style layer -> the number of the row that it reads while `run` runs on numbered rows."""
    read: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, inputs, _output: read.update({name: int(inputs[0][0, 0])})

    hooks = [
        layer.register_forward_hook(note(name.removesuffix(".modulation").removesuffix(".conv")))
        for name, layer in module.named_modules()
        if name.endswith("modulation")
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return read


def _assert_same_rows(generator: Generator, student: Student, rows: Callable[[Tensor], Tensor]) -> None:
    """Every layer of the student reads the row of the generator's layer of the same kind and resolution."""
    numbered = _numbered(generator.rows)
    theirs = _rows_read(generator, lambda: generator.synthesis(numbered, "none"))
    mine = _rows_read(student, lambda: student.wavelet_heads(rows(numbered)))
    assert (mine["conv1"], mine["to_img1"]) == (theirs["conv1"], theirs["to_rgb1"])
    for i in range(len(student.layers)):
        block = [mine[f"layers.{i}.{name}"] for name in ("up", "conv1", "conv2", "to_img")]
        up, conv, rgb = theirs[f"convs.{2 * i}"], theirs[f"convs.{2 * i + 1}"], theirs[f"to_rgbs.{i}"]
        assert block == [up, up, conv, rgb] == [2 * i + 1, 2 * i + 1, 2 * i + 2, 2 * i + 3]


@pytest.mark.parametrize(("size", "theirs", "mine"), SIZES)
def test_layers_of_one_resolution_read_one_row(size: int, theirs: int, mine: int) -> None:
    with torch.device("meta"):  # the table; sizes that are slow to run
        generator, student = _networks(size)
    assert (generator.rows, student.rows) == (theirs, mine)
    mapped = student_rows(_numbered(theirs))[0, :, 0].int().tolist()
    assert mapped[0] == 0
    assert len(mapped) == mine
    for i in range(len(student.layers)):
        assert mapped[3 * i + 1 : 3 * i + 4] == [2 * i + 1, 2 * i + 2, 2 * i + 3]
    if size <= 128:
        _assert_same_rows(*_networks(size), student_rows)


def test_the_published_fault_would_be_seen() -> None:
    """Its teacher gives rows 0, 1 and 2 to every block."""

    def faulty(w_BLD: Tensor) -> Tensor:
        blocks = w_BLD.shape[1] // 2 - 2
        return w_BLD[:, [0, *([0, 1, 2] * blocks), 0]]

    generator, student = _networks(64)
    same = _numbered(generator.rows) * 0  # one w for all rows hides it
    torch.testing.assert_close(faulty(same), student_rows(same))
    with pytest.raises(AssertionError):
        _assert_same_rows(generator, student, faulty)


def test_mixed_rows_of_the_generator_keep_their_cut() -> None:
    generator, student = _networks(64)
    rng = torch.Generator().manual_seed(0)
    w = sample_w(generator, 16, DIM, mixing=1.0, rng=rng, device=torch.device("cpu"))
    mapped = student_rows(w)
    assert mapped.shape == (16, student.rows, DIM)
    for i in range(len(student.layers)):
        assert torch.equal(mapped[:, 3 * i + 1 : 3 * i + 4], w[:, 2 * i + 1 : 2 * i + 4])


def test_rows_that_change_the_image_and_those_that_train_heads_only() -> None:
    _, student = _networks(64)
    w = torch.randn(2, student.rows, DIM, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (of_image,) = torch.autograd.grad(student(w).square().sum(), w)
    (of_heads,) = torch.autograd.grad(sum(head.square().sum() for head in student.wavelet_heads(w)), w)
    size = lambda gradient: gradient.abs().amax((0, 2))  # noqa: E731
    assert size(of_image).nonzero().flatten().tolist() == [0, 1, 2, 4, 5, 7, 8, 9]  # 3 and 6 are coarse heads' rows
    assert size(of_heads).nonzero().flatten().tolist() == list(range(student.rows - 1))


@pytest.mark.parametrize(("size", "theirs", "mine"), SIZES)
def test_way_back_is_the_inverse_on_the_rows_that_both_have(size: int, theirs: int, mine: int) -> None:
    w = torch.randn(3, theirs, DIM, generator=torch.Generator().manual_seed(size))
    back = teacher_rows(student_rows(w))
    assert torch.equal(back, w[:, :-2])
    assert student_rows(torch.cat([back, w[:, :2]], 1)).shape == (3, mine, DIM)


@pytest.mark.parametrize(("row", "words"), [(3, "Rows 3 and 4 .* row 3 "), (10, "Rows 9 and 10 .* row 7 ")])
def test_way_back_refuses_rows_that_disagree(row: int, words: str) -> None:
    w = student_rows(torch.randn(2, 10, DIM)).clone()
    w[1, row, 0] += 1
    with pytest.raises(ValueError, match=words):
        teacher_rows(w)


@pytest.mark.parametrize("shape", [(1, 5, DIM), (1, 4, DIM), (1, 1, DIM), (2, DIM)])
def test_rows_of_no_generator_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 6 rows"):
        student_rows(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 10, DIM), (1, 2, DIM), (2, DIM)])
def test_rows_of_no_student_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="3 for each block"):
        teacher_rows(torch.zeros(shape))


def test_noise_reaches_the_layers_of_its_resolution() -> None:
    generator, student = _networks(64)
    shared = student_noise([torch.zeros(shape) for shape in generator.noise_shapes])
    assert [tuple(n.shape) for n in shared] == student.noise_shapes
    numbered = [torch.full((3, *shape[1:]), float(i)) for i, shape in enumerate(generator.noise_shapes)]
    own = student_noise(numbered)
    assert [tuple(n.shape) for n in own] == [(s[0], 3, *s[1:]) for s in student.noise_shapes]
    assert [n[:, 0, 0, 0, 0].tolist() for n in own] == [[0], [1, 2], [3, 4], [5, 6]]
