"""The bridge: values, dtypes and pointers survive either way; what cannot pass is refused with a sentence."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from torch_bridge.exchange import to_jax, to_torch

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
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


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_keeps_values_dtype_and_pointer(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = sample(shape, dtype)
    array = to_jax(tensor)
    assert array.shape == shape
    assert str(array.dtype) == str(dtype).removeprefix("torch.")
    back = to_torch(array)
    assert back.dtype == dtype
    assert torch.equal(back, tensor)
    if tensor.numel():
        assert array.unsafe_buffer_pointer() == tensor.data_ptr() == back.data_ptr()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_])
def test_array_to_torch_shares_the_buffer(dtype: jnp.dtype) -> None:
    array = jnp.arange(12).reshape(3, 4).astype(dtype)
    tensor = to_torch(array)
    assert tensor.data_ptr() == array.unsafe_buffer_pointer()
    np.testing.assert_array_equal(tensor.float().numpy(), np.asarray(array).astype(np.float32))


@pytest.mark.parametrize(
    "view", [lambda t: t.T, lambda t: t[:, ::2], lambda t: t[1:2].expand(5, 6), lambda t: t.flip(0)]
)
def test_views_that_are_not_contiguous_are_copied_right(view) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    np.testing.assert_array_equal(np.asarray(to_jax(view(base))), view(base).numpy())


@pytest.mark.parametrize("offset", range(1, 20))
def test_unaligned_slices_keep_their_values(offset: int) -> None:
    base = torch.arange(64, dtype=torch.float32)
    np.testing.assert_array_equal(np.asarray(to_jax(base[offset : offset + 7])), base[offset : offset + 7].numpy())


def test_conjugate_view() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    np.testing.assert_array_equal(np.asarray(to_jax(tensor.conj())), [1 - 2j, 3 + 4j])
    np.testing.assert_array_equal(np.asarray(to_jax(tensor.conj().imag)), [-2, 4])


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


def test_waits_for_the_value() -> None:
    x = jnp.ones((300, 300)) / 300
    assert torch.allclose(
        to_torch(jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, y: y @ x, x))(x)), torch.full((300, 300), 1 / 300)
    )


def test_what_cannot_pass_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="to_dense"):
        to_jax(torch.eye(2).to_sparse())
    with pytest.raises(ValueError, match="float8"):
        to_jax(torch.zeros(2).to(torch.float8_e4m3fn))
    with pytest.raises(ValueError, match=r"torch\.Tensor"):
        to_jax(np.zeros(2))
    with pytest.raises(ValueError, match="key_data"):
        to_torch(jax.random.key(0))
    with pytest.raises(ValueError, match=r"jax\.Array"):
        to_torch(np.zeros(2))
    with pytest.raises(ValueError, match=r"outside of jax\.jit"):
        jax.jit(lambda x: to_torch(x) and x)(jnp.zeros(2))


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
