"""Arithmetic of a JAX function, counted from its jaxpr: XLA's own count takes the body of a loop once."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_flops(function: Callable[..., Any], *inputs: Any) -> int:
    """Floating-point operations (two a multiply-add) of matrix products and convolutions in one call.

    Args:
        function: traceable; loops must have a known length (`lax.scan`), a `lax.while_loop` counts once.
        inputs: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.
    """
    return _count(jax.make_jaxpr(function)(*inputs).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * prod(equation.outvars[0].aval.shape) * prod(shape[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * prod(equation.outvars[0].aval.shape) * prod(kernel) // out_features
        else:
            times = equation.params["length"] if name == "scan" else 1
            inner = [_count(part) for part in _inner(equation.params)]
            total += times * (max(inner, default=0) if name == "cond" else sum(inner))
    return total


def _inner(params: dict[str, Any]) -> list[Jaxpr]:
    values = [item for value in params.values() for item in (value if isinstance(value, list | tuple) else [value])]
    return [
        item.jaxpr if isinstance(item, ClosedJaxpr) else item
        for item in values
        if isinstance(item, ClosedJaxpr | Jaxpr)
    ]
