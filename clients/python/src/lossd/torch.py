"""torch's losses and activations computed by a daemon: functionals and modules with autograd.

    import lossd.torch as lt
    lt.use("unix:/run/lossd/lossd.sock")
    loss = lt.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
    loss.backward()

A loss and its gradient are one call. Tensors live on the CPU; gradients of gradients, and gradients with
respect to weights, are errors.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from torch.autograd.function import once_differentiable

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
    """One function of the daemon. Inputs: its name, the result's name, attributes, names of the tensors, and
    these."""

    @staticmethod
    def forward(ctx: Any, function: str, result: str, attributes: Dict[str, Any],
                names: Sequence[str], *tensors: torch.Tensor) -> torch.Tensor:
        needed = [name for name, needs in zip(names, ctx.needs_input_grad[4:]) if needs]
        is_reduced = attributes.get("reduction", "none") != "none"
        outputs = [result]
        if is_reduced:
            # The upstream gradient is a factor: loss and gradients in one call.
            outputs += [f"grad.{name}" for name in needed]
        arrays = _default().evaluate(
            function, {name: _array(tensor, name) for name, tensor in zip(names, tensors)},
            attributes, outputs)
        ctx.function, ctx.result, ctx.attributes, ctx.names = function, result, attributes, names
        ctx.needed = needed
        if needed:
            gradients = [_tensor(arrays[name]) for name in outputs[1:]]
            ctx.save_for_backward(*tensors, *gradients)
            ctx.gradient_count = len(gradients)
        return _tensor(arrays[result])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        saved = ctx.saved_tensors
        count = ctx.gradient_count
        tensors, gradients = saved[:len(saved) - count], saved[len(saved) - count:]
        wide = all(item.dtype in (torch.float32, torch.float64) for item in gradients)
        if count and (wide or bool(upstream == 1)):
            found = {name: item if bool(upstream == 1) else item * upstream.to(item.dtype)
                     for name, item in zip(ctx.needed, gradients)}
        else:
            # One rounding, whatever the upstream gradient is: computed with it.
            inputs = {name: _array(tensor, name) for name, tensor in zip(ctx.names, tensors)}
            inputs[f"grad.{ctx.result}"] = _array(upstream, "the upstream gradient")
            arrays = _default().evaluate(
                ctx.function, inputs, ctx.attributes, [f"grad.{name}" for name in ctx.needed])
            found = {name: _tensor(arrays[f"grad.{name}"]) for name in ctx.needed}
        return (None, None, None, None, *(found.get(name) for name in ctx.names))


def _apply(function: str, result: str, attributes: Dict[str, Any],
           tensors: Dict[str, Optional[torch.Tensor]], wide_in_autocast: bool) -> torch.Tensor:
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if wide_in_autocast and torch.is_autocast_enabled("cpu"):
        # torch's autocast runs these in float32.
        given = {name: tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
                 for name, tensor in given.items()}
    return _Evaluate.apply(function, result, attributes, tuple(given), *given.values())


def _type_name(dtype: Optional[torch.dtype]) -> Optional[str]:
    return None if dtype is None else str(dtype).split(".")[-1]


def sigmoid(input: torch.Tensor) -> torch.Tensor:
    return _apply("sigmoid", "output", {}, {"input": input}, False)


def softmax(input: torch.Tensor, dim: int, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return _apply("softmax", "output", {"dim": dim, "dtype": _type_name(dtype)},
                  {"input": input}, True)


def log_softmax(input: torch.Tensor, dim: int, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return _apply("log_softmax", "output", {"dim": dim, "dtype": _type_name(dtype)},
                  {"input": input}, True)


def binary_cross_entropy(input: torch.Tensor, target: torch.Tensor,
                         weight: Optional[torch.Tensor] = None,
                         reduction: str = "mean") -> torch.Tensor:
    return _apply("binary_cross_entropy", "loss", {"reduction": reduction},
                  {"input": input, "target": target, "weight": weight}, True)


def binary_cross_entropy_with_logits(input: torch.Tensor, target: torch.Tensor,
                                     weight: Optional[torch.Tensor] = None,
                                     reduction: str = "mean",
                                     pos_weight: Optional[torch.Tensor] = None) -> torch.Tensor:
    return _apply(
        "binary_cross_entropy_with_logits", "loss", {"reduction": reduction},
        {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight}, True)


def cross_entropy(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                  ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> torch.Tensor:
    return _apply(
        "cross_entropy", "loss",
        {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing},
        {"input": input, "target": target, "weight": weight}, True)


def nll_loss(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
             ignore_index: int = -100, reduction: str = "mean") -> torch.Tensor:
    return _apply("nll_loss", "loss", {"reduction": reduction, "ignore_index": ignore_index},
                  {"input": input, "target": target, "weight": weight}, True)


def multilabel_soft_margin_loss(input: torch.Tensor, target: torch.Tensor,
                                weight: Optional[torch.Tensor] = None,
                                reduction: str = "mean") -> torch.Tensor:
    return _apply("multilabel_soft_margin_loss", "loss", {"reduction": reduction},
                  {"input": input, "target": target, "weight": weight}, True)


class Sigmoid(torch.nn.Sigmoid):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return sigmoid(input)


class Softmax(torch.nn.Softmax):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return softmax(input, -1 if self.dim is None else self.dim)


class LogSoftmax(torch.nn.LogSoftmax):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return log_softmax(input, -1 if self.dim is None else self.dim)


class BCELoss(torch.nn.BCELoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight)


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction,
                             self.label_smoothing)


class NLLLoss(torch.nn.NLLLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MultiLabelSoftMarginLoss(torch.nn.MultiLabelSoftMarginLoss):
    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return multilabel_soft_margin_loss(input, target, self.weight, self.reduction)
