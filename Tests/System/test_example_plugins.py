"""The plugins of Plugins/, built and loaded, against golden values and finite differences."""

import json
import math
import os
import pathlib
import shutil
import struct
import tempfile
import time
import unittest

from daemon import ROOT, Daemon
from plugin_files import build_cpp
from wire import TYPES, Tensor

GOLDEN = json.loads((ROOT / "Tests" / "Golden" / "plugins.json").read_text())
# Digits of the significand and the exponent of the least normal number.
FORMATS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}

# (1 - p_t)^gamma multiplies the error of its base. torch's is 10^4 ulps: it subtracts p_t from 1.
LIMITS = {"sigmoid_focal_loss": 8}


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
        build_cpp(ROOT / "Plugins" / "PoissonNLL" / "poisson_nll.cpp", f"{cls.folder}/poisson_nll.so")
        cls.daemon = Daemon(plugin_folders=cls.folder)
        cls.functions = {"poisson_nll_loss"}
        deadline = time.time() + 10
        while not all(f"/{path.name}" in cls.daemon.log() for path in pathlib.Path(cls.folder).glob("*.so")):
            assert time.time() < deadline, cls.daemon.log()
            time.sleep(0.05)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()
        shutil.rmtree(cls.folder)

    def test_golden_values(self):
        """At most 3 ulps from the exact result, in 16-bit types 1; never above torch's worst on the same set."""
        with self.daemon.connect() as connection:
            worst = {}
            for case in GOLDEN:
                if case["f"] not in self.functions:
                    continue
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
