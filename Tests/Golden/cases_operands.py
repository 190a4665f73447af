"""The calls of elementwise functions of more operands, of other sources and with weights, as cases.py."""
import itertools

import torch

import torch_side
from cases import FLOATS, REDUCTIONS, TYPES, case, indices, normal, seed, unary, uniform
from torch_side import ACTIVATIONS


def upstream_of(function, inputs, attributes, dtype):
    """Like the result."""
    tensor = torch_side.call_extended(function, inputs, attributes)
    return normal(tensor.shape, torch_side.name_of(tensor.dtype))


def is_left_out(function, dtype, attributes, reduction, shape):
    """What is off by more than 3 ulp, or 1 of a reduced loss: a power or an exponential of a rounded number loses
    digits. And where torch's 16-bit numbers overflow on the way."""
    if attributes.get("p") == -1:
        return dtype == "float16"
    if dtype == "float64" and function in ("cosine_similarity", "triplet_margin_loss"):
        return "dim" in attributes or shape[0] == (7,)
    if function == "sigmoid_focal_loss":
        return dtype == "float32" or (dtype == "float64" and attributes.get("gamma") == 0)
    if function == "asymmetric_loss":
        return dtype == "float32" or (dtype == "float64" and (reduction != "none" or attributes.get("gamma_pos") == 0))
    return function == "siglip_loss" and "bias" in attributes and dtype in ("float32", "float64")


def calls(function, make, variants, shapes, gradients, first=20):
    """The first shapes with every reduction and type, the others and further arguments with some."""
    result = "output" if function in ACTIVATIONS else "loss"
    wanted = (result, *(f"grad.{name}" for name in gradients))
    reductions = REDUCTIONS if result == "loss" else (None,)
    for (number, dtype), (index, attributes) in itertools.product(enumerate(FLOATS), enumerate(variants)):
        seed(first + index)
        for turn, shape in enumerate(shapes):
            for step, reduction in enumerate(reductions):
                isUsual = turn == 0 and (index == 0 or step == (index + number) % len(reductions))
                isOther = turn and index == turn % len(variants) and step == (turn + number) % len(reductions)
                if not isUsual and not (isOther and (turn + number) % 2 == 0):
                    continue
                if is_left_out(function, dtype, attributes, reduction, shape):
                    continue
                inputs = make(dtype, shape, attributes)
                more = attributes if reduction is None else {**attributes, "reduction": reduction}
                if (turn + step + index + number) % 2:
                    inputs[f"grad.{result}"] = upstream_of(function, inputs, more, dtype)
                yield case(function, inputs, more, wanted)


PAIR = [((5, 13), (5, 13)), ((5, 13), (13,)), ((13,), (5, 13)), ((5, 1), (1, 13)), ((), ()), ((0, 3), (3,)),
        ((2, 3, 4), (3, 1)),
        ((7,), ()), ((), (7,)), ((3, 1, 4), (2, 1))]
SAME = [((5, 13), (5, 13)), ((7,), (7,)), ((), ()), ((0,), (0,)), ((2, 3, 4), (2, 3, 4))]


def activations():
    def logarithms(low):
        def make(dtype, shape, attributes):
            x = normal(shape[0], dtype, 2)
            if x.dim():
                x.view(-1)[::5] = 0
            return {"input": x, "other": uniform(shape[1], dtype, low, 3)}
        return make
    yield from calls("xlogy", logarithms(0.01), [{}], PAIR, ("input", "other"))
    yield from calls("xlog1py", logarithms(-0.9), [{}], PAIR, ("input", "other"))
    for function, dtype in itertools.product(("xlogy", "xlog1py"), ("int64", "uint8", "bool")):
        yield case(function, {"input": indices((3, 4), 3, dtype), "other": indices((4,), 3) + 1}, {}, ("output",))
    # The corner is among them.
    yield from calls(
        "prelu", lambda dtype, shape, a: {
            "input": normal(shape[0], dtype, 2).round(decimals=1), "weight": normal(shape[1], dtype)},
        [{}], [((5, 13), (13,)), ((5, 13), (1,)), ((7,), (1,)), ((), (1,)), ((2, 3, 4), (3,)), ((0, 3), (3,)),
               ((2, 3, 4), (1,)), ((2, 3, 2, 2), (3,))], ("input", "weight"))
    for dim, shapes in ((-1, [(5, 26), (6,), (0, 4)]), (0, [(10, 13), (4, 0), (2, 3, 2)]), (1, [(2, 4, 3), (5, 4)])):
        yield from calls(
            "glu", lambda dtype, shape, a: {"input": normal(shape, dtype, 4)}, [{"dim": dim}], shapes, ("input",))


