"""The calls that are tried: (function, inputs, attributes, wanted outputs).

`sets` are large, for the accuracy; `grids` are small and go over shapes, arguments and refusals.
"""
import itertools

import torch

from torch_side import FLOATS, TYPES

REDUCTIONS = ("mean", "sum", "none")
generator = torch.Generator()


def seed(number):
    generator.manual_seed(number)


def normal(shape, dtype, scale=1.0, shift=0.0):
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale + shift
    return values.to(TYPES[dtype])


def uniform(shape, dtype, low=0.0, high=1.0):
    values = torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    return values.to(TYPES[dtype]).clamp(low, high)


def indices(shape, classes, dtype="int64"):
    return torch.randint(0, max(classes, 1), shape, generator=generator).to(TYPES[dtype])


def case(function, inputs, attributes=None, wanted=("loss", "grad.input")):
    return function, {k: v for k, v in inputs.items() if v is not None}, attributes or {}, wanted


def upstream(shape, dtype, isSent):
    return normal(shape, dtype) if isSent else None


def some(combinations, dtype):
    """Numbered combinations: half in float32, a third in each other type; none is left out."""
    step, first = {
        "float32": (2, 0), "float64": (3, 2), "float16": (3, 0), "bfloat16": (3, 1)}[dtype]
    return [(i, c) for i, c in enumerate(combinations) if i % step == first]


# ---- Activations ----


def activations():
    activation = ("output", "grad.input")
    for dtype in FLOATS:
        seed(1)
        x = torch.cat([normal((800,), dtype, 4), normal((240,), dtype, 30)]).reshape(40, 26)
        g = normal((40, 26), dtype)
        for function in ("sigmoid", "softmax", "log_softmax"):
            for dim in (None,) if function == "sigmoid" else (-1,):
                attributes = {} if dim is None else {"dim": dim}
                if function == "sigmoid":
                    yield case(function, {"input": x}, attributes, activation)
                yield case(function, {"input": x, "grad.output": g}, attributes, activation)
            for shape in ((), (0,), (7,), (1,), (3, 0), (3, 4, 5)):
                for dim in (0,) if function == "sigmoid" else range(-len(shape) - 1, len(shape) + 2):
                    small = normal(shape, dtype, 3)
                    yield case(
                        function, {"input": small, "grad.output": upstream(shape, dtype, dim > 0)},
                        {} if function == "sigmoid" else {"dim": dim}, activation)
        for function, target in itertools.product(("softmax", "log_softmax"), FLOATS):
            small = normal((5, 9), dtype, 3)
            yield case(
                function, {"input": small, "grad.output": normal((5, 9), target)},
                {"dtype": target}, activation)
            yield case(function, {"input": indices((4, 5), 9, "int32")}, {"dtype": target}, ("output",))
    for dtype in ("int64", "int32", "int16", "int8", "uint8", "bool"):
        seed(2)
        yield case("sigmoid", {"input": indices((3, 5), 9, dtype)}, {}, ("output",))


# ---- Binary losses ----


def binary():
    everything = ("loss", "grad.input", "grad.target")
    for dtype, function in itertools.product(
            FLOATS, ("binary_cross_entropy", "binary_cross_entropy_with_logits")):
        isLogits = function.endswith("logits")
        seed(3)
        shape = (40, 26)
        x = normal(shape, dtype, 6) if isLogits else uniform(shape, dtype)
        y = uniform(shape, dtype)
        w = uniform((26,), dtype, 0.1, 3)
        g = normal(shape, dtype)
        p = uniform((40, 1), dtype, 0.1, 5) if isLogits else None
        yield case(function, {"input": x, "target": y}, {"reduction": "none"}, everything)
        yield case(function, {"input": x, "target": (y > 0.5).to(y.dtype)}, {}, ("loss",))
        yield case(
            function, {"input": x, "target": y, "weight": w, "pos_weight": p, "grad.loss": g},
            {"reduction": "none"}, everything)
        for shape in ((), (0,), (5,), (3, 4), (2, 3, 4), (0, 4)):
            x = normal(shape, dtype, 4) if isLogits else uniform(shape, dtype)
            y = uniform(shape, dtype)
            weights = [None, shape, ()]
            if len(shape) > 1:
                weights += [shape[-1:], (*shape[:-1], 1), (1,) * len(shape), (*shape[:-2], 7, 7)]
            weights.append((2, *shape))
            combinations = itertools.product(weights, REDUCTIONS)
            for index, (weight, reduction) in some(combinations, dtype):
                w = None if weight is None else uniform(weight, dtype, 0, 2)
                p = weights[(index * 2 + 1) % len(weights)] if isLogits else None
                p = None if p is None else uniform(p, dtype, 0, 4)
                g = upstream(shape if reduction == "none" else (), dtype, index % 2 == 0)
                yield case(
                    function, {"input": x, "target": y, "weight": w, "pos_weight": p, "grad.loss": g},
                    {"reduction": reduction}, everything)
        yield case(function, {"input": uniform((3,), dtype), "target": uniform((2,), dtype)})
        yield case(function, {"input": uniform((3,), dtype), "target": uniform((3, 1), dtype)})
        for bad in (1.5, -0.25, float("nan")):
            z = uniform((3,), dtype)
            z[1] = bad
            if not isLogits:
                yield case(function, {"input": z, "target": uniform((3,), dtype)})
                yield case(function, {"input": uniform((3,), dtype), "target": z})


