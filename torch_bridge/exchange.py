"""Arrays between PyTorch and JAX, by DLPack (https://dmlc.github.io/dlpack): on one device no byte is copied.

The contract of a shared buffer: both sides only read it. JAX arrays are immutable by definition, and its compiler
relies on that; PyTorch cannot mark a tensor read-only. Whoever wants to write in place asks for `copy=True`.
Either side keeps the buffer alive for as long as it holds its view, whatever the other side deletes.

What is copied all the same, and nothing else:
- a tensor that is not contiguous, or a conjugate or negative view (made contiguous by PyTorch);
- a tensor that starts off JAX's alignment of 64 bytes on CPU, as some slices do (copied by JAX);
- 64-bit numbers, because JAX computes in 32 bits unless `jax_enable_x64` is set (checked: no value wraps or overflows);
- between two devices, and from and to a device that DLPack does not join, such as MPS (through host memory).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import torch

# What a 64-bit dtype becomes where JAX computes in 32 bits.
_NARROW = {
    torch.int64: torch.int32,
    torch.uint64: torch.uint32,
    torch.float64: torch.float32,
    torch.complex128: torch.complex64,
}
_SHARED = {
    *(torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32),
}


def to_jax(tensor: torch.Tensor, *, device: jax.Device | None = None, copy: bool = False) -> jax.Array:
    """The tensor as a JAX array of the same shape and dtype; gradients end here (the tensor is detached).

    Args:
        tensor: any rank, also empty or a scalar; float32/16, bfloat16, complex64, bool, (u)int8/16/32. 64-bit dtypes
            are narrowed to 32 bits (see the module's page) unless `jax_enable_x64` is set.
        device: where the array shall be; None leaves it on the tensor's device, or, where JAX cannot address that
            one (MPS), on JAX's default device.
        copy: True for an array of its own; False shares the buffer, which must then not be written.

    Raises:
        ValueError: a sparse or quantised tensor, a dtype that JAX lacks, or a 64-bit value that 32 bits cannot hold.
    """
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"to_jax takes a torch.Tensor, not {type(tensor).__name__}; use jnp.asarray for that.")
    if tensor.layout is not torch.strided:
        raise ValueError(f"to_jax takes dense tensors, not {tensor.layout}; call .to_dense() first.")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if not _jax_addresses(tensor.device.type):
        tensor, device = tensor.cpu(), device or jax.devices()[0]
    tensor = _narrow(tensor).contiguous()
    array = jax.dlpack.from_dlpack(tensor.clone() if copy else tensor)
    return array if device is None else jax.device_put(array, device)


def to_torch(array: jax.Array, *, device: torch.device | str | None = None, copy: bool = False) -> torch.Tensor:
    """The array as a PyTorch tensor of the same shape and dtype, contiguous, without gradient.

    Args:
        array: any rank, also empty or a scalar; any dtype that PyTorch has. Waits until its value is computed.
        device: where the tensor shall be; None leaves it on the array's device, or, where PyTorch cannot address
            that one, on the host.
        copy: True for a tensor that may be written; False shares the buffer, which must then not be written.

    Raises:
        ValueError: a traced value (inside jit), typed random keys, or an array spread over several devices.
    """
    if isinstance(array, jax.core.Tracer):
        raise ValueError("to_torch needs a computed array; call it outside of jax.jit, grad and vmap.")
    if not isinstance(array, jax.Array):
        raise ValueError(f"to_torch takes a jax.Array, not {type(array).__name__}; use torch.from_numpy for that.")
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise ValueError(f"to_torch cannot take the dtype {array.dtype}; take jax.random.key_data of random keys.")
    if len(array.sharding.device_set) > 1:
        raise ValueError(
            f"to_torch takes an array of one device; this one spans {len(array.sharding.device_set)}. "
            "Gather it with jax.device_put(array, device) first."
        )
    if not _torch_addresses(next(iter(array.sharding.device_set)).platform):
        array = jax.device_put(array, jax.devices("cpu")[0])
    tensor = torch.from_dlpack(array).contiguous()  # an accelerator may lay an array out in another order
    if device is not None:
        moved = tensor.to(device)
        copy, tensor = copy and moved is tensor, moved
    return tensor.clone() if copy else tensor


@functools.cache
def _jax_addresses(device_type: str) -> bool:
    """Whether this JAX can read the memory of torch's devices of that type."""
    if device_type != "cuda":
        return device_type == "cpu"
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:  # how JAX says that it has no such backend
        return False


def _torch_addresses(platform: str) -> bool:
    """Whether this PyTorch can read the memory of JAX's devices of that platform."""
    return platform == "cpu" or (platform in ("gpu", "cuda", "rocm") and torch.cuda.is_available())


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a dtype that JAX has, every value kept (floats rounded)."""
    if tensor.dtype in _SHARED:
        return tensor
    if tensor.dtype not in _NARROW:
        known = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in _SHARED))
        raise ValueError(f"to_jax cannot take {tensor.dtype}; convert the tensor to one of {known} first.")
    if jax.config.jax_enable_x64:
        return tensor
    narrow = tensor.to(_NARROW[tensor.dtype])
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        kept = bool((torch.isfinite(narrow) | ~torch.isfinite(tensor)).all())
    else:
        kept = torch.equal(narrow.to(tensor.dtype), tensor)
    if not kept:
        raise ValueError(
            f"to_jax: a value of the {tensor.dtype} tensor does not fit {narrow.dtype}, in which JAX computes. "
            "Rescale it, or set jax_enable_x64."
        )
    return narrow
