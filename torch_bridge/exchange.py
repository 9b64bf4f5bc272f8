"""Arrays between PyTorch and JAX: on one device no byte is copied.

By DLPack (https://dmlc.github.io/dlpack), but for tensors on a CPU, which JAX takes as NumPy views: to let go of a
tensor that DLPack lent, a thread of JAX's needs Python's lock, and a program that had ended meanwhile was aborted
(decision 32; whether that happens on a GPU is not known).

The contract of a shared buffer: both sides only read it. JAX arrays are immutable by definition, and its compiler
relies on that; PyTorch cannot mark a tensor read-only. Whoever wants to write in place asks for `copy=True`.
Either side keeps the buffer alive for as long as it holds its view, whatever the other side deletes; JAX lets go of one
at its next call, not before.

What is copied all the same, and nothing else:
- a tensor that is not contiguous, or a conjugate or negative view (made contiguous by PyTorch);
- a tensor that starts off JAX's alignment of 64 bytes on CPU, as some slices do (copied by JAX, maybe after `to_jax`
  has returned: it must not be written either);
- 64-bit numbers, because JAX computes in 32 bits unless `jax_enable_x64` is set (checked: no value wraps or overflows);
- between two devices, and from and to a device that only one of the two can use (through host memory): MPS, some
  GPUs, the CPU where JAX_PLATFORMS leaves JAX no CPU;
- what `to_argument` hands to a jitted function on a CPU, which may copy it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
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
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
}
_NEW_TO_NUMPY = {dtype for dtype in _SHARED if dtype.is_floating_point and dtype.itemsize < 4} - {torch.float16}
_BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in (*_SHARED, *_NARROW)}


def to_jax(tensor: torch.Tensor, *, device: jax.Device | None = None, copy: bool = False) -> jax.Array:
    """The tensor as a JAX array of the same shape and dtype; gradients end here (the tensor is detached).

    Args:
        tensor: any rank, also empty or a scalar; float32/16, bfloat16, the four float8 of torch with a sign and a
            mantissa, complex64, bool, (u)int8/16/32. 64-bit dtypes are narrowed to 32 bits (see the module's page)
            unless `jax_enable_x64` is set.
        device: where the array shall be; None leaves it on the tensor's device, or, where JAX cannot address that
            one (MPS), on JAX's default device.
        copy: True for an array of its own; False shares the buffer, which must then not be written.

    Raises:
        ValueError: a sparse, nested or quantised tensor, one without values of its own (on "meta", inside a torch.func
            transformation), a dtype that JAX lacks, or a 64-bit value that 32 bits cannot hold.
    """
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"to_jax takes a torch.Tensor, not {type(tensor).__name__}; use jnp.asarray for that.")
    if tensor.is_nested:
        raise ValueError("to_jax takes dense tensors, not nested ones; call torch.nested.to_padded_tensor first.")
    if tensor.layout is not torch.strided:
        raise ValueError(f"to_jax takes dense tensors, not {tensor.layout}; call .to_dense() first.")
    if tensor.is_meta:
        raise ValueError("to_jax needs values, and a tensor on the device 'meta' has none.")
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # torch has no public question for it
        raise ValueError("to_jax needs values; call it outside of torch.vmap, torch.func.grad and their like.")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    joined = _jax_addresses(tensor.device.type)
    tensor = _narrow(tensor if joined else tensor.cpu()).contiguous()
    tensor = tensor.clone() if copy else tensor
    if tensor.device.type == "cpu":
        place = device or jax.devices("cpu" if joined else None)[0]
        # JAX counts a NumPy array for its CPU as a transfer, which a guard may forbid; both are the same memory.
        guard = jax.transfer_guard_host_to_device("allow") if place.platform == "cpu" else contextlib.nullcontext()
        with guard:
            return jax.device_put(_to_numpy(tensor), place, may_alias=True)
    array = jax.dlpack.from_dlpack(tensor)
    return array if device in (None, array.device) else jax.device_put(array, device)


def to_argument(tensor: torch.Tensor, device: jax.Device) -> jax.Array | np.ndarray:
    """What a jitted function on a device takes in place of `to_jax` of a float32 tensor.

    On a CPU that is a NumPy view of its memory, which must not be written before the result is there: to make a JAX
    array of some KB takes longer than to compute with them (decision 30). Give `jit` the placement of argument and
    result, which NumPy leaves open.
    """
    if tensor.device.type == device.platform == "cpu":
        return tensor.detach().numpy()
    return to_jax(tensor, device=device)


def to_torch(array: jax.Array, *, device: torch.device | str | None = None, copy: bool = False) -> torch.Tensor:
    """The array as a PyTorch tensor of the same shape and dtype, contiguous, without gradient.

    Args:
        array: any rank, also empty or a scalar; the dtypes of `to_jax`. Waits until its value is computed.
        device: where the tensor shall be; None leaves it on the array's device, or, where PyTorch cannot address
            that one, on the host.
        copy: True for a tensor that may be written; False shares the buffer, which must then not be written.

    Raises:
        ValueError: a traced value (inside jit), one whose buffer was donated or deleted, typed random keys, a dtype
            that PyTorch lacks, or an array spread over several devices.
    """
    if isinstance(array, jax.core.Tracer):
        raise ValueError("to_torch needs a computed array; call it outside of jax.jit, grad and vmap.")
    if not isinstance(array, jax.Array):
        raise ValueError(f"to_torch takes a jax.Array, not {type(array).__name__}; use torch.from_numpy for that.")
    if array.dtype not in _torch_dtypes():
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            raise ValueError(f"to_torch cannot take the dtype {array.dtype}; take jax.random.key_data of random keys.")
        raise ValueError(f"to_torch cannot take {array.dtype}; convert the array to one of {_listed(_BY_NAME)} first.")
    if array.is_deleted():
        raise ValueError("to_torch needs an array that still is there; this one was donated to a step, or deleted.")
    if len(array.sharding.device_set) > 1:
        raise ValueError(
            f"to_torch takes an array of one device; this one spans {len(array.sharding.device_set)}. "
            "Gather it with jax.device_put(array, device) first."
        )
    if _torch_addresses(next(iter(array.sharding.device_set)).platform):
        tensor = torch.from_dlpack(array).contiguous()  # an accelerator may lay an array out in another order
    else:
        tensor = _from_numpy(np.asarray(array))
    if device is not None:
        moved = tensor.to(device)
        copy, tensor = copy and moved is tensor, moved
    return tensor.clone() if copy else tensor


@functools.cache
def _torch_dtypes() -> dict[np.dtype, torch.dtype]:
    """The dtypes of JAX that PyTorch has as well; looked up by themselves, as a dtype makes its name anew each time."""
    return {jnp.dtype(name): dtype for name, dtype in _BY_NAME.items()}


@functools.cache
def _jax_addresses(device_type: str) -> bool:
    """Whether this JAX can read the memory of torch's devices of that type."""
    if device_type not in ("cpu", "cuda"):
        return False
    try:
        return bool(jax.devices("gpu" if device_type == "cuda" else "cpu"))
    except RuntimeError:  # how JAX says that it has no such backend
        return False


def _torch_addresses(platform: str) -> bool:
    """Whether this PyTorch can read the memory of JAX's devices of that platform."""
    return platform == "cpu" or (platform in ("gpu", "cuda", "rocm") and torch.cuda.is_available())


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A contiguous CPU tensor as an array on the same memory, also of the dtypes that NumPy knows from JAX only."""
    if tensor.dtype not in _NEW_TO_NUMPY:
        return tensor.numpy()
    dtype = jnp.dtype(str(tensor.dtype).removeprefix("torch."))
    line = tensor.as_strided((tensor.numel(),), (1,))  # a tensor of one number or none may have any strides
    return line.view(torch.uint8).numpy().view(dtype).reshape(tensor.shape)


def _from_numpy(array: np.ndarray) -> torch.Tensor:
    """A copy of the array as a CPU tensor, likewise."""
    octets = np.array(array, order="C").reshape(-1).view(np.uint8)
    return torch.from_numpy(octets).view(_torch_dtypes()[array.dtype]).reshape(array.shape)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a dtype that JAX has, every value kept (floats rounded)."""
    if tensor.dtype in _SHARED:
        return tensor
    if tensor.dtype not in _NARROW:
        raise ValueError(f"to_jax cannot take {tensor.dtype}; convert the tensor to one of {_listed(_BY_NAME)} first.")
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