# ---- Losses over classes ----


def class_targets():
    for dtype in FLOATS:
        seed(4)
        x, t = normal((52, 20), dtype, 3), indices((52,), 20)
        w = uniform((20,), dtype, 0, 2)
        logs = torch.log_softmax(x.double(), 1).to(x.dtype)
        inputs = {"input": x, "target": t}
        for attributes in ({}, {"label_smoothing": 0.1}):
            for reduction in REDUCTIONS:
                attributes = {**attributes, "reduction": reduction}
                g = upstream((52,) if reduction == "none" else (), dtype, True)
                wanted = ("loss", "grad.input") if reduction == "none" else ("loss",)
                isSmoothed = "label_smoothing" in attributes
                yield case("cross_entropy", inputs, attributes, ("loss",) if isSmoothed else wanted)
                yield case(
                    "cross_entropy", {**inputs, "weight": w, "grad.loss": g}, attributes, wanted)
        for weight in (None, w):
            yield case(
                "nll_loss", {"input": logs, "target": t, "weight": weight}, {"reduction": "none"})
        for shape, function in itertools.product(
                ((5,), (3, 5), (0, 5), (1, 1), (3, 0), (0,), (2, 4, 3), (2, 3, 2, 2), (2, 4, 0)),
                ("cross_entropy", "nll_loss")):
            axis = 0 if len(shape) == 1 else 1
            classes = shape[axis]
            where = shape[:axis] + shape[axis + 1:]
            smoothings = (0.0, 0.1, 1.0) if function == "cross_entropy" else (None,)
            combinations = itertools.product(REDUCTIONS, (False, True), smoothings, (None, 1, -7))
            for index, (reduction, isWeighted, smoothing, ignore) in some(combinations, dtype):
                if classes == 0 and index % 4 > 0:
                    continue
                target = indices(where, classes, ("int64", "int32", "uint8")[index % 3])
                if ignore == -7 and target.dtype != torch.uint8:
                    target.view(-1)[::1 if classes == 0 else 2] = -7
                attributes = {"reduction": reduction}
                if smoothing:
                    attributes["label_smoothing"] = smoothing
                if ignore is not None:
                    attributes["ignore_index"] = ignore
                yield case(function, {
                    "input": normal(shape, dtype, 3), "target": target,
                    "weight": uniform((classes,), dtype, 0, 2) if isWeighted else None,
                    "grad.loss": upstream(where if reduction == "none" else (), dtype, index % 5 < 2),
                }, attributes)
    yield from class_refusals()


def class_refusals():
    for function in ("cross_entropy", "nll_loss"):
        seed(5)
        x, t = normal((3, 5), "float32"), indices((3,), 5)
        for inputs in (
            {"input": x, "target": torch.tensor([0, 5, 1])},
            {"input": x, "target": torch.tensor([0, -1, 1])},
            {"input": x, "target": torch.tensor([0, 156, 1], dtype=torch.uint8)},
            {"input": x, "target": indices((2,), 5)}, {"input": x, "target": indices((3, 1), 5)},
            {"input": x, "target": indices((), 5)}, {"input": x, "target": indices((3, 5), 5)},
            {"input": normal((), "float32"), "target": indices((), 5)},
            {"input": normal((2, 5, 3), "float32"), "target": indices((2,), 5)},
            {"input": normal((5,), "float32"), "target": indices((1,), 5)},
            {"input": x, "target": t, "weight": uniform((4,), "float32")},
            {"input": x, "target": t, "weight": uniform((1,), "float32")},
            {"input": x, "target": t, "weight": uniform((1, 5), "float32")},
            {"input": x, "target": t, "weight": uniform((), "float32")},
            {"input": x, "target": t, "grad.loss": normal((3,), "float32")},
            {"input": x, "target": t, "grad.loss": normal((), "float64")},
        ):
            yield case(function, inputs)


