"""The functions in extended precision: numpy's longdouble, 64 bits of mantissa on x86-64.

Formulas are written for accuracy and are independent of the Swift ones. Each output comes as
(value, term): `term` is the largest magnitude that was added up on the way in the same row, the yardstick
for a result that nearly cancels (None where nothing cancels). Gradients are of the upstream-weighted sum
of the result. make_golden.py checks every value against torch in float64.
"""
import mpmath
import numpy as np

import classes
import elements
import operands
import rows
from extended import L, log_softmax_parts, logistic, reduce_loss, row_max, softplus, sum_to
from rows import softmax  # evaluate finds it by its name

# torch holds the 1e-12 of binary_cross_entropy's gradient in float32, whatever the type.
EPSILON = L(np.float32(1e-12))


def evaluate(function, inputs, attributes):
    """All outputs of a call that is valid and whose values are finite."""
    with np.errstate(all="ignore"):
        if function in elements.ACTIVATIONS or function in elements.LOSSES:
            return elements.evaluate(function, inputs, attributes)
        for module in (operands, rows, classes):
            if function in module.FUNCTIONS:
                return module.evaluate(function, inputs, attributes)
        return globals()[function](inputs, attributes)


def sigmoid(inputs, attributes):
    x = inputs["input"]
    g = inputs.get("grad.output", L(1))
    return {"output": (logistic(x), None), "grad.input": (g * logistic(x) * logistic(-x), None)}


def normal_below(x):
    """P(X <= x) for a standard normal X, in extended precision far into the tail too."""
    with mpmath.workprec(80):
        exact = [mpmath.erfc(-mpmath.mpf(float(v)) / mpmath.sqrt(2)) / 2 for v in x.flatten()]
        high = [float(v) for v in exact]
        low = [float(v - h) for v, h in zip(exact, high)]
    return (np.array(high, L) + np.array(low, L)).reshape(x.shape)


def gelu(inputs, attributes):
    x = inputs["input"]
    g = inputs.get("grad.output", L(1))
    if attributes.get("approximate") == "tanh":
        twice, k = np.sqrt(L(8) / np.arctan(L(1)) / 4), L("0.044715")
        u = twice * (x + k * x**3)
        below, slope = logistic(u), x * logistic(u) * logistic(-u) * twice * (1 + 3 * k * x**2)
    else:
        below = normal_below(x)
        slope = x * np.exp(-x * x / 2) / np.sqrt(8 * np.arctan(L(1)))
    term = np.abs(g) * np.maximum(below, np.abs(slope))
    return {"output": (x * below, None), "grad.input": (g * (below + slope), term)}


def log_softmax(inputs, attributes):
    x = np.atleast_1d(inputs["input"])
    axis = int(attributes.get("dim", -1))
    g = np.broadcast_to(np.atleast_1d(inputs.get("grad.output", L(1))), x.shape)
    logs, p = log_softmax_parts(x, axis)
    dot = g.sum(axis=axis, keepdims=True)
    term = np.maximum(row_max(g, axis), row_max(p * dot, axis))
    shape = inputs["input"].shape
    return {
        "output": (logs.reshape(shape), row_max(logs, axis).reshape(shape)),
        "grad.input": ((g - p * dot).reshape(shape), term.reshape(shape)),
    }


def binary_cross_entropy(inputs, attributes):
    x, y = inputs["input"], inputs["target"]
    w = inputs.get("weight", L(1))
    losses = -w * (y * np.maximum(np.log(x), -100) + (1 - y) * np.maximum(np.log1p(-x), -100))
    loss, scale = reduce_loss(losses, L(x.size), attributes, inputs.get("grad.loss"))
    scale = scale * w
    return {
        "loss": loss,
        "grad.input": (scale * (x - y) / np.maximum(x * (1 - x), EPSILON), None),
        "grad.target": (
            scale * (np.log1p(-x) - np.log(x)),
            np.abs(scale) * np.maximum(np.abs(np.log1p(-x)), np.abs(np.log(x))),
        ),
    }


