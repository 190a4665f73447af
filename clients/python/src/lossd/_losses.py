"""Losses, by torch.nn.functional's names and with its arguments."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union, overload

from ._functions_base import Base, One, Reduction, Two, documented, required


class Losses(Base[One, Two]):
    """torch's losses; docs/functions.md has the formulas."""

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Literal[False] = False, grad: Any = None,
                             timeout: Optional[float] = None) -> One: ...

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Literal[True], grad: Any = None,
                             timeout: Optional[float] = None) -> Two: ...

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: bool, grad: Any = None,
                             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: bool = False, grad: Any = None,
                             timeout: Optional[float] = None) -> Any:
        """-(target log input + (1 - target) log(1 - input)), each logarithm at least -100.

        Arguments:
            input: probabilities, 0 to 1, of any shape.
            target: of the input's shape and type, 0 to 1.
            weight: broadcast to the input's shape; what each element counts.
            reduction: "mean" (over all elements), "sum", or "none": the input's shape.

        Returns the loss.

        Example:
            client.binary_cross_entropy([0.9, 0.2], [1.0, 0.0])  # 0.164
        """
        required(reduction=reduction)
        return self._loss(
            "binary_cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)


    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Literal[False] = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> One: ...

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Literal[True], grad: Any = None,
                                         timeout: Optional[float] = None) -> Two: ...

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *, with_grad: bool,
                                         grad: Any = None,
                                         timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: bool = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> Any:
        """The binary cross entropy of sigmoid(input), stable for logits of any size.

        Arguments:
            input: logits of any shape.
            target: of the input's shape; any numbers.
            weight: broadcast to the input's shape; what each element counts.
            reduction: "mean" (over all elements), "sum", or "none": the input's shape.
            pos_weight: broadcast to the input's shape; what a positive counts.

        Returns the loss, of the target's type.

        Example:
            client.binary_cross_entropy_with_logits([2.0, -1.0], [1.0, 0.0])  # 0.220
        """
        required(reduction=reduction)
        inputs = {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight}
        return self._loss(
            "binary_cross_entropy_with_logits", inputs, {"reduction": reduction}, with_grad, grad, timeout)


    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *,
                      with_grad: Literal[False] = False, grad: Any = None,
                      timeout: Optional[float] = None) -> One: ...

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, with_grad: Literal[True],
                      grad: Any = None,
                      timeout: Optional[float] = None) -> Two: ...

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, with_grad: bool,
                      grad: Any = None,
                      timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, with_grad: bool = False,
                      grad: Any = None,
                      timeout: Optional[float] = None) -> Any:
        """-log softmax(input)[target] over the classes, stable for logits of any size.

        Arguments:
            input: logits of the shape (C), (N, C) or (N, C, d1, ..., dk), of C classes.
            target: class indices of the input's shape without the C (int64, int32, uint8), or class probabilities of
                the input's shape. Its shape alone tells which.
            weight: (C); what each class counts.
            ignore_index: the target that does not count; with probabilities it has no meaning.
            reduction: "mean" (over the weights of the targets that count; of probabilities over the rows), "sum", or
                "none": the input's shape without the C.
            label_smoothing: 0 to 1; what part of each target is spread evenly over the classes.

        Returns the loss.

        Example:
            logits = np.array([[1, 2, 3], [1, 2, 0]], np.float32)
            loss, grad = client.cross_entropy(logits, [2, 0], with_grad=True, timeout=5)
        """
        required(ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        return self._loss(
            "cross_entropy", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}, with_grad,
            grad, timeout)


    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                 timeout: Optional[float] = None) -> One: ...

    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: Literal[True], grad: Any = None,
                 timeout: Optional[float] = None) -> Two: ...

    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """-input[target] over the classes.

        Arguments:
            input: log-probabilities of the shape (C), (N, C) or (N, C, d1, ..., dk), of C classes.
            target: class indices of the input's shape without the C (int64, int32, uint8).
            weight: (C); what each class counts.
            ignore_index: the target that does not count.
            reduction: "mean" (over the weights of the targets that count), "sum", or "none": the target's shape.

        Returns the loss.

        Example:
            client.nll_loss(client.log_softmax(logits), labels)
        """
        required(ignore_index=ignore_index, reduction=reduction)
        return self._loss(
            "nll_loss", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction, "ignore_index": ignore_index}, with_grad, grad, timeout)


    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Literal[False] = False, grad: Any = None,
                                    timeout: Optional[float] = None) -> One: ...

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Literal[True], grad: Any = None,
                                    timeout: Optional[float] = None) -> Two: ...

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: bool, grad: Any = None,
                                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: bool = False, grad: Any = None,
                                    timeout: Optional[float] = None) -> Any:
        """The mean over the classes of the binary cross entropy of sigmoid(input).

        Arguments:
            input: logits of the shape (C) or (N, C).
            target: of the input's shape; 1 where a label is there, else 0.
            weight: broadcast to the input's shape; what each class counts.
            reduction: "mean" (over the rows), "sum", or "none": one loss a row.

        Returns the loss.

        Example:
            client.multilabel_soft_margin_loss(np.zeros((2, 3), np.float32), np.eye(2, 3, dtype=np.float32))
        """
        required(reduction=reduction)
        return self._loss(
            "multilabel_soft_margin_loss", {"input": input, "target": target, "weight": weight},
            {"reduction": reduction}, with_grad, grad, timeout)
