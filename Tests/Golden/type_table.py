"""Result types and refusals over every pair of data types: types.json, and the table in docs/functions.md.

types.json: {rows: [[function, {input: [data type, dimension...]}, attributes, torch's result type or null,
lossd's]], table: what stands between the marks in docs/functions.md}.
"""
import itertools

import torch

import sources
import torch_side
from elements import ACTIVATIONS
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
    for call in (torch_side.call, torch_side.call_extended):
        try:
            torchs.append(torch_side.name_of(call(function, inputs, attributes).dtype))
        except Exception:  # torch's refusals have many types
            torchs.append(None)
    return [torchs[0], ours(function, inputs, torchs[1])]


def ours(function, inputs, dtype):
    """lossd's type where torch has this one."""
    others = {name for name, tensor in inputs.items() if not tensor.dtype.is_floating_point}
    truths = {name for name, tensor in inputs.items() if tensor.dtype == torch.bool}
    isRefused = (
        function in PAIR_LOSSES and (truths - TRUTHS.get(function, set()) or "weight" in others)
        or function == "cosine_embedding_loss" and truths & {"input1", "input2"}
        or function == "ctc_loss" and (truths or len(others) < 3))
    return None if isRefused else dtype


# Where a tensor of bools is taken as numbers.
TRUTHS = dict.fromkeys(
    ("mse_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "soft_margin_loss", "hinge_embedding_loss"), {"target"})
PAIR_LOSSES = ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss",
               "hinge_embedding_loss", *sources.PAIRS)
CLASS_LOSSES = (*sources.OF_PROBABILITY, *sources.ROWS, "multi_margin_loss")


def tables():
    """(function, what the rows and columns are, row types, column types, shapes of a cell, attributes of a cell).

    Functions with equal tables share one.
    """
    floats, every = FLOATS, list(TYPES)
    required = {"threshold": {"threshold": 0.5, "value": 0.25}, "logsumexp": {"dim": 0}}
    for function in ("sigmoid", "gelu", *ACTIVATIONS, "glu", "normalize", "logsumexp"):
        yield (function, "input", every, ["result"], lambda a, b: {"input": (a, 2, 2)},
               lambda b, f=function: required.get(f, {}))
    for function in ("softmax", "log_softmax", "softmin"):
        yield (function, "input by dtype", every, ["none", *floats],
               lambda a, b: {"input": (a, 3)}, lambda b: {} if b == "none" else {"dtype": b})
    for function, first, second in (
            ("xlogy", "input", "other"), ("xlog1py", "input", "other"), ("prelu", "input", "weight"),
            ("cosine_similarity", "x1", "x2"), ("pairwise_distance", "x1", "x2")):
        yield (function, "the first tensor by the second", every, every,
               lambda a, b, i=first, j=second: {i: (a, 2, 3), j: (b, 3) if j == "weight" else (b, 2, 3)}, None)
    for function in PAIR_LOSSES:
        yield (function, "input by target", every, every, lambda a, b: {"input": (a, 3), "target": (b, 3)}, None)
    for function in ("l1_loss", "mse_loss", "huber_loss"):
        yield (function, "input and target by weight", floats, every,
               lambda a, b: {"input": (a, 3), "target": (a, 3), "weight": (b, 3)}, None)
    # Of three tensors each by each of the others, the third of the first's type.
    for function, names, shapes in (
            ("gaussian_nll_loss", ("input", "target", "var"), ((2, 3),) * 3),
            ("margin_ranking_loss", ("input1", "input2", "target"), ((3,),) * 3),
            ("cosine_embedding_loss", ("input1", "input2", "target"), ((2, 3), (2, 3), (2,))),
            ("triplet_margin_loss", ("anchor", "positive", "negative"), ((2, 3),) * 3)):
        first, second, third = names
        yield (function, f"{first} and {third} by {second}", every, every,
               lambda a, b, n=names, s=shapes: {n[0]: (a, *s[0]), n[1]: (b, *s[1]), n[2]: (a, *s[2])}, None)
        yield (function, f"{first} and {second} by {third}", every, every,
               lambda a, b, n=names, s=shapes: {n[0]: (a, *s[0]), n[1]: (a, *s[1]), n[2]: (b, *s[2])}, None)
    for function in CLASS_LOSSES:
        yield (function, "input by class-index target", every, every,
               lambda a, b: {"input": (a, 3, 4), "target": (b, 3)}, None)
    yield ("multilabel_margin_loss", "input by class-index target", every, every,
           lambda a, b: {"input": (a, 3, 4), "target": (b, 3, 4)}, None)
    for function in (*sources.OF_PROBABILITY, "multi_margin_loss"):
        yield (function, "input by weight, index targets", floats, every,
               lambda a, b: {"input": (a, 3, 4), "target": ("int64", 3), "weight": (b, 4)}, None)
    lengths = ("input_lengths", "target_lengths")
    for title, changed in (("targets", ("targets",)), ("the lengths", lengths)):
        yield ("ctc_loss", f"log_probs by {title}", every, every,
               lambda a, b, c=changed: {
                   "log_probs": (a, 5, 2, 3), "targets": (b if "targets" in c else "int64", 2, 4),
                   **{name: (b if name in c else "int64", 2) for name in lengths}}, None)
    for function in (*BINARY, "multilabel_soft_margin_loss"):
        yield (function, "input by target", every, every,
               lambda a, b: {"input": (a, 2, 3), "target": (b, 2, 3)}, None)
        names = ("weight", "pos_weight") if function == BINARY[1] else ("weight",)
        for name, shape in itertools.product(names, ((3,), ())):
            yield (function, f"input and target by {name}{'' if shape else ' without dimensions'}",
                   floats, every,
                   lambda a, b, n=name, s=shape: {
                       "input": (a, 2, 3), "target": (a, 2, 3), n: (b, *s)}, None)
    yield ("multilabel_soft_margin_loss", "input by target without dimensions", floats, every,
           lambda a, b: {"input": (a, 2, 3), "target": (b,)}, None)
    for function in ("cross_entropy", "nll_loss"):
        for title, shape, where in (
            ("(C)", (4,), ()), ("(N, C)", (3, 4), (3,)), ("(N, C, d1)", (2, 4, 3), (2, 3)),
            ("(N, C, d1, d2)", (2, 4, 3, 2), (2, 3, 2))):
            yield (function, f"input {title} by class-index target", every, every,
                   lambda a, b, s=shape, w=where: {"input": (a, *s), "target": (b, *w)}, None)
        yield (function, "input by weight, index targets", floats, every,
               lambda a, b: {"input": (a, 3, 4), "target": ("int64", 3), "weight": (b, 4)}, None)
    yield ("cross_entropy", "input by class-probability target", every, every,
           lambda a, b: {"input": (a, 3, 4), "target": (b, 3, 4)}, None)
    yield ("cross_entropy", "input and probabilities by weight", floats, every,
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
    # A tensor without dimensions counts for less, or not at all.
    some = ("float32", "float64", "bfloat16", "int64")
    for function, names in (
            ("mse_loss", ("input", "target")), ("kl_div", ("input", "target")),
            ("poisson_nll_loss", ("input", "target")), ("hinge_embedding_loss", ("input", "target")),
            ("xlogy", ("input", "other")), ("pairwise_distance", ("x1", "x2"))):
        for a, b, (first, second) in itertools.product(some, some, (((), (3,)), ((3,), ()))):
            yield function, {names[0]: (a, *first), names[1]: (b, *second)}


def markdown(title, columns, cells):
    """One table; neighbouring rows that are equal share a line."""
    lines = [f"#### {title}", "", "| | " + " | ".join(SHORT.get(c, c) for c in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for text, group in itertools.groupby(cells, key=lambda cell: cell[1]):
        names = ", ".join(SHORT[name] for name, _ in group)
        lines.append(f"| {names} | {text} |")
    return "\n".join(lines) + "\n"


def make():
    """Tables that are equal are one, with the names of all of their functions."""
    rows, merged = [], {}
    for function, kind, down, across, shapes, attributes in tables():
        cells = []
        for a in down:
            words = []
            for b in across:
                given = shapes(a, b)
                more = attributes(b) if attributes else {}
                torchs, lossds = result(function, given, more)
                rows.append([function, {k: list(v) for k, v in given.items()}, more, torchs, lossds])
                mark = "" if torchs == lossds else "*"
                words.append(("-" if lossds is None else SHORT[lossds]) + mark)
            cells.append((a, " | ".join(words)))
        merged.setdefault((tuple(across), tuple(cells)), {}).setdefault(kind, []).append(function)
    for function, given in triples():
        rows.append([function, {k: list(v) for k, v in given.items()}, {},
                     *result(function, given, {})])
    texts = [markdown("; ".join(f"{', '.join(functions)}: {kind}" for kind, functions in kinds.items()), across, cells)
             for (across, cells), kinds in merged.items()]
    return {"rows": rows, "table": "\n".join(texts)}
