"""The calls of losses of classes, margins and sequences, as cases.py."""
import itertools

import torch

from cases import FLOATS, REDUCTIONS, TYPES, case, indices, normal, seed, uniform
from cases_operands import upstream_of

BOTH = ("loss", "grad.input")
INDICES = ("int64", "int32", "uint8")


def is_left_out(function, dtype, attributes, shape):
    """What is off by more than 3 ulp, or 1 of a reduced loss of one row: a power of a probability loses digits."""
    return (function == "generalized_cross_entropy" and dtype == "float64" and not attributes
            or function == "softmax_focal_loss" and dtype == "float32" and shape == (5,))


def combinations(function, variants, shapes, make, wanted=BOTH, first=90):
    """Every reduction and type of the first shape, and some of the others."""
    for (number, dtype), (index, attributes) in itertools.product(enumerate(FLOATS), enumerate(variants)):
        seed(first + index)
        for turn, shape in enumerate(shapes):
            for step, reduction in enumerate(REDUCTIONS):
                isUsual = turn == 0 and (index == 0 or step == (index + number) % 3)
                if not isUsual and not (turn and (turn + index + number) % 4 == 0 and step == (turn + number) % 3):
                    continue
                if is_left_out(function, dtype, attributes, shape):
                    continue
                inputs = make(dtype, shape, turn + step + number, attributes)
                more = {**attributes, "reduction": reduction}
                if (turn + step + index + number) % 2:
                    inputs["grad.loss"] = upstream_of(function, inputs, more, dtype)
                yield case(function, inputs, more, wanted)


def of_probabilities():
    def labelled(dtype, shape, turn, attributes):
        axis = min(len(shape) - 1, 1)
        where = shape[:axis] + shape[axis + 1:]
        target = indices(where, shape[axis], INDICES[turn % 3])
        if target.numel() > 2 and target.dtype != torch.uint8:
            target.view(-1)[::3] = attributes.get("ignore_index", -100)
        inputs = {"input": normal(shape, dtype, 3), "target": target}
        if turn % 2:
            inputs["weight"] = uniform(shape[axis:axis + 1], dtype, 0.25, 2)
        return inputs
    shapes = [(7, 9), (5,), (2, 4, 3), (2, 3, 2, 2), (0, 4), (3, 5), (1, 6), (4, 2)]
    for function, variants in (
            ("generalized_cross_entropy", [{}, {"q": 0.25}, {"q": 1.0}, {"q": 0.0}]),
            ("softmax_focal_loss", [{}, {"gamma": 0.0}, {"gamma": 0.5}, {"gamma": 3.25}]),
            ("poly1_cross_entropy", [{}, {"epsilon": -0.5}, {"epsilon": 0.0}, {"ignore_index": 1}])):
        yield from combinations(function, variants, shapes, labelled)


def of_rows():
    def cosines(dtype, shape, turn, attributes):
        x = uniform(shape, dtype, -0.95, 0.95)
        return {"input": x, "target": indices(shape[:-1], shape[-1], INDICES[turn % 3])}

    def logits(dtype, shape, turn, attributes):
        return {**cosines(dtype, shape, turn, attributes), "input": normal(shape, dtype, 2)}
    shapes = [(7, 9), (5,), (3, 4), (0, 4), (1, 6), (4, 2)]
    for function, make, variants in (
            ("arcface_loss", cosines, [
                {}, {"margin": 0.25, "scale": 10.0}, {"margin": 3.0, "scale": 4.0}, {"margin": 0.0}]),
            ("cosface_loss", cosines, [{}, {"margin": 0.125, "scale": 16.0}, {"scale": 1.0}]),
            ("asymmetric_loss_single_label", logits, [
                {}, {"gamma_neg": 2.5, "gamma_pos": 1.0}, {"eps": 0.0, "gamma_pos": 2.0},
                {"gamma_neg": 0.0, "eps": 0.25}])):
        yield from combinations(function, variants, shapes, make)


def margins():
    def scores(isOnGrid):
        def make(dtype, shape, turn, attributes):
            x = normal(shape, dtype, 1)
            classes = shape[-1] if shape else 1
            target = indices(shape[:-1], classes, INDICES[turn % 3])
            inputs = {"input": (x * 2).round() / 2 if isOnGrid else x, "target": target}
            if turn % 2:
                inputs["weight"] = uniform((classes,), dtype, 0.25, 2)
            return inputs
        return make
    shapes = [(7, 9), (5,), (3, 4), (), (1, 6), (4, 1)]
    variants = [{}, {"p": 2}, {"margin": 0.0}, {"p": 2, "margin": 2.5}, {"margin": -0.5}]
    yield from combinations("multi_margin_loss", variants, shapes, scores(False))
    # Kinks among them.
    yield from combinations("multi_margin_loss", variants[:2], shapes[:1], scores(True), first=100)

    def lists(isOnGrid):
        def make(dtype, shape, turn, attributes):
            x = normal(shape, dtype, 1)
            classes = shape[-1] if shape else 1
            target = indices(shape, classes, "int32" if turn % 3 == 1 else "int64")
            if shape and turn % 4:
                target[..., min(turn % 4, classes - 1)] = -1
            return {"input": (x * 2).round() / 2 if isOnGrid else x, "target": target}
        return make
    yield from combinations("multilabel_margin_loss", [{}], shapes, lists(False))
    yield from combinations("multilabel_margin_loss", [{}], shapes[:1], lists(True), first=100)


