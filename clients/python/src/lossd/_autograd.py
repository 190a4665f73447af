"""An evaluation as an operation of torch's autograd: derivatives of any order, torch.func's transforms, forward mode.

The daemon computes results and first derivatives, also under vmap. Derivatives of derivatives, and forward mode, are
those of torch's own function, computed in this process.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.autograd.function import Function
from torch.nn import functional as F

from . import _batched
from ._tensors import array, default, tensor

Tensors = Tuple[torch.Tensor, ...]
#: Gives several tensors for several.
Map = Callable[..., Tensors]


def _cross_entropy(input: torch.Tensor, target: torch.Tensor, softcap: float = 0.0, lse_square_scale: float = 0.0,
                   **arguments: Any) -> torch.Tensor:
    """torch's, with the two attributes that are lossd's own."""
    logits = softcap * torch.tanh(input / softcap) if softcap else input
    loss = F.cross_entropy(logits, target, **arguments)
    if not lse_square_scale:
        return loss
    squares = lse_square_scale * torch.logsumexp(logits, 0 if input.dim() == 1 else 1).square()
    kept = (target != arguments.get("ignore_index", -100)).reshape(squares.shape)
    squares = torch.where(kept, squares, torch.zeros_like(squares))
    reduction = arguments.get("reduction", "mean")
    return loss + (squares if reduction == "none" else squares.sum() / (kept.sum() if reduction == "mean" else 1))


_TORCHS: Dict[str, Callable[..., torch.Tensor]] = {
    "sigmoid": torch.sigmoid, "softmax": F.softmax, "log_softmax": F.log_softmax,
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits, "cross_entropy": _cross_entropy,
    "nll_loss": F.nll_loss, "multilabel_soft_margin_loss": F.multilabel_soft_margin_loss,
}
# Of the same names and arguments.
_TORCHS.update({name: getattr(place, name) for place, names in (
    (F, ("ctc_loss", "multi_margin_loss", "multilabel_margin_loss")),
    (F, ("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hinge_embedding_loss", "huber_loss",
         "kl_div", "l1_loss", "leaky_relu", "logsigmoid", "mish", "mse_loss", "poisson_nll_loss", "relu", "relu6",
         "rrelu", "selu", "silu", "smooth_l1_loss", "soft_margin_loss", "softplus", "softshrink", "softsign",
         "tanhshrink", "threshold", "gaussian_nll_loss", "glu", "margin_ranking_loss", "prelu")),
    (F, ("cosine_embedding_loss", "cosine_similarity", "normalize", "pairwise_distance", "softmin", "triplet_margin_loss")),
    (torch, ("erf", "erfc", "exp2", "expm1", "log1p", "logit", "logsumexp", "sinc", "tanh")),
    (torch.special, ("entr", "log_ndtr", "ndtr", "xlog1py", "xlogy"))) for name in names})

_are_transforms_active = torch._C._are_functorch_transforms_active
_is_graph_kept: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
_OLD_VMAP: Any = torch._C._parse_dispatch_key("Batched")


class Operation:
    """What an evaluation asks for beside its tensors. `names` are theirs, `wanted` those whose gradients, for an
    upstream gradient of 1, come along with the result."""

    __slots__ = ("function", "result", "attributes", "names", "wanted")

    def __init__(self, function: str, result: str, attributes: Dict[str, Any], names: Sequence[str],
                 wanted: Sequence[str] = ()):
        self.function = function
        self.result = result
        self.attributes = attributes
        self.names = tuple(names)
        self.wanted = tuple(wanted)

    def evaluate(self, tensors: Sequence[torch.Tensor], outputs: Sequence[str],
                 upstream: Optional[torch.Tensor] = None) -> List[torch.Tensor]:
        inputs = {name: array(item, name) for name, item in zip(self.names, tensors)}
        if upstream is not None:
            inputs[f"grad.{self.result}"] = array(upstream, "the upstream gradient")
        arrays = default().evaluate(self.function, inputs, self.attributes, outputs)
        return [tensor(arrays[name]) for name in outputs]

    def torchs(self, *tensors: torch.Tensor) -> Tensors:
        """torch's own result, which torch can differentiate as often as it likes."""
        function = _TORCHS.get(self.function)
        if function is None:
            raise NotImplementedError(
                f"lossd.torch: {self.function} has no derivative of its gradient (create_graph=True) and none in "
                "forward mode")
        given = dict(zip(self.names, tensors))
        target = given.get("target")
        if target is not None and not target.is_floating_point() and self.function in ("cross_entropy", "nll_loss"):
            given["target"] = target.long()
        attributes = dict(self.attributes)
        if isinstance(attributes.get("dtype"), str):
            attributes["dtype"] = getattr(torch, attributes["dtype"])
        return (function(**given, **attributes),)


