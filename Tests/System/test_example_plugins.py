"""The plugins of Plugins/, built and loaded, against golden values and finite differences."""

import json
import math
import os
import pathlib
import re
import shutil
import struct
import tempfile
import time
import unittest

import npy
from daemon import ROOT, Daemon, lossctl
from plugin_files import make_plugins
from wire import CallError, Tensor

GOLDEN = json.loads((ROOT / "Tests" / "Golden" / "plugins.json").read_text())
# Digits of the significand and the exponent of the least normal number.
FORMATS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}

# |y - p|^beta multiplies the error of its base by beta. torch's is 10^5 ulps: its p is rounded to 1 before y - p.
LIMITS = {"quality_focal_loss": 8}


def widened(tensor):
    """A tensor's values; the wire's own reader gives bfloat16 as 16 bits."""
    if tensor.data_type == "bfloat16":
        bits = struct.unpack(f"<{len(tensor.data) // 2}H", tensor.data)
        return [struct.unpack("<f", struct.pack("<I", b << 16))[0] for b in bits]
    return tensor.values()


def worst_ulps(kind, values, truth, term):
    digits, least = FORMATS[kind]
    worst = 0.0
    for value, exact, largest in zip(values, truth, term):
        scale = max(abs(exact), largest)
        exponent = max(math.frexp(scale)[1] - 1, least) if scale else least
        worst = max(worst, abs(value - exact) / 2.0 ** (exponent - digits + 1))
    return worst


def tensor(description):
    kind, shape, data = description
    return Tensor(bytes.fromhex(data), kind, shape)


