"""The bridge: values, dtypes and pointers survive either way; what cannot pass is refused with a sentence."""

import gc
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_bridge.exchange
from torch_bridge.exchange import to_argument, to_jax, to_torch

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz]
INTS = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32]
SHAPES = [(), (0,), (0, 3), (5,), (3, 4), (2, 3, 4, 5), (1, 1, 1, 1, 2)]


def sample(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 10
    return (
        (values > 0)
        if dtype is torch.bool
        else values.abs().to(torch.int32).to(dtype)
        if dtype in INTS
        else values.to(dtype)
    )


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit; PyTorch does not compare every dtype itself."""
    lines = [t.resolve_conj().clone(memory_format=torch.contiguous_format).flatten() for t in (a, b)]
    octets = [line.as_strided(line.shape, (1,)).view(torch.uint8) for line in lines]
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(*octets)


@pytest.mark.parametrize("dtype", [*FLOATS, *FLOAT8, *INTS, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_keeps_values_dtype_and_pointer(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = sample(shape, dtype)
    array = to_jax(tensor)
    assert array.shape == shape
    assert str(array.dtype) == str(dtype).removeprefix("torch.")
    back = to_torch(array)
    assert back.dtype == dtype
    assert same(back, tensor)
    if tensor.numel():
        assert array.unsafe_buffer_pointer() == tensor.data_ptr() == back.data_ptr()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_])
def test_array_to_torch_shares_the_buffer(dtype: jnp.dtype) -> None:
    array = jnp.arange(12).reshape(3, 4).astype(dtype)
    tensor = to_torch(array)
    assert tensor.data_ptr() == array.unsafe_buffer_pointer()
    np.testing.assert_array_equal(tensor.float().numpy(), np.asarray(array).astype(np.float32))


@st.composite
def layouts(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of any dtype and rank through up to four of the ways in which PyTorch makes views."""
    dtype = draw(st.sampled_from([*FLOATS, *FLOAT8, *INTS, torch.bool, torch.complex64]))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    seed = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    octets = torch.randint(0, 2 if dtype is torch.bool else 120, (*shape, dtype.itemsize), generator=seed)
    tensor = octets.to(torch.uint8).view(dtype).squeeze(-1)
    for _ in range(draw(st.integers(0, 4))):
        way = draw(st.sampled_from(["transpose", "stride", "offset", "expand", "unsqueeze", "select", "conj", "grad"]))
        axis = draw(st.integers(0, tensor.ndim - 1)) if tensor.ndim else None
        if way == "expand":
            tensor = tensor.expand(draw(st.integers(0, 3)), *tensor.shape)
        elif way == "unsqueeze":
            tensor = tensor.unsqueeze(0)
        elif way == "grad" and (dtype.is_floating_point or dtype.is_complex):
            tensor = tensor.detach().requires_grad_()
        elif axis is None:
            continue
        elif way == "transpose":
            tensor = tensor.transpose(axis, draw(st.integers(0, tensor.ndim - 1)))
        elif way == "stride":
            tensor = tensor[(slice(None),) * axis + (slice(draw(st.integers(0, 2)), None, draw(st.integers(1, 3))),)]
        elif way == "offset":
            tensor = tensor.narrow(axis, start := draw(st.integers(0, tensor.shape[axis])), tensor.shape[axis] - start)
        elif way == "select" and tensor.shape[axis]:
            tensor = tensor.select(axis, draw(st.integers(0, tensor.shape[axis] - 1)))
        elif way == "conj" and dtype is torch.complex64:
            tensor = tensor.conj()
    return tensor


@settings(max_examples=400, deadline=None)
@given(tensor=layouts(), copy=st.booleans(), joined=st.booleans())
def test_any_layout_passes_bit_for_bit(tensor: torch.Tensor, copy: bool, joined: bool) -> None:
    """Shared where the two are joined and it can be, else through host memory, and copied where promised."""
    with pytest.MonkeyPatch.context() as patch:
        if not joined:
            patch.setattr(torch_bridge.exchange, "_jax_addresses", lambda _type: False)
            patch.setattr(torch_bridge.exchange, "_torch_addresses", lambda _platform: False)
        array = to_jax(tensor, copy=copy)
        back = to_torch(array, copy=copy)
    assert array.shape == tensor.shape
    assert same(back, tensor.detach())
    assert back.is_contiguous()
    assert not back.requires_grad
    if not tensor.numel():
        return
    plain = tensor.is_contiguous() and not tensor.is_conj() and tensor.data_ptr() % 64 == 0
    shared = array.unsafe_buffer_pointer() == tensor.data_ptr()
    assert not shared if copy else shared == plain or not joined
    assert (back.data_ptr() == array.unsafe_buffer_pointer()) == (joined and not copy)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9), shape=st.lists(st.integers(0, 4), max_size=4), data=st.data())