def apply(function: str, result: str, attributes: Dict[str, Any], given: Dict[str, torch.Tensor]) -> torch.Tensor:
    """The result of a function of the daemon's, which autograd and torch.func's transforms know how to go on with."""
    wanted: List[str] = []
    is_eager = not _are_transforms_active()
    if is_eager and torch.is_grad_enabled() and attributes.get("reduction", "none") != "none":
        # Loss and gradients in one call: most often the upstream gradient will be 1.
        wanted = [name for name, item in given.items() if item.requires_grad]
    outputs: Tensors = Evaluate.apply(  # type: ignore[no-untyped-call]
        Operation(function, result, attributes, tuple(given), wanted), *given.values())
    return outputs[0]


class Evaluate(Function):
    """Operation and tensors to the result, and the gradients that are wanted."""

    @staticmethod
    def forward(operation: Operation, *tensors: torch.Tensor) -> Tensors:
        return tuple(operation.evaluate(
            tensors, [operation.result, *(f"grad.{name}" for name in operation.wanted)]))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        operation, *tensors = inputs
        ctx.operation = operation
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.save_for_forward(*tensors)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, upstream: Optional[torch.Tensor], *_: Any) -> Any:
        operation: Operation = ctx.operation
        if upstream is None:
            return (None,) * (1 + len(operation.names))
        saved = ctx.saved_tensors  # Once: a checkpoint gives them a single time.
        tensors, ready = saved[:len(operation.names)], saved[len(operation.names):]
        needed = tuple(name for name, needs in zip(operation.names, ctx.needs_input_grad[1:]) if needs)
        if _is_of_old_vmap(upstream):
            gradients = _gradients_of_old_vmap(operation, needed, upstream, tensors)
        elif torch.is_grad_enabled() or _are_transforms_active():
            gradients = Gradient.apply(operation, needed, upstream, *tensors)  # type: ignore[no-untyped-call]
        else:
            gradients = _gradients(operation, needed, dict(zip(operation.wanted, ready)), upstream, tensors)
        found = dict(zip(needed, gradients))
        return (None, *(found.get(name) for name in operation.names))

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Optional[torch.Tensor]) -> Any:
        operation: Operation = ctx.operation
        (pushed,) = _push(operation.torchs, ctx.saved_tensors, tangents)
        return (pushed, *(None for _ in operation.wanted))

    @staticmethod
    def vmap(info: Any, in_dims: Any, operation: Operation, *tensors: torch.Tensor) -> Any:
        moved = _batched.moved(in_dims[1:], tensors)
        return (_batched.apply(_evaluated, operation, info.batch_size, in_dims[1:], moved),), (0,)


def _evaluated(function: str, result: str, attributes: Dict[str, Any], names: Sequence[str],
               *tensors: torch.Tensor) -> torch.Tensor:
    return apply(function, result, attributes, dict(zip(names, tensors)))


class Gradient(Function):
    """Operation, names, upstream gradient and tensors to the gradients of the tensors of those names."""

    @staticmethod
    def forward(operation: Operation, needed: Sequence[str], upstream: torch.Tensor,
                *tensors: torch.Tensor) -> Tensors:
        return tuple(operation.evaluate(tensors, [f"grad.{name}" for name in needed], upstream))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.operation, ctx.needed, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)  # In forward mode zeros would be tangents of what does not move.

    @staticmethod
    def backward(ctx: Any, *cotangents: Optional[torch.Tensor]) -> Any:
        given = [(name, item) for name, item in zip(ctx.needed, cotangents) if item is not None]
        gradient = _torchs_gradient(ctx.operation, [name for name, _ in given])
        return (None, None, *_pull(gradient, ctx.saved_tensors, [item for _, item in given], ctx.needs_input_grad[2:]))

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Optional[torch.Tensor]) -> Any:
        return _push(_torchs_gradient(ctx.operation, ctx.needed), ctx.saved_tensors, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, operation: Operation, needed: Sequence[str],
             upstream: torch.Tensor, *tensors: torch.Tensor) -> Any:
        upstream, *moved = _batched.moved(in_dims[2:], (upstream, *tensors))
        if in_dims[2] is None:
            upstream = upstream.expand(info.batch_size, *upstream.shape)
        dims = list(in_dims[3:])
        needs = [name in needed for name in operation.names]
        for index, item in enumerate(moved):
            if needs[index] and dims[index] is None:  # Each slice has a gradient of its own.
                dims[index], moved[index] = 0, item.expand(info.batch_size, *item.shape)

        def batched(*tensors: torch.Tensor) -> Tensors:
            return (_batched.apply(_evaluated, operation, info.batch_size, dims, tensors),)

        gradients = [item for item, is_needed in zip(_pull(batched, moved, (upstream,), needs), needs) if is_needed]
        return tuple(gradients), (0,) * len(gradients)


def _is_of_old_vmap(item: torch.Tensor) -> bool:
    """Of is_grads_batched=True, which autograd.functional's vectorize=True is made of: not torch.func's."""
    return bool(torch._C._dispatch_keys(item).has(_OLD_VMAP))