class ExamplePlugins(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lossd-examples-")
        os.chmod(cls.folder, 0o755)
        make_plugins(cls.folder)
        cls.daemon = Daemon(plugin_folders=cls.folder)
        deadline = time.time() + 10
        while not all(f"/{path.name}" in cls.daemon.log() for path in pathlib.Path(cls.folder).glob("*.so")):
            assert time.time() < deadline, cls.daemon.log()
            time.sleep(0.05)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()
        shutil.rmtree(cls.folder)

    def test_every_gradient_agrees_with_finite_differences(self):
        found = set()
        for path in sorted(pathlib.Path(self.folder).glob("*.so")):
            for arguments in ((), ("--seed", 2)):
                text = lossctl("plugin", "check", path, "--gradients", *arguments)
                found |= set(re.findall(r"^(\w+): grad.input agrees with finite differences", text, re.M))
        self.assertEqual(
            found, {"hinge", "tversky", "tweedie_loss", "quality_focal_loss", "swift_soak"})

    def evaluated(self, function, x, y, attributes, kind="float32"):
        """Losses and slopes of lists of inputs and targets."""
        inputs = {"input": Tensor(x, kind), "target": Tensor(y, kind)}
        with self.daemon.connect() as connection:
            result = connection.evaluate(function, inputs, {"reduction": "none", **attributes}, ["loss", "grad.input"])
        return result["loss"].values(), result["grad.input"].values()

    def test_quality_focal_loss_of_huge_and_infinite_logits(self):
        """Where sigmoid is 0 or 1: a right logit costs nothing, a wrong one |x| times its miss to the beta + 1."""
        x = [1000.0, -1000.0, math.inf, -math.inf]
        for kind in ("float32", "float64"):
            for beta in (0.0, 0.5, 1.0, 2.0, 1000.0):
                for y in (0.0, 0.25, 1.0):
                    losses, slopes = self.evaluated("quality_focal_loss", x, [y] * 4, {"beta": beta}, kind)
                    for logit, loss, slope in zip(x, losses, slopes):
                        miss = y if logit < 0 else 1 - y
                        expected = abs(logit) * miss ** (beta + 1) if miss else 0
                        if math.isinf(logit) and miss:
                            expected = math.inf
                        case = f"{kind} {logit} {y} {beta}"
                        self.assertTrue(math.isclose(loss, expected, rel_tol=1e-6, abs_tol=1e-44), f"{case}: {loss}")
                        expected = math.copysign(miss ** (beta + 1), logit)
                        self.assertTrue(math.isclose(slope, expected, rel_tol=1e-6, abs_tol=1e-44), f"{case}: {slope}")

    def test_quality_focal_loss_where_nothing_is_missed(self):
        """Loss and slope are 0, for beta = 0 plain cross entropy's; NaN stays NaN."""
        for kind in ("float32", "float64"):
            for beta in (0.0, 0.5, 1.0, 2.0):
                losses, slopes = self.evaluated(
                    "quality_focal_loss", [0.0, -math.inf, math.inf], [0.5, 0.0, 1.0], {"beta": beta}, kind)
                self.assertAlmostEqual(losses[0], 0 if beta else math.log(2), 6)
                self.assertEqual((losses[1:], slopes), ([0, 0], [0, 0, 0]))
                for x, y in ((math.nan, 0.0), (math.nan, 1.0), (0.0, math.nan)):
                    for values in self.evaluated("quality_focal_loss", [x], [y], {"beta": beta}, kind):
                        self.assertTrue(math.isnan(values[0]), f"{x} {y} {beta}")

    def test_quality_focal_loss_keeps_the_digits_of_tiny_misses(self):
        """A logit of 30 or -30 whose target is right misses by exp(-30), which 1 - sigmoid(30) would round away."""
        miss = math.exp(-30)
        for beta in (0.0, 0.5, 1.0):
            losses, slopes = self.evaluated("quality_focal_loss", [-30.0, 30.0], [0.0, 1.0], {"beta": beta})
            for loss, slope, sign in zip(losses, slopes, (1, -1)):
                self.assertTrue(math.isclose(loss, miss ** (beta + 1), rel_tol=1e-6))
                self.assertTrue(math.isclose(slope, sign * (1 + beta) * miss ** (beta + 1), rel_tol=1e-6))

    def test_tweedie_loss_of_extreme_means(self):
        """Targets of 0 have no term; where both terms are there the exponential outgrows the other."""
        inf = math.inf
        for kind in ("float32", "float64"):
            for power, y, x, loss, slope in (
                    (1.0, 0.0, -inf, 0, 0), (1.0, 0.0, -1000.0, 0, 0), (1.0, 0.0, inf, inf, inf),
                    (1.0, 2.0, -inf, inf, -2), (1.0, 2.0, -1000.0, 2000, -2), (1.0, 2.0, 1000.0, inf, inf),
                    (1.0, 2.0, inf, inf, inf),
                    (1.5, 0.0, -inf, 0, 0), (1.5, 0.0, -1500.0, 0, 0), (1.5, 0.0, inf, inf, inf),
                    (1.5, 2.0, -inf, inf, -inf), (1.5, 2.0, -1500.0, inf, -inf), (1.5, 2.0, 1500.0, inf, inf),
                    (1.5, 2.0, inf, inf, inf),
                    (2.0, 0.0, -inf, -inf, 1), (2.0, 0.0, -1000.0, -1000, 1), (2.0, 0.0, inf, inf, 1),
                    (2.0, 2.0, -inf, inf, -inf), (2.0, 2.0, -1000.0, inf, -inf), (2.0, 2.0, 1000.0, 1000, 1),
                    (2.0, 2.0, inf, inf, 1)):
                found = self.evaluated("tweedie_loss", [x], [y], {"power": power}, kind)
                self.assertTrue(
                    all(math.isclose(value[0], expected, rel_tol=1e-6, abs_tol=1e-100)
                        for value, expected in zip(found, (loss, slope))), f"{kind} {power} {y} {x}: {found}")
            for power in (1.0, 1.5, 2.0):
                for x, y in ((math.nan, 0.0), (math.nan, 1.0), (1000.0, math.nan), (-1000.0, math.nan)):
                    found = self.evaluated("tweedie_loss", [x], [y], {"power": power}, kind)
                    # The slope alone is 1, whatever the input, where power is 2 and the target 0.
                    self.assertTrue(math.isnan(found[0][0]), f"{kind} {power} {x} {y}: {found}")

    def test_the_ends_of_tweedie_loss_are_poissons_and_the_gamma_distributions(self):
        x, y = [-2.0, -0.5, 0.0, 1.0, 3.0], [0.0, 1.0, 2.0, 5.0, 0.5]
        poisson = self.evaluated("poisson_nll_loss", x, y, {}, "float64")
        for ours, built_in in zip(self.evaluated("tweedie_loss", x, y, {"power": 1.0}, "float64"), poisson):
            for a, b in zip(ours, built_in):
                self.assertAlmostEqual(a, b, 12)
        losses, slopes = self.evaluated("tweedie_loss", x, y, {"power": 2.0}, "float64")
        for a, b, loss, slope in zip(x, y, losses, slopes):
            self.assertAlmostEqual(loss, a + b * math.exp(-a), 12)
            self.assertAlmostEqual(slope, 1 - b * math.exp(-a), 12)
        with self.assertRaises(CallError) as caught:
            self.evaluated("tweedie_loss", x, y, {"power": 2.5})
        self.assertEqual(caught.exception.text, "tweedie_loss: power is 2.5, outside [1.0, 2.0]")

    def test_a_data_set_in_batches_gives_the_loss_of_one_call(self):
        folder = pathlib.Path(self.folder)
        x = npy.write(folder / "x.npy", [(7 * i % 11) / 11 for i in range(21)], (7, 3), "float32")
        y = npy.write(folder / "y.npy", [i % 2 for i in range(21)], (7, 3), "float32")
        for function, attributes in (("hinge", {"reduction": "mean"}), ("hinge", {"reduction": "sum"}), ("tversky", {})):
            names = ["loss"] + ["grad.input"] * (attributes.get("reduction") == "sum")
            found = []
            for more in ((), ("--batch-size", 2)):
                lossctl("eval", function, "--input", x, "--target", y, "--want", ",".join(names),
                        *(f"--attr={key}={value}" for key, value in attributes.items()),
                        *(f"--save={name}={folder / name}.npy" for name in names), *more, server=self.daemon.unix)
                found.append([npy.read(folder / f"{name}.npy") for name in names])
            self.assertEqual(*found)
        for function, reason in (("hinge", "takes no upstream gradient of float64"), ("tversky", "grad.input has no rows")):
            result = lossctl("eval", function, "--input", x, "--target", y, "--want", "grad.input", "--batch-size", 2,
                             "--save", f"grad.input={folder / 'g.npy'}", server=self.daemon.unix, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(reason, result.stderr)

    def test_golden_values(self):
        """At most 3 ulps from the exact result, in 16-bit types 1; never above torch's worst on the same set."""
        with self.daemon.connect() as connection:
            worst = {}
            for case in GOLDEN:
                inputs = {name: tensor(description) for name, description in case["i"].items()}
                result = connection.evaluate(case["f"], inputs, case["a"], list(case["o"]))
                for name, expected in case["o"].items():
                    kind = inputs["input"].data_type
                    values = widened(result[name])
                    self.assertEqual(len(values), len(expected["truth"]))
                    self.assertEqual(result[name].data_type, kind)
                    error = worst_ulps(kind, values, expected["truth"], expected["term"])
                    key = case["f"], name, kind
                    ours, torchs = worst.get(key, (0, 0))
                    worst[key] = max(ours, error), max(torchs, expected["torch"])
                    limit = 1 if kind in ("float16", "bfloat16") else LIMITS.get(case["f"], 3)
                    self.assertLessEqual(error, limit, f"{case['f']} {case['a']} {name} {kind}")
            for key, (ours, torchs) in sorted(worst.items()):
                self.assertLessEqual(ours, max(torchs, 3), key)
                print(f"{' '.join(key)}: at most {ours:.2f} ulps, torch {torchs:.2f}")


if __name__ == "__main__":
    unittest.main()
