"""What both kits add to elementwise losses: input and target that broadcast with one another, and their gradients.

The functions: test_huber is huber_loss with both gradients, test_squared has input's alone, and test_alike,
exp(x) - y x with both, wants equal shapes. The tests are those of a class with `connection`, `evaluate` and `fails`.
"""

import itertools
import math
import pathlib
import struct
import tempfile
import time

import npy
from daemon import Daemon, lossctl
from wire import CallError, Tensor

# Relative distance between two results that are the same but for one rounding.
STEP = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}
BOTH = ("grad.input", "grad.target")


def tensor(values, kind, shape):
    return Tensor(npy.pack(values, kind), kind, shape)


def result_shape(*shapes):
    rank = max(map(len, shapes))
    sizes = []
    for axis in range(rank):
        found = {shape[len(shape) - rank + axis] for shape in shapes if len(shape) - rank + axis >= 0} - {1}
        sizes.append(found.pop() if found else 1)
    return tuple(sizes)


def places(shape, result):
    """The element of a tensor of `shape` for each element of `result`."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, 0 if size == 1 else step)
        step *= size
    strides = [0] * (len(result) - len(shape)) + strides
    return [sum(i * s for i, s in zip(index, strides)) for index in itertools.product(*map(range, result))]


def huber(d):
    return d * d / 2 if abs(d) < 1 else abs(d) - 0.5


class ElementTests:
    def exact(self, function, inputs, attributes, outputs, connection=None):
        """Types, shapes and bytes."""
        found = (connection or self.connection).evaluate(function, inputs, attributes, list(outputs))
        return [(found[name].data_type, tuple(found[name].shape), found[name].data) for name in outputs]

    def close(self, found, kind, shape, expected, what, steps=1.0):
        self.assertEqual(found[:2], (kind, tuple(shape)), what)
        values = npy.unpack(found[2], kind)
        self.assertEqual(len(values), len(expected), what)
        for one, other in zip(values, expected):
            if not math.isclose(one, other, rel_tol=steps * STEP[kind], abs_tol=1e-30):
                self.fail(f"{what}: {one}, expected {other}")

    def test_gradients_are_sums_over_repetitions(self):
        """Against the formula, in numbers whose sums are exact, so that all types agree but for one rounding."""
        shapes = (
            ((), ()), ((5,), ()), ((), (5,)), ((3,), (1,)), ((1,), (3,)), ((4, 1), (5,)), ((5,), (4, 1)),
            ((4, 5), (5,)), ((4, 5), (4, 1)), ((1, 5), (4, 5)), ((4, 1), (4, 5)), ((3, 1, 5), (4, 1)),
            ((3, 4, 1), (1, 5)), ((3, 1, 5), (3, 4, 5)), ((1, 4, 1), (3, 1, 5)), ((1, 1), (2, 1, 1)),
            ((2, 1, 3, 1), (1, 4, 1, 5)), ((3, 4, 5), (3, 4, 5)), ((300,), (2, 1)), ((2, 1), (300,)), ((7, 1, 3), (7, 90, 3)))
        kinds = itertools.cycle((("float32", "float32"), ("float64", "float64"), ("float16", "float16"),
                                 ("bfloat16", "bfloat16"), ("float32", "float64"), ("float16", "float32")))
        for (a, b), reduction in itertools.product(shapes, ("none", "mean", "sum")):
            kind, other = next(kinds)
            result = result_shape(a, b)
            count = math.prod(result)
            x = [(5 * i % 11 - 5) / 4 for i in range(math.prod(a))]
            y = [(3 * i % 7 - 3) / 4 for i in range(math.prod(b))]
            at, to = places(a, result), places(b, result)
            weight = result[1:] if len(result) > 1 else result
            w = [i % 4 for i in range(math.prod(weight))]
            of = places(weight, result)
            up_shape = result if reduction == "none" else ()
            up = [i % 3 + 1 for i in range(math.prod(up_shape))]
            for has_weight, has_upstream in itertools.product((False, True), repeat=2):
                what = (a, b, reduction, kind, other, has_weight, has_upstream)
                inputs = {"input": tensor(x, kind, a), "target": tensor(y, other, b)}
                if has_weight:
                    inputs["weight"] = tensor(w, kind, weight)
                if has_upstream:
                    inputs["grad.loss"] = tensor(up, kind, up_shape)
                factor = [w[i] if has_weight else 1 for i in of]
                losses = [f * huber(x[i] - y[j]) for f, i, j in zip(factor, at, to)]
                slopes = [f * max(-1, min(x[i] - y[j], 1)) for f, i, j in zip(factor, at, to)]
                if has_upstream and reduction == "none":
                    slopes = [s * u for s, u in zip(slopes, up)]
                scale = up[0] if has_upstream and reduction != "none" else 1
                if reduction == "mean":
                    scale /= count
                of_input, of_target = [0.0] * len(x), [0.0] * len(y)
                for s, i, j in zip(slopes, at, to):
                    of_input[i] += s
                    of_target[j] -= s
                of_input, of_target = ([value * scale for value in values] for values in (of_input, of_target))
                whole = sum(losses)
                loss = losses if reduction == "none" else [whole / count if reduction == "mean" else whole]
                found = self.exact("test_huber", inputs, {"reduction": reduction}, ("loss", *BOTH))
                self.close(found[0], kind, up_shape, loss, what)
                self.close(found[1], kind, a, of_input, what, 2)
                self.close(found[2], other, b, of_target, what, 2 * max(1, STEP[kind] / STEP[other]))
                # Whatever else is wanted.
                for name, alone in zip(("loss", *BOTH), found):
                    self.assertEqual(self.exact("test_huber", inputs, {"reduction": reduction}, (name,)), [alone], what)
                if other == kind and not has_weight:
                    self.assertEqual(
                        [part[:2] for part in self.exact("huber_loss", inputs, {"reduction": reduction}, ("loss", *BOTH))],
                        [part[:2] for part in found], what)

    def test_large_gradients_are_huber_losss_and_the_same_bits_with_any_number_of_workers(self):
        shapes = (
            ((300, 1), (1, 700)), ((40_000,), ()), ((), (40_000,)), ((3,), (50_000, 3)), ((70_000, 1), (70_000, 5)),
            ((2, 1, 300), (2, 400, 300)), ((1, 100_000), (3, 1)), ((2,), (300_000, 2)), ((257, 1, 3), (257, 300, 3)),
            ((513,), (600, 513)), ((2, 1), (2, 300_000)), ((40, 1, 30, 1), (1, 50, 1, 20)))
        with Daemon(plugin_folders=self.folder, plugins__isolation="none", workers=1) as single, \
                single.connect(timeout=60) as other:
            for index, (a, b) in enumerate(shapes):
                result = result_shape(a, b)
                kind = ("float32", "float64")[index % 2]
                # Of as many digits as the type has, so that the order of a sum is seen.
                x, y = ((struct.pack("<1021d", *(math.sin(i * seed) * 3 for i in range(1021))) for seed in (1.7, 2.3)))
                values = [
                    (list(struct.unpack("<1021d", part)) * (math.prod(shape) // 1021 + 1))[:math.prod(shape)]
                    for part, shape in ((x, a), (y, b))]
                inputs = {"input": tensor(values[0], kind, a), "target": tensor(values[1], kind, b)}
                for reduction in ("mean", "none"):
                    if reduction == "none":
                        up = [1 + i % 5 / 4 for i in range(math.prod(result))]
                        inputs["grad.loss"] = tensor(up, kind, result)
                    attributes = {"reduction": reduction}
                    ours = self.exact("test_huber", inputs, attributes, BOTH)
                    self.assertEqual(ours, self.exact("test_huber", inputs, attributes, BOTH, other), (a, b))
                    theirs = self.exact("huber_loss", inputs, attributes, BOTH)
                    for one, two in zip(ours, theirs):
                        expected = npy.unpack(two[2], kind)
                        self.assertEqual(one[:2], two[:2])
                        # Sums of both signs: their terms, none of them over 2.25, are rounded, or else the sums
                        # on the way.
                        terms = math.prod(result) // len(expected)
                        bound = (2**-42 if kind == "float64" else 2**-21) * terms
                        bound /= math.prod(result) if reduction == "mean" else 1
                        for found, want in zip(npy.unpack(one[2], kind), expected):
                            if abs(found - want) > bound + 2 * STEP[kind] * abs(want):
                                self.fail(f"{a} {b} {kind} {reduction}: {found}, expected {want}")

    def test_sums_of_gradients_are_float64_and_rounded_once(self):
        # 2^25 in front swallows every 1 in float32, and 2048 in float16.
        for shape, own in (((2001,), ()), ((2001, 2), (2,)), ((2, 2001), (2, 1))):
            repeats = places(own, shape)
            firsts = [repeats.index(i) for i in range(math.prod(own))]
            for kind, big, expected in (("float32", 2.0**25, 2.0**25 + 2000), ("float16", 2048.0, 4048.0)):
                up = [big if i in firsts else 1.0 for i in range(math.prod(shape))]
                inputs = {"input": tensor([3.0] * math.prod(shape), kind, shape),
                          "target": tensor([0.0] * math.prod(own), kind, own), "grad.loss": tensor(up, kind, shape)}
                swapped = inputs | {"input": inputs["target"], "target": inputs["input"]}
                for arguments, name in ((inputs, "grad.target"), (swapped, "grad.input")):
                    (found,) = self.evaluate("test_huber", arguments, {"reduction": "none"}, (name,))
                    self.assertEqual(found, [-expected] * math.prod(own), (kind, shape))
        # 2049 is as far from 2048 as from 2050, and 2^-15 more is lost in float32.
        inputs = {"input": Tensor([3.0] * 3, "float16"), "target": Tensor([0.0], "float16", ()),
                  "grad.loss": Tensor([2048.0, 1.0, 2.0**-15], "float16")}
        self.assertEqual(self.evaluate("test_huber", inputs, {"reduction": "none"}, ("grad.target",)), [[-2050.0]])

    def test_gradients_of_nothing_are_zero_and_dimensions_near_2_63_are_refused_or_empty(self):
        for function in ("test_huber", "test_squared"):
            outputs = ("loss", "grad.input") + (("grad.target",) if function == "test_huber" else ())
            for a, b in (((0,), ()), ((), (0,)), ((0, 3), (1, 3)), ((2, 0), (2, 1)), ((3, 1), (1, 0)), ((2**60, 0), (1, 1)),
                         ((1, 1), (2**60, 0)), ((2**40, 0), (1, 2**20, 1, 0))):
                inputs = {"input": Tensor([1.0] * math.prod(a), shape=a), "target": Tensor([1.0] * math.prod(b), shape=b)}
                found = self.exact(function, inputs, {"reduction": "sum"}, outputs)
                self.assertEqual(npy.unpack(found[0][2], "float32"), [0])
                for (_, shape, data), own in zip(found[1:], (a, b)):
                    self.assertEqual((shape, npy.unpack(data, "float32")), (own, [0] * math.prod(own)))
                self.assertTrue(math.isnan(self.evaluate(function, inputs)[0][0]))
                none = self.exact(function, inputs, {"reduction": "none"}, outputs)
                self.assertEqual(none[0], ("float32", result_shape(a, b), b""))
        for a, b in (((2**40, 0, 1), (1, 1, 0)), ((2**40, 0, 1), (1, 0, 2**40))):
            inputs = {"input": Tensor([], shape=a), "target": Tensor([], shape=b)}
            if b[2] == 0:
                self.assertEqual(self.evaluate("test_huber", inputs, {"reduction": "sum"}, ("loss", *BOTH)), [[0], [], []])
            else:
                self.fails(3, "test_huber: input and target broadcast to 2^63 elements or more", "test_huber", inputs)
        huge = {"input": Tensor([], shape=(2**60, 0)), "target": Tensor([], shape=(2**60, 0))}
        self.assertEqual(self.evaluate("test_alike", huge, {"reduction": "sum"}, ("loss", *BOTH)), [[0], [], []])

    def test_equal_shapes_have_both_gradients_without_a_broadcast(self):
        x, y, w = [i % 9 / 4 - 1 for i in range(5000)], [i % 5 / 2 for i in range(5000)], [i % 3 for i in range(50)]
        for kind in ("float32", "float64", "float16"):
            inputs = {"input": Tensor(x, kind, (100, 50)), "target": Tensor(y, kind, (100, 50)), "weight": Tensor(w, kind)}
            slopes, target_slopes = self.evaluate("test_alike", inputs, {"reduction": "sum"}, BOTH)
            for i in range(5000):
                self.assertAlmostEqual(
                    slopes[i], w[i % 50] * (math.exp(x[i]) - y[i]), delta=8 * STEP[kind] * w[i % 50] * 4)
            self.assertEqual(target_slopes, [-w[i % 50] * x[i] for i in range(5000)])
        for other in ((50,), (100, 1), (1, 100, 50), ()):
            text = ", ".join(map(str, other)) + ("," if len(other) == 1 else "")
            self.fails(3, f"test_alike: target is ({text}), expected (100, 50)", "test_alike", {
                "input": Tensor(x, shape=(100, 50)), "target": Tensor(x[:math.prod(other)], shape=other)})

    def test_integer_targets_have_no_gradient(self):
        for kind in ("int64", "int32", "int16", "int8", "uint8", "bool"):
            inputs = {"input": Tensor([0.5, 2.0]), "target": Tensor([1, 0], kind)}
            self.assertEqual(self.evaluate("test_huber", inputs, {"reduction": "sum"}, ("loss", "grad.input")),
                             [[0.125 + 1.5], [-0.5, 1]])
            for function in ("test_huber", "huber_loss"):  # as the built-in ones say it
                with self.assertRaises(CallError) as caught:
                    self.evaluate(function, inputs, None, ("grad.target",))
                self.assertEqual((caught.exception.code, caught.exception.text),
                                 (3, f"{function}: target is {kind}, which has no gradient"))

    def test_a_gradient_over_very_many_repetitions_ends_when_its_time_is_up(self):
        """Two small tensors may be 2^38 results, which take half an hour."""
        for shapes in (((2**19, 1), (1, 2**19)), ((2**19,), (2**19, 1))):
            inputs = dict(zip(("input", "target"), (Tensor(bytes(4 * math.prod(shape)), shape=shape) for shape in shapes)))
            for name in BOTH:
                start = time.monotonic()
                with self.assertRaises(CallError) as caught:
                    self.connection.evaluate("test_huber", inputs, {}, [name], timeout_us=300_000)
                self.assertEqual(caught.exception.code, 4, caught.exception.text)
                self.assertLess(time.monotonic() - start, 5)

    def in_batches(self, function, shapes, kind, attributes, outputs, size=None):
        """Saved results by name, or what lossctl says."""
        with tempfile.TemporaryDirectory(prefix="lossd-kit-") as folder:
            arguments = ["eval", function, "--want", ",".join(outputs)]
            for index, (name, shape) in enumerate(shapes.items()):
                # So far apart that the order of a float64 sum is seen.
                values = [math.sin((index + 3) * i) / 10**(i * 7 % 11) for i in range(math.prod(shape))]
                if name == "weight":
                    values = map(abs, values)
                path = npy.write(f"{folder}/{name}.npy", values, shape, kind)
                arguments += ["--tensor", f"{name}={path}"]
            for name in outputs:
                arguments += ["--save", f"{name}={folder}/out.{name}.npy"]
            for name, value in attributes.items():
                arguments += ["--attr", f"{name}={value}"]
            result = lossctl(*arguments, *(["--batch-size", str(size)] if size else []), server=self.daemon.unix, check=False)
            if result.returncode:
                return result.stderr
            return {name: pathlib.Path(f"{folder}/out.{name}.npy").read_bytes() for name in outputs}

    def test_batches_give_what_one_call_gives_or_are_refused(self):
        for function, a, b, weight, refused in (
                ("test_huber", (7, 5), (7, 5), None, ()), ("test_huber", (7, 1), (7, 5), (5,), ()),
                ("test_huber", (7, 3, 5), (7, 1, 5), (7, 1, 1), ()), ("test_huber", (7, 1, 300), (7, 600, 1), None, ()),
                ("test_huber", (5,), (7, 5), (1, 5), ("grad.input",)), ("test_huber", (7, 5), (1, 5), (7, 5), ("grad.target",)),
                ("test_huber", (7,), (), None, ("grad.target",)), ("test_alike", (7, 4), (7, 4), (4,), ())):
            shapes = {"input": a, "target": b} | ({"weight": weight} if weight else {})
            for kind, reduction, gradient in itertools.product(
                    ("float32", "float64"), ("none", "mean", "sum"), (*BOTH, None)):
                what = (function, shapes, kind, reduction, gradient)
                outputs = ["loss"] * (reduction == "none" or not gradient) + [gradient] * (gradient is not None)
                whole = self.in_batches(function, shapes, kind, {"reduction": reduction}, outputs)
                self.assertIsInstance(whole, dict, what)
                for size in (1, 3):
                    parts = self.in_batches(function, shapes, kind, {"reduction": reduction}, outputs, size)
                    if gradient in refused:
                        self.assertIn(f"{gradient} adds up over all rows", parts, what)
                    elif reduction != "none" and not gradient:
                        width = 4 if kind == "float32" else 8
                        one, other = (npy.unpack(found["loss"][-width:], kind)[0] for found in (whole, parts))
                        self.assertLessEqual(abs(one - other), 4 * STEP[kind] * abs(one), what)
                    else:
                        self.assertEqual(parts, whole, what)