def losses():
    def numbers(dtype, shape, attributes):
        return {"input": normal(shape[0], dtype, 2), "target": normal(shape[1], dtype, 2)}

    def tied(dtype, shape, attributes):
        """Where they are equal, too."""
        inputs = numbers(dtype, shape, attributes)
        return {name: tensor.round() / 2 for name, tensor in inputs.items()}
    both = ("input", "target")
    yield from calls("quantile_loss", numbers, [{}, {"q": 0.125}, {"q": 1.0}], PAIR, both)
    yield from calls("quantile_loss", tied, [{"q": 0.75}], PAIR[:1], both)
    yield from calls("log_cosh_loss", numbers, [{}], PAIR, both)

    def hard(dtype, shape, attributes):
        return {"input": normal(shape[0], dtype, 3), "target": indices(shape[1], 2).to(TYPES[dtype])}

    def soft(dtype, shape, attributes):
        return {"input": normal(shape[0], dtype, 3), "target": uniform(shape[1], dtype, 0.01, 0.99)}
    for make in (hard, soft):
        yield from calls(
            "sigmoid_focal_loss", make,
            [{}, {"alpha": -1.0}, {"alpha": 0.5, "gamma": 1.0}, {"gamma": 0.0}, {"gamma": 3.5}], PAIR, both)
    yield from calls(
        "asymmetric_loss", hard,
        [{}, {"clip": 0.0}, {"gamma_neg": 2.0, "gamma_pos": 2.0, "clip": 0.25}, {"gamma_pos": 0.0}], PAIR, ("input",))

    def signs(dtype, shape, attributes):
        return {"input": normal(shape[0], dtype, 1), "target": indices(shape[1], 2).to(TYPES[dtype]) * 2 - 1}
    yield from calls("siglip_loss", signs, [{}, {"scale": 4.0, "bias": -2.0}, {"scale": 0.5}], PAIR, both)

    def probabilities(dtype, shape, attributes):
        y = normal(shape[1], dtype) if "log_target" in attributes else uniform(shape[1], dtype, 0.01)
        return {"input": normal(shape[0], dtype, 2), "target": y}
    for function, make, variants in (
            ("kl_div", probabilities, [{}, {"log_target": True}]), ("siglip_loss", signs, [{}, {"scale": 2.0}])):
        for (number, dtype), (index, attributes) in itertools.product(enumerate(FLOATS), enumerate(variants)):
            seed(40)
            for turn, shape in enumerate([((5, 13), (5, 13)), ((3, 4), (3, 1)), ((), ()), ((0, 3), (0, 3))]):
                if turn and (turn + number + index) % 2:
                    continue
                inputs, more = make(dtype, shape, attributes), {**attributes, "reduction": "batchmean"}
                if number % 2 == index:
                    inputs["grad.loss"] = normal((), dtype)
                yield case(function, inputs, more, ("loss", "grad.input", "grad.target"))

    def weighted(dtype, shape, attributes):
        return {**numbers(dtype, shape, attributes), "weight": uniform(shape[0], dtype, 0, 2)}
    for function, variants in (("l1_loss", [{}]), ("mse_loss", [{}]), ("huber_loss", [{}, {"delta": 0.25}])):
        yield from calls(function, weighted, variants, [*SAME, ((5, 13), (13,)), ((4, 3), (4, 1))], both, 30)


def of_three():
    def gaussian(dtype, shape, attributes):
        return {"input": normal(shape[0], dtype, 2), "target": normal(shape[1], dtype, 2),
                "var": uniform(shape[2], dtype, 0.1, 3)}
    shapes = [((5, 13), (5, 13), (5, 13)), ((5, 13), (5, 13), (5,)), ((5, 13), (13,), (5, 1)), ((4, 5), (5,), (1, 5)),
              ((2, 3, 4), (2, 3, 4), (2, 3)), ((2, 3, 4), (2, 3, 4), (2, 1, 4)), ((5,), (5,), ()),
              ((3, 1), (3, 5), (3, 1)),
              ((0, 3), (0, 3), (0, 3)), ((), (), ())]
    yield from calls(
        "gaussian_nll_loss", gaussian, [{}, {"full": True}, {"eps": 1.0}], shapes, ("input", "target", "var"))

    def ranked(dtype, shape, attributes):
        x1, x2 = (normal(each, dtype, 2) for each in shape[:2])
        if attributes.get("margin") == 0.5:
            x1, x2 = x1.round() / 2, x2.round() / 2
        return {"input1": x1, "input2": x2, "target": indices(shape[2], 2).to(TYPES[dtype]) * 2 - 1}
    shapes = [((5, 13),) * 3, ((4, 5), (4, 1), (1, 5)), ((1, 5), (4, 5), (4, 1)), ((7,),) * 3, ((),) * 3, ((0, 3),) * 3,
              ((4, 5), (1, 5), (4, 5))]
    yield from calls(
        "margin_ranking_loss", ranked, [{}, {"margin": 0.5}, {"margin": -0.25}], shapes, ("input1", "input2", "target"))


def refusals():
    seed(50)
    x, y = normal((3, 4), "float32"), uniform((3, 4), "float32")
    for shape, dim in (((5,), 0), ((), 0), ((2, 2), 2), ((2, 2), -3), ((2, 3), -1)):
        yield case("glu", {"input": normal(shape, "float32")}, {"dim": dim}, ("output",))
    for weight in ((3,), (5,)):
        yield case("prelu", {"input": x, "weight": normal(weight, "float32")}, {}, ("output",))
    yield case("prelu", {"input": x, "weight": normal((4,), "float64")}, {}, ("output",))
    for function in ("xlogy", "xlog1py"):
        yield case(function, {"input": x, "other": y[:2]}, {}, ("output",))
    for var in ((4,), (1, 1), (3, 4, 1), (2, 4)):
        yield case("gaussian_nll_loss", {"input": x, "target": y, "var": uniform(var, "float32")})
    yield case("gaussian_nll_loss", {"input": x, "target": y, "var": y - 2})
    for second, third in ((x[0], x), (x, x[0]), (x[:2], x)):
        yield case("margin_ranking_loss", {"input1": x, "input2": second, "target": third}, {}, ("loss",))
    for function in ("l1_loss", "mse_loss", "huber_loss"):
        for weight in ((4,), (3, 1), (2, 4)):
            yield case(function, {"input": x, "target": y, "weight": uniform(weight, "float32")})


def everything():
    yield from unary({"log_ndtr": [{}], "sinc": [{}]})
    for source in (activations, losses, of_three, refusals):
        yield from source()
