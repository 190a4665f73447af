"""Elementwise functions in extended precision, for reference.py: activations as (value, slope), losses of an input and
a target as (value, slope, slope of the target). A number that nearly cancels comes as `Sum(terms...)`."""
import mpmath
import numpy as np

from extended import L, PI, Sum, exactly, gathered, logistic, parts, reduce_loss, scaled, softplus

# torch holds hardsigmoid's slope in float32, whatever the type.
SIXTH = L(np.float32(1) / np.float32(6))


def clamped(low, high):
    return lambda x, a: (np.clip(x, low(a), high(a)), ((x > low(a)) & (x < high(a))).astype(L))


def elu(alpha, inner, outer):
    def function(x, a):
        n, b, p = alpha(a), inner(a), outer(a)
        return (np.where(x > 0, p * x, p * n * np.expm1(np.minimum(b * x, 80 * np.sign(n)) if n > 0 else b * x)),
                np.where(x > 0, p, p * n * b * np.exp(b * x)))
    return function


def silu(x, a):
    s, t = logistic(x), logistic(-x)
    return x * s, Sum(s, x * s * t)


def mish(x, a):
    tangent, s = np.tanh(softplus(x)), logistic(x)
    # 1 - tanh^2 = (sech)^2.
    rise = x * s / np.cosh(softplus(x)) ** 2
    return x * tangent, Sum(tangent, rise)


def smooth_softplus(x, a):
    beta, top = L(a.get("beta", 1)), L(a.get("threshold", 20))
    z = beta * x
    return np.where(z > top, x, softplus(z) / beta), np.where(z > top, L(1), logistic(z))


def logit(x, a):
    eps = a.get("eps")
    z = x if eps is None else np.clip(x, L(eps), 1 - L(eps))
    slope = 1 / (z * (1 - z))
    if eps is not None:
        slope = np.where((x < L(eps)) | (x > 1 - L(eps)), L(0), slope)
    return exactly(lambda v: mpmath.log(v) - mpmath.log1p(-v), z) if eps is None else np.log(z) - np.log1p(-z), slope


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * PI)


def log_normal_below(v):
    """log(ncdf(v)), whose ncdf is near 1 or far in the tail."""
    return mpmath.log1p(-mpmath.ncdf(-v)) if v > 0 else mpmath.log(mpmath.ncdf(v))


def sinc(x, a):
    angle = PI * x
    value = exactly(mpmath.sincpi, x)
    near = exactly(lambda v: (mpmath.cospi(v) - mpmath.sincpi(v)) / v if v else v, x)
    slope = Sum(near)
    slope.term = np.where(np.abs(x) < 0.5, np.abs(near), np.maximum(np.abs(np.cos(angle)), np.abs(value)) / np.abs(x))
    return value, slope


SELU = (L("1.6732632423543772848170429916717"), L("1.0507009873554804934193349852946"))
ACTIVATIONS = {
    "tanh": lambda x, a: (np.tanh(x), 1 / np.cosh(x) ** 2),
    "relu": lambda x, a: (np.maximum(x, 0), (x > 0).astype(L)),
    "relu6": clamped(lambda a: L(0), lambda a: L(6)),
    "hardtanh": clamped(lambda a: L(a.get("min_val", -1)), lambda a: L(a.get("max_val", 1))),
    "threshold": lambda x, a: (
        np.where(x > L(a["threshold"]), x, L(a["value"])), (x > L(a["threshold"])).astype(L)),
    "leaky_relu": lambda x, a: (
        np.where(x > 0, x, x * L(a.get("negative_slope", 0.01))),
        np.where(x > 0, L(1), L(a.get("negative_slope", 0.01)))),
    "rrelu": lambda x, a: ACTIVATIONS["leaky_relu"](
        x, {"negative_slope": (L(a.get("lower", 0.125)) + L(a.get("upper", 1 / 3))) / 2}),
    "elu": elu(lambda a: L(a.get("alpha", 1)), lambda a: L(1), lambda a: L(1)),
    "selu": elu(lambda a: SELU[0], lambda a: L(1), lambda a: SELU[1]),
    "celu": elu(lambda a: L(a.get("alpha", 1)), lambda a: 1 / L(a.get("alpha", 1)), lambda a: L(1)),
    "silu": silu,
    "mish": mish,
    "softplus": smooth_softplus,
    "logsigmoid": lambda x, a: (-softplus(-x), logistic(-x)),
    "softsign": lambda x, a: (x / (1 + np.abs(x)), 1 / (1 + np.abs(x)) ** 2),
    "tanhshrink": lambda x, a: (exactly(lambda v: v - mpmath.tanh(v), x), np.tanh(x) ** 2),
    "hardsigmoid": lambda x, a: (
        np.clip(x + 3, 0, 6) / 6, ((x > -3) & (x < 3)).astype(L) * SIXTH),
    "hardswish": lambda x, a: (
        x * np.clip(x + 3, 0, 6) / 6, np.where(x <= -3, L(0), np.where(x < 3, x / 3 + L("0.5"), L(1)))),
    "hardshrink": lambda x, a: (
        np.where(np.abs(x) > L(a.get("lambd", 0.5)), x, L(0)), (np.abs(x) > L(a.get("lambd", 0.5))).astype(L)),
    "softshrink": lambda x, a: (
        np.sign(x) * np.maximum(np.abs(x) - L(a.get("lambd", 0.5)), 0), (np.abs(x) > L(a.get("lambd", 0.5))).astype(L)),
    "erf": lambda x, a: (exactly(mpmath.erf, x), 2 / np.sqrt(PI) * np.exp(-x * x)),
    "erfc": lambda x, a: (exactly(mpmath.erfc, x), -2 / np.sqrt(PI) * np.exp(-x * x)),
    "ndtr": lambda x, a: (exactly(mpmath.ncdf, x), normal_density(x)),
    "log1p": lambda x, a: (np.log1p(x), 1 / (1 + x)),
    "expm1": lambda x, a: (np.expm1(x), np.exp(x)),
    "exp2": lambda x, a: (np.exp2(x), np.exp2(x) * np.log(L(2))),
    "logit": logit,
    "log_ndtr": lambda x, a: (
        exactly(log_normal_below, x), exactly(lambda v: mpmath.npdf(v) / mpmath.ncdf(v), x)),
    "sinc": sinc,
    "entr": lambda x, a: (np.where(x == 0, L(0), -x * np.log(x)), Sum(-np.log(x), L(-1))),
}


