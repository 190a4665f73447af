"""Norms, distances and cosines of rows in extended precision, for reference.py."""
import numpy as np

from extended import L, gathered, log_softmax_parts, reduce_loss, row_max


def norm(d, p, axis):
    """The p-norm, with its dimension as 1, and its slope."""
    size, sign = np.abs(d), np.sign(d)
    if p == 0:
        return (d != 0).sum(axis=axis, keepdims=True).astype(L), 0 * d
    if np.isinf(p):
        if d.shape[axis] == 0:
            return np.zeros(d.sum(axis=axis, keepdims=True).shape, L), d
        n = (size.max if p > 0 else size.min)(axis=axis, keepdims=True)
        return n, sign * (size == n) / (size == n).sum(axis=axis, keepdims=True)
    n = (size ** L(p)).sum(axis=axis, keepdims=True) ** (1 / L(p))
    return n, np.where((d == 0) | (n == 0), L(0), sign * (size / n) ** (L(p) - 1))


def along(x, attributes, usual):
    """The dimension of the rows; a scalar has one."""
    return int(attributes.get("dim", usual)) % max(x.ndim, 1)


def kept(row, axis, attributes):
    return row if attributes.get("keepdim") else row.squeeze(axis)


def softmax(inputs, attributes):
    x = np.atleast_1d(inputs["input"])
    axis = int(attributes.get("dim", -1))
    g = np.broadcast_to(np.atleast_1d(inputs.get("grad.output", L(1))), x.shape)
    _, p = log_softmax_parts(x, axis)
    dot = (g * p).sum(axis=axis, keepdims=True)
    term = np.maximum(row_max(p * g, axis), row_max(p * dot, axis))
    shape = inputs["input"].shape
    return {
        "output": (p.reshape(shape), row_max(p, axis).reshape(shape)),
        "grad.input": ((p * (g - dot)).reshape(shape), term.reshape(shape)),
    }


def softmin(inputs, attributes):
    outputs = softmax({**inputs, "input": -inputs["input"]}, attributes)
    value, term = outputs["grad.input"]
    return {**outputs, "grad.input": (-value, term)}


def logsumexp(inputs, attributes):
    x = np.atleast_1d(inputs["input"]).astype(L)
    axis = along(x, attributes, -1)
    if x.shape[axis] == 0:
        rows = np.full(x.sum(axis=axis, keepdims=True).shape, -np.inf, L)
        return {"output": (kept(rows, axis, attributes), None), "grad.input": (x, None)}
    _, p = log_softmax_parts(x, axis)
    top = x.max(axis=axis, keepdims=True)
    # The largest term is left out of the sum, for log1p.
    rest = np.log1p(np.exp(x - top).sum(axis=axis, keepdims=True) - 1)
    g = inputs.get("grad.output", L(1))
    if np.ndim(g) and not attributes.get("keepdim"):
        g = np.expand_dims(g, axis)
    shape = inputs["input"].shape
    value, term = top + rest, np.maximum(np.abs(top), rest)
    if inputs["input"].ndim == 0:
        value, term = value.reshape(()), term.reshape(())
    else:
        value, term = kept(value, axis, attributes), kept(term, axis, attributes)
    return {"output": (value, term), "grad.input": ((g * p).reshape(shape), row_max(g * p, axis).reshape(shape))}


def normalize(inputs, attributes):
    x = inputs["input"]
    axis, eps = along(x, attributes, 1), L(attributes.get("eps", 1e-12))
    n, slope = norm(x, attributes.get("p", 2.0), axis)
    m, g = np.maximum(n, eps), np.broadcast_to(inputs.get("grad.output", L(1)), x.shape)
    slope = np.where(n >= eps, slope, L(0))
    down = (g * x).sum(axis=axis, keepdims=True) / (m * m) * slope
    largest = np.abs(g * x).max(axis=axis, keepdims=True, initial=L(0)) / (m * m) * np.abs(slope)
    return {"output": (x / m, None), "grad.input": (g / m - down, np.maximum(np.abs(g / m), largest))}


def cosine_similarity(inputs, attributes):
    x1, x2 = inputs["x1"].astype(L), inputs["x2"].astype(L)
    first, second = np.broadcast_arrays(x1, x2)
    axis, eps = along(first, attributes, 1), L(attributes.get("eps", 1e-8))
    (n1, slope1), (n2, slope2) = norm(first, 2.0, axis), norm(second, 2.0, axis)
    m1, m2 = np.maximum(n1, eps), np.maximum(n2, eps)
    products = first * second / (m1 * m2)
    cosine = products.sum(axis=axis, keepdims=True)
    largest = np.abs(products).max(axis=axis, keepdims=True, initial=L(0))
    g = inputs.get("grad.output")
    g = L(1) if g is None else np.expand_dims(g, axis)

    def gradient(other, m, other_m, slope, shape):
        straight = g * other / (m * other_m)
        value, term = straight - g * cosine / m * slope, np.maximum(np.abs(straight), np.abs(g * largest / m * slope))
        return gathered((value, term), shape)
    return {
        "output": (cosine.squeeze(axis), largest.squeeze(axis)),
        "grad.x1": gradient(second, m1, m2, slope1, x1.shape),
        "grad.x2": gradient(first, m2, m1, slope2, x2.shape),
    }