def probabilities():
    everything = ("loss", "grad.input", "grad.target")
    for dtype in FLOATS:
        seed(6)
        x = normal((52, 20), dtype, 3)
        y = torch.softmax(normal((52, 20), "float64", 2), 1).to(TYPES[dtype])
        w = uniform((20,), dtype, 0, 2)
        g = normal((52,), dtype)
        yield case("cross_entropy", {"input": x, "target": y}, {"reduction": "none"}, everything)
        yield case(
            "cross_entropy", {"input": x, "target": y, "weight": w, "grad.loss": g},
            {"reduction": "none", "label_smoothing": 0.2}, everything)
        for shape in ((5,), (3, 5), (0, 5), (3, 0), (0,), (2, 4, 3), (2, 3, 2, 2), (2, 4, 0)):
            axis = 0 if len(shape) == 1 else 1
            where = shape[:axis] + shape[axis + 1:]
            combinations = itertools.product(REDUCTIONS, (False, True), (0.0, 0.1, 1.0))
            for index, (reduction, isWeighted, smoothing) in some(combinations, dtype):
                yield case("cross_entropy", {
                    "input": normal(shape, dtype, 3), "target": uniform(shape, dtype, -0.2, 1),
                    "weight": uniform(shape[axis:axis + 1], dtype, 0, 2) if isWeighted else None,
                    "grad.loss": upstream(where if reduction == "none" else (), dtype, index % 2 == 0),
                }, {"reduction": reduction, "label_smoothing": smoothing}, everything)
    x, y = normal((3, 5), "float32"), uniform((3, 5), "float32")
    yield case("cross_entropy", {"input": x, "target": y}, {"ignore_index": 1})
    yield case("cross_entropy", {"input": x, "target": y}, {"ignore_index": -1})
    yield case("cross_entropy", {"input": x, "target": uniform((3, 4), "float32")})
    yield case("cross_entropy", {"input": x, "target": y, "weight": uniform((3,), "float32")})
    yield case("cross_entropy", {"input": x, "target": y}, {"label_smoothing": 1.5})


# ---- Multi-label ----

MULTILABEL_SHAPES = (
    ((3, 4), (3, 4), None), ((4,), (4,), None), ((3, 4), (4,), None), ((4,), (3, 4), None),
    ((3, 4), (3, 1), (4,)), ((3, 1), (3, 4), None), ((3, 4), (3, 4), (2, 3, 4)),
    ((3, 4), (2, 3, 4), (3, 1)), ((3, 4), (3, 4), ()), ((3, 4), (), None), ((), (4,), None),
    ((), (), None), ((0, 4), (0, 4), None), ((4, 0), (4, 0), None), ((1, 4), (0, 4), None),
    ((2, 3, 4), (2, 3, 4), (4,)), ((2, 3, 4), (3, 4), (2, 1, 1)), ((3, 4), (2, 4), None),
    ((3, 4), (3, 4), (3,)), ((1,), (5, 3), None), ((2, 1, 4), (3, 1), (4,)),
)


def multilabel():
    function = "multilabel_soft_margin_loss"
    everything = ("loss", "grad.input", "grad.target")
    for dtype in FLOATS:
        seed(7)
        x = normal((40, 26), dtype, 5)
        y = uniform((40, 26), dtype)
        w, g = uniform((26,), dtype, 0, 2), normal((40,), dtype)
        yield case(function, {"input": x, "target": y}, {"reduction": "none"}, everything)
        yield case(function, {"input": x, "target": y, "weight": w, "grad.loss": g},
                   {"reduction": "none"}, everything)
        yield case(function, {"input": x, "target": y[:1]}, {}, ("loss", "grad.target"))
        combinations = itertools.product(MULTILABEL_SHAPES, REDUCTIONS)
        for index, ((a, b, c), reduction) in some(combinations, dtype):
            inputs = {
                "input": normal(a, dtype, 4), "target": uniform(b, dtype),
                "weight": None if c is None else uniform(c, dtype, 0, 2)}
            if reduction != "none" and index % 2 == 0:
                inputs["grad.loss"] = normal((), dtype)
            yield case(function, inputs, {"reduction": reduction}, everything)
        for kind in ("int64", "uint8", "int8"):
            yield case(function, {"input": normal((3, 4), dtype), "target": indices((3, 4), 4, kind)})


