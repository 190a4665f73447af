"""A target of (1) for one row of classes, input (C): torch takes it as one of (), and so does every client of the daemon."""

import itertools
import math
import pathlib
import tempfile
import unittest

import npy
from daemon import Daemon, lossctl
from wire import CallError, Tensor

# What torch 2.13 says of input LOGITS, target [2] and weight WEIGHT, float64; the same for reductions none and sum.
LOGITS, WEIGHT = [0.5, -1.25, 2.0, 0.75], [1.0, 2.0, 3.0, 4.0]
TORCH = {
    ("cross_entropy", "none", False): 0.43722805861390257, ("cross_entropy", "none", True): 1.3116841758417077,
    ("cross_entropy", "mean", True): 0.43722805861390257,
    ("nll_loss", "none", False): -2.0, ("nll_loss", "none", True): -6.0, ("nll_loss", "mean", True): -2.0}


class SingleTarget(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.__exit__)

    def setUp(self):
        self.connection = self.daemon.connect()
        self.addCleanup(self.connection.close)

    def results(self, function, inputs, attributes, outputs=("loss", "grad.input")):
        answer = self.connection.evaluate(function, inputs, attributes, list(outputs))
        return {name: (answer[name].shape, answer[name].data_type, bytes(answer[name].data)) for name in outputs}

    def test_the_values_are_torchs(self):
        for function, reduction, is_weighted in itertools.product(
                ("cross_entropy", "nll_loss"), ("none", "sum", "mean"), (False, True)):
            inputs = {"input": Tensor(LOGITS, "float64"), "target": Tensor([2], "int64")}
            if is_weighted:
                inputs["weight"] = Tensor(WEIGHT, "float64")
            expected = TORCH[function, "none" if reduction == "sum" or not is_weighted else reduction, is_weighted]
            answer = self.connection.evaluate(function, inputs, {"reduction": reduction}, ["loss"])
            self.assertEqual(tuple(answer["loss"].shape), (), (function, reduction))
            self.assertAlmostEqual(answer["loss"].values()[0], expected, 14, (function, reduction, is_weighted))

    def test_everything_is_as_with_a_target_without_dimensions(self):
        """Every reduction, weight, smoothing, type, upstream gradient and ignored target; rows of every kind of kernel."""
        tried = 0
        for function, count, kind in itertools.product(
                ("cross_entropy", "nll_loss"), (0, 1, 2, 7, 70_000), ("float32", "float64", "float16", "bfloat16")):
            row = [((7 * index) % 11 - 5) / 4 for index in range(count)]
            numbers = row if kind != "bfloat16" else [0x3F00 + index % 7 for index in range(count)]
            for reduction, label, index_type, is_weighted, smoothing, has_upstream in itertools.product(
                    ("none", "mean", "sum"), (count - 1, -100), ("int64", "int32", "uint8"), (False, True), (0.0, 0.25),
                    (False, True)):
                if count == 1 and function == "cross_entropy":
                    continue  # a target of input's shape is probabilities
                if smoothing and function == "nll_loss" or index_type == "uint8" and not 0 <= label < 256 or label == -1:
                    continue
                if count > 1000 and (has_upstream or index_type != "int64" or kind in ("float16", "bfloat16")):
                    continue
                attributes = {"reduction": reduction}
                if smoothing:
                    attributes["label_smoothing"] = smoothing
                both = []
                for shape in ((), (1,)):
                    inputs = {"input": Tensor(numbers, kind), "target": Tensor([label], index_type, shape)}
                    if is_weighted:
                        inputs["weight"] = Tensor(numbers, kind)
                    if has_upstream:
                        inputs["grad.loss"] = Tensor([numbers[0] if count else 0], kind, ())
                    both.append(self.results(function, inputs, attributes))
                self.assertEqual(both[0], both[1], (function, count, kind, attributes, label, index_type, is_weighted))
                tried += 1
        self.assertGreater(tried, 300)

    def test_what_torch_refuses_is_refused_with_both_shapes(self):
        for function, target, text in (
                ("cross_entropy", Tensor([2, 1], "int64"), "target is (2,), expected input (4,) without its classes"),
                ("nll_loss", Tensor([2], "int64", (1, 1)), "target is (1, 1), expected input (4,) without its classes"),
                ("nll_loss", Tensor([], "int64"), "target is (0,), expected input (4,)"),
                ("cross_entropy", Tensor([4], "int64"), "target[0] is 4, outside [0, 4)"),
                ("cross_entropy", Tensor([0.5], "float64"), "expected class indices, or probabilities of input's shape (4,)")):
            with self.assertRaises(CallError) as caught:
                self.connection.evaluate(function, {"input": Tensor(LOGITS, "float64"), "target": target})
            self.assertIn(text, str(caught.exception))
        with self.assertRaises(CallError) as caught:  # torch: of its input's shape, so probabilities
            self.connection.evaluate("cross_entropy", {"input": Tensor([1.0]), "target": Tensor([0], "int64")})
        self.assertIn("the shape of probabilities", str(caught.exception))
        for rows, target in ((2, (1,)), (1, ()), (3, (3, 1))):
            with self.assertRaises(CallError):
                self.connection.evaluate("nll_loss", {"input": Tensor([0.5] * 4 * rows, "float32", (rows, 4)),
                                                      "target": Tensor([0] * math.prod(target), "int64", target)})

    def test_an_upstream_gradient_has_the_shape_of_the_loss_which_is_none(self):
        inputs = {"input": Tensor(LOGITS, "float64"), "target": Tensor([2], "int64"), "grad.loss": Tensor([1.0], "float64")}
        with self.assertRaises(CallError) as caught:
            self.connection.evaluate("cross_entropy", inputs, {"reduction": "none"}, ["grad.input"])
        self.assertIn("grad.loss", str(caught.exception))

    def test_lossctl_takes_it_from_files(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            x = npy.write(folder / "x.npy", LOGITS, (4,), "float64")
            y = npy.write(folder / "y.npy", [2], (1,), "int64")
            for where in ((), ("--embedded",)):
                text = lossctl("eval", "cross_entropy", "--input", x, "--target", y, *where,
                               server=None if where else self.daemon.unix)
                self.assertIn("0.437228058613", text)


if __name__ == "__main__":
    unittest.main()