def difference(x1, x2, attributes):
    return x1.astype(L) - x2.astype(L) + L(attributes.get("eps", 1e-6))


def pairwise_distance(inputs, attributes):
    x1, x2 = inputs["x1"], inputs["x2"]
    shape = np.broadcast_shapes(x1.shape, x2.shape)
    d = np.atleast_1d(difference(x1, x2, attributes))
    n, slope = norm(d, attributes.get("p", 2.0), -1)
    g = inputs.get("grad.output", L(1))
    if np.ndim(g) and not attributes.get("keepdim"):
        g = g[..., None]
    gradient = (g * slope).reshape(shape)
    output = n if attributes.get("keepdim") else n[..., 0]
    return {
        "output": (output.reshape(output.shape if shape else (1,) if attributes.get("keepdim") else ()), None),
        "grad.x1": gathered((gradient, None), x1.shape), "grad.x2": gathered((-gradient, None), x2.shape),
    }


def cosine_embedding_loss(inputs, attributes):
    x1, x2, target = inputs["input1"].astype(L), inputs["input2"].astype(L), inputs["target"]
    first, second = np.broadcast_arrays(x1, x2)
    margin, small = L(attributes.get("margin", 0)), L(1e-12)
    # Of the inputs themselves: a vector of one element has it once, whatever it is repeated to.
    s1, s2 = ((x * x).sum(axis=-1, keepdims=True) + small for x in (x1, x2))
    products = first * second / np.sqrt(s1 * s2)
    cosine, largest = products.sum(axis=-1), np.abs(products).max(axis=-1, initial=L(0))
    isOpen = cosine - margin >= 0
    losses = np.where(target == 1, 1 - cosine, np.where((target == -1) & isOpen, cosine - margin, L(0)))
    terms = np.maximum(np.where(target == 1, L(1), np.abs(margin)), largest) * (losses != 0)
    sign = np.where(target == 1, L(-1), np.where((target == -1) & isOpen, L(1), L(0)))
    loss, scale = reduced(losses, terms, inputs, attributes)
    factor = (scale * sign)[..., None]

    def gradient(x, other, s):
        straight, back = factor * other / np.sqrt(s1 * s2), factor * x / s
        term = np.abs(back * largest[..., None])
        return total(x.shape, (straight, np.abs(straight)), (-back * cosine[..., None], term))
    return {"loss": loss, "grad.input1": gradient(x1, second, s1), "grad.input2": gradient(x2, first, s2)}


def total(shape, *numbers):
    """Parts of a gradient, each summed over the repetitions of what was broadcast."""
    sums = [gathered(number, shape) for number in numbers]
    return sum(value for value, _ in sums), np.maximum.reduce([term for _, term in sums])


def triplet_margin_loss(inputs, attributes):
    anchor, positive, negative = (inputs[name] for name in ("anchor", "positive", "negative"))
    shape = np.broadcast_shapes(anchor.shape, positive.shape, negative.shape)
    p, margin = attributes.get("p", 2.0), L(attributes.get("margin", 1))

    def distance(a, b):
        n, slope = norm(np.atleast_1d(difference(a, b, attributes)), p, -1)
        # Of as many elements as the two have.
        return np.broadcast_to(n[..., 0], shape[:-1]), np.broadcast_to(slope, (*shape[:-1], slope.shape[-1]))
    (near, slope), (far, of_far) = distance(anchor, positive), distance(anchor, negative)
    of_swapped, share = 0 * of_far, np.ones(far.shape, L)
    if attributes.get("swap"):
        swapped, of_swapped = distance(positive, negative)
        # Equal distances take half of the gradient each.
        share = np.where(far < swapped, L(1), np.where(far == swapped, L(0.5), L(0)))
        far = np.minimum(far, swapped)
    rest = margin + near - far
    isOpen = rest >= 0
    losses = np.where(isOpen, rest, L(0))
    terms = np.where(isOpen, np.maximum(np.maximum(near, far), np.abs(margin)), L(0))
    loss, scale = reduced(losses, terms, inputs, attributes)
    factor, share = (scale * isOpen)[..., None], share[..., None]
    of_positive, of_negative, of_other = factor * slope, factor * share * of_far, factor * (1 - share) * of_swapped

    def gradient(name, *pieces):
        own = inputs[name].shape
        value, term = total(own or (1,), *((piece, np.abs(piece)) for piece in pieces))
        return value.reshape(own), term.reshape(own)
    return {
        "loss": loss, "grad.anchor": gradient("anchor", of_positive, -of_negative),
        "grad.positive": gradient("positive", -of_positive, -of_other),
        "grad.negative": gradient("negative", of_negative, of_other)}


def reduced(losses, terms, inputs, attributes):
    """The loss with its yardstick, and what the gradient of each row is scaled by."""
    loss, scale = reduce_loss(losses, L(losses.size), attributes, inputs.get("grad.loss"))
    if attributes.get("reduction") == "none":
        return (losses, terms), scale
    if losses.size:
        loss = (loss[0], terms.max() / (1 if attributes.get("reduction") == "sum" else losses.size))
    return loss, scale


FUNCTIONS = {function.__name__: function for function in (
    softmin, logsumexp, normalize, cosine_similarity, pairwise_distance, cosine_embedding_loss, triplet_margin_loss)}


def evaluate(function, inputs, attributes):
    """As reference.evaluate."""
    return FUNCTIONS[function](inputs, attributes)