def test_views_of_numpy_reach_pytorch(seed: int, shape: list[int], data: st.DataObject) -> None:
    """Negative strides and other orders, which PyTorch cannot take itself, and arrays that XLA transposed."""
    dtype = data.draw(
        st.sampled_from([np.float32, np.float16, jnp.bfloat16, jnp.float8_e5m2, np.int8, np.uint16, bool])
    )
    view = (np.random.default_rng(seed).integers(0, 2, shape) * 3).astype(dtype)
    if shape:
        view = np.flip(view, data.draw(st.integers(0, len(shape) - 1))).transpose(
            data.draw(st.permutations(range(len(shape))))
        )
    array = jnp.asarray(view)
    for each in (array, array.T):
        tensor = to_torch(each)
        assert tuple(tensor.shape) == each.shape
        assert tensor.tolist() == np.asarray(each).astype(np.float32).tolist()


@pytest.mark.parametrize("offset", range(1, 20))
def test_unaligned_slices_keep_their_values(offset: int) -> None:
    base = torch.arange(64, dtype=torch.float32)
    np.testing.assert_array_equal(np.asarray(to_jax(base[offset : offset + 7])), base[offset : offset + 7].numpy())


def test_conjugate_view() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    np.testing.assert_array_equal(np.asarray(to_jax(tensor.conj())), [1 - 2j, 3 + 4j])
    np.testing.assert_array_equal(np.asarray(to_jax(tensor.conj().imag)), [-2, 4])
    np.testing.assert_array_equal(np.asarray(to_jax(tensor[:1].conj().imag)), [-2])  # one number: contiguous too


def test_gradient_ends_at_the_bridge() -> None:
    tensor = torch.ones(3, requires_grad=True)
    back = to_torch(to_jax(tensor * 2))
    assert not back.requires_grad
    assert torch.equal(back, torch.full((3,), 2.0))


def test_copy_may_be_written() -> None:
    array = jnp.zeros(4)
    to_torch(array, copy=True).fill_(1)
    assert not np.asarray(array).any()
    tensor = torch.zeros(4)
    array = to_jax(tensor, copy=True)
    tensor.fill_(1)
    assert not np.asarray(array).any()
    array = jnp.zeros(4)
    to_torch(array, device="cpu", copy=True).fill_(1)
    assert not np.asarray(array).any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.complex128, torch.uint64], ids=str)
def test_wide_dtypes_are_narrowed(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 7], dtype=dtype)
    array = to_jax(tensor)
    assert array.dtype.itemsize == tensor.element_size() // 2
    np.testing.assert_array_equal(np.asarray(array), [0, 1, 7])


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor([0, 2**31]), torch.tensor([-(2**31) - 1]), torch.tensor([1e300], dtype=torch.float64)],
    ids=["int64 above", "int64 below", "float64"],
)
def test_wide_values_that_do_not_fit_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        to_jax(tensor)


def test_wide_values_at_the_edge_pass() -> None:
    edge = torch.tensor([2**31 - 1, -(2**31)])
    assert np.asarray(to_jax(edge)).tolist() == edge.tolist()
    assert np.isinf(np.asarray(to_jax(torch.tensor(float("inf"), dtype=torch.float64))))


def test_buffers_outlive_the_side_that_made_them() -> None:
    arrays = [to_jax(torch.full((1000,), float(i))) for i in range(50)]
    tensors = [to_torch(jnp.full((1000,), float(i))) for i in range(50)]
    gc.collect()
    noise = [torch.randn(1000) for _ in range(100)] + [np.asarray(jnp.zeros(1000) - 1) for _ in range(100)]
    assert len(noise) == 200
    assert all((np.asarray(array) == i).all() for i, array in enumerate(arrays))
    assert all((tensor == i).all() for i, tensor in enumerate(tensors))


def test_donating_a_shared_array_leaves_the_tensor_unharmed() -> None:
    array = jnp.arange(1000, dtype=jnp.float32) + 0
    tensor = to_torch(array)
    out = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(array)
    assert np.asarray(out).max() == -1
    assert torch.equal(tensor, torch.arange(1000, dtype=torch.float32))