def sequences():
    """Padded targets, those one after another, one sample, other blanks, samples without an alignment."""
    wanted = ("loss", "grad.log_probs")
    for number, dtype in enumerate(FLOATS):
        seed(110)
        for index, ((times, samples, classes, length), isPadded, isZeroed) in enumerate(itertools.product(
                ((10, 3, 5, 3), (6, 2, 3, 4), (1, 2, 3, 1), (25, 1, 8, 9)), (True, False), (False, True))):
            if (index + number) % 2 and index > 3:
                continue
            x = torch.log_softmax(normal((times, samples, classes), "float64", 2), -1).to(TYPES[dtype])
            kind = ("int64", "int32")[index % 2]
            blank = index % classes
            steps = (times - indices((samples,), times // 2 + 1)).to(TYPES[kind])
            # No label is the blank. Those of no alignment are infinite: only where they are wanted.
            most = length if times > 2 * length or isZeroed or index % 3 == 0 else 1
            counts = indices((samples,), most + 1).to(TYPES[kind])
            labels = (indices((samples, length), classes - 1) + blank + 1) % classes
            targets = labels if isPadded else torch.cat([row[:count] for row, count in zip(labels, counts.tolist())])
            inputs = {
                "log_probs": x, "targets": targets.to(TYPES[kind]), "input_lengths": steps, "target_lengths": counts}
            attributes = {"blank": blank, "zero_infinity": isZeroed, "reduction": REDUCTIONS[(index + number) % 3]}
            if index % 2:
                inputs["grad.loss"] = upstream_of("ctc_loss", inputs, attributes, dtype)
            yield case("ctc_loss", inputs, attributes, wanted)
        x = torch.log_softmax(normal((6, 4), "float64", 2), -1).to(TYPES[dtype])
        for targets, steps, counts in (([1, 2], 6, 2), ([3, 3], [5], [2]), ([[1, 2, 3]], [6], [2])):
            inputs = {"targets": targets, "input_lengths": steps, "target_lengths": counts}
            inputs = {"log_probs": x, **{name: torch.tensor(value) for name, value in inputs.items()}}
            yield case("ctc_loss", inputs, {"reduction": REDUCTIONS[number % 3]}, wanted)


def refusals():
    seed(120)
    x, t = normal((3, 5), "float32"), indices((3,), 5)
    for function in ("multi_margin_loss", "arcface_loss", "generalized_cross_entropy"):
        for inputs in (
                {"input": x, "target": torch.tensor([0, 5, 1])}, {"input": x, "target": torch.tensor([0, -1, 1])},
                {"input": x, "target": t.float()}):
            yield case(function, inputs)
    for inputs, attributes in (
            ({"input": x, "target": t[:2]}, {}), ({"input": x, "target": t[:, None]}, {}),
            ({"input": x[None], "target": t}, {}),
            ({"input": x, "target": t, "weight": uniform((4,), "float32")}, {}), ({"input": x, "target": t}, {"p": 3}),
            ({"input": x[:, :0], "target": t}, {}),
            ({"input": x, "target": t, "weight": uniform((5,), "float64")}, {})):
        yield case("multi_margin_loss", inputs, attributes)
    for target in (t, indices((3, 4), 5), indices((2, 5), 5), indices((3, 5), 5).float(),
                   torch.full((3, 5), 5), torch.full((3, 5), -2)):
        yield case("multilabel_margin_loss", {"input": x, "target": target})
    logs = torch.log_softmax(normal((5, 2, 3), "float32"), -1)
    usual = {"targets": [[1, 2], [2, 1]], "input_lengths": [5, 5], "target_lengths": [2, 2]}
    for change in (
            {"targets": [[1, 2]]}, {"targets": [1, 2, 1]}, {"targets": [1, 2, 1, 2, 1]}, {"input_lengths": [6, 5]},
            {"input_lengths": [-1, 5]},
            {"target_lengths": [3, 1]}, {"target_lengths": [-1, 1]}, {"input_lengths": [5]}, {"blank": 3},
            {"blank": -1}):
        inputs = {name: torch.tensor(value) for name, value in {**usual, **change}.items() if name != "blank"}
        yield case("ctc_loss", {"log_probs": logs, **inputs}, {"blank": change["blank"]} if "blank" in change else {},
                   ("loss", "grad.log_probs"))
    tensors = {name: torch.tensor(value) for name, value in usual.items()}
    for wrong in (logs[:, :0], logs[0, 0]):
        yield case("ctc_loss", {"log_probs": wrong, **tensors}, {}, ("loss",))


def everything():
    for source in (of_probabilities, of_rows, margins, sequences, refusals):
        yield from source()
