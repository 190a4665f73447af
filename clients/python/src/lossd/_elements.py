"""torch.nn.functional's elementwise activations and losses, with its arguments in its order, and their modules.
`inplace` is taken and has no effect: results come from the daemon."""

from __future__ import annotations

import warnings
from typing import Any, Dict, Optional, Tuple

import torch

from ._apply import apply, reduction_of

Tensor = torch.Tensor

ACTIVATIONS = (
    "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish",
    "relu", "relu6", "rrelu", "selu", "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold")
OTHERS = ("gaussian_nll_loss", "glu", "margin_ranking_loss", "prelu")
LOSSES = (
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss", "poisson_nll_loss", "smooth_l1_loss",
    "soft_margin_loss")
MODULES = (
    "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "HingeEmbeddingLoss", "HuberLoss",
    "KLDivLoss", "L1Loss", "LeakyReLU", "LogSigmoid", "MSELoss", "Mish", "PoissonNLLLoss", "RReLU", "ReLU", "ReLU6",
    "GaussianNLLLoss", "MarginRankingLoss", "PReLU", "SELU", "SiLU", "SmoothL1Loss", "SoftMarginLoss", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold")
__all__ = [*ACTIVATIONS, *LOSSES, *OTHERS, *MODULES]


def _activation(function: str, input: Tensor, **attributes: Any) -> Tensor:
    return apply(function, "output", attributes, {"input": input})


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("relu", input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("relu6", input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    return _activation("hardtanh", input, min_val=float(min_val), max_val=float(max_val))


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    return _activation("threshold", input, threshold=float(threshold), value=float(value))


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return _activation("leaky_relu", input, negative_slope=float(negative_slope))


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    if training:
        raise NotImplementedError("lossd.torch: rrelu in training is random, and lossd computes what is not")
    return _activation("rrelu", input, lower=float(lower), upper=float(upper))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return _activation("elu", input, alpha=float(alpha))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("selu", input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return _activation("celu", input, alpha=float(alpha))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    return _activation("gelu", input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("silu", input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("mish", input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    return _activation("softplus", input, beta=float(beta), threshold=float(threshold))


def logsigmoid(input: Tensor) -> Tensor:
    return _activation("logsigmoid", input)


def softsign(input: Tensor) -> Tensor:
    return _activation("softsign", input)


def tanh(input: Tensor) -> Tensor:
    return _activation("tanh", input)


def tanhshrink(input: Tensor) -> Tensor:
    return _activation("tanhshrink", input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("hardsigmoid", input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("hardswish", input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    return _activation("hardshrink", input, lambd=float(lambd))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    return _activation("softshrink", input, lambd=float(lambd))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    if torch._C._are_functorch_transforms_active() and weight.numel() != 1 and input.dim() > 1:
        # Dimensions that vmap adds would take the channels' place.
        weight = weight.reshape(-1, *[1] * (input.dim() - 2)).expand(input.shape)
        return torch.where(input > 0, input, weight * input)
    return apply("prelu", "output", {}, {"input": input, "weight": weight})


def glu(input: Tensor, dim: int = -1) -> Tensor:
    return _activation("glu", input, dim=int(dim))


# ---- Losses. torch's promotion and broadcasting come before the daemon's, by torch itself, which then adds up gradients
# too, and knows which dimensions vmap has added.

#: Where torch warns of sizes that differ.
_WARNING = frozenset(("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss"))


def _loss(function: str, input: Tensor, target: Tensor, reduction: str, **attributes: Any) -> Tensor:
    if function in _WARNING and target.size() != input.size():
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). "
            "This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3)
    x, y = torch.broadcast_tensors(input, target)  # type: ignore[no-untyped-call]
    if x.dtype != y.dtype:
        # torch expands before it promotes but for these, where a tensor without dimensions then counts for less.
        is_of_tensors = function in ("kl_div", "poisson_nll_loss")
        common = torch.result_type(input, target) if is_of_tensors else torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(common), y.to(common)
    return apply(function, "loss", {"reduction": reduction, **attributes}, {"input": x, "target": y})


def _weighted(function: str, input: Tensor, target: Tensor, weight: Optional[Tensor], reduction: str,
              **attributes: Any) -> Tensor:
    """With a weight of each element: l1_loss and mse_loss divide by its sum, huber_loss by the count."""
    if weight is None:
        return _loss(function, input, target, reduction, **attributes)
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    losses = _loss(function, input, target, "none", **attributes) * weight
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if function == "huber_loss" else losses.sum() / weight.sum()


def l1_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
            reduction: str = "mean", weight: Optional[Tensor] = None) -> Tensor:
    return _weighted("l1_loss", input, target, weight, reduction_of(size_average, reduce, reduction))


def mse_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
             reduction: str = "mean", weight: Optional[Tensor] = None) -> Tensor:
    return _weighted("mse_loss", input, target, weight, reduction_of(size_average, reduce, reduction))


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    return _loss("smooth_l1_loss", input, target, reduction_of(size_average, reduce, reduction), beta=float(beta))


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Optional[Tensor] = None) -> Tensor:
    # torch's result has the input's type, but for that of a weight.
    if not input.is_floating_point():
        raise RuntimeError(
            f"lossd.torch: huber_loss has input's type, which is {input.dtype}, expected a floating-point type")
    result = _weighted("huber_loss", input, target, weight, reduction_of(None, None, reduction), delta=float(delta))
    return result if weight is not None else result.to(input.dtype)


def kl_div(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    if not (input.is_floating_point() and target.is_floating_point()):
        raise RuntimeError(
            f"lossd.torch: kl_div: input is {input.dtype} and target {target.dtype}, expected floating-point types")
    if reduction == "batchmean" and size_average is None and reduce is None:
        # torch divides by the input's own size, 1 without dimensions.
        rows = input.size(0) if input.dim() else 1
        return _loss("kl_div", input, target, "sum", log_target=bool(log_target)) / rows
    return _loss("kl_div", input, target, reduction_of(size_average, reduce, reduction), log_target=bool(log_target))


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: Optional[bool] = None, eps: float = 1e-8, reduce: Optional[bool] = None,
                     reduction: str = "mean") -> Tensor:
    return _loss("poisson_nll_loss", input, target, reduction_of(size_average, reduce, reduction),
                 log_input=bool(log_input), full=bool(full), eps=float(eps))


def soft_margin_loss(input: Tensor, target: Tensor, size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                     reduction: str = "mean") -> Tensor:
    return _loss("soft_margin_loss", input, target.to(input.dtype), reduction_of(size_average, reduce, reduction))


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: Optional[bool] = None,
                         reduce: Optional[bool] = None, reduction: str = "mean") -> Tensor:
    return _loss("hinge_embedding_loss", input, target.detach().to(input.dtype), reduction_of(size_average, reduce, reduction),
                 margin=float(margin))


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = float(var) * torch.ones_like(input)
    if var.size() != input.size():
        if input.size()[:-1] == var.size():
            var = var.unsqueeze(-1)
        else:
            different = [place for place, (a, b) in enumerate(zip(input.size(), var.size())) if a != b]
            if input.dim() != var.dim() or len(different) != 1 or var.size(different[0]) != 1:
                raise ValueError("var is of incorrect size")
    reduction = reduction_of(None, None, reduction)
    x, y, v = torch.broadcast_tensors(input, target, var)  # type: ignore[no-untyped-call]
    common = torch.result_type(torch.empty((), dtype=torch.result_type(input, target)).expand(x.shape), var)
    x, y, v = (tensor.to(common) for tensor in (x, y, v))
    return apply("gaussian_nll_loss", "loss", {"reduction": reduction, "full": bool(full), "eps": float(eps)},
                 {"input": x, "target": y, "var": v})


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                        size_average: Optional[bool] = None, reduce: Optional[bool] = None,
                        reduction: str = "mean") -> Tensor:
    reduction = reduction_of(size_average, reduce, reduction)
    if not input1.dim() == input2.dim() == target.dim():
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} ")
    x, y, z = torch.broadcast_tensors(input1, input2, target)  # type: ignore[no-untyped-call]
    common = torch.promote_types(torch.promote_types(x.dtype, y.dtype), z.dtype)
    x, y, z = (tensor.to(common) for tensor in (x, y, z))
    return apply("margin_ranking_loss", "loss", {"reduction": reduction, "margin": float(margin)},
                 {"input1": x, "input2": y, "target": z})


# ---- Modules ----


def _module(name: str, function: str, attributes: Tuple[str, ...]) -> Any:
    base = getattr(torch.nn, name)
    evaluated = globals()[function]

    def forward(self: Any, *tensors: Tensor) -> Tensor:
        given: Dict[str, Any] = {attribute: getattr(self, attribute) for attribute in attributes}
        result: Tensor = evaluated(*tensors, **given)
        return result

    return type(name, (base,), {"forward": forward, "__module__": "lossd.torch", "__doc__": base.__doc__})


_ATTRIBUTES: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "ReLU": ("relu", ()), "ReLU6": ("relu6", ()), "Hardtanh": ("hardtanh", ("min_val", "max_val")),
    "Threshold": ("threshold", ("threshold", "value")), "LeakyReLU": ("leaky_relu", ("negative_slope",)),
    "RReLU": ("rrelu", ("lower", "upper", "training")), "ELU": ("elu", ("alpha",)), "SELU": ("selu", ()),
    "CELU": ("celu", ("alpha",)), "GELU": ("gelu", ("approximate",)), "SiLU": ("silu", ()), "Mish": ("mish", ()),
    "Softplus": ("softplus", ("beta", "threshold")), "LogSigmoid": ("logsigmoid", ()), "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()), "Tanhshrink": ("tanhshrink", ()), "Hardsigmoid": ("hardsigmoid", ()),
    "Hardswish": ("hardswish", ()), "Hardshrink": ("hardshrink", ("lambd",)), "Softshrink": ("softshrink", ("lambd",)),
    "L1Loss": ("l1_loss", ("reduction",)), "MSELoss": ("mse_loss", ("reduction",)),
    "SmoothL1Loss": ("smooth_l1_loss", ("reduction", "beta")), "HuberLoss": ("huber_loss", ("reduction", "delta")),
    "KLDivLoss": ("kl_div", ("reduction", "log_target")),
    "PoissonNLLLoss": ("poisson_nll_loss", ("log_input", "full", "eps", "reduction")),
    "SoftMarginLoss": ("soft_margin_loss", ("reduction",)),
    "HingeEmbeddingLoss": ("hinge_embedding_loss", ("margin", "reduction")),
    "GLU": ("glu", ("dim",)), "PReLU": ("prelu", ("weight",)),
    "GaussianNLLLoss": ("gaussian_nll_loss", ("full", "eps", "reduction")),
    "MarginRankingLoss": ("margin_ranking_loss", ("margin", "reduction")),
}
for _name, (_function, _given) in _ATTRIBUTES.items():
    globals()[_name] = _module(_name, _function, _given)