def _gradients_of_old_vmap(operation: Operation, needed: Sequence[str], upstream: torch.Tensor,
                           tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    level = torch._C._vmapmode_increment_nesting()
    torch._C._vmapmode_decrement_nesting()
    level -= 1
    upstreams = torch._remove_batch_dim(upstream, level, 1, 0)
    info = SimpleNamespace(batch_size=upstreams.shape[0])
    gradients, _ = Gradient.vmap(info, (None, None, 0, *(None for _ in tensors)), operation, needed, upstreams,
                                 *tensors)
    return [torch._add_batch_dim(item, 0, level) for item in gradients]


def _gradients(operation: Operation, needed: Sequence[str], ready: Dict[str, torch.Tensor], upstream: torch.Tensor,
               tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    found: Dict[str, torch.Tensor] = {}
    for name in needed:
        scaled = _scaled(ready[name], upstream) if name in ready else None
        if scaled is not None:
            found[name] = scaled
    missing = [name for name in needed if name not in found]
    if missing:
        # One rounding, whatever the upstream gradient is: computed with it.
        outputs = [f"grad.{name}" for name in missing]
        found.update(zip(missing, operation.evaluate(tensors, outputs, upstream)))
    return [found[name] for name in needed]


def _scaled(gradient: torch.Tensor, upstream: torch.Tensor) -> Optional[torch.Tensor]:
    """gradient * upstream where that is exact: for 1, and for powers of two that make no denormals; else None.
    Never a tensor that a later backward gives again."""
    factor = abs(upstream.item())
    if upstream == 1:
        return gradient.clone() if _is_graph_kept() else gradient
    if gradient.dtype not in (torch.float32, torch.float64) or math.frexp(factor)[0] != 0.5:
        return None
    magnitudes = gradient.abs()
    smallest = torch.where(magnitudes == 0, math.inf, magnitudes).min() if gradient.numel() else math.inf
    if smallest * min(1.0, factor) < torch.finfo(gradient.dtype).tiny:
        return None
    return gradient * upstream.to(gradient.dtype)


# ---- Derivatives of torch's own functions, which can be differentiated again

def _torchs_gradient(operation: Operation, needed: Sequence[str]) -> Map:
    needs = [name in needed for name in operation.names]

    def gradient(upstream: torch.Tensor, *tensors: torch.Tensor) -> Tensors:
        pulled = _pull(operation.torchs, tensors, (upstream,), needs)
        return tuple(item for item in pulled if item is not None)

    return gradient


def _pull(function: Map, primals: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor],
          needs: Sequence[bool], others: Sequence[torch.Tensor] = ()) -> List[Optional[torch.Tensor]]:
    """Cotangents of the function's results to those of its arguments, None where none is needed: J^T c. `others`: what
    the function depends on beside its arguments."""
    indices = [index for index, is_needed in enumerate(needs) if is_needed]
    if not indices:
        return [None] * len(primals)

    def of_needed(*some: torch.Tensor) -> Tensors:
        return function(*(some[indices.index(index)] if index in indices else item
                          for index, item in enumerate(primals)))

    some = [primals[index] for index in indices]
    if _are_transforms_active():
        pull: Any = torch.func.vjp(of_needed, *some)[1]
        found = pull(tuple(cotangents))
    else:
        is_recorded = torch.is_grad_enabled() and any(item.requires_grad for item in (*primals, *cotangents, *others))
        found = _pull_by_autograd(of_needed, some, cotangents, is_recorded)
    by_index = dict(zip(indices, found))
    return [by_index.get(index) for index in range(len(primals))]


def _pull_by_autograd(function: Map, primals: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor],
                      is_recorded: bool) -> Sequence[torch.Tensor]:
    """torch.func.vjp refuses to run where hooks of saved tensors are set, as checkpoints do."""
    with torch.enable_grad():
        # Views: the same tensor may be given twice.
        views = [item.view_as(item) if is_recorded and item.requires_grad else item.detach().requires_grad_()
                 for item in primals]
        pairs = [(result, cotangent) for result, cotangent in zip(function(*views), cotangents)
                 if result.requires_grad]
        found: Sequence[Optional[torch.Tensor]] = [None] * len(views)
        if pairs:
            results, some = zip(*pairs)
            found = torch.autograd.grad(results, views, some, create_graph=is_recorded, allow_unused=True)
    return [torch.zeros_like(item) if gradient is None else gradient for item, gradient in zip(primals, found)]


def _push(function: Map, primals: Sequence[torch.Tensor], tangents: Sequence[Optional[torch.Tensor]]) -> Tensors:
    """Tangents of the function's arguments to those of its results: J t, as the derivative of J^T u by u."""
    needs = [item is not None for item in tangents]
    results = function(*primals)

    def pulled(*upstreams: torch.Tensor) -> Tensors:
        return tuple(item for item in _pull(function, primals, upstreams, needs) if item is not None)

    moving = tuple(item for item in tangents if item is not None)
    found = _pull(pulled, [torch.ones_like(item) for item in results], moving, [True] * len(results), primals)
    return tuple(item for item in found if item is not None)
