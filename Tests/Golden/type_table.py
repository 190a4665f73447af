"""Result types and refusals over every pair of data types: types.json, and the table in docs/functions.md.

types.json: {rows: [[function, {input: [data type, dimension...]}, attributes, torch's result type or null,
lossd's]], table: what stands between the marks in docs/functions.md}.
"""
import itertools

import torch

import torch_side
from torch_side import FLOATS, TYPES

SHORT = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64",
    "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool"}
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def result(function, shapes, attributes):
    """[torch's type, ours]; null where it is refused."""
    inputs = {
        name: torch.zeros(shape, dtype=TYPES[dtype]) for name, (dtype, *shape) in shapes.items()}
    torchs = []
    for isOurs in (False, True):
        call = torch_side.call_extended if isOurs else torch_side.call
        try:
            torchs.append(torch_side.name_of(call(function, inputs, attributes).dtype))
        except Exception:  # torch's refusals have many types
            torchs.append(None)
    return torchs


def tables():
    """(title, function, row types, column types, shapes of a cell, attributes of a cell)."""
    floats, every = FLOATS, list(TYPES)
    yield ("sigmoid: input", "sigmoid", every, ["result"], lambda a, b: {"input": (a, 3)}, None)
    for function in ("softmax", "log_softmax"):
        yield (f"{function}: input by dtype", function, every, ["none", *floats],
               lambda a, b: {"input": (a, 3)}, lambda b: {} if b == "none" else {"dtype": b})
    for function in (*BINARY, "multilabel_soft_margin_loss"):
        yield (f"{function}: input by target", function, every, every,
               lambda a, b: {"input": (a, 2, 3), "target": (b, 2, 3)}, None)
        names = ("weight", "pos_weight") if function == BINARY[1] else ("weight",)
        for name, shape in itertools.product(names, ((3,), ())):
            yield (f"{function}: input and target by {name}{'' if shape else ' without dimensions'}",
                   function, floats, every,
                   lambda a, b, n=name, s=shape: {
                       "input": (a, 2, 3), "target": (a, 2, 3), n: (b, *s)}, None)
    yield ("multilabel_soft_margin_loss: input by target without dimensions",
           "multilabel_soft_margin_loss", floats, every,
           lambda a, b: {"input": (a, 2, 3), "target": (b,)}, None)
    for function in ("cross_entropy", "nll_loss"):
        for title, shape, where in (
            ("(C)", (4,), ()), ("(N, C)", (3, 4), (3,)), ("(N, C, d1)", (2, 4, 3), (2, 3)),
            ("(N, C, d1, d2)", (2, 4, 3, 2), (2, 3, 2))):
            yield (f"{function} of {title}: input by class-index target", function, every, every,
                   lambda a, b, s=shape, w=where: {"input": (a, *s), "target": (b, *w)}, None)
        yield (f"{function}: input by weight, index targets", function, floats, every,
               lambda a, b: {"input": (a, 3, 4), "target": ("int64", 3), "weight": (b, 4)}, None)
    yield ("cross_entropy: input by class-probability target", "cross_entropy", every, every,
           lambda a, b: {"input": (a, 3, 4), "target": (b, 3, 4)}, None)
    yield ("cross_entropy: input and probabilities by weight", "cross_entropy", floats, every,
           lambda a, b: {"input": (a, 3, 4), "target": (a, 3, 4), "weight": (b, 4)}, None)


def triples():
    """Three types at once: in the golden rows, too many for the table."""
    weights = [*FLOATS, "int64", "bool"]
    for function, shape in ((BINARY[1], (2, 3)), ("multilabel_soft_margin_loss", (2, 3)),
                            ("cross_entropy", (2, 3))):
        for a, b, c in itertools.product(FLOATS, FLOATS, weights):
            yield function, {"input": (a, *shape), "target": (b, *shape), "weight": (c, 3)}
    for a, b, c in itertools.product(FLOATS, FLOATS, weights):
        yield BINARY[1], {"input": (a, 2, 3), "target": (b, 2, 3), "pos_weight": (c, 3)}
    for a, b in itertools.product(FLOATS, FLOATS):
        yield BINARY[1], {"input": (a,), "target": (b,)}
        yield BINARY[1], {"input": (a, 2, 3), "target": (a, 2, 3), "weight": (b, 1)}


def markdown(title, columns, cells):
    """One table; neighbouring rows that are equal share a line."""
    lines = [f"#### {title}", "", "| | " + " | ".join(SHORT.get(c, c) for c in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for text, group in itertools.groupby(cells, key=lambda cell: cell[1]):
        names = ", ".join(SHORT[name] for name, _ in group)
        lines.append(f"| {names} | {text} |")
    return "\n".join(lines) + "\n"


def make():
    rows, texts = [], []
    for title, function, down, across, shapes, attributes in tables():
        cells = []
        for a in down:
            words = []
            for b in across:
                given = shapes(a, b)
                more = attributes(b) if attributes else {}
                torchs, ours = result(function, given, more)
                rows.append([function, {k: list(v) for k, v in given.items()}, more, torchs, ours])
                mark = "" if torchs == ours else "*"
                words.append("-" if ours is None else SHORT[ours] + mark)
            cells.append((a, " | ".join(words)))
        texts.append(markdown(title, across, cells))
    for function, given in triples():
        rows.append([function, {k: list(v) for k, v in given.items()}, {},
                     *result(function, given, {})])
    return {"rows": rows, "table": "\n".join(texts)}
