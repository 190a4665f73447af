"""Calls on a grid of special values, judged in kind alone: finite, +inf, -inf or NaN."""
import itertools

import torch

from cases import case
from torch_side import TYPES

INF, NAN = float("inf"), float("nan")
TARGETS = (0.0, -0.0, 1.0, 0.5, 2.0, -1.0, INF, -INF, NAN)
WEIGHTS = (1.0, 0.0, INF, NAN, -1.0)
PROBABILITIES = (
    (0, 0.5, 0.5), (0.5, 0.5, 0), (0, 0, 0), (INF, 0, 1), (NAN, 0, 0), (-1, 1, 1), (1, 0, 0))
CLASS_WEIGHTS = (None, (0, 1, 2), (1, 0, INF), (NAN, 1, 1), (0, 0, 0))


def grid(dtype):
    """16-bit types go without the largest numbers: lossd does not follow their overflows inside."""
    information = torch.finfo(TYPES[dtype])
    values = [0.0, -0.0, information.smallest_normal / 8, 1.0, -1.0, INF, -INF, NAN]
    if dtype in ("float32", "float64"):
        values += [information.max, -information.max]
    return values


def columns(dtype, *axes):
    """The product of the axes, as one vector an axis."""
    rows = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64)
    return [column.contiguous().to(TYPES[dtype]) for column in rows.T]


def elementwise(dtype):
    values = grid(dtype)
    x, g = columns(dtype, values, values)
    yield case("sigmoid", {"input": x, "grad.output": g}, {}, ("output", "grad.input"))
    everything = ("loss", "grad.input", "grad.target")
    binary = "binary_cross_entropy"
    # In float16 torch's 1e-12 is 0 and its sigmoid of a denormal is 1/2: roundings inside, not followed.
    unit = (0.0, -0.0, torch.finfo(TYPES[dtype]).smallest_normal / 8, 0.5, 1.0)
    if dtype == "float16":
        values = [value for value in values if abs(value) != torch.finfo(torch.float16).smallest_normal / 8]
    x, y, w = columns(dtype, (0.25, 0.5) if dtype == "float16" else unit, unit, values)
    yield case(binary, {"input": x, "target": y}, {"reduction": "none"}, everything)
    yield case(binary, {"input": x, "target": y, "weight": w}, {"reduction": "none"}, everything)
    x, y, w = columns(dtype, values, TARGETS, WEIGHTS)
    for function in (binary + "_with_logits", "multilabel_soft_margin_loss"):
        shape = (-1, 1) if function.startswith("multilabel") else (-1,)
        inputs = {"input": x.reshape(shape), "target": y.reshape(shape)}
        yield case(function, inputs, {"reduction": "none"}, everything)
        yield case(
            function, {**inputs, "weight": w.reshape(shape)}, {"reduction": "none"}, everything)
        yield case(
            function, {**inputs, "grad.loss": w}, {"reduction": "none"}, everything)
        for row, reduction in itertools.product(range(0, len(x), 91), ("mean", "sum")):
            one = {name: tensor[row:row + 1] for name, tensor in inputs.items()}
            yield case(function, one, {"reduction": reduction}, everything)
    yield case(
        binary + "_with_logits", {"input": x, "target": y, "pos_weight": w}, {"reduction": "none"},
        everything)


def rowwise(dtype):
    values = [value for value in grid(dtype) if value != -1 and str(value) != "-0.0"]
    rows = torch.tensor(list(itertools.product(values, repeat=3)), dtype=TYPES[dtype])
    upstream = torch.tensor([1, 0, INF, NAN], dtype=TYPES[dtype]).repeat(len(rows))[:len(rows) * 3]
    for function in ("softmax", "log_softmax"):
        wanted = ("output", "grad.input")
        yield case(function, {"input": rows}, {}, wanted)
        yield case(function, {"input": rows, "grad.output": upstream.reshape(-1, 3)}, {}, wanted)
        yield case(function, {"input": rows.T.contiguous()}, {"dim": 0}, wanted)
    # A stride of 5 targets: rows whose target is ignored are those of 3.
    target = torch.arange(len(rows)) * 7 % 5 % 4
    y = torch.tensor(PROBABILITIES, dtype=TYPES[dtype]).repeat(len(rows), 1)[:len(rows)]
    for w in CLASS_WEIGHTS:
        weight = None if w is None else torch.tensor(w, dtype=TYPES[dtype])
        attributes = {"reduction": "none", "ignore_index": 3}
        inputs = {"input": rows, "target": target, "weight": weight}
        yield case("nll_loss", inputs, attributes)
        for smoothing in (0.0, 0.1, 1.0):
            more = {"label_smoothing": smoothing}
            yield case("cross_entropy", inputs, {**attributes, **more})
            yield case(
                "cross_entropy", {"input": rows, "target": y, "weight": weight},
                {"reduction": "none", **more}, ("loss", "grad.input", "grad.target"))
            for row, reduction in itertools.product(range(0, len(rows), 401), ("mean", "sum")):
                reduced = {**more, "reduction": reduction}
                one = {"input": rows[row], "target": target[row] % 3, "weight": weight}
                yield case("cross_entropy", one, reduced)
                yield case("cross_entropy", {**one, "target": y[row]}, reduced)


def everything():
    for dtype in TYPES:
        if TYPES[dtype].is_floating_point:
            yield from elementwise(dtype)
            yield from rowwise(dtype)
