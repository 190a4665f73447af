"""plugin.hpp and LossdPluginKit: what they add to a formula and its derivative, the same in both."""

import math
import os
import pathlib
import platform
import random
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from daemon import ROOT, Daemon, lossctl
from kit_elements import ElementTests
from plugin_files import INCLUDE, build_cpp, build_swift
from wire import CallError, Tensor

SOURCE = ROOT / "Tests" / "System" / "plugins" / "wrapper.cpp"
TWEEDIE = ROOT / "Plugins" / "Tweedie" / "tweedie.cpp"


class Both(ElementTests):
    """The tests of one library, whose functions each language has under the same names."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lossd-wrapper-")
        os.chmod(cls.folder, 0o755)
        cls.build(f"{cls.folder}/wrapper.so")
        cls.admin = f"unix:{cls.folder}/admin.sock"
        cls.daemon = Daemon(plugin_folders=cls.folder, admin_listen=cls.admin, plugins__isolation="none")
        cls.connection = cls.daemon.connect()
        cls.wait_for("loaded plugin test_wrapper")

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.daemon.__exit__()
        shutil.rmtree(cls.folder)

    @classmethod
    def wait_for(cls, text):
        deadline = time.time() + 10
        while text not in cls.daemon.log():
            assert time.time() < deadline, cls.daemon.log()
            time.sleep(0.05)

    def maps(self):
        """How many plugins' libraries are in the daemon's memory."""
        text = pathlib.Path(f"/proc/{self.daemon.process.pid}/maps").read_text()
        return len({line.split()[4] for line in text.splitlines() if "lossd-plugin" in line})

    def until_maps(self, count):
        deadline = time.time() + 10
        while self.maps() != count:
            self.assertLess(time.time(), deadline, f"{self.maps()} libraries are mapped, expected {count}")
            time.sleep(0.05)

    def evaluate(self, function, inputs, attributes=None, outputs=("loss",)):
        result = self.connection.evaluate(function, inputs, attributes or {}, list(outputs))
        return [result[name].values() for name in outputs]

    def fails(self, code, text, function, inputs, attributes=None):
        with self.assertRaises(CallError) as caught:
            self.evaluate(function, inputs, attributes, ["loss", "grad.input"])
        self.assertEqual((caught.exception.code, text), (code, caught.exception.text))

    def test_targets_and_weights_broadcast_as_torch_has_it(self):
        generator = random.Random(3)
        shape = (3, 4, 5)
        x = [generator.randint(-4, 4) for _ in range(60)]
        for other in ((3, 4, 5), (), (1,), (5,), (4, 1), (3, 1, 5), (3, 1, 1), (1, 1, 5), (4, 5), (3, 4, 1)):
            strides, step = [0] * 3, 1
            for axis in range(len(other) - 1, -1, -1):
                strides[3 - len(other) + axis] = 0 if other[axis] == 1 else step
                step *= other[axis]
            place = [sum(i * s for i, s in zip((a, b, c), strides))
                     for a in range(3) for b in range(4) for c in range(5)]
            y = [generator.randint(-4, 4) for _ in range(step)]
            w = [generator.randint(0, 3) for _ in range(step)]
            for kind in ("float32", "float64", "float16"):
                losses, slopes = self.evaluate(
                    "test_squared", {
                        "input": Tensor(x, kind, shape), "target": Tensor(y, kind, other),
                        "weight": Tensor(w, kind, other)},
                    {"reduction": "none"}, ["loss", "grad.input"])
                self.assertEqual(losses, [w[p] * (v - y[p]) ** 2 for v, p in zip(x, place)], other)
                self.assertEqual(slopes, [w[p] * 2 * (v - y[p]) for v, p in zip(x, place)], other)
        for other in ((4,), (3, 4, 5, 1), (2, 1, 1), (2, 3, 4, 5), (1, 3, 4, 5)):
            y = Tensor([1.0] * math.prod(other), shape=other)
            name = "(" + ", ".join(map(str, other)) + ("," if len(other) == 1 else "") + ")"
            if len(other) < 4 or other[-1] == 1:
                self.fails(3, f"test_squared: target is {name}, which does not broadcast with input (3, 4, 5)",
                           "test_squared", {"input": Tensor(x, shape=shape), "target": y})
            self.fails(3, f"test_squared: weight is {name}, expected (3, 4, 5)", "test_squared", {
                "input": Tensor(x, shape=shape), "target": Tensor(x, shape=shape), "weight": y})

    def test_long_tensors_of_every_type_are_cut_and_summed_right(self):
        for count in (1, 7, 255, 256, 257, 1023, 1024, 1025, 100_003):
            x = [i % 7 for i in range(count)]
            y = [i % 5 for i in range(count)]
            total = sum((a - b) ** 2 for a, b in zip(x, y))
            for kind in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8"):
                inputs = {"input": Tensor(x, kind if kind.startswith("f") else "float32"), "target": Tensor(y, kind)}
                (loss,) = self.evaluate("test_squared", inputs, {"reduction": "mean"})
                self.assertAlmostEqual(loss[0], total / count, delta=4e-3 if kind == "float16" else 1e-6)
                _, slopes = self.evaluate("test_squared", inputs, {"reduction": "sum"}, ["loss", "grad.input"])
                self.assertEqual(slopes, [2 * (a - b) for a, b in zip(x, y)])
        bools = {"input": Tensor([2.0, 3.0]), "target": Tensor([1, 0], "bool")}
        self.assertEqual(self.evaluate("test_squared", bools, {"reduction": "sum"}), [[10]])
        empty = {"input": Tensor([], shape=(0, 3)), "target": Tensor([], shape=(0, 3))}
        self.assertTrue(math.isnan(self.evaluate("test_squared", empty)[0][0]))
        self.assertEqual(self.evaluate("test_squared", empty, {"reduction": "sum"}), [[0]])

    def test_the_upstream_gradient_scales(self):
        inputs = {"input": Tensor([1.0, 2.0, 4.0]), "target": Tensor([0.0, 0.0, 0.0])}
        for reduction, up, expected in (
                ("none", Tensor([1.0, 10.0, 100.0]), [2, 40, 800]), ("sum", Tensor([3.0], shape=()), [6, 12, 24]),
                ("mean", Tensor([3.0], shape=()), [2, 4, 8])):
            (slopes,) = self.evaluate(
                "test_squared", {**inputs, "grad.loss": up}, {"reduction": reduction}, ["grad.input"])
            self.assertEqual(slopes, expected)
        self.fails(3, "test_squared: grad.loss is float32 (2,), expected float32 ()", "test_squared",
                   {**inputs, "grad.loss": Tensor([1.0, 2.0])})
        self.fails(3, "test_squared: grad.loss is float16 (), expected float32 ()", "test_squared",
                   {**inputs, "grad.loss": Tensor([1.0], "float16", ())})

    def test_attributes_have_defaults_bounds_and_choices(self):
        inputs = {"input": Tensor([0.0]), "target": Tensor([0.0])}
        for attributes, expected in (
                ({}, 970.5), ({"factor": 2.0, "count": 5}, 1052), ({"negate": True}, 1029.5), ({"way": "down"}, -1029.5)):
            self.assertEqual(self.evaluate("test_attributes", inputs, attributes), [[expected]])
        self.fails(3, "test_attributes: factor is 4.5, outside [0.0, 4.0]", "test_attributes", inputs, {"factor": 4.5})
        self.fails(3, "test_attributes: way is `left`, expected up, down", "test_attributes", inputs, {"way": "left"})

    def test_rows_with_a_class(self):
        x = [0.5, 2.0, -1.0, 1.0, 1.5, 0.0]
        expected = [(0 + 0.5 + 2.5 - 1 + 0) / 3, 0]
        for target, row in ((1, [0.5, 2.0, -1.0]), (0, [1.0, 1.5, 0.0])):
            expected[0 if target == 1 else 1] = sum(
                max(0, 1 - row[target] + v) for j, v in enumerate(row) if j != target) / 3
        for kind in ("int64", "int32", "uint8"):
            losses, slopes = self.evaluate(
                "test_multi_margin", {"input": Tensor(x, "float64", (2, 3)), "target": Tensor([1, 0], kind)},
                {"reduction": "none"}, ["loss", "grad.input"])
            for got, want in zip(losses, expected):
                self.assertAlmostEqual(got, want, 12)
            self.assertEqual(slopes, [0, 0, 0, -1 / 3, 1 / 3, 0])
        (one,) = self.evaluate(
            "test_multi_margin", {"input": Tensor(x[:3]), "target": Tensor([1], "int64", ())}, {"reduction": "none"})
        self.assertAlmostEqual(one[0], expected[0], 6)
        self.fails(3, "test_multi_margin: target[1] is 3, outside [0, 3)", "test_multi_margin", {
            "input": Tensor(x, shape=(2, 3)), "target": Tensor([1, 3], "int64")})
        self.fails(3, "test_multi_margin: target[1, 2] is 7, outside [0, 2)", "test_multi_margin", {
            "input": Tensor([0.0] * 12, shape=(2, 2, 3)), "target": Tensor([0, 1, 1, 0, 0, 7], "int64", (2, 3))})
        for shape, target in (((2, 3), (3,)), ((2, 3), ()), ((2, 3), (2, 1)), ((1, 2, 3), (1,)), ((1, 2, 3), (1, 2)), ((6,), (2,))):
            count = math.prod(target)
            def text(sizes):
                return "(%s)" % (", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else ""))
            self.fails(3, f"test_multi_margin: target is {text(target)}, expected input {text(shape)} without its classes",
                       "test_multi_margin", {"input": Tensor(x, shape=shape), "target": Tensor([0] * count, "int64", target)})
        self.fails(3, "test_multi_margin: input is (), expected (C), (N, C) or (N, C, d1, ..., dk)", "test_multi_margin", {
            "input": Tensor([1.0], shape=()), "target": Tensor([0], "int64", ())})
        self.fails(3, "test_multi_margin: weight is float32 (2,), expected float32 (3,)", "test_multi_margin", {
            "input": Tensor(x, shape=(2, 3)), "target": Tensor([1, 2], "int64"), "weight": Tensor([1.0, 1.0])})
        self.fails(3, "test_multi_margin: weight is float64 (3,), expected float32 (3,)", "test_multi_margin", {
            "input": Tensor(x, shape=(2, 3)), "target": Tensor([1, 2], "int64"), "weight": Tensor([1.0] * 3, "float64")})
        self.fails(3, "test_soft_target: input is (1, 2, 3), expected (C) or (N, C)", "test_soft_target", {
            "input": Tensor(x, shape=(1, 2, 3)), "target": Tensor(x, shape=(1, 2, 3))})

    def test_weights_ignored_rows_and_more_dimensions_of_classes_are_cross_entropys(self):
        generator = random.Random(5)
        shapes = ((3,), (1, 1), (7, 3), (70, 40), (2, 3, 5), (3, 4, 17), (2, 5, 3, 6), (1, 2, 1, 1), (300, 3, 2),
                  (2, 4099, 3), (0, 3), (2, 3, 0), (4, 3, 33))
        for number, shape in enumerate(shapes):
            kind, digits = (("float64", 11), ("float32", 5), ("float16", 2))[number % 3]
            inner = (shape[:1] + shape[2:]) if len(shape) > 1 else ()
            classes = shape[0 if len(shape) == 1 else 1]
            x = Tensor([generator.gauss(0, 2) for _ in range(math.prod(shape))], kind, shape)
            target = [generator.choice([-100, generator.randrange(classes)]) for _ in range(math.prod(inner))]
            weight = Tensor([generator.randint(1, 8) / 4 for _ in range(classes)], kind)
            for ignored in (-100, 1):
                labels = Tensor([max(label, 0) if ignored == 1 else label for label in target], "int64", inner)
                for reduction in ("none", "mean", "sum"):
                    for weighted in (False, True):
                        up = Tensor([0.75] * (math.prod(inner) if reduction == "none" else 1), kind,
                                    inner if reduction == "none" else ())
                        for upstream in ({}, {"grad.loss": up}):
                            inputs = {"input": x, "target": labels, **upstream}
                            if weighted:
                                inputs["weight"] = weight
                            attributes = {"reduction": reduction, "ignore_index": ignored}
                            case = (shape, kind, attributes, weighted)
                            for outputs in (["loss"], ["loss", "grad.input"]):
                                ours, theirs = (self.evaluate(name, inputs, attributes, outputs)
                                                for name in ("test_class_entropy", "cross_entropy"))
                                for mine, other in zip(ours, theirs):
                                    self.assertEqual(len(mine), len(other), case)
                                    for a, b in zip(mine, other):
                                        if math.isnan(b):
                                            self.assertTrue(math.isnan(a), case)
                                        else:
                                            self.assertLess(abs(a - b), 10.0 ** -digits * max(1, abs(b)), case)

    def test_no_classes_no_rows_and_labels_at_the_ends_of_their_type(self):
        def evaluate(shape, labels, target, attributes=None, outputs=("loss", "grad.input")):
            inputs = {"input": Tensor([0.0] * math.prod(shape), shape=shape), "target": Tensor(labels, "int64", target)}
            return self.evaluate("test_class_entropy", inputs, attributes, outputs)[0]

        def refused(text, *arguments):
            with self.assertRaises(CallError) as caught:
                evaluate(*arguments)
            self.assertEqual((caught.exception.code, caught.exception.text), (3, f"test_class_entropy: {text}"))

        refused("target[0] is 0, outside [0, 0)", (2, 0), [0, 0], (2,))
        refused("target[1] is 4611686018427387904, outside [0, 3)", (2, 3), [0, 2**62], (2,))
        refused("target[0] is -9223372036854775808, outside [0, 3)", (2, 3), [-2**63, 0], (2,))
        self.assertEqual(evaluate((2, 0, 3), [-100] * 6, (2, 3), {"reduction": "none"}), [0] * 6)
        for shape, labels, target in (((2, 0), [-100] * 2, (2,)), ((0, 5, 7), [], (0, 7)), ((2**40, 0, 0), [], (2**40, 0)),
                                      ((0, 2**60), [], (0,)), ((2, 3), [-2**63] * 2, (2,))):
            ignored = {"ignore_index": -2**63} if labels and labels[0] == -2**63 else {}
            self.assertTrue(math.isnan(evaluate(shape, labels, target, ignored)[0]), shape)
            self.assertEqual(evaluate(shape, labels, target, {"reduction": "sum", **ignored}), [0], shape)

    def test_batches_of_weighted_classes_are_one_call(self):
        """The denominator of a mean is known before the gradient, over all batches."""
        call = ["--server", self.daemon.unix, "eval", "test_class_entropy", "--input", ROOT / "examples/data/digits_logits.npy",
                "--target", ROOT / "examples/data/digits_labels.npy", "--attr", "ignore_index=3", "--want", "loss,grad.input"]
        found = []
        for name, options in (("one", []), ("batches", ["--batch-size", "50"])):
            path = pathlib.Path(self.folder) / f"{name}.npy"
            lossctl(*call, *options, "--save", f"grad.input={path}")
            found.append(path.read_bytes())
        self.assertEqual(*found)

    def test_rows_with_a_row_of_targets_are_cross_entropys(self):
        generator = random.Random(4)
        for kind, digits in (("float64", 12), ("float32", 5), ("float16", 2)):
            for rows, classes in ((1, 1), (5, 3), (3, 70), (40, 200)):
                shape = (rows, classes)
                inputs = {"input": Tensor([generator.gauss(0, 3) for _ in range(rows * classes)], kind, shape),
                          "target": Tensor([generator.random() / classes for _ in range(rows * classes)], kind, shape)}
                for reduction in ("none", "mean", "sum"):
                    ours = self.evaluate("test_soft_target", inputs, {"reduction": reduction}, ["loss", "grad.input"])
                    theirs = self.evaluate("cross_entropy", inputs, {"reduction": reduction}, ["loss", "grad.input"])
                    for mine, other in zip(ours, theirs):
                        for a, b in zip(mine, other):
                            self.assertLess(abs(a - b), 10.0 ** -digits * max(1, abs(b)))

    def test_a_stream_gives_the_loss_of_the_whole(self):
        summary = lossctl(
            "--server", self.daemon.unix, "eval", "test_squared", "--input", ROOT / "examples/data/cancer_logits.npy",
            "--target", ROOT / "examples/data/cancer_targets.npy", "--batch-size", "50")
        whole = lossctl(
            "--server", self.daemon.unix, "eval", "test_squared", "--input", ROOT / "examples/data/cancer_logits.npy",
            "--target", ROOT / "examples/data/cancer_targets.npy")
        first, second = (float(text.splitlines()[0].split()[1]) for text in (summary, whole))
        self.assertAlmostEqual(first, second, 4)

    def test_a_failure_in_plan_is_the_clients_to_read(self):
        self.fails(9, "test_throws: no licence was found", "test_throws", {
            "input": Tensor([1.0]), "target": Tensor([1.0])}, {"mode": "failure", "early": True})


class Kit(Both, unittest.TestCase):
    """In Swift."""

    @staticmethod
    def build(path):
        build_swift(ROOT / "Tests" / "System" / "plugins" / "Kit", "KitTests", path)

    def test_a_library_made_with_the_kit_is_unmapped_when_it_is_unloaded(self):
        shutil.copy(f"{self.folder}/wrapper.so", f"{self.folder}/.second.so")
        before = self.maps()
        os.remove(f"{self.folder}/wrapper.so")
        self.wait_for("unloaded plugin test_wrapper")
        self.until_maps(before - 1)
        os.rename(f"{self.folder}/.second.so", f"{self.folder}/wrapper.so")
        deadline = time.time() + 10
        while self.daemon.log().count("loaded plugin test_wrapper") < 3:  # "unloaded" has it, too
            self.assertLess(time.time(), deadline)
            time.sleep(0.05)


class Wrapper(Both, unittest.TestCase):
    """In C++."""

    @staticmethod
    def build(path):
        build_cpp(SOURCE, path)

    def test_exceptions_become_codes_and_texts(self):
        inputs = {"input": Tensor([1.0]), "target": Tensor([1.0])}
        for early in (True, False):
            for mode, code, text in (
                    ("failure", 9, "no licence was found"), ("runtime", 13, "something ran out"),
                    ("memory", 8, "no memory is left"), ("number", 13, "an exception that is no std::exception")):
                self.fails(code, f"test_throws: {text}", "test_throws", inputs, {"mode": mode, "early": early})

    def test_a_library_made_with_the_wrapper_is_unmapped_when_it_is_unloaded(self):
        # The daemon's one other library; an earlier version of it may still be on its way out.
        self.until_maps(1)
        # Moved into place whole: a compiler's output stands still in between.
        build_cpp(TWEEDIE, f"{self.folder}/.tweedie.so")
        os.rename(f"{self.folder}/.tweedie.so", f"{self.folder}/tweedie.so")
        self.wait_for("loaded plugin tweedie")
        self.until_maps(2)
        os.remove(f"{self.folder}/tweedie.so")
        self.wait_for("unloaded plugin tweedie")
        self.until_maps(1)

    def test_it_compiles_cleanly_with_and_without_exceptions(self):
        for compiler in filter(shutil.which, ("g++", "clang++")):
            for standard in ("c++17", "c++20"):
                for flags in ([], ["-fno-exceptions", "-fno-rtti"]):
                    result = subprocess.run(
                        [compiler, f"-std={standard}", "-fsyntax-only", "-O2", "-pedantic", "-Wall", "-Wextra",
                         "-Werror", "-Wconversion", "-Wshadow", "-I", INCLUDE, *flags, TWEEDIE],
                        capture_output=True, text=True)
                    self.assertEqual(result.returncode, 0, f"{compiler} {standard} {flags}\n{result.stderr}")

    @unittest.skipUnless(platform.machine() == "x86_64", "reads this machine's code")
    def test_the_loops_become_vectors(self):
        """Of the machine's width: packed multiplications in both compilers' code of every loop."""
        for compiler in filter(shutil.which, ("g++", "clang++")):
            output = f"{self.folder}/.vectors.so"
            subprocess.run(
                [compiler, "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-mavx2", "-mfma",
                 *(["--param=max-unswitch-insns=2000"] if compiler == "g++" else []), "-shared", "-fPIC",
                 "-fvisibility=hidden", "-I", INCLUDE, "-o", output, TWEEDIE], check=True)
            code = subprocess.run(
                ["objdump", "-d", "--no-show-raw-insn", output], capture_output=True, text=True, check=True).stdout
            loops = re.findall(r"^\w+ <\S*7compute\S*>:\n(.*?)(?:\n\n|\Z)", code, re.M | re.S)
            self.assertEqual(len(loops), 4, compiler)
            for loop in loops:
                self.assertGreater(len(re.findall(r"vf?n?m(?:add|ul)\w*p[sd] .*%ymm", loop)), 20, compiler)


if __name__ == "__main__":
    unittest.main()