def huber(x, y, a):
    d, delta = x - y, L(a.get("delta", 1))
    value = np.where(np.abs(d) <= delta, d * d / 2, delta * (np.abs(d) - delta / 2))
    slope = np.clip(d, -delta, delta)
    return value, slope, -slope


def smooth_l1(x, y, a):
    d, beta = x - y, L(a.get("beta", 1))
    is_near = np.abs(d) < beta
    value = np.where(is_near, d * d / (2 * beta) if beta else d, np.abs(d) - beta / 2)
    slope = np.where(is_near, d / beta if beta else d, np.sign(d))
    return value, slope, -slope


def kl_div(x, y, a):
    if a.get("log_target"):
        p = np.exp(y)
        return Sum(p * y, -p * x), -p, Sum(p * (y - x), p)
    logs = np.log(y)
    return Sum(np.where(y == 0, L(0), y * logs), -y * x), -y, Sum(logs, L(1), -x)


def poisson_nll_loss(x, y, a):
    eps = L(a.get("eps", 1e-8))
    if a.get("log_input", True):
        terms, slope, of_target = [np.exp(x), -x * y], Sum(np.exp(x), -y), [-x]
    else:
        terms, slope, of_target = [x, -y * np.log(x + eps)], Sum(L(1), -y / (x + eps)), [-np.log(x + eps)]
    if a.get("full"):
        is_on = y > 1
        terms += [np.where(is_on, term, L(0)) for term in (y * np.log(y), -y, np.log(2 * PI * y) / 2)]
        of_target += [np.where(is_on, np.log(y), L(0)), np.where(is_on, 1 / (2 * y), L(0))]
    of_target = Sum(*of_target)
    if not a.get("log_input", True):
        of_target.term = np.maximum(of_target.term, 1)  # x + eps is rounded, near 1 where the logarithm is near 0.
    return Sum(*terms), slope, of_target


def hinge_embedding_loss(x, y, a):
    rest = L(a.get("margin", 1)) - x
    hinge = np.where(y == 1, L(0), np.maximum(rest, 0))
    value = np.where(y == -1, L(0), x) + hinge
    slope = np.where(y == -1, L(0), L(1)) - np.where((y == 1) | (rest < 0), L(0), L(1))
    return value, slope, None


def log_cosh_loss(x, y, a):
    d = x - y
    # log(1 + 2 sinh(d / 2)^2), and beyond what is squared there |d| - log(2).
    far = softplus(-2 * np.abs(d)) + np.abs(d) - np.log(L(2))
    value = np.where(np.abs(d) < 20, np.log1p(2 * np.sinh(d / 2) ** 2), far)
    return value, np.tanh(d), -np.tanh(d)


def quantile_loss(x, y, a):
    d, q = x - y, L(a.get("q", 0.5))
    slope = np.where(d > 0, 1 - q, np.where(d < 0, -q, L(0)))
    return d * slope, slope, -slope


