"""torch.nn.functional's functions, by its names and with its arguments."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple


class Functions:
    """What both clients have. `evaluate` is theirs: one returns results, the other awaitables of them.

    Names, arguments, shapes, types and results are torch's, save that `dim` defaults to -1; docs/functions.md has
    the formulas. With `with_grad=True` they return (result, gradient with respect to input); `grad` is an upstream
    gradient of the result's shape, ones by default. `timeout` is in seconds.
    """

    def _call(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
              outputs: Sequence[str], timeout: Optional[float]) -> Any:
        raise NotImplementedError

    def _activation(self, function: str, input: Any, attributes: Dict[str, Any], with_grad: bool,
                    grad: Any, timeout: Optional[float]) -> Any:
        outputs = ["output", "grad.input"] if with_grad else ["output"]
        return self._call(
            function, {"input": input, "grad.output": grad}, attributes, outputs, timeout)

    def _loss(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
              with_grad: bool, grad: Any, timeout: Optional[float]) -> Any:
        outputs = ["loss", "grad.input"] if with_grad else ["loss"]
        return self._call(function, {**inputs, "grad.loss": grad}, attributes, outputs, timeout)

    def sigmoid(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """1 / (1 + exp(-input)), elementwise; of the input's shape and type."""
        return self._activation("sigmoid", input, {}, with_grad, grad, timeout)

    def softmax(self, input: Any, dim: int = -1, dtype: Optional[str] = None, *,
                with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """exp(input) / sum of exp(input) along `dim`; of the input's shape, and its type or `dtype`."""
        return self._activation(
            "softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)

    def log_softmax(self, input: Any, dim: int = -1, dtype: Optional[str] = None, *,
                    with_grad: bool = False, grad: Any = None,
                    timeout: Optional[float] = None) -> Any:
        """log(softmax(input)) along `dim`; of the input's shape, and its type or `dtype`."""
        return self._activation(
            "log_softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)

    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None,
                             reduction: str = "mean", *, with_grad: bool = False, grad: Any = None,
                             timeout: Optional[float] = None) -> Any:
        """-(target log input + (1 - target) log(1 - input)) of probabilities; all of one shape, `weight`
        broadcast to it."""
        return self._loss(
            "binary_cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)

    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: str = "mean", pos_weight: Any = None, *,
                                         with_grad: bool = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> Any:
        """Binary cross entropy of sigmoid(input), stable; all of one shape, `weight` and `pos_weight`
        broadcast to it."""
        inputs = {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight}
        return self._loss("binary_cross_entropy_with_logits", inputs, {"reduction": reduction},
                          with_grad, grad, timeout)

    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: str = "mean", label_smoothing: float = 0.0, *,
                      with_grad: bool = False, grad: Any = None,
                      timeout: Optional[float] = None) -> Any:
        """-log softmax(input)[target]: logits (C), (N, C) or (N, C, d1, ..., dk); target of class indices
        without the C, or of class probabilities with it; `weight` (C)."""
        return self._loss(
            "cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction, "ignore_index": ignore_index,
             "label_smoothing": label_smoothing}, with_grad, grad, timeout)

    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: str = "mean", *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """-input[target] of log-probabilities; shapes as cross_entropy's with class indices."""
        return self._loss("nll_loss", {"input": input, "target": target, "weight": weight},
                          {"reduction": reduction, "ignore_index": ignore_index}, with_grad, grad,
                          timeout)

    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None,
                                    reduction: str = "mean", *, with_grad: bool = False,
                                    grad: Any = None, timeout: Optional[float] = None) -> Any:
        """The mean over classes of binary cross entropy of sigmoid(input); (C) or (N, C)."""
        return self._loss(
            "multilabel_soft_margin_loss", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)


def unwrap(arrays: Dict[str, Any], outputs: Sequence[str]) -> Any:
    """One result as it is, several as a tuple in the order asked for."""
    found: Tuple[Any, ...] = tuple(arrays[name] for name in outputs)
    return found[0] if len(found) == 1 else found
