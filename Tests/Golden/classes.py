"""Losses of classes and sequences in extended precision, for reference.py."""
import numpy as np

from extended import L, PI, log_softmax_parts, reduce_loss, row_max


def hot(target, classes):
    return target[..., None] == np.arange(classes)


def logs_of(x):
    """Logarithms of the probabilities, the probabilities, and 1 less each, which is the sum of the others."""
    logs, p = log_softmax_parts(x, -1)
    top = np.expand_dims(np.argmax(x, axis=-1), -1)
    rest = 1 - p
    others = np.array(p)
    np.put_along_axis(others, top, L(0), -1)
    np.put_along_axis(rest, top, others.sum(axis=-1, keepdims=True), -1)
    return logs, p, rest


def generalized_cross_entropy(l, p, rest, a):
    q = L(a.get("q", 0.7))
    return (l, L(1) + 0 * l) if q == 0 else (-np.expm1(-q * l) / q, np.exp(-q * l))


def softmax_focal_loss(l, p, rest, a):
    gamma = L(a.get("gamma", 2))
    return rest**gamma * l, rest**gamma * (1 + np.where(l == 0, gamma, gamma * p * l / np.where(rest == 0, L(1), rest)))


def poly1_cross_entropy(l, p, rest, a):
    epsilon = L(a.get("epsilon", 1))
    return l + epsilon * rest, 1 + epsilon * p


OF_PROBABILITY = {f.__name__: f for f in (generalized_cross_entropy, softmax_focal_loss, poly1_cross_entropy)}


def of_probability(function, inputs, attributes):
    """w[t] times a function of the target's cross entropy."""
    given = inputs["input"]
    x = np.moveaxis(given, 1, -1) if given.ndim > 1 else given
    classes = x.shape[-1]
    w, ignored = inputs.get("weight", np.ones(classes, L)), attributes.get("ignore_index", -100)
    target = inputs["target"].reshape(x.shape[:-1])
    isKept = target != ignored
    index = np.where(isKept, target, 0)[..., None]
    logs, p, rest = logs_of(x)
    if x.size == 0:
        empty = np.zeros(x.shape[:-1], L)
        loss, _ = reduce_loss(empty, L(0), attributes, inputs.get("grad.loss"))
        return {"loss": loss, "grad.input": (np.zeros(given.shape, L), None)}
    own = [np.take_along_axis(part, index, -1)[..., 0] for part in (-logs, p, rest)]
    value, slope = OF_PROBABILITY[function](*own, attributes)
    w = np.where(isKept, w[index[..., 0]], L(0))
    loss, scale = reduce_loss(w * value, w.sum(), attributes, inputs.get("grad.loss"))
    factor = np.where(isKept, scale * w * slope, L(0))[..., None]
    gradient = factor * np.where(hot(index[..., 0], classes), -rest, p)
    term = row_max(gradient, -1)
    back = (lambda each: np.moveaxis(each, -1, 1)) if given.ndim > 1 else lambda each: each
    return {"loss": loss, "grad.input": (back(gradient), back(term))}


def row_loss(losses, gradients, terms, inputs, attributes, loss_terms=None):
    """Losses and gradients of rows (N, C), with their yardsticks, reduced; for (C), of one."""
    shape = inputs["input"].shape
    if len(shape) < 2:
        losses = losses.reshape(())
    loss, scale = reduce_loss(losses, L(losses.size), attributes, inputs.get("grad.loss"))
    if loss_terms is not None and attributes.get("reduction") == "none":
        loss = (loss[0], loss_terms.reshape(losses.shape))
    scale = np.reshape(scale, (-1, 1))
    return {"loss": loss, "grad.input": ((scale * gradients).reshape(shape), np.abs(scale * terms).reshape(shape))}


def rows_of(inputs):
    x = inputs["input"]
    x = x.reshape(-1, x.shape[-1] if x.ndim else 1)
    return x, inputs["target"]


def arcface(c, a):
    m = L(a.get("margin", 0.5))
    height = np.sqrt((1 - c) * (1 + c))
    isBeyond = c < -np.cos(m)
    value = np.where(isBeyond, c - m * np.sin(m), c * np.cos(m) - height * np.sin(m))
    return value, np.where(isBeyond, L(1), np.cos(m) + np.sin(m) * c / height)


def cosface(c, a):
    return c - L(a.get("margin", 0.35)), 1 + 0 * c


def margin_softmax(margined):
    def function(inputs, attributes):
        x, target = rows_of(inputs)
        scale = L(attributes.get("scale", 64))
        isTarget = hot(target.reshape(-1), x.shape[-1])
        value, slope = margined(x, attributes)
        logits = scale * np.where(isTarget, value, x)
        logs, p, rest = logs_of(logits)
        gradient = scale * np.where(isTarget, -rest * slope, p)
        # The largest logit less the target's: both are products, and rounded.
        largest = np.maximum(np.abs(logits.max(axis=-1, initial=0)), np.abs(np.where(isTarget, logits, 0)).max(axis=-1))
        return row_loss((-logs * isTarget).sum(axis=-1), gradient, row_max(gradient, -1), inputs, attributes, largest)
    return function


def asymmetric_loss_single_label(inputs, attributes):
    x, target = rows_of(inputs)
    classes = x.shape[-1]
    negative, positive, eps = (
        L(attributes.get(name, usual)) for name, usual in (("gamma_neg", 4), ("gamma_pos", 0), ("eps", 0.1)))
    isTarget = hot(target.reshape(-1), classes)
    logs, p, rest = logs_of(x)
    y = np.where(isTarget, 1 - eps + eps / classes, eps / classes)
    w = np.where(isTarget, rest**positive, p**negative)
    # The slope of each term by its own logarithm, whose probability moves as p.
    slope = -y * (w + logs * np.where(
        isTarget, -positive * rest ** (positive - 1) * p if positive else L(0), negative * w))
    gradient = slope - p * slope.sum(axis=-1, keepdims=True)
    term = np.maximum(row_max(slope, -1), row_max(gradient, -1))
    return row_loss((-y * w * logs).sum(axis=-1), gradient, term, inputs, attributes)