def sigmoid_focal_loss(x, y, a):
    """The cross entropy times u^gamma, u = y (1 - p) + (1 - y) p, whose slope is p (1 - p) (1 - 2 y)."""
    alpha, gamma = L(a.get("alpha", 0.25)), L(a.get("gamma", 2))
    p, q = logistic(x), logistic(-x)
    entropy = y * softplus(-x) + (1 - y) * softplus(x)
    u = y * q + (1 - y) * p
    power, rise = u**gamma, gamma * u ** (gamma - 1) if gamma else L(0)
    share = alpha * y + (1 - alpha) * (1 - y) if alpha >= 0 else L(1)
    slope = Sum(share * (1 - y) * p * power, -share * y * q * power, share * entropy * rise * p * q * (1 - 2 * y))
    of_target = Sum(
        -share * x * power, share * entropy * rise * q, -share * entropy * rise * p,
        (2 * alpha - 1) * entropy * power if alpha >= 0 else L(0))
    return share * entropy * power, slope, of_target


def asymmetric_loss(x, y, a):
    """Of targets of 0 or 1."""
    negative, positive, clip, eps = (
        L(a.get(name, usual)) for name, usual in (("gamma_neg", 4), ("gamma_pos", 1), ("clip", 0.05), ("eps", 1e-8)))
    p, q = logistic(x), logistic(-x)
    over = np.maximum(p - clip, 0)
    logs = np.maximum(np.where(y == 1, -softplus(-x), np.log1p(-over) if clip else -softplus(x)), np.log(eps))
    u, gamma = np.where(y == 1, q, over), np.where(y == 1, positive, negative)
    of_log = np.where(logs > np.log(eps), np.where(y == 1, q, np.where(p > clip, -p * q / (1 - over), L(0))), L(0))
    of_u = np.where(y == 1, -p * q, np.where(p > clip, p * q, L(0)))
    rise = np.where((gamma == 0) | (u == 0), L(0), gamma * u ** (gamma - 1))
    # p - clip nearly cancels.
    value, slope = Sum(-logs * u**gamma), Sum(-of_log * u**gamma, -logs * rise * of_u)
    if clip:
        share = np.where((y == 1) | (over == 0), L(1), p / over)
        value.term, slope.term = value.term * share, slope.term * share
    return value, slope, None


def siglip_loss(x, y, a):
    scale, logit = L(a.get("scale", 1)), L(a.get("scale", 1)) * x + L(a.get("bias", 0))
    return softplus(-y * logit), -y * scale * logistic(-y * logit), -logit * logistic(-y * logit)


LOSSES = {
    "l1_loss": lambda x, y, a: (np.abs(x - y), np.sign(x - y), np.sign(y - x)),
    "mse_loss": lambda x, y, a: ((x - y) ** 2, 2 * (x - y), 2 * (y - x)),
    "smooth_l1_loss": smooth_l1,
    "huber_loss": huber,
    "kl_div": kl_div,
    "poisson_nll_loss": poisson_nll_loss,
    "soft_margin_loss": lambda x, y, a: (softplus(-x * y), -y * logistic(-x * y), None),
    "hinge_embedding_loss": hinge_embedding_loss,
    "log_cosh_loss": log_cosh_loss,
    "quantile_loss": quantile_loss,
    "sigmoid_focal_loss": sigmoid_focal_loss,
    "asymmetric_loss": asymmetric_loss,
    "siglip_loss": siglip_loss,
}


def evaluate(function, inputs, attributes):
    """As reference.evaluate."""
    x = inputs["input"]
    if function in ACTIVATIONS:
        value, slope = (parts(number) for number in ACTIVATIONS[function](x, attributes))
        g = inputs.get("grad.output", L(1))
        return {"output": value, "grad.input": scaled(slope, g)}
    value, *slopes = LOSSES[function](*np.broadcast_arrays(x, inputs["target"]), attributes)
    value, slopes = parts(value), [parts(slope) for slope in slopes if slope is not None]
    if "weight" in inputs:
        value, *slopes = (scaled(number, inputs["weight"]) for number in (value, *slopes))
    divisor = L(value[0].size)
    if attributes.get("reduction") == "batchmean":
        divisor = L(x.shape[0] if x.ndim else 1)
    elif "weight" in inputs and function != "huber_loss":
        divisor = np.broadcast_to(inputs["weight"], value[0].shape).sum()
    loss, scale = reduce_loss(value[0], divisor, attributes, inputs.get("grad.loss"))
    if attributes.get("reduction") == "none":
        loss = value
    elif value[1] is not None and value[0].size:
        loss = (loss[0], value[1].max() / (1 if attributes.get("reduction") == "sum" else divisor))
    names = ("input", "target")
    return {"loss": loss, **{
        f"grad.{name}": gathered(scaled(slope, scale), inputs[name].shape) for name, slope in zip(names, slopes)}}
