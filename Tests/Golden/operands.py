"""Elementwise functions of operands other than an input and a target, in extended precision, as elements.py."""
import numpy as np

from extended import L, PI, Sum, gathered, logistic, parts, reduce_loss, scaled


def xlogy(logarithm, of_other):
    def function(x, y, a):
        logs = logarithm(y)
        return np.where(x == 0, L(0), x * logs), (np.where((x == 0) & (of_other(y) == 0), L(0), logs), x / of_other(y))
    return function


def prelu(x, weight, a):
    return np.where(x > 0, x, weight * x), (np.where(x > 0, L(1), weight), np.where(x > 0, L(0), x))


def gaussian_nll_loss(x, y, var, a):
    v, d = np.maximum(var, L(a.get("eps", 1e-6))), x - y
    terms = [np.log(v) / 2, d * d / v / 2] + ([np.log(2 * PI) / 2] if a.get("full") else [])
    # The gradient of var passes through eps.
    return Sum(*terms), (d / v, -d / v, Sum(1 / (2 * v), -d * d / (2 * v * v)))


def margin_ranking_loss(x1, x2, y, a):
    margin, d = L(a.get("margin", 0)), x1 - x2
    rest = margin - y * d
    is_open = rest >= 0  # The corner is the line's.
    value = Sum(np.where(is_open, margin, L(0)), np.where(is_open, -y * d, L(0)))
    return value, tuple(np.where(is_open, slope, L(0)) for slope in (-y, y, -d))


# The inputs, and the formula: the value, and the slopes of the inputs.
FUNCTIONS = {
    "xlogy": (("input", "other"), xlogy(np.log, lambda y: y)),
    "xlog1py": (("input", "other"), xlogy(np.log1p, lambda y: 1 + y)),
    "prelu": (("input", "weight"), prelu),
    "glu": (("input",), None),
    "gaussian_nll_loss": (("input", "target", "var"), gaussian_nll_loss),
    "margin_ranking_loss": (("input1", "input2", "target"), margin_ranking_loss),
}


def glu(inputs, attributes):
    axis, g = int(attributes.get("dim", -1)), inputs.get("grad.output", L(1))
    a, b = np.split(inputs["input"], 2, axis)
    p, q = logistic(b), logistic(-b)
    return {"output": (a * p, None), "grad.input": (np.concatenate([g * p, g * a * p * q], axis), None)}


def shaped(function, operands):
    """With the dimensions that they broadcast by."""
    first, last = operands[0], operands[-1]
    if function == "prelu":
        return [first, last.reshape((-1,) + (1,) * (first.ndim - 2) if last.size > 1 else ())]
    if function == "gaussian_nll_loss" and last.shape == first.shape[:-1] and first.ndim:
        return [*operands[:-1], last[..., None]]
    return operands


def evaluate(function, inputs, attributes):
    """As reference.evaluate."""
    if function == "glu":
        return glu(inputs, attributes)
    names, formula = FUNCTIONS[function]
    operands = shaped(function, [inputs[name] for name in names])
    value, slopes = formula(*np.broadcast_arrays(*operands), attributes)
    value = parts(value)
    if function.endswith("loss"):
        divisor = L(value[0].size)
        loss, scale = reduce_loss(value[0], divisor, attributes, inputs.get("grad.loss"))
        if attributes.get("reduction") == "none":
            loss = value
        elif value[0].size:
            loss = (loss[0], value[1].max() / (1 if attributes.get("reduction") == "sum" else divisor))
        outputs = {"loss": loss}
    else:
        outputs, scale = {"output": value}, inputs.get("grad.output", L(1))
    for name, operand, slope in zip(names, operands, slopes):
        gradient = gathered(scaled(parts(slope), scale), operand.shape)
        outputs[f"grad.{name}"] = tuple(None if part is None else part.reshape(inputs[name].shape) for part in gradient)
    return outputs