def multi_margin_loss(inputs, attributes):
    x, target = rows_of(inputs)
    classes = x.shape[-1]
    p, margin = int(attributes.get("p", 1)), L(attributes.get("margin", 1))
    index = target.reshape(-1, 1)
    isTarget = hot(index[:, 0], classes)
    w = inputs.get("weight", np.ones(classes, L))[index]
    z = margin - np.take_along_axis(x, index, -1) + x
    z = np.where(isTarget | (z <= 0), L(0), z)
    losses = w[:, 0] * (z**p).sum(axis=-1) / classes
    slopes = w * (p * z if p == 2 else z > 0) / classes
    gradients = np.where(isTarget, -slopes.sum(axis=-1, keepdims=True), slopes)
    return row_loss(losses, gradients, row_max(slopes, -1), inputs, attributes)


def multilabel_margin_loss(inputs, attributes):
    x, target = rows_of(inputs)
    classes = x.shape[-1]
    losses, gradients = np.zeros(len(x), L), np.zeros(x.shape, L)
    for row, labels in enumerate(target.reshape(x.shape)):
        labels = list(labels[:list(labels).index(-1)] if -1 in labels else labels)
        for other in set(range(classes)) - set(labels):
            for label in labels:
                z = 1 - x[row, label] + x[row, other]
                if z > 0:
                    losses[row] += z / classes
                    gradients[row, other] += L(1) / classes
                    gradients[row, label] -= L(1) / classes
    return row_loss(losses, gradients, row_max(gradients, -1), inputs, attributes)


def alignments(logs, labels, blank):
    """The loss of one sample (T, C), and the probability that each class is what is said at each step."""
    path = [blank]
    for label in labels:
        path += [int(label), blank]
    if len(logs) == 0:
        return L(0 if len(labels) == 0 else np.inf), np.zeros(logs.shape, L)
    states, none = len(path), L(-np.inf)
    said = logs[:, path]
    skips = [False] * 2 + [path[s] != blank and path[s] != path[s - 2] for s in range(2, states)]

    def forward(said, skips):
        table = np.full(said.shape, none)
        table[0, :2] = said[0, :2]
        for t in range(1, len(said)):
            for s in range(states):
                ways = table[t - 1, s]
                if s > 0:
                    ways = np.logaddexp(ways, table[t - 1, s - 1])
                if s > 1 and skips[s]:
                    ways = np.logaddexp(ways, table[t - 1, s - 2])
                table[t, s] = ways + said[t, s]
        return table
    alpha = forward(said, skips)
    back = [False] * 2 + [skips[states - s + 1] for s in range(2, states)]
    beta = forward(said[::-1, ::-1], back)[::-1, ::-1]
    whole = np.logaddexp.reduce(alpha[-1, max(states - 2, 0):])
    occupied = np.zeros(logs.shape, L)
    for s in range(states):
        occupied[:, path[s]] += np.exp(alpha[:, s] + beta[:, s] - said[:, s] - whole)
    return -whole, occupied


def ctc_loss(inputs, attributes):
    given = inputs["log_probs"]
    x = given if given.ndim == 3 else given[:, None]
    samples = x.shape[1]
    lengths = ("input_lengths", "target_lengths")
    steps, counts = (np.broadcast_to(inputs[name].reshape(-1), (samples,)) for name in lengths)
    targets = inputs["targets"]
    if targets.ndim == 1:
        starts = np.cumsum(counts) - counts
        labels = [targets[start:start + count] for start, count in zip(starts, counts)]
    else:
        labels = [row[:count] for row, count in zip(targets, counts)]
    losses, gradients, terms = np.zeros(samples, L), np.zeros(x.shape, L), np.zeros(x.shape, L)
    for n in range(samples):
        loss, occupied = alignments(x[:steps[n], n], labels[n], attributes.get("blank", 0))
        p = np.exp(x[:steps[n], n])
        gradient, term = p - occupied, np.maximum(p, occupied)
        if np.isinf(loss):
            loss, gradient = (L(0), 0 * p) if attributes.get("zero_infinity") else (loss, np.full(p.shape, L("nan")))
            term = np.abs(gradient)
        losses[n], gradients[:steps[n], n], terms[:steps[n], n] = loss, gradient, term
    g = inputs.get("grad.loss", L(1))
    reduction = attributes.get("reduction", "mean")
    shares = {"none": 1, "sum": 1, "mean": 1 / np.maximum(counts, 1).astype(L) / samples}[reduction]
    weighed = losses * shares
    scale = (g * shares * np.ones(samples, L))[None, :, None]
    if reduction == "none":
        loss = (losses.reshape(given.shape[1:-1]), None)
    else:
        loss = (weighed.sum(), np.abs(weighed).max(initial=L(0)))
    return {"loss": loss, "grad.log_probs": (
        (scale * gradients).reshape(given.shape), np.abs(scale * terms).reshape(given.shape))}


FUNCTIONS = {
    **OF_PROBABILITY, "arcface_loss": margin_softmax(arcface), "cosface_loss": margin_softmax(cosface),
    **{f.__name__: f for f in (asymmetric_loss_single_label, multi_margin_loss, multilabel_margin_loss, ctc_loss)},
}


def evaluate(function, inputs, attributes):
    """As reference.evaluate."""
    if function in OF_PROBABILITY:
        return of_probability(function, inputs, attributes)
    return FUNCTIONS[function](inputs, attributes)
