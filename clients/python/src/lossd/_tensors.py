"""torch's tensors as arrays for a daemon, and back; the daemon that lossd.torch asks."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch

from ._values import BFloat16Array
from .client import Client
from .errors import InvalidArgument

_client: Optional[Client] = None

_TYPES = frozenset((
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool))


def use(client: Any) -> None:
    """Which daemon: a Client or an address; without this the one that `lossd.connect()` finds."""
    from . import connect
    global _client
    _client = client if isinstance(client, Client) else connect(client)


def default() -> Client:
    """The client that `use` was given."""
    from . import connect
    global _client
    if _client is None:
        _client = connect()
    return _client


def check(tensor: Any, name: str, function: str = "") -> None:
    """TypeError, in torch's words, where an argument is no tensor."""
    if not isinstance(tensor, torch.Tensor):
        kind = type(tensor)
        given = f"{kind.__module__}.{kind.__name__}".replace("builtins.", "")
        advice = ": torch.from_numpy makes one" if isinstance(tensor, np.ndarray) else ": torch.as_tensor makes one"
        raise TypeError(f"{function or 'lossd.torch'}(): argument '{name}' must be Tensor, not {given}"
                        + ("" if tensor is None else advice))


def array(tensor: torch.Tensor, name: str) -> Any:
    """What the client takes for the tensor; its memory, where that is as the daemon wants it."""
    if tensor.device.type != "cpu":
        raise InvalidArgument(f"{name} is on {tensor.device}; lossd takes tensors of the CPU: call .cpu()")
    if tensor.layout != torch.strided:
        raise InvalidArgument(f"{name} is {tensor.layout}; lossd takes dense tensors: call .to_dense()")
    if tensor.dtype not in _TYPES:
        advice = "take its real and imaginary parts" if tensor.is_complex() else "call .to() with one of them"
        raise InvalidArgument(
            f"{name} is {tensor.dtype}; lossd takes float32, float64, float16 and bfloat16, and for targets integers: "
            f"{advice}")
    tensor = tensor.detach().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        return BFloat16Array(tensor.view(torch.int16).numpy().view(np.uint16))
    return tensor.numpy()


def tensor(array: Any) -> torch.Tensor:
    """A result of the client as a tensor of the same memory."""
    if isinstance(array, BFloat16Array):
        return torch.from_numpy(array.bits.view(np.int16)).view(torch.bfloat16)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
