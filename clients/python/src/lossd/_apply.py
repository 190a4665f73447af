"""How lossd.torch asks the daemon: tensors checked, in the types of autocast, with autograd."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch
from torch.nn import _reduction as _Reduction

from . import _autograd
from ._tensors import check as _check


def _is_autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch before 2.4
        return bool(torch.is_autocast_cpu_enabled())


def apply(function: str, result: str, attributes: Dict[str, Any],
          tensors: Dict[str, Optional[torch.Tensor]], is_wide_in_autocast: bool = False) -> torch.Tensor:
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    for name in ("input", "target"):
        if name in tensors:
            _check(tensors[name], name, function)
    for name, tensor in given.items():
        _check(tensor, name, function)
    if is_wide_in_autocast and _is_autocast():
        # torch's autocast for the CPU runs these, and not the others, in float32.
        given = {name: tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
                 for name, tensor in given.items()}
    return _autograd.apply(function, result, attributes, given)


_REDUCTIONS = ("none", "mean", "sum")


def reduction_of(size_average: Optional[bool], reduce: Optional[bool], reduction: str) -> str:
    if size_average is not None or reduce is not None:
        reduction = _Reduction.legacy_get_string(size_average, reduce)
    return _REDUCTIONS[_Reduction.get_enum(reduction)]  # ValueError, in torch's words
