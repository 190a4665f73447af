"""torch.nn.functional's losses of margins between classes and of sequences, with its arguments in its order, and their
modules."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Union

import torch

from ._apply import apply, reduction_of
from ._tensors import check

Tensor = torch.Tensor
Lengths = Union[Tensor, Sequence[int]]

LOSSES = ("ctc_loss", "multi_margin_loss", "multilabel_margin_loss")
MODULES = ("CTCLoss", "MultiLabelMarginLoss", "MultiMarginLoss")
__all__ = [*LOSSES, *MODULES]


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Optional[Tensor] = None,
                      size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                      reduction: str = "mean") -> Tensor:
    return apply("multi_margin_loss", "loss",
                 {"reduction": reduction_of(size_average, reduce, reduction), "p": int(p), "margin": float(margin)},
                 {"input": input, "target": target, "weight": weight})


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None,
                           reduce: Optional[bool] = None, reduction: str = "mean") -> Tensor:
    return apply("multilabel_margin_loss", "loss", {"reduction": reduction_of(size_average, reduce, reduction)},
                 {"input": input, "target": target})


def _lengths(lengths: Lengths) -> Tensor:
    return lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, dtype=torch.long)


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    check(log_probs, "log_probs", "ctc_loss")
    check(targets, "targets", "ctc_loss")
    return apply("ctc_loss", "loss",
                 {"reduction": reduction_of(None, None, reduction), "blank": int(blank),
                  "zero_infinity": bool(zero_infinity)},
                 {"log_probs": log_probs, "targets": targets, "input_lengths": _lengths(input_lengths),
                  "target_lengths": _lengths(target_lengths)})


class MultiMarginLoss(torch.nn.MultiMarginLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction)


class MultiLabelMarginLoss(torch.nn.MultiLabelMarginLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return multilabel_margin_loss(input, target, reduction=self.reduction)


class CTCLoss(torch.nn.CTCLoss):
    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        return ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction,
                        self.zero_infinity)