def test_a_program_may_end_while_jax_computes() -> None:
    """What JAX gives back then, it gives back on its own thread, where nothing may need Python any more."""
    script = """
import jax, jax.numpy as jnp, torch
from torch_bridge.exchange import to_jax
product = jax.jit(lambda x, y: jnp.tanh((x + y) @ y))
result = to_jax(torch.eye(512))
for _ in range(50):
    result = product(result, to_jax(torch.eye(512)))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


def test_donating_a_shared_tensor_leaves_it_unharmed() -> None:
    tensor = torch.ones(1000)
    array = to_jax(tensor)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    out = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(array)
    assert np.asarray(out).max() == -1
    assert torch.equal(tensor, torch.ones(1000))


def test_waits_for_the_value() -> None:
    x = jnp.ones((300, 300)) / 300
    assert torch.allclose(
        to_torch(jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, y: y @ x, x))(x)), torch.full((300, 300), 1 / 300)
    )


def test_what_cannot_pass_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="to_dense"):
        to_jax(torch.eye(2).to_sparse())
    with pytest.raises(ValueError, match=r"nested\.to_padded_tensor"):
        to_jax(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))
    with pytest.raises(ValueError, match="'meta' has none"):
        to_jax(torch.zeros(2, device="meta"))
    with pytest.raises(ValueError, match=r"outside of torch\.vmap"):
        torch.vmap(lambda x: torch.tensor(to_jax(x).sum().item()))(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"outside of torch\.vmap"):
        torch.func.grad(lambda x: torch.tensor(to_jax(x).sum().item()))(torch.ones(3))
    with pytest.raises(ValueError, match="float8_e8m0fnu; convert"):
        to_jax(torch.empty(2, dtype=torch.float8_e8m0fnu))
    with pytest.raises(ValueError, match="int4; convert the array"):
        to_torch(jnp.ones(2, jnp.int4))
    array = jnp.ones(3)
    array.delete()
    with pytest.raises(ValueError, match="donated"):
        to_torch(array)
    with pytest.raises(ValueError, match=r"torch\.Tensor"):
        to_jax(np.zeros(2))
    with pytest.raises(ValueError, match="key_data"):
        to_torch(jax.random.key(0))
    with pytest.raises(ValueError, match=r"jax\.Array"):
        to_torch(np.zeros(2))
    with pytest.raises(ValueError, match=r"outside of jax\.jit"):
        jax.jit(lambda x: to_torch(x) and x)(jnp.zeros(2))


@pytest.mark.parametrize("x64", [False, True])
def test_host_memory_joins_what_dlpack_does_not(x64: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where JAX_PLATFORMS names a GPU alone: there JAX has no CPU to look for."""

    def devices(platform: str | None = None) -> list[jax.Device]:
        if platform is not None:
            raise RuntimeError(f"Unknown backend {platform}")
        return known

    known = jax.devices()
    torch_bridge.exchange._jax_addresses.cache_clear()
    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(torch_bridge.exchange, "_torch_addresses", lambda _platform: False)
    monkeypatch.setattr(torch, "from_dlpack", None)
    try:
        with jax.enable_x64(x64):
            for tensor in (torch.ones(2, 3).to(torch.bfloat16), torch.tensor(7), torch.zeros(0, 2, dtype=torch.bool)):
                back = to_torch(to_jax(tensor))
                assert back.dtype == (torch.int32 if tensor.dtype is torch.int64 and not x64 else tensor.dtype)
                assert torch.equal(back.to(tensor.dtype), tensor)
            array = jnp.zeros(3)
            to_torch(array).fill_(1)  # a copy, so it may be written
            assert not np.asarray(array).any()
    finally:
        torch_bridge.exchange._jax_addresses.cache_clear()


def test_an_argument_is_computed_with_as_an_array_is() -> None:
    device = jax.devices("cpu")[0]
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T  # in another order than its memory
    double = jax.jit(lambda x: 2 * x)
    np.testing.assert_array_equal(double(to_argument(tensor, device)), double(to_jax(tensor, device=device)))


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU")
def test_mps_goes_through_the_host() -> None:
    tensor = torch.arange(6.0, device="mps").reshape(2, 3)
    assert torch.equal(to_torch(to_jax(tensor), device="mps"), tensor)


@pytest.mark.skipif(not torch.cuda.is_available() or jax.default_backend() != "gpu", reason="needs a CUDA GPU for both")
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32], ids=str)
def test_cuda_shares_the_buffer(dtype: torch.dtype) -> None:
    tensor = sample((16, 32), dtype).cuda()
    array = to_jax(tensor)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    assert to_torch(array).data_ptr() == tensor.data_ptr()
    assert to_jax(tensor, device=jax.devices("cpu")[0]).sharding.device_set == {jax.devices("cpu")[0]}
