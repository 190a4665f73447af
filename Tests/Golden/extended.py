"""What the truths have in common: numpy's longdouble, 64 bits of mantissa on x86-64, sums with their yardsticks."""
import mpmath
import numpy as np

L = np.longdouble
PI = 4 * np.arctan(L(1))


class Sum:
    """Terms added up, the largest of which is the yardstick."""

    def __init__(self, *terms):
        self.value = sum(terms)
        self.term = np.maximum.reduce(np.broadcast_arrays(*[np.abs(term) for term in terms]))


def parts(number):
    return (number.value, number.term) if isinstance(number, Sum) else (number, None)


def scaled(number, factor):
    value, term = number
    return value * factor, None if term is None else np.abs(term * factor)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def logistic(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def exactly(function, x):
    """A function of mpmath, in two parts of float64."""
    with mpmath.workprec(120):
        exact = [function(mpmath.mpf(float(v))) for v in x.flatten()]
        high = [float(v) for v in exact]
        low = [float(v - h) for v, h in zip(exact, high)]
    return (np.array(high, L) + np.array(low, L)).reshape(x.shape)


def row_max(x, axis):
    return np.broadcast_to(np.max(np.abs(x), axis=axis, keepdims=True), x.shape) if x.size else np.abs(x)


def log_softmax_parts(x, axis):
    """log probabilities and probabilities; the largest term is left out of the sum, for log1p."""
    if x.size == 0:
        return x, x
    top = np.argmax(x, axis=axis)
    top = np.expand_dims(top, axis)
    shifted = x - np.take_along_axis(x, top, axis)
    exps = np.exp(shifted)
    np.put_along_axis(exps, top, L(0), axis)
    others = exps.sum(axis=axis, keepdims=True)
    np.put_along_axis(exps, top, L(1), axis)
    return shifted - np.log1p(others), exps / (1 + others)


def reduce_loss(rows, weight_sum, attributes, upstream):
    """The loss of these per-row losses, and what each row's gradient is scaled by."""
    reduction = attributes.get("reduction", "mean")
    g = L(1) if upstream is None else upstream
    if reduction == "none":
        return (rows, None), np.broadcast_to(g, rows.shape)
    divisor = L(1) if reduction == "sum" else weight_sum
    total = np.sum(rows) / divisor
    term = np.max(np.abs(rows)) / np.abs(divisor) if rows.size else None
    return (total, term), np.broadcast_to(g / divisor, rows.shape)


def sum_to(x, shape):
    """The transpose of broadcasting; and the largest magnitude that was added."""
    more = x.ndim - len(shape)
    axes = tuple(i for i in range(x.ndim) if i < more or (shape[i - more] == 1 and x.shape[i] != 1))
    total = x.sum(axis=axes).reshape(shape)
    largest = np.abs(x).max(axis=axes, initial=L(0)).reshape(shape)
    return total, largest


def gathered(number, shape):
    """A gradient, and its yardstick, summed over the repetitions of what was broadcast."""
    value, term = number
    if value.shape == shape:
        return number
    total, largest = sum_to(value, shape)
    return total, largest if term is None else np.maximum(largest, sum_to(np.broadcast_to(term, value.shape), shape)[1])
