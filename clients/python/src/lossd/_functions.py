"""torch.nn.functional's functions, by its names and with its arguments."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple


class Functions:
    """What both clients have. `evaluate` is theirs: one returns results, the other awaitables of them.

    Every loss takes `with_grad=True` and then returns (loss, gradient with respect to input); `grad` is an
    upstream gradient of the loss's shape, ones by default. `timeout` is in seconds.
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
        return self._activation("sigmoid", input, {}, with_grad, grad, timeout)

    def softmax(self, input: Any, dim: int = -1, dtype: Optional[str] = None, *,
                with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        return self._activation(
            "softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)

    def log_softmax(self, input: Any, dim: int = -1, dtype: Optional[str] = None, *,
                    with_grad: bool = False, grad: Any = None,
                    timeout: Optional[float] = None) -> Any:
        return self._activation(
            "log_softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)

    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None,
                             reduction: str = "mean", *, with_grad: bool = False, grad: Any = None,
                             timeout: Optional[float] = None) -> Any:
        return self._loss(
            "binary_cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)

    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: str = "mean", pos_weight: Any = None, *,
                                         with_grad: bool = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> Any:
        inputs = {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight}
        return self._loss("binary_cross_entropy_with_logits", inputs, {"reduction": reduction},
                          with_grad, grad, timeout)

    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: str = "mean", label_smoothing: float = 0.0, *,
                      with_grad: bool = False, grad: Any = None,
                      timeout: Optional[float] = None) -> Any:
        return self._loss(
            "cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction, "ignore_index": ignore_index,
             "label_smoothing": label_smoothing}, with_grad, grad, timeout)

    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: str = "mean", *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        return self._loss("nll_loss", {"input": input, "target": target, "weight": weight},
                          {"reduction": reduction, "ignore_index": ignore_index}, with_grad, grad,
                          timeout)

    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None,
                                    reduction: str = "mean", *, with_grad: bool = False,
                                    grad: Any = None, timeout: Optional[float] = None) -> Any:
        return self._loss(
            "multilabel_soft_margin_loss", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)


def unwrap(arrays: Dict[str, Any], outputs: Sequence[str]) -> Any:
    """One result as it is, several as a tuple in the order asked for."""
    found: Tuple[Any, ...] = tuple(arrays[name] for name in outputs)
    return found[0] if len(found) == 1 else found