# ---- Elementwise functions: a formula each ----


def elementwise():
    """Calls for a file of their own: torch's last digits differ from processor to processor, and what is committed of
    other functions stays as it is."""
    both = ("output", "grad.input")
    for dtype, approximate in itertools.product(FLOATS, ("none", "tanh")):
        seed(7)
        x = torch.cat([normal((400,), dtype, 2), normal((120,), dtype, 5)]).reshape(20, 26)
        attributes = {"approximate": approximate}
        yield case("gelu", {"input": x}, attributes, both)
        yield case("gelu", {"input": x, "grad.output": normal((20, 26), dtype)}, attributes, both)
        for shape in ((), (0,), (7,), (3, 0), (3, 4, 5)):
            yield case("gelu", {"input": normal(shape, dtype, 3)}, attributes, both)
    yield case("gelu", {"input": indices((3,), 9)}, {}, ("output",))
    everything = ("loss", "grad.input", "grad.target")
    for dtype, beta in itertools.product(FLOATS, (0.0, 0.5, 1.0, 3.25)):
        seed(8)
        x, y = normal((12, 26), dtype, 2), normal((12, 26), dtype, 2)
        for reduction in REDUCTIONS:
            g = upstream((12, 26) if reduction == "none" else (), dtype, reduction != "mean")
            attributes = {"reduction": reduction, "beta": beta}
            yield case("smooth_l1_loss", {"input": x, "target": y, "grad.loss": g}, attributes, everything)
        for target in ((26,), (12, 1), ()):
            yield case(
                "smooth_l1_loss", {"input": x, "target": normal(target, dtype, 2)}, {"beta": beta}, ("loss",))
        for shape in ((), (0,), (7,), (3, 4, 5)):
            yield case(
                "smooth_l1_loss",
                {"input": normal(shape, dtype, 2), "target": normal(shape, dtype, 2)}, {}, everything)
    yield case("smooth_l1_loss", {"input": x, "target": y}, {"beta": -1.0})
    yield from unary()
    yield from pairs()
    yield from element_refusals()


# Attributes that each is tried with; half of them are in each type.
UNARY = {
    "tanh": [{}], "relu": [{}], "relu6": [{}], "hardtanh": [{}, {"min_val": -0.5, "max_val": 2.0}],
    "threshold": [{"threshold": 0.25, "value": -3.0}], "leaky_relu": [{}, {"negative_slope": -0.5}],
    "rrelu": [{}, {"lower": 0.25, "upper": 0.5}], "elu": [{}, {"alpha": -1.5}], "selu": [{}],
    "celu": [{}, {"alpha": -2.0}, {"alpha": 0.5}], "silu": [{}], "mish": [{}],
    "softplus": [{}, {"beta": 2.5, "threshold": 3.0}, {"beta": -1.0}], "logsigmoid": [{}], "softsign": [{}],
    "tanhshrink": [{}], "hardsigmoid": [{}], "hardswish": [{}], "hardshrink": [{}, {"lambd": 0.0}],
    "softshrink": [{}, {"lambd": 1.25}], "erf": [{}], "erfc": [{}], "ndtr": [{}], "log1p": [{}], "expm1": [{}],
    "exp2": [{}], "logit": [{}, {"eps": 0.125}], "entr": [{}],
}
# Those that take integers, and whether truth values too.
OF_INTEGERS = {name: name not in ("tanhshrink", "softsign")
               for name in ("tanh", "tanhshrink", "softsign", "erf", "erfc", "ndtr", "log1p", "expm1", "exp2", "entr",
                            "log_ndtr", "sinc")}


