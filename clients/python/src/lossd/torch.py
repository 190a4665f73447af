"""torch's losses and activations computed by a daemon: functionals and modules with autograd.

    import lossd.torch as lt
    lt.use("unix:/run/lossd/lossd.sock")
    loss = lt.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
    loss.backward()

A loss and its gradient are one call. Tensors live on the CPU; gradients of gradients, and gradients with
respect to weights, are errors.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import _reduction as _Reduction

from . import connect
from ._wire import BFloat16Array
from .client import Client

_client: Optional[Client] = None


def use(client: Any) -> None:
    """Which daemon: a Client or an address; without this the one that `lossd.connect()` finds."""
    global _client
    _client = client if isinstance(client, Client) else connect(client)


def _default() -> Client:
    global _client
    if _client is None:
        _client = connect()
    return _client


def _array(tensor: torch.Tensor, name: str) -> Any:
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} is on {tensor.device}; lossd takes tensors of the CPU: call .cpu()")
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return BFloat16Array(tensor.view(torch.int16).numpy().view(np.uint16))
    return tensor.numpy()


def _tensor(array: Any) -> torch.Tensor:
    if isinstance(array, BFloat16Array):
        return torch.from_numpy(array.bits.view(np.int16)).view(torch.bfloat16)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class _Evaluate(torch.autograd.Function):
    """One function of the daemon. Arguments: its name, the result's name, attributes, names of the tensors, whether
    gradients may be asked for later, and the tensors."""

    @staticmethod
    def forward(ctx: Any, function: str, result: str, attributes: Dict[str, Any], names: Sequence[str],
                is_recording: bool, *tensors: torch.Tensor) -> torch.Tensor:
        # needs_input_grad knows nothing of torch.no_grad().
        needed = [name for name, needs in zip(names, ctx.needs_input_grad[5:]) if needs and is_recording]
        outputs = [result]
        if attributes.get("reduction", "none") != "none":
            # Loss and gradients in one call: most often the upstream gradient will be 1.
            outputs += [f"grad.{name}" for name in needed]
        arrays = _default().evaluate(
            function, {name: _array(tensor, name) for name, tensor in zip(names, tensors)},
            attributes, outputs)
        ctx.function, ctx.result, ctx.attributes, ctx.names = function, result, attributes, names
        ctx.gradient_names = [name[len("grad."):] for name in outputs[1:]]
        if needed:
            ctx.save_for_backward(*tensors, *(_tensor(arrays[name]) for name in outputs[1:]))
        return _tensor(arrays[result])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        tensors = ctx.saved_tensors[:len(ctx.names)]
        ready = dict(zip(ctx.gradient_names, ctx.saved_tensors[len(ctx.names):]))
        needed = [name for name, needs in zip(ctx.names, ctx.needs_input_grad[5:]) if needs]
        found: Dict[str, torch.Tensor] = {}
        for name in needed:
            scaled = _scaled(ready[name], upstream) if name in ready else None
            if scaled is not None:
                found[name] = scaled
        missing = [name for name in needed if name not in found]
        if missing:
            # One rounding, whatever the upstream gradient is: computed with it.
            inputs = {name: _array(tensor, name) for name, tensor in zip(ctx.names, tensors)}
            inputs[f"grad.{ctx.result}"] = _array(upstream, "the upstream gradient")
            arrays = _default().evaluate(
                ctx.function, inputs, ctx.attributes, [f"grad.{name}" for name in missing])
            found.update({name: _tensor(arrays[f"grad.{name}"]) for name in missing})
        return (None, None, None, None, None, *(found.get(name) for name in ctx.names))


def _scaled(gradient: torch.Tensor, upstream: torch.Tensor) -> Optional[torch.Tensor]:
    """gradient * upstream where that is exact: for 1, and for powers of two that make no denormals; else None."""
    factor = abs(upstream.item())
    if upstream == 1:
        return gradient
    if gradient.dtype not in (torch.float32, torch.float64) or math.frexp(factor)[0] != 0.5:
        return None
    magnitudes = gradient.abs()
    smallest = torch.where(magnitudes == 0, math.inf, magnitudes).min() if gradient.numel() else math.inf
    if smallest * min(1.0, factor) < torch.finfo(gradient.dtype).tiny:
        return None
    return gradient * upstream.to(gradient.dtype)


def _is_autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch before 2.4
        return bool(torch.is_autocast_cpu_enabled())


def _apply(function: str, result: str, attributes: Dict[str, Any],
           tensors: Dict[str, Optional[torch.Tensor]], is_wide_in_autocast: bool = False) -> torch.Tensor:
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if is_wide_in_autocast and _is_autocast():
        # torch's autocast for the CPU runs these, and not the others, in float32.
        given = {name: tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
                 for name, tensor in given.items()}
    output: torch.Tensor = _Evaluate.apply(  # type: ignore[no-untyped-call]
        function, result, attributes, tuple(given), torch.is_grad_enabled(), *given.values())
    return output


# ---- torch.nn.functional's functions, with its arguments in its order. size_average and reduce are its deprecated
# forms of reduction.

def _reduction(size_average: Optional[bool], reduce: Optional[bool], reduction: str) -> str:
    if size_average is None and reduce is None:
        return reduction
    return str(_Reduction.legacy_get_string(size_average, reduce))


def _type_name(dtype: Optional[torch.dtype]) -> Optional[str]:
    return None if dtype is None else str(dtype).split(".")[-1]


def _dim(dim: Optional[int], function: str, input: torch.Tensor, stacklevel: int) -> int:
    if dim is not None:
        return dim
    # torch's words and its choice.
    warnings.warn(f"Implicit dimension choice for {function} has been deprecated. "
                  "Change the call to include dim=X as an argument.", stacklevel=stacklevel)
    return 0 if input.dim() in (0, 1, 3) else 1


def sigmoid(input: torch.Tensor) -> torch.Tensor:
    return _apply("sigmoid", "output", {}, {"input": input})


def softmax(input: torch.Tensor, dim: Optional[int] = None, _stacklevel: int = 3,
            dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    dim = _dim(dim, "softmax", input, _stacklevel)
    return _apply("softmax", "output", {"dim": dim, "dtype": _type_name(dtype)}, {"input": input})


def log_softmax(input: torch.Tensor, dim: Optional[int] = None, _stacklevel: int = 3,
                dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    dim = _dim(dim, "log_softmax", input, _stacklevel)
    return _apply("log_softmax", "output", {"dim": dim, "dtype": _type_name(dtype)}, {"input": input})


def binary_cross_entropy(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                         size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                         reduction: str = "mean") -> torch.Tensor:
    return _apply("binary_cross_entropy", "loss", {"reduction": _reduction(size_average, reduce, reduction)},
                  {"input": input, "target": target, "weight": weight}, is_wide_in_autocast=True)


def binary_cross_entropy_with_logits(
        input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
        size_average: Optional[bool] = None, reduce: Optional[bool] = None, reduction: str = "mean",
        pos_weight: Optional[torch.Tensor] = None) -> torch.Tensor:
    return _apply(
        "binary_cross_entropy_with_logits", "loss", {"reduction": _reduction(size_average, reduce, reduction)},
        {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight},
        is_wide_in_autocast=True)


def cross_entropy(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                  size_average: Optional[bool] = None, ignore_index: int = -100, reduce: Optional[bool] = None,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> torch.Tensor:
    return _apply(
        "cross_entropy", "loss",
        {"reduction": _reduction(size_average, reduce, reduction), "ignore_index": ignore_index,
         "label_smoothing": label_smoothing},
        {"input": input, "target": target, "weight": weight}, is_wide_in_autocast=True)


def nll_loss(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
             size_average: Optional[bool] = None, ignore_index: int = -100, reduce: Optional[bool] = None,
             reduction: str = "mean") -> torch.Tensor:
    return _apply(
        "nll_loss", "loss",
        {"reduction": _reduction(size_average, reduce, reduction), "ignore_index": ignore_index},
        {"input": input, "target": target, "weight": weight}, is_wide_in_autocast=True)


def multilabel_soft_margin_loss(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                                size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                                reduction: str = "mean") -> torch.Tensor:
    return _apply("multilabel_soft_margin_loss", "loss", {"reduction": _reduction(size_average, reduce, reduction)},
                  {"input": input, "target": target, "weight": weight})


class Sigmoid(torch.nn.Sigmoid):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return sigmoid(input)


class Softmax(torch.nn.Softmax):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(torch.nn.LogSoftmax):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return log_softmax(input, self.dim, _stacklevel=5)


class BCELoss(torch.nn.BCELoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight)


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(input, target, self.weight, ignore_index=self.ignore_index,
                             reduction=self.reduction, label_smoothing=self.label_smoothing)


class NLLLoss(torch.nn.NLLLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MultiLabelSoftMarginLoss(torch.nn.MultiLabelSoftMarginLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)