def binary_cross_entropy_with_logits(inputs, attributes):
    x, y = inputs["input"], inputs["target"]
    w, positive = inputs.get("weight", L(1)), inputs.get("pos_weight", L(1))
    first, second = (1 - y) * softplus(x), positive * y * softplus(-x)
    loss, scale = reduce_loss(
        w * (first + second), L(x.size), attributes, inputs.get("grad.loss"))
    if attributes.get("reduction") == "none":
        loss = (loss[0], np.abs(w) * np.maximum(np.abs(first), np.abs(second)))
    scale = scale * w
    up, down = (1 - y) * logistic(x), positive * y * logistic(-x)
    of_target = (-softplus(x), positive * softplus(-x))
    return {
        "loss": loss,
        "grad.input": (scale * (up - down), np.abs(scale) * np.maximum(np.abs(up), np.abs(down))),
        "grad.target": (
            -scale * x if "pos_weight" not in inputs else scale * (of_target[0] + of_target[1]),
            np.abs(scale) * np.maximum(np.abs(of_target[0]), np.abs(of_target[1])),
        ),
    }


def classes_last(x):
    return np.moveaxis(x, 1, -1) if x.ndim > 1 else x


def classes_back(x):
    return np.moveaxis(x, -1, 1) if x.ndim > 1 else x


def one_hot(target, classes, ignored):
    """0 rows for ignored targets."""
    return ((target[..., None] == np.arange(classes)) & (target[..., None] != ignored)).astype(L)


def cross_entropy(inputs, attributes):
    x = classes_last(inputs["input"])
    classes = x.shape[-1]
    w = inputs.get("weight", np.ones(classes, dtype=L))
    smoothing = L(attributes.get("label_smoothing", 0.0))
    logs, p = log_softmax_parts(x, -1)
    if inputs["target"].shape == inputs["input"].shape:
        y = classes_last(inputs["target"]) * (1 - smoothing) + smoothing / max(classes, 1)
        weight_sum = L(x.size) / classes if classes else L("nan")
        shares, kept = w * y, True
    else:
        hot = one_hot(inputs["target"], classes, attributes.get("ignore_index", -100))
        kept = hot.sum(axis=-1, keepdims=True)
        shares = w * (hot * (1 - smoothing) + kept * smoothing / max(classes, 1))
        weight_sum = (w * hot).sum()
    terms = np.where(shares == 0, L(0), -shares * logs)
    loss, scale = reduce_loss(
        terms.sum(axis=-1), weight_sum, attributes, inputs.get("grad.loss"))
    if attributes.get("reduction") == "none":
        loss = (loss[0], row_max(terms, -1)[..., 0] if classes else None)
    # Ignored rows have no gradient, whatever the divisor.
    scale = np.where(kept, scale[..., None], L(0))
    down = p * shares.sum(axis=-1, keepdims=True)
    term = np.abs(scale) * np.maximum(row_max(down, -1), row_max(shares, -1))
    return {
        "loss": loss,
        "grad.input": (classes_back(scale * (down - shares)), classes_back(term)),
        "grad.target": (classes_back(-scale * (1 - smoothing) * w * logs), None),
    }


def nll_loss(inputs, attributes):
    x = classes_last(inputs["input"])
    w = inputs.get("weight", np.ones(x.shape[-1], dtype=L))
    hot = one_hot(inputs["target"], x.shape[-1], attributes.get("ignore_index", -100))
    shares = w * hot
    loss, scale = reduce_loss(
        -(shares * x).sum(axis=-1), shares.sum(), attributes, inputs.get("grad.loss"))
    return {"loss": loss, "grad.input": (classes_back(np.where(hot > 0, -scale[..., None] * shares, L(0))), None)}


def multilabel_soft_margin_loss(inputs, attributes):
    x, y, complement = inputs["input"], inputs["target"], inputs["1 - target"]
    w = inputs.get("weight", L(1))
    axis, classes = x.ndim - 1, x.shape[-1]
    first, second = y * softplus(-x), complement * softplus(x)
    elements = w * (first + second)
    rows = elements.sum(axis=axis) / L(classes)
    loss, scale = reduce_loss(rows, L(rows.size), attributes, inputs.get("grad.loss"))
    if attributes.get("reduction") == "none" and elements.size:
        loss = (loss[0], np.abs(elements).max(axis=axis) / classes)
    scale = np.expand_dims(scale, axis) / L(classes) * w
    up, down = complement * logistic(x), y * logistic(-x)
    gradient, largest = sum_to(scale * (up - down) + 0 * elements, x.shape)
    spread = np.abs(scale) * np.maximum(np.abs(up), np.abs(down)) + 0 * elements
    return {
        "loss": loss,
        "grad.input": (gradient, np.maximum(largest, sum_to(spread, x.shape)[1])),
        "grad.target": sum_to(-scale * x + 0 * elements, y.shape),
    }
