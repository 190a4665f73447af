"""torch's losses and activations computed by a daemon: functionals and modules with autograd.

    import lossd.torch as lt
    lt.use("unix:/run/lossd/lossd.sock")
    loss = lt.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
    loss.backward()

A loss and its gradient are one call. Tensors live on the CPU. Second derivatives (create_graph=True), torch.func's
transforms, forward mode and checkpoints work as torch's; gradients with respect to weights are errors.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any, Callable, Dict, Optional

import torch
from torch.nn import functional as _F

from . import _classes, _elements, _rows
from ._apply import apply as _apply, reduction_of as _reduction
from ._classes import *  # noqa: F403
from ._elements import *  # noqa: F403
from ._named import Named as _Named
from ._rows import *  # noqa: F403
from ._tensors import array as _array, check as _check, default as _default, tensor as _tensor, use  # noqa: F401

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "LogSoftmax", "MultiLabelSoftMarginLoss", "NLLLoss", "Sigmoid",
    "Softmax", "Softmax2d", "Softmin", "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "function", "log_softmax",
    "multilabel_soft_margin_loss", "nll_loss", "sigmoid", "softmax", "softmin", "use", *_classes.__all__,
    *_elements.__all__, *_rows.__all__]


# ---- torch.nn.functional's functions, with its arguments in its order. size_average and reduce are its deprecated
# forms of reduction. Elementwise ones are in _elements.py, distances and norms in _rows.py.

def _ignore_index(value: Any) -> int:
    if type(value) is not int:
        _F.nll_loss(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), ignore_index=value)  # torch's TypeError
    return operator.index(value)


def _label_smoothing(value: Any) -> float:
    if type(value) not in (float, int):
        _F.cross_entropy(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), label_smoothing=value)
    return float(value)


def _softmax(function: str, input: torch.Tensor, dim: Optional[int], dtype: Optional[torch.dtype],
             stacklevel: int) -> torch.Tensor:
    _check(input, "input", function)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        torch.softmax(torch.zeros(1), 0, dtype=dtype)  # torch's TypeError
    attributes: Dict[str, Any] = {"dim": _dim(dim, function, input, stacklevel)}
    if dtype is not None:
        attributes["dtype"] = str(dtype).split(".")[-1]
    return _apply(function, "output", attributes, {"input": input})


def _dim(dim: Optional[int], function: str, input: torch.Tensor, stacklevel: int) -> int:
    if type(dim) is int:
        return dim
    if dim is not None:
        torch.softmax(torch.zeros(1), dim)  # torch's TypeError
        return operator.index(dim)
    # torch's words and its choice.
    warnings.warn(f"Implicit dimension choice for {function} has been deprecated. "
                  "Change the call to include dim=X as an argument.", stacklevel=stacklevel)
    return 0 if input.dim() in (0, 1, 3) else 1


def sigmoid(input: torch.Tensor) -> torch.Tensor:
    return _apply("sigmoid", "output", {}, {"input": input})


def softmax(input: torch.Tensor, dim: Optional[int] = None, _stacklevel: int = 3,
            dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return _softmax("softmax", input, dim, dtype, _stacklevel + 1)


def softmin(input: torch.Tensor, dim: Optional[int] = None, _stacklevel: int = 3,
            dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return _softmax("softmin", input, dim, dtype, _stacklevel + 1)


def log_softmax(input: torch.Tensor, dim: Optional[int] = None, _stacklevel: int = 3,
                dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return _softmax("log_softmax", input, dim, dtype, _stacklevel + 1)


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


def _one_target(function: str, input: Any, target: Any) -> Any:
    """torch takes a target of (1) for an input of (C), as one of ()."""
    _check(input, "input", function)
    _check(target, "target", function)
    is_one = input.dim() == 1 and target.shape == (1,) and not target.is_floating_point()
    # Of one class the target would be probabilities.
    return target.reshape(()) if is_one and (function == "nll_loss" or input.shape != (1,)) else target


def cross_entropy(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                  size_average: Optional[bool] = None, ignore_index: int = -100, reduce: Optional[bool] = None,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> torch.Tensor:
    return _apply(
        "cross_entropy", "loss",
        {"reduction": _reduction(size_average, reduce, reduction), "ignore_index": _ignore_index(ignore_index),
         "label_smoothing": _label_smoothing(label_smoothing)},
        {"input": input, "target": _one_target("cross_entropy", input, target), "weight": weight}, is_wide_in_autocast=True)


def nll_loss(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
             size_average: Optional[bool] = None, ignore_index: int = -100, reduce: Optional[bool] = None,
             reduction: str = "mean") -> torch.Tensor:
    return _apply(
        "nll_loss", "loss",
        {"reduction": _reduction(size_average, reduce, reduction), "ignore_index": _ignore_index(ignore_index)},
        {"input": input, "target": _one_target("nll_loss", input, target), "weight": weight}, is_wide_in_autocast=True)


def multilabel_soft_margin_loss(input: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = None,
                                size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                                reduction: str = "mean") -> torch.Tensor:
    return _apply("multilabel_soft_margin_loss", "loss", {"reduction": _reduction(size_average, reduce, reduction)},
                  {"input": input, "target": target, "weight": weight})


def function(name: str) -> Callable[..., torch.Tensor]:
    """A function of the daemon's by its name, one of a plugin too, with autograd.

    An activation takes an input, a loss an input and a target; other tensors and the attributes go by name. `lossctl
    functions NAME` tells what there is. Second derivatives (create_graph=True) work where torch.nn.functional has the
    same arguments by the same name.

        huber = lossd.torch.function("huber_loss")
        huber(prediction, target, delta=0.5).backward()

    Raises NotFound where the daemon has no such function.
    """
    named = _Named(name, _default().functions(name))
    defaults = {item.name: item.default.string_value for item in named.description.attributes if item.role == "reduction"}

    def evaluate(*tensors: torch.Tensor, **arguments: Any) -> torch.Tensor:
        inputs, attributes = named.bind(tensors, arguments)
        return _apply(name, named.result, {**defaults, **attributes}, inputs)

    return named.document(evaluate)


class Sigmoid(torch.nn.Sigmoid):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return sigmoid(input)


class Softmax(torch.nn.Softmax):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return softmax(input, self.dim, _stacklevel=5)


class Softmax2d(torch.nn.Softmax2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.dim() not in (3, 4):
            super().forward(input)  # torch's ValueError
        return softmax(input, -3)


class Softmin(torch.nn.Softmin):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return softmin(input, self.dim, _stacklevel=5)


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
