"""torch's functions and losses of rows: norms, distances, cosines, with torch's arguments in its order, and their modules."""

from __future__ import annotations

from typing import Any, Optional

import torch

from ._apply import apply, reduction_of

Tensor = torch.Tensor

FUNCTIONS = (
    "cosine_embedding_loss", "cosine_similarity", "logsumexp", "normalize", "pairwise_distance", "triplet_margin_loss")
MODULES = ("CosineEmbeddingLoss", "CosineSimilarity", "PairwiseDistance", "TripletMarginLoss")
__all__ = [*FUNCTIONS, *MODULES]


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    if not isinstance(dim, int):
        if len(dim) != 1:
            raise NotImplementedError("lossd.torch: logsumexp is along one dimension")
        dim, = dim
    return apply("logsumexp", "output", {"dim": dim, "keepdim": bool(keepdim)}, {"input": input})


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Optional[Tensor] = None) -> Tensor:
    if out is not None:
        raise NotImplementedError("lossd.torch: normalize writes to no tensor (out)")
    return apply("normalize", "output", {"p": float(p), "dim": dim, "eps": float(eps)}, {"input": input})


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    return apply("cosine_similarity", "output", {"dim": dim, "eps": float(eps)}, {"x1": x1, "x2": x2})


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    return apply("pairwise_distance", "output", {"p": float(p), "eps": float(eps), "keepdim": bool(keepdim)},
                 {"x1": x1, "x2": x2})


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                          size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                          reduction: str = "mean") -> Tensor:
    return apply(
        "cosine_embedding_loss", "loss",
        {"reduction": reduction_of(size_average, reduce, reduction), "margin": float(margin)},
        {"input1": input1, "input2": input2, "target": target.detach()}, is_wide_in_autocast=True)


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: Optional[bool] = None,
                        reduce: Optional[bool] = None, reduction: str = "mean") -> Tensor:
    return apply(
        "triplet_margin_loss", "loss",
        {"reduction": reduction_of(size_average, reduce, reduction), "margin": float(margin), "p": float(p),
         "eps": float(eps), "swap": bool(swap)},
        {"anchor": anchor, "positive": positive, "negative": negative}, is_wide_in_autocast=True)


class CosineSimilarity(torch.nn.CosineSimilarity):
    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(torch.nn.PairwiseDistance):
    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class CosineEmbeddingLoss(torch.nn.CosineEmbeddingLoss):
    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return cosine_embedding_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class TripletMarginLoss(torch.nn.TripletMarginLoss):
    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return triplet_margin_loss(anchor, positive, negative, margin=self.margin, p=self.p, eps=self.eps,
                                   swap=self.swap, reduction=self.reduction)
