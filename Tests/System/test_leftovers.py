"""What other calls left in memory is in nobody's results: small calls of every function after calls of all others."""

import math
import os
import random
import time
import unittest

from daemon import Daemon
from wire import Tensor


def entropy(x, y):
    return max(x, 0) - x * y + math.log1p(math.exp(-abs(x)))


class Leftovers(unittest.TestCase):
    def test_small_results_are_right_whatever_was_computed_before(self):
        seed = int(os.environ.get("LOSSD_SEED", time.time_ns() % 10**9))
        for kernels in ("baseline", "avx2", None):
            with self.subTest(kernels=kernels, seed=seed), Daemon(kernels=kernels) as daemon:
                with daemon.connect() as connection:
                    self.try_many(connection, random.Random(seed))

    def try_many(self, connection, numbers):
        for _ in range(400):
            rows, classes = numbers.choice((1, 2, 3, 5, 9, 24, 30)), numbers.choice((1, 2, 3, 5, 9, 27))
            count = rows * classes
            x = [numbers.uniform(-3, 3) for _ in range(count)]
            labels = [numbers.randrange(classes) for _ in range(rows)]
            for function in ("sigmoid", "softmax", "log_softmax"):
                wild = [numbers.choice((-1e30, 3e38, math.nan, math.inf, 1e-40, 7.0)) for _ in range(count)]
                connection.evaluate(function, {"input": Tensor(wild, "float32", (rows, classes))})
            reduction = numbers.choice(("none", "mean", "sum"))
            gradient = connection.evaluate(
                "nll_loss", {"input": Tensor(x, "float32", (rows, classes)), "target": Tensor(labels, "int64")},
                {"reduction": reduction}, ["grad.input"])["grad.input"].values()
            scale = 1 / rows if reduction == "mean" else 1
            for at, value in enumerate(gradient):
                expected = -scale if labels[at // classes] == at % classes else 0
                self.assertAlmostEqual(value, expected, 6, f"nll_loss {rows} x {classes}, {reduction}: {at}")
            y = [float(numbers.randrange(2)) for _ in range(count)]
            losses = [entropy(a, b) for a, b in zip(x, y)]
            for function, inputs in (("binary_cross_entropy_with_logits", x),
                                     ("binary_cross_entropy", [1 / (1 + math.exp(-a)) for a in x])):
                loss = connection.evaluate(
                    function, {"input": Tensor(inputs), "target": Tensor(y)}, {"reduction": "sum"})["loss"].values()[0]
                self.assertTrue(math.isclose(loss, sum(losses), rel_tol=1e-4), f"{function} of {count}: {loss}, {sum(losses)}")
            loss = connection.evaluate(
                "cross_entropy", {"input": Tensor(x, "float32", (rows, classes)), "target": Tensor(labels, "int64")},
                {"reduction": "sum"})["loss"].values()[0]
            expected = sum(math.log(sum(math.exp(v) for v in x[r * classes:(r + 1) * classes])) - x[r * classes + labels[r]]
                           for r in range(rows))
            self.assertTrue(math.isclose(loss, expected, rel_tol=1e-4, abs_tol=1e-5), f"cross_entropy: {loss}, {expected}")


if __name__ == "__main__":
    unittest.main()
