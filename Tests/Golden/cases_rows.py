"""The calls of functions of rows, as cases.py."""
import torch

from cases import FLOATS, TYPES, case, indices, normal, seed
from cases_operands import calls

INF = float("inf")
NORMS = (2.0, 1.0, INF, 3.0, 0.5, -1.0, -INF, 1.5)


def vectors(*names, grid=None):
    """Normal numbers; on a grid, where many are equal."""
    def make(dtype, shape, attributes):
        tensors = [normal(each, dtype, 2) for each in shape]
        if grid:
            tensors = [(tensor / grid).round() * grid for tensor in tensors]
        return dict(zip(names, tensors))
    return make


def softmaxes():
    for dim, shapes in (
            (-1, [((5, 13),), ((),), ((3, 0),), ((7,),), ((3, 4, 5),)]), (0, [((13, 5),), ((0, 3),)]),
            (1, [((3, 7, 2),)])):
        yield from calls("softmin", vectors("input"), [{"dim": dim}], shapes, ("input",))
        for keepdim in (False, True):
            yield from calls("logsumexp", vectors("input"), [{"dim": dim, "keepdim": keepdim}], shapes, ("input",))
    for number, (dtype, target) in enumerate(zip(("int64", "uint8", "int8", "int32"), FLOATS)):
        seed(60 + number)
        x = indices((4, 5), 9, dtype)
        yield case("softmin", {"input": x}, {"dtype": target}, ("output",))
        yield case(
            "softmin", {"input": normal((4, 5), target, 3)}, {"dtype": FLOATS[number - 1]}, ("output", "grad.input"))
        yield case("logsumexp", {"input": x}, {"dim": number % 2}, ("output",))
    yield case("logsumexp", {"input": indices((3, 4), 2, "bool")}, {"dim": -1}, ("output",))
    # An infinity and no number among them.
    for dtype in FLOATS:
        rows = [[INF, 1], [-INF, -INF], [float("nan"), 1], [INF, -INF], [-INF, 2], [88, 1000]]
        rows = torch.tensor(rows, dtype=TYPES[dtype])
        yield case("logsumexp", {"input": rows}, {"dim": 1}, ("output", "grad.input"))


def norms():
    for index, p in enumerate(NORMS):
        shapes = [((5, 13),), ((3, 4, 5),), ((0, 4),), ((5, 1),)]
        variants = [{"p": p}] + ([{"p": p, "dim": 0}, {"p": p, "eps": 8.0}, {"p": p, "dim": -1}] if p > 0 else [])
        yield from calls(
            "normalize", vectors("input"), variants if index < 3 else variants[:1], shapes[:4 if index < 3 else 1],
            ("input",))
        pairs = [((5, 13), (5, 13)), ((5, 13), (13,)), ((1, 13), (5, 13)), ((5, 13), (5, 1)), ((3, 1, 5), (4, 5)),
                 ((7,), (7,)), ((), ()), ((0, 3), (0, 3)), ((), (4,))]
        yield from calls(
            "pairwise_distance", vectors("x1", "x2"), [{"p": p}, {"p": p, "keepdim": True}][:2 if index < 3 else 1],
            pairs[:None if index < 3 else 2], ("x1", "x2"))
        # Elements that are as large, and distances of 0.
        yield from calls(
            "pairwise_distance", vectors("x1", "x2", grid=1), [{"p": p, "eps": 0.0}], [((5, 4), (5, 4))],
            ("x1", "x2") if p > 1 else ("x1",))
        yield from calls("normalize", vectors("input", grid=2), [{"p": p, "eps": 0.5}], [((5, 4),)], ("input",))
    for dtype in FLOATS:
        seed(70)
        x, y = normal((4, 5), dtype).round(), normal((4, 5), dtype).round()
        yield case("pairwise_distance", {"x1": x, "x2": y}, {"p": 0.0, "eps": 0.0}, ("output",))
        yield case("normalize", {"input": x}, {"p": 0.0}, ("output",))
    for first, second in (("int64", "int64"), ("int32", "float32"), ("uint8", "float64"), ("int8", "bfloat16")):
        x2 = indices((3, 4), 9, second) if second == "int64" else normal((3, 4), second)
        yield case("pairwise_distance", {"x1": indices((3, 4), 9, first), "x2": x2}, {}, ("output",))


