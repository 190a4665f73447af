"""Functions that torch does not have, written with torch's operations from their sources. They are computed in float64
and rounded once, so that the "torch's" of their golden values is the nearest number of the type."""
import math

import torch

F = torch.nn.functional


def pinball(x, y, q=0.5):
    # The larger of q (y - x) and (q - 1) (y - x), with slope 0 where both are 0.
    return q * F.relu(y - x) + (1 - q) * F.relu(x - y)


def log_cosh(x, y):
    d = x - y
    # scikit-learn's and Keras' log(cosh(d)), in a form that does not overflow.
    return d + F.softplus(-2 * d) - math.log(2)


def focal(x, y, alpha=0.25, gamma=2.0):
    """torchvision.ops.sigmoid_focal_loss."""
    p = torch.sigmoid(x)
    p_t = p * y + (1 - p) * (1 - y)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - p_t) ** gamma
    return loss * (alpha * y + (1 - alpha) * (1 - y)) if alpha >= 0 else loss


def asymmetric(x, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05, eps=1e-8):
    """AsymmetricLoss of Ridnik et al., whose gradient goes through the factors."""
    p = torch.sigmoid(x)
    negative = (1 - p + clip).clamp(max=1) if clip else 1 - p
    loss = y * torch.log(p.clamp(min=eps)) + (1 - y) * torch.log(negative.clamp(min=eps))
    return -loss * (1 - (p * y + negative * (1 - y))) ** (gamma_pos * y + gamma_neg * (1 - y))


def siglip(x, y, scale=1.0, bias=0.0):
    return -F.logsigmoid(y * (scale * x + bias))


PAIRS = {"quantile_loss": (pinball, "mean"), "log_cosh_loss": (log_cosh, "mean"), "sigmoid_focal_loss": (focal, "none"),
         "asymmetric_loss": (asymmetric, "sum"), "siglip_loss": (siglip, "mean")}
# Integers are taken beside a floating-point type, as in torch's losses of differences.
OF_DIFFERENCES = ("quantile_loss", "log_cosh_loss")
# Formulas of the cross entropy l of the target's class.
OF_PROBABILITY = {
    "generalized_cross_entropy": lambda l, q=0.7: l if q == 0 else (1 - torch.exp(-q * l)) / q,
    "softmax_focal_loss": lambda l, gamma=2.0: (1 - torch.exp(-l)) ** gamma * l,
    "poly1_cross_entropy": lambda l, epsilon=1.0: l + epsilon * (1 - torch.exp(-l)),
}


def arcface(c, target, margin=0.5, scale=64.0):
    """pytorch-metric-learning's ArcFaceLoss, of cosines."""
    angle = torch.acos(c.gather(1, target[:, None]))
    turned = torch.where(
        angle <= math.pi - margin, torch.cos(angle + margin), torch.cos(angle) - margin * math.sin(margin))
    return F.cross_entropy(scale * c.scatter(1, target[:, None], turned), target, reduction="none")


def cosface(c, target, margin=0.35, scale=64.0):
    moved = c.gather(1, target[:, None]) - margin
    return F.cross_entropy(scale * c.scatter(1, target[:, None], moved), target, reduction="none")


def single_label(x, target, gamma_neg=4.0, gamma_pos=0.0, eps=0.1):
    """ASLSingleLabel of Ridnik et al."""
    logs, hot = x.log_softmax(1), F.one_hot(target, x.shape[1]).to(x.dtype)
    p = logs.exp()
    weight = torch.where(hot == 1, (1 - p) ** gamma_pos, p**gamma_neg)
    return -((hot * (1 - eps) + eps / x.shape[1]) * weight * logs).sum(1)


ROWS = {"arcface_loss": arcface, "cosface_loss": cosface, "asymmetric_loss_single_label": single_label}
FUNCTIONS = (*PAIRS, *OF_PROBABILITY, *ROWS)


def reduced(losses, reduction, divisor):
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.sum() / divisor


def call(function, inputs, attributes):
    """The result, in the type that torch's promotion gives."""
    x, target = inputs["input"].double(), inputs["target"]
    attributes = dict(attributes)
    if function in PAIRS:
        isFloat = [tensor.dtype.is_floating_point for tensor in (inputs["input"], target)]
        if not (any(isFloat) if function in OF_DIFFERENCES else all(isFloat)):
            raise TypeError("expected floating-point numbers")
        formula, usual = PAIRS[function]
        reduction = attributes.pop("reduction", usual)
        losses = formula(*torch.broadcast_tensors(x, target.double()), **attributes)
        divisor = (x.shape[0] if x.ndim else 1) if reduction == "batchmean" else losses.numel()
        return reduced(losses, reduction, divisor).to(torch.result_type(inputs["input"], target))
    if not inputs["input"].dtype.is_floating_point or target.dtype not in (torch.int64, torch.int32, torch.uint8):
        raise TypeError("expected class indices")
    reduction = attributes.pop("reduction", "mean")
    if function in ROWS:
        target = target.long()
        losses = ROWS[function](x.reshape(-1, x.shape[-1]), target.reshape(-1), **attributes)
        losses = losses.reshape(()) if x.ndim < 2 else losses
        return reduced(losses, reduction, losses.numel()).to(inputs["input"].dtype)
    ignored, target = attributes.pop("ignore_index", -100), target.long()
    if x.ndim == 1:
        target = target.reshape(())
    weight = inputs.get("weight")
    if weight is not None and weight.dtype != inputs["input"].dtype:
        raise TypeError("expected a weight of input's type")
    weight = torch.ones(x.shape[min(x.ndim - 1, 1)]).double() if weight is None else weight.double()
    losses = OF_PROBABILITY[function](F.cross_entropy(x, target, reduction="none", ignore_index=ignored), **attributes)
    w = torch.where(target == ignored, 0, weight[target.clamp(0)] if weight.numel() else torch.zeros(target.shape))
    losses = torch.where(target == ignored, 0, w * losses)
    return reduced(losses, reduction, w.sum()).to(inputs["input"].dtype)
