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
from wire import TYPES, Tensor

GOLDEN = json.loads((ROOT / "Tests" / "Golden" / "plugins.json").read_text())
# Digits of the significand and the exponent of the least normal number.
FORMATS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}

# (1 - p_t)^gamma multiplies the error of its base. torch's is 10^4 ulps: it subtracts p_t from 1.
LIMITS = {"focal_loss": 8}


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
            found, {"hinge", "tversky", "poisson_nll", "focal_loss", "swift_soak"})

    def test_focal_loss_takes_the_extremes_of_torchvision(self):
        """Logits that saturate sigmoid: the loss of a sure miss is its logit, of a sure hit 0; gamma = 0 is plain."""
        with self.daemon.connect() as connection:
            inputs = {"input": Tensor([200.0, -200.0, 200.0, -200.0]), "target": Tensor([1.0, 1.0, 0.0, 0.0])}
            for gamma, slopes in ((2.0, [0, -0.25, 0.75, 0]), (0.0, [0, -0.25, 0.75, 0]), (0.5, [0, -0.25, 0.75, 0])):
                result = connection.evaluate(
                    "focal_loss", inputs, {"gamma": gamma}, ["loss", "grad.input"])
                self.assertEqual(result["loss"].values(), [0, 50, 150, 0])
                self.assertEqual(result["grad.input"].values(), slopes)

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