def unary(functions=UNARY):
    both = ("output", "grad.input")
    for function, variants in functions.items():
        for number, dtype in enumerate(FLOATS):
            seed(9)
            # Corners among them.
            x = torch.cat([normal((160,), dtype, 1), normal((80,), dtype, 6),
                           torch.tensor([-3, -1, 0.5, 1, 3, 6, 0.25, -0.5], dtype=TYPES[dtype])])
            if function == "logit":
                x = uniform((248,), dtype, 0.001, 0.999)
            elif function in ("log1p", "entr"):
                x = x.abs()
            x = x.reshape(8, 31)
            for index, attributes in enumerate(variants):
                if index == 0 or (index + number) % 2 == 0:
                    g = normal((8, 31), dtype) if (index + number) % 2 else None
                    yield case(function, {"input": x, **({} if g is None else {"grad.output": g})}, attributes, both)
            for shape in ((), (0,), (3, 0), (2, 3, 5))[number % 2::2]:
                yield case(function, {"input": uniform(shape, dtype)}, variants[0], both)
        for dtype in ("int64", "int32", "uint8", "bool"):
            taken = OF_INTEGERS.get(function)
            # Those of rectifiers keep their type in torch: docs/functions.md.
            if taken is not None and (taken or dtype != "bool"):
                yield case(function, {"input": indices((3, 5), 3, dtype)}, variants[0], ("output",))


PAIRS = {
    "l1_loss": [{}], "mse_loss": [{}], "huber_loss": [{}, {"delta": 0.25}], "kl_div": [{}, {"log_target": True}],
    "poisson_nll_loss": [{}, {"full": True}, {"log_input": False}, {"log_input": False, "full": True, "eps": 0.125}],
    "soft_margin_loss": [{}], "hinge_embedding_loss": [{}, {"margin": 0.25}],
}


def pairs():
    for function, variants in PAIRS.items():
        isSigned = function in ("soft_margin_loss", "hinge_embedding_loss")
        everything = ("loss", "grad.input") if isSigned else ("loss", "grad.input", "grad.target")
        for (number, dtype), (index, attributes) in itertools.product(enumerate(FLOATS), enumerate(variants)):
            seed(10)

            def some_of(shape):
                x = normal(shape, dtype, 2)
                y = normal(shape, dtype, 2)
                if isSigned:
                    y = y.sign()
                elif function == "kl_div":
                    y = y if "log_target" in attributes else uniform(shape, dtype, 0.01)
                elif function == "poisson_nll_loss":
                    y = y.abs() * 2
                    x = x if attributes.get("log_input", True) else x.abs() + 0.125
                return x, y
            for turn, reduction in enumerate(REDUCTIONS):
                shape = (6, 31)
                x, y = some_of(shape)
                isSent = (turn + index + number) % 2 == 0
                g = upstream(shape if reduction == "none" else (), dtype, isSent)
                yield case(
                    function, {"input": x, "target": y, "grad.loss": g}, {**attributes, "reduction": reduction},
                    everything)
            for shape in ((), (0,), (7,), (3, 4, 5))[number % 2::2]:
                x, y = some_of(shape)
                yield case(function, {"input": x, "target": y}, attributes, everything)
            if number == index % 4:
                for shape in ((31,), (6, 1), ()):
                    yield case(
                        function, {"input": some_of((6, 31))[0], "target": some_of(shape)[1]}, attributes, ("loss",))


def element_refusals():
    seed(11)
    x, y = normal((3,), "float32"), uniform((3,), "float32")
    for function, attributes in (
            ("hardtanh", {"min_val": 1.0, "max_val": 0.5}), ("rrelu", {"lower": 0.5, "upper": 0.25}),
            ("celu", {"alpha": 0.0}), ("softshrink", {"lambd": -1.0}), ("threshold", {})):
        yield case(function, {"input": x}, attributes, ("output",))
    yield case("softshrink", {"input": x.half()}, {"lambd": 1e6}, ("output",))
    for function in ("relu6", "elu", "softplus", "hardswish", "tanhshrink"):
        yield case(function, {"input": torch.tensor([True, False])}, {}, ("output",))
    for function, attributes in (("huber_loss", {"delta": 0.0}), ("huber_loss", {"delta": -1.0})):
        yield case(function, {"input": x, "target": y}, attributes)
    for function in PAIRS:
        yield case(function, {"input": x, "target": y[:2]})
    yield case("smooth_l1_loss", {"input": x, "target": normal((25,), "bfloat16")}, {})


def everything():
    for source in (activations, binary, class_targets, probabilities, multilabel):
        yield from source()