def cosines():
    pairs = [((5, 13), (5, 13)), ((5, 13), (1, 13)), ((1, 13), (5, 13)), ((5, 13), (13,)), ((5, 13), (5, 1)),
             ((0, 3), (0, 3)), ((3, 4), (2, 3, 4)), ((5, 1), (5, 1))]
    variants = [{}, {"eps": 0.5}, {"dim": 0}, {"dim": -1}]
    yield from calls("cosine_similarity", vectors("x1", "x2"), variants, pairs, ("x1", "x2"))
    yield from calls(
        "cosine_similarity", vectors("x1", "x2"), [{"dim": 0}], [((7,), (7,)), ((4, 1, 3), (4, 5, 1))], ("x1", "x2"))
    # Norms that eps replaces.
    yield from calls("cosine_similarity", vectors("x1", "x2"), [{"eps": 8.0}], pairs[:1], ("x1", "x2"))

    def signed(dtype, shape, attributes):
        # Of targets of the input's type, of others, and neither 1 nor -1.
        kind = dtype if len(shape[0]) == 1 or shape[0][0] % 2 else "int64"
        target = indices(shape[2], 3, "int64") - 1
        return {**vectors("input1", "input2")(dtype, shape, attributes), "target": target.to(TYPES[kind])}
    triples = [((5, 13), (5, 13), (5,)), ((1, 7), (4, 7), (4,)), ((4, 7), (1, 7), (4,)), ((4, 7), (4, 1), (4,)),
               ((5, 7), (5, 7), (1,)), ((7,), (7,), ()), ((7,), (1,), ()), ((0, 3), (0, 3), (0,))]
    yield from calls(
        "cosine_embedding_loss", signed, [{}, {"margin": 0.25}, {"margin": -0.5}], triples, ("input1", "input2"))


def triplets():
    triples = [((4, 7),) * 3, ((1, 7), (4, 7), (4, 7)), ((4, 7), (1, 7), (4, 7)), ((4, 7), (4, 7), (4, 1)),
               ((4, 1), (4, 1), (4, 7)), ((7,),) * 3, ((3, 1, 5), (1, 2, 5), (3, 2, 5)), ((0, 3),) * 3, ((),) * 3]
    names = ("anchor", "positive", "negative")
    for p, swap in ((2.0, False), (2.0, True), (1.0, True), (3.0, True), (INF, False), (1.5, False)):
        attributes = {"p": p, "swap": swap, "margin": 3.0}
        yield from calls(
            "triplet_margin_loss", vectors(*names), [attributes], triples if p == 2 else triples[:2], names)
    # Distances that are equal, and a hinge at 0.
    yield from calls(
        "triplet_margin_loss", vectors(*names, grid=2), [{"swap": True, "eps": 0.0, "margin": 2.0}], triples[:1], names)


def refusals():
    seed(80)
    x = normal((2, 3), "float32")
    for other in ((2, 4), (3, 3), (4,)):
        yield case("pairwise_distance", {"x1": x, "x2": normal(other, "float32")}, {}, ("output",))
        yield case("cosine_similarity", {"x1": x, "x2": normal(other, "float32")}, {}, ("output",))
    for dim in (2, -3):
        yield case("cosine_similarity", {"x1": x, "x2": x}, {"dim": dim}, ("output",))
        yield case("normalize", {"input": x}, {"dim": dim}, ("output",))
        yield case("logsumexp", {"input": x}, {"dim": dim}, ("output",))
        yield case("softmin", {"input": x}, {"dim": dim}, ("output",))
    yield case("normalize", {"input": x[0]}, {}, ("output",))
    yield case("normalize", {"input": x.long()}, {}, ("output",))
    yield case("cosine_similarity", {"x1": x.long(), "x2": x.long()}, {}, ("output",))
    yield case("pairwise_distance", {"x1": x > 0, "x2": x > 0}, {}, ("output",))
    yield case("pairwise_distance", {"x1": x[:, :0], "x2": x[:, :0]}, {"p": INF}, ("output",))
    yield case("softmin", {"input": x.long()}, {}, ("output",))
    yield case("softmin", {"input": x > 0}, {"dtype": "float32"}, ("output",))
    for target in ((3,), (1, 2), ()):
        inputs = {"input1": x, "input2": x, "target": normal(target, "float32")}
        yield case("cosine_embedding_loss", inputs, {}, ("loss",))
    inputs = {"input1": x[0], "input2": x[0], "target": normal((1,), "float32")}
    yield case("cosine_embedding_loss", inputs, {}, ("loss",))
    for second, third, attributes in (
            (x, x, {"margin": 0.0}), (x, x, {"margin": -1.0}), (x, x[0], {}), (x[:, :2], x, {})):
        yield case("triplet_margin_loss", {"anchor": x, "positive": second, "negative": third}, attributes, ("loss",))


def everything():
    for source in (softmaxes, norms, cosines, triplets, refusals):
        yield from source()
