"""lossctl eval in batches: what one call gives, or a refusal that says why; never another number, never a hang."""

import concurrent.futures
import math
import pathlib
import struct
import sys
import time
import unittest

import npy
from daemon import lossctl
from random_files import RandomFiles

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "Benchmarks"))
from function_benchmark import catalogue  # noqa: E402  what each function takes

ROWS = 7
# The distance between 1 and the next number.
STEP = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}


class Batches(RandomFiles):
    # ---- Files ----

    def file(self, shape, data_type="float32", values=None):
        values = self.numbers(shape) if values is None else values
        return npy.write(self.next_path(), values, shape, data_type)

    def numbers(self, shape):
        """Of 8 bits, so that each type holds them."""
        return [self.random.randint(-96, 96) / 32 for _ in range(math.prod(shape))]

    def probabilities(self, shape):
        return [self.random.randint(1, 127) / 128 for _ in range(math.prod(shape))]

    def classes(self, shape, count, ignored=None):
        return [ignored if ignored is not None and self.random.random() < 0.3 else self.random.randrange(count)
                for _ in range(math.prod(shape))]

    # ---- Running ----

    def evaluate(self, server, function, inputs, attributes, outputs, batch=None):
        """The saved results by name, or the failed process."""
        saved = {name: self.folder / f"{name}{batch or ''}.npy" for name in outputs}
        for path in saved.values():
            path.unlink(missing_ok=True)
        arguments = ["eval", function, "--want", ",".join(outputs)]
        for name, path in inputs.items():
            arguments += ["--tensor", f"{name}={path}"]
        for name, item in attributes.items():
            arguments += ["--attr", f"{name}={item}"]
        for name, path in saved.items():
            arguments += ["--save", f"{name}={path}"]
        if batch:
            arguments += ["--batch-size", str(batch)]
        result = lossctl(*arguments, server=server, check=False)
        if result.returncode:
            self.assertFalse(any(path.exists() for path in saved.values()), result.stderr)
            return result
        return {name: npy.read(path) for name, path in saved.items()}

    def alike(self, ours, truth, steps, what):
        self.assertEqual(ours.keys(), truth.keys(), what)
        for name, (data_type, shape, values) in truth.items():
            self.assertEqual(ours[name][:2], (data_type, shape), (what, name))
            # A gradient near 0 is the difference of two numbers.
            finite = [abs(value) for value in values if math.isfinite(value)]
            least = max(finite, default=0) / 4 if name.startswith("grad.") and steps else 0
            for one, other in zip(ours[name][2], values, strict=True):
                if one != other and not (math.isnan(one) and math.isnan(other)):
                    bound = steps * STEP[data_type] * max(abs(other), least, 1e-30)
                    self.assertLessEqual(abs(one - other), bound, (what, name, one, other))

    def same(self, server, function, inputs, attributes, outputs, cut=True):
        """In batches of any sizes as in one call; where `cut` is False, refused."""
        what = (f"LOSSD_SEED={self.seed}", function, {name: npy.read(path)[:2] for name, path in inputs.items()},
                attributes, outputs)
        sizes = (None, self.random.choice([1, 2]), self.random.choice([3, 4, 5, 6, ROWS, ROWS + 5]))
        # At once, since most of the time is that of the programs' start.
        with concurrent.futures.ThreadPoolExecutor() as threads:
            whole, *others = threads.map(
                lambda size: self.evaluate(server, function, inputs, attributes, outputs, batch=size), sizes)
        self.assertIsInstance(whole, dict, (what, getattr(whole, "stderr", "")))
        for size, ours in zip(sizes[1:], others):
            if not cut:
                self.assertNotIsInstance(ours, dict, (what, size))
                self.assertEqual(ours.returncode, 64, ours.stderr)
                self.assertIn("cannot be cut into batches", ours.stderr)
                continue
            self.assertIsInstance(ours, dict, (what, size, getattr(ours, "stderr", "")))
            # Sums in another order; and where nothing is left to be repeated in a batch of one row, a kernel for that.
            self.alike(ours, whole, 4, (what, size))

    # ---- Every function ----

    def operand(self, operand, data_type):
        count = math.prod(operand.shape)
        if operand.kind == catalogue.INT:
            values = [self.random.randrange(operand.low, operand.high) for _ in range(count)]
            return self.file(list(operand.shape), "int64", values)
        values = [self.random.choice((-1, 1)) if operand.signs
                  else operand.low + (operand.high - operand.low) * self.random.randint(1, 127) / 128 for _ in range(count)]
        return self.file(list(operand.shape), data_type, values)

    def test_every_function_of_the_catalogue_in_batches_is_that_of_one_call_or_refused(self):
        server = self.daemon().unix
        functions = {item["name"]: item for item in lossctl("functions", "--json", server=server)}
        names = (*catalogue.SEED, *catalogue.ACTIVATIONS, *catalogue.SPECIAL, *catalogue.PAIRS, *catalogue.ROWS,
                 *catalogue.VECTORS, *catalogue.CLASSES, "ctc_loss")
        self.assertEqual({catalogue.function(name)[0] for name in names}, functions.keys())
        cut, refused = set(), set()
        for name in names:
            function, attributes = catalogue.function(name)
            declared = functions[function]
            attributes |= {item["name"]: 1 for item in declared["attributes"] if item["name"] == "dim" and item["required"]}
            data_type = self.random.choice(["float32", "float64"])
            shape = (6, ROWS, 5) if function == "ctc_loss" else (ROWS, 4)
            inputs = {item.name: self.operand(item, data_type) for item in catalogue.operands(name, shape)}
            if any(item["name"] == "weight" and item["batch"] == "rows" for item in declared["inputs"]):
                inputs["weight"] = self.file(shape, data_type)
            default = [item["name"] for item in declared["outputs"] if item["default"]]
            gradients = [item["name"] for item in declared["outputs"]
                         if item["name"].startswith("grad.") and item["name"][5:] in inputs]
            if default == ["output"]:
                upstream = catalogue.result_shape(name, shape)
                inputs["grad.output"] = self.file(upstream, data_type)
            reductions = next((item["choices"] for item in declared["attributes"] if item["name"] == "reduction"), [None])
            for reduction in reductions:
                chosen = attributes | ({"reduction": reduction} if reduction else {})
                for outputs in (default, *(default + [gradient] for gradient in gradients)):
                    what = (f"LOSSD_SEED={self.seed}", function, chosen, outputs, data_type)
                    whole = self.evaluate(server, function, inputs, chosen, outputs)
                    if not isinstance(whole, dict):
                        self.assertIn("no gradient", whole.stderr, what)
                        continue
                    ours = self.evaluate(server, function, inputs, chosen, outputs, batch=self.random.choice([1, 2, 3, 5]))
                    if isinstance(ours, dict):
                        self.alike(ours, whole, 4, what)
                        cut.add(function)
                    else:
                        self.assertEqual(ours.returncode, 64, (what, ours.stderr))
                        self.assertIn("cannot be cut into batches", ours.stderr, what)
                        refused.add((function, outputs[-1]))
        # What cannot be cut: a weight's gradient is a sum over all rows, or has its own place; ctc_loss has no rows.
        self.assertEqual(functions.keys() - cut, {"ctc_loss"}, refused)

    def test_activations_in_batches_are_those_of_one_call(self):
        server = self.daemon().unix
        both = ["output", "grad.input"]
        for data_type in STEP:
            for shape in ([ROWS], [ROWS, 3], [ROWS, 2, 3]):
                x, g = self.file(shape, data_type), self.file(shape, data_type)
                self.same(server, "sigmoid", {"input": x, "grad.output": g}, {}, both)
        for function in ("softmax", "log_softmax"):
            for shape in ([ROWS], [ROWS, 3], [ROWS, 2, 3], [1, 3]):
                rank = len(shape)
                for dim in [None, *range(-rank, rank)]:
                    data_type = self.random.choice(list(STEP))
                    inputs = {"input": self.file(shape, data_type), "grad.output": self.file(shape, data_type)}
                    cut = (-1 if dim is None else dim) % rank != 0
                    self.same(server, function, inputs, {} if dim is None else {"dim": dim}, both, cut)
        self.same(server, "softmax", {"input": self.file([ROWS, 3], "int64", [self.random.randrange(9) for _ in range(21)])},
                  {"dtype": "float32"}, ["output"])

    def test_binary_losses_in_batches_are_those_of_one_call(self):
        server = self.daemon().unix
        for function in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
            names = ["weight"] if function == "binary_cross_entropy" else ["weight", "pos_weight"]
            for shape, weights in (
                    ([ROWS], [[], [ROWS], [1]]),
                    ([ROWS, 3], [[], [3], [1, 3], [ROWS, 1], [ROWS, 3], [1, 1]]),
                    ([ROWS, 2, 3], [[2, 1], [ROWS, 1, 1], [1, 2, 3], [ROWS, 2, 3]])):
                for weight in [None, *weights]:
                    for reduction in ("mean", "sum", "none"):
                        data_type = self.random.choice(list(STEP))
                        x = self.file(shape, data_type, self.probabilities(shape))
                        y = self.file(shape, data_type, self.probabilities(shape))
                        inputs = {"input": x, "target": y}
                        if weight is not None:
                            for name in names:
                                inputs[name] = self.file(weight, data_type, self.probabilities(weight))
                        if self.random.random() < 0.5:
                            inputs["grad.loss"] = self.file(shape if reduction == "none" else [], data_type)
                        outputs = self.random.choice(
                            [["loss"], ["grad.input"], ["loss", "grad.input"], ["loss", "grad.input", "grad.target"]])
                        self.same(server, function, inputs, {"reduction": reduction}, outputs)

    def test_losses_over_classes_in_batches_are_those_of_one_call(self):
        server = self.daemon().unix
        for shape in ([ROWS, 3], [ROWS, 3, 2], [ROWS, 3, 2, 2]):
            places = [ROWS, *shape[2:]]
            for reduction in ("mean", "sum", "none"):
                for function in ("cross_entropy", "nll_loss", "probabilities"):
                    for weight in (False, True):
                        data_type = self.random.choice(list(STEP))
                        inputs = {"input": self.file(shape, data_type)}
                        attributes = {"reduction": reduction}
                        outputs = [["loss"], ["grad.input"], ["loss", "grad.input"]]
                        if function == "probabilities":
                            inputs["target"] = self.file(shape, data_type, self.probabilities(shape))
                            outputs.append(["grad.target", "loss"])
                        else:
                            inputs["target"] = self.file(
                                places, self.random.choice(["int64", "int32"]), self.classes(places, 3, ignored=2))
                            attributes["ignore_index"] = self.random.choice([2, -100])
                        if weight:
                            inputs["weight"] = self.file([3], data_type, self.probabilities([3]))
                        if function != "nll_loss":
                            attributes["label_smoothing"] = self.random.choice([0, 0.25])
                        if self.random.random() < 0.5:
                            inputs["grad.loss"] = self.file(places if reduction == "none" else [], data_type)
                        self.same(server, function.replace("probabilities", "cross_entropy"), inputs, attributes,
                                  self.random.choice(outputs))
        # All ignored: a mean is NaN.
        inputs = {"input": self.file([ROWS, 3]), "target": self.file([ROWS], "int64", [-100] * ROWS)}
        for smoothing in (0, 0.1):
            self.same(server, "cross_entropy", inputs, {"label_smoothing": smoothing}, ["loss", "grad.input"])
        # A vector is one row of classes.
        vector = {"input": self.file([ROWS]), "target": self.file([ROWS], values=self.probabilities([ROWS]))}
        self.same(server, "cross_entropy", vector, {}, ["loss"], cut=False)
        self.same(server, "cross_entropy", {**vector, "target": self.file([], "int64", [2])}, {}, ["loss"], cut=False)
        self.same(server, "nll_loss", {**vector, "target": self.file([], "int64", [2])}, {}, ["loss"], cut=False)

    def test_the_multilabel_loss_in_batches_is_that_of_one_call(self):
        server = self.daemon().unix
        every = [["loss"], ["loss", "grad.input"], ["loss", "grad.target"]]
        for shape, target, weight, allowed in (
                ([ROWS, 3], [ROWS, 3], None, every), ([ROWS, 3], [ROWS, 3], [3], every),
                ([ROWS, 3], [ROWS, 3], [ROWS, 1], every), ([ROWS, 3], [ROWS, 3], [ROWS, 3], every),
                ([ROWS, 3], [ROWS, 3], [1, 3], every), ([ROWS, 2, 3], [ROWS, 2, 3], [ROWS, 1, 1], every),
                ([ROWS, 3], [3], None, every[:2]), ([ROWS, 3], [1, 3], [ROWS, 1], every[:2]),
                ([1, 3], [ROWS, 3], None, [["loss"], ["loss", "grad.target"]]),
                ([ROWS, 2, 3], [2, 3], [ROWS, 2, 3], every[:2]),
                ([4, 3], [ROWS, 4, 3], None, [["loss"], ["loss", "grad.target"]])):
            for reduction in ("mean", "sum", "none"):
                for outputs in allowed:
                    data_type = self.random.choice(list(STEP))
                    inputs = {"input": self.file(shape, data_type),
                              "target": self.file(target, data_type, self.probabilities(target))}
                    if weight:
                        inputs["weight"] = self.file(weight, data_type, self.probabilities(weight))
                    self.same(server, "multilabel_soft_margin_loss", inputs, {"reduction": reduction}, outputs)
        x, y = self.file([ROWS, 3]), self.file([3], values=self.probabilities([3]))
        refused = [({"input": y, "target": y}, ["loss"]), ({"input": y, "target": x}, ["loss"]),
                   ({"input": x, "target": y}, ["grad.target"])]
        for inputs, outputs in refused:
            self.same(server, "multilabel_soft_margin_loss", inputs, {}, outputs, cut=False)

    def test_a_gradient_of_a_mean_in_half_precision_keeps_its_digits_whatever_the_number_of_rows(self):
        """Upstream over 40,000 elements is no normal float16."""
        server = self.daemon().unix
        shape = [20_000, 2]
        values = [self.random.randint(-96, 96) / 32 for _ in range(40_000)]
        inputs = {"input": self.file(shape, "float16", values),
                  "target": self.file([20_000], "int64", [self.random.randrange(2) for _ in range(20_000)])}
        whole = self.evaluate(server, "cross_entropy", inputs, {}, ["loss", "grad.input"])
        ours = self.evaluate(server, "cross_entropy", inputs, {}, ["loss", "grad.input"], batch=999)
        self.alike(ours, whole, 1, self.seed)
        self.assertTrue(any(whole["grad.input"][2]))

    # ---- What does not fit ----

    def fails(self, server, *arguments, status=1, words=()):
        start = time.monotonic()
        result = lossctl("eval", *arguments, server=server, check=False)
        self.assertLess(time.monotonic() - start, 20)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")

    def test_a_file_over_the_limit_is_cut_where_that_is_the_same_and_else_refused(self):
        server = self.daemon(limits__payload_bytes="1MiB").unix
        rows = 48_000
        x = self.file([rows, 10], values=[float(index % 17) for index in range(rows * 10)])
        out = self.folder / "out.npy"
        lossctl("eval", "softmax", "--input", x, "--save", f"output={out}", server=server)
        _, shape, values = npy.read(out)
        self.assertEqual(shape, [rows, 10])
        for row in range(0, rows, 1097):
            self.assertAlmostEqual(sum(values[row * 10:row * 10 + 10]), 1, 5)
        limit = ("RESOURCE_EXHAUSTED", "limits.payload_bytes", "1048576")
        for dim in ("0", "-2"):
            self.fails(server, "softmax", "--input", x, "--attr", f"dim={dim}", words=(*limit, "along the rows"))
        vector = self.file([rows * 10], values=[0.0] * rows * 10)
        self.fails(server, "log_softmax", "--input", vector, words=limit)
        self.fails(server, "cross_entropy", "--input", vector, "--target", vector, words=(*limit, "single row"))
        y = self.file([rows], "int64", [index % 10 for index in range(rows)])
        arguments = ["cross_entropy", "--input", x, "--target", y]
        # A batch that is too large, with the size that is not.
        self.fails(server, *arguments, "--batch-size", "48000", words=(*limit, "--batch-size can be 21844 at most"))
        result = lossctl("eval", *arguments, "--batch-size", "21844", "--json", server=server)
        self.assertEqual((result["batches"], result["rows"]), (3, rows))
        self.fails(server, *arguments, "--batch-size", "21845", words=limit)
        # One row, and what stays.
        wide = self.file([3, 270_000], values=[0.0] * 810_000)
        self.fails(server, "softmax", "--input", wide, words=(*limit, "one row"))
        self.fails(server, "softmax", "--input", wide, "--batch-size", "1", words=(*limit, "one row"))
        target = self.file([3], "int64", [0, 1, 2])
        heavy = self.file([270_000], values=[1.0] * 270_000)
        long = self.file([3, 270_000], "float16", [0.0] * 810_000)
        self.fails(server, "cross_entropy", "--input", long, "--target", target, "--weight", heavy,
                   words=(*limit, "weight"))

    def test_the_gaps_between_tensors_count(self):
        """Three tensors that fit by their bytes alone, and not where each begins at a multiple of 64."""
        server = self.daemon(limits__payload_bytes="1MiB").unix
        for count in (87_360, 87_376, 87_381, 87_382):
            x = self.file([count], values=[0.5] * count)
            one = self.file([count], values=[1.0] * count)
            arguments = ("binary_cross_entropy", "--input", x, "--target", x, "--weight", one)
            loss = lossctl("eval", *arguments, "--json", server=server)
            if count == 87_381:
                self.assertEqual(loss["batches"], 2)
                self.fails(server, *arguments, "--batch-size", str(count), words=("limits.payload_bytes",))
            found = loss["values"]["loss"] if "values" in loss else loss["outputs"]["loss"]["values"][0]
            self.assertAlmostEqual(found, math.log(2), 6)

    def test_a_mistake_in_a_row_is_named_by_the_files_own_row(self):
        server = self.daemon().unix
        rows = 1000
        x = self.file([rows, 3], values=[0.5] * 3 * rows)
        labels = [0] * rows
        labels[777] = 9
        y = self.file([rows], "int64", labels)
        for size in ("1", "10", "131", "1000"):
            self.fails(server, "cross_entropy", "--input", x, "--target", y, "--batch-size", size,
                       words=("target[777] is 9, outside [0, 3)",))
        values = [0.5] * 3 * rows
        values[3 * 600 + 2] = 1.5
        z = self.file([rows, 3], values=values)
        self.fails(server, "binary_cross_entropy", "--input", z, "--target", x, "--batch-size", "64",
                   words=("input[1802] is 1.5", "row 600"))

    def test_batches_that_the_declaration_forbids_are_refused_with_the_reason(self):
        server = self.daemon().unix
        x, y = self.file([ROWS, 3]), self.file([ROWS], "int64", [0] * ROWS)
        batch = ("--batch-size", "2")
        self.fails(server, "softmax", "--input", x, "--attr", "dim=0", *batch, status=64, words=("dim=0", "one call"))
        self.fails(server, "cross_entropy", "--input", x, "--target", self.file([5], "int64", [0] * 5), *batch,
                   status=64, words=("target has 5 rows, input has 7",))
        weight = self.file([2, 1], values=[1.0, 2.0])
        self.fails(server, "binary_cross_entropy_with_logits", "--input", x, "--target", x, "--weight", weight, *batch,
                   status=64, words=("weight has 2 rows, input has 7",))

    def test_files_in_another_order_are_evaluated_in_batches_as_well(self):
        server = self.daemon(limits__payload_bytes="1MiB").unix
        rows, columns = 70_000, 3
        values = self.numbers([rows, columns])
        plain = self.file([rows, columns], "float64", values)
        turned = self.folder / "turned.npy"
        data = [values[row * columns + column] for column in range(columns) for row in range(rows)]
        turned.write_bytes(npy.header(">f8", [rows, columns], fortran=True) + struct.pack(f">{len(data)}d", *data))
        y = self.file([rows], "int64", self.classes([rows], columns))
        outputs = ["loss", "grad.input"]
        truth = self.evaluate(server, "cross_entropy", {"input": plain, "target": y}, {}, outputs)
        ours = self.evaluate(server, "cross_entropy", {"input": turned, "target": y}, {}, outputs)
        self.assertIsInstance(truth, dict, truth)
        self.alike(ours, truth, 0, self.seed)

    def test_the_rule_is_told_with_the_functions(self):
        server = self.daemon().unix
        functions = {item["name"]: item for item in lossctl("functions", "--json", server=server)}
        inputs = {name: {item["name"]: item["batch"] for item in function["inputs"]}
                  for name, function in functions.items()}
        self.assertEqual(inputs["cross_entropy"], {"input": "rows", "target": "rows", "grad.loss": "upstream", "weight": ""})
        self.assertEqual(inputs["multilabel_soft_margin_loss"]["weight"], "broadcast")
        roles = [item.get("role", "") for item in functions["softmax"]["attributes"]]
        self.assertEqual(roles, ["dimension", ""])


if __name__ == "__main__":
    unittest.main()
