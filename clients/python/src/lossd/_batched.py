"""vmap of an evaluation: slices as one call of the daemon, without reduction, each then with a denominator of its own."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch

#: Function, result, attributes, names and tensors to a result, in a way that can be differentiated.
Evaluated = Callable[..., torch.Tensor]


def moved(dims: Sequence[Optional[int]], tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """The tensors with the added dimension, where they have it, in front."""
    return [item if dim is None else item.movedim(dim, 0) for dim, item in zip(dims, tensors)]


def apply(evaluated: Evaluated, operation: Any, size: int, dims: Sequence[Optional[int]],
          tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The result with the added dimension in front, of tensors that have it there, or nowhere where `dims` has None."""
    slices = _Slices(evaluated, operation, size, dims, tensors)
    whole = slices.at_once()
    return slices.one_by_one() if whole is None else whole


class _Slices:
    def __init__(self, evaluated: Evaluated, operation: Any, size: int, dims: Sequence[Optional[int]],
                 tensors: Sequence[torch.Tensor]):
        self.evaluated = evaluated
        self.operation = operation
        self.size = size
        self.given: Dict[str, torch.Tensor] = dict(zip(operation.names, tensors))
        self.batched = {name for name, dim in zip(operation.names, dims) if dim is not None}

    def shape(self, name: str) -> Tuple[int, ...]:
        """Of a slice."""
        shape = tuple(self.given[name].shape)
        return shape[1:] if name in self.batched else shape

    def full(self, name: str) -> torch.Tensor:
        """With the added dimension."""
        item = self.given[name]
        return item if name in self.batched else item.expand(self.size, *item.shape)

    def evaluate(self, tensors: Dict[str, torch.Tensor], **changes: Any) -> torch.Tensor:
        attributes = {**self.operation.attributes, **changes}
        return self.evaluated(self.operation.function, self.operation.result, attributes, tuple(tensors),
                              *tensors.values())

    def one_by_one(self) -> torch.Tensor:
        if not self.size:
            raise ValueError(f"lossd.torch: vmap of {self.operation.function} over a dimension of size 0")
        return torch.stack([
            self.evaluate({name: item[index] if name in self.batched else item for name, item in self.given.items()})
            for index in range(self.size)])

    def at_once(self) -> Optional[torch.Tensor]:
        """None where one call has not the same meaning."""
        function, attributes = self.operation.function, self.operation.attributes
        if "input" not in self.given:
            return None  # Of rows of several tensors, which broadcast.
        shape = self.shape("input")
        if function == "sigmoid":
            return self.evaluate(self.given)
        if function in ("softmax", "log_softmax", "softmin"):
            return self._softmax(shape, attributes["dim"])
        if "reduction" not in attributes:
            return None  # Of a function that is known by its name alone.
        is_reduced = attributes["reduction"] != "none"
        if is_reduced and any(item.dtype in (torch.float16, torch.bfloat16) for item in self.given.values()):
            return None  # A slice's loss is rounded once.
        if 0 in shape:
            return None
        if function in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
            return self._elementwise(shape)
        if function in ("cross_entropy", "nll_loss") and "weight" not in self.batched:
            return self._classes(shape)
        if function == "multilabel_soft_margin_loss" and "weight" not in self.batched:
            return self._multilabel(shape)
        return None

    def _softmax(self, shape: Tuple[int, ...], dim: Any) -> Optional[torch.Tensor]:
        if not isinstance(dim, int) or not -max(len(shape), 1) <= dim < max(len(shape), 1):
            return None
        if not shape:
            return self.evaluate({"input": self.given["input"].unsqueeze(1)}, dim=1).squeeze(1)
        return self.evaluate(self.given, dim=dim % len(shape) + 1)

    def _elementwise(self, shape: Tuple[int, ...]) -> Optional[torch.Tensor]:
        if self.shape("target") != shape:
            return None
        tensors = {"input": self.full("input"), "target": self.full("target")}
        for name in ("weight", "pos_weight"):
            if name in self.given:
                item, rank = self.given[name], len(self.shape(name))
                if rank > len(shape):
                    return None
                if name in self.batched:
                    item = item.reshape(self.size, *(1,) * (len(shape) - rank), *self.shape(name))
                tensors[name] = item
        return self._reduced(self.evaluate(tensors, reduction="none"))

    def _classes(self, shape: Tuple[int, ...]) -> Optional[torch.Tensor]:
        target_shape = self.shape("target")
        is_of_indices = target_shape == shape[:1] * (len(shape) > 1) + shape[2:]
        if not shape or not (is_of_indices or target_shape == shape) or "weight" in self.batched:
            return None
        merged = {"input": self.full("input"), "target": self.full("target")}
        if len(shape) > 1:
            merged = {name: item.flatten(0, 1) for name, item in merged.items()}
        if "weight" in self.given:
            merged["weight"] = self.given["weight"]
        losses = self.evaluate(merged, reduction="none")
        losses = losses.reshape(self.size, *shape[:1] * (len(shape) > 1), *shape[2:])
        if not is_of_indices or self.operation.attributes["reduction"] != "mean":
            return self._reduced(losses)
        target = self.full("target")
        kept = (target != self.operation.attributes["ignore_index"]).to(losses.dtype)
        if "weight" in self.given:
            kept = kept * self.given["weight"][torch.where(kept != 0, target, 0).long()]
        return _flat(losses).sum(1) / _flat(kept).sum(1)

    def _multilabel(self, shape: Tuple[int, ...]) -> Optional[torch.Tensor]:
        if not shape or self.shape("target") != shape or (
                "weight" in self.given and self.shape("weight") not in (shape[-1:], (1,), ())):
            return None
        tensors = {"input": self.full("input"), "target": self.full("target")}
        if "weight" in self.given:
            tensors["weight"] = self.given["weight"]
        return self._reduced(self.evaluate(tensors, reduction="none"))

    def _reduced(self, losses: torch.Tensor) -> torch.Tensor:
        reduction = self.operation.attributes["reduction"]
        if reduction == "none":
            return losses
        return _flat(losses).mean(1) if reduction == "mean" else _flat(losses).sum(1)


def _flat(losses: torch.Tensor) -> torch.Tensor:
    return losses.flatten(1) if losses.dim() > 1 else losses.unsqueeze(1)
