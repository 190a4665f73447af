"""lossctl eval --save-state and lossctl merge: parts of a data set give what the whole one gives, to the last bit."""

import json
import unittest

import npy
from daemon import lossctl
from random_files import RandomFiles


class Merge(RandomFiles):
    def file(self, shape, values, data_type="float32"):
        path = self.next_path()
        path.write_bytes(npy.header(npy.CODES[data_type], shape) + npy.pack(values, data_type))
        return path

    def eval(self, daemon, function, inputs, *arguments):
        tensors = [item for name, path in inputs.items() for item in ("--tensor", f"{name}={path}")]
        return lossctl("eval", function, "--json", *tensors, *arguments, server=daemon.unix)

    def merge(self, daemon, *arguments, check=True):
        return lossctl("merge", "--json", *arguments, server=daemon.unix, check=check)

    def parts(self, rows, columns, cuts):
        """Inputs of all rows, and of each part."""
        logits = [self.random.gauss(0, 1) * 10 ** self.random.randint(-4, 2) for _ in range(rows * columns)]
        labels = [self.random.randrange(columns) for _ in range(rows)]
        weight = self.file([columns], [self.random.uniform(0.1, 3) for _ in range(columns)])

        def of(first, last):
            return {"input": self.file([last - first, columns], logits[first * columns:last * columns]),
                    "target": self.file([last - first], labels[first:last], "int64"), "weight": weight}

        bounds = [0, *cuts, rows]
        return of(0, rows), [of(first, last) for first, last in zip(bounds, bounds[1:])]

    def test_parts_give_what_the_whole_gives_however_they_are_cut_and_merged(self):
        daemon = self.daemon(workers=2)
        for reduction in ("mean", "sum"):
            cuts = sorted(self.random.sample(range(1, 3000), 5))
            whole, parts = self.parts(3000, 7, cuts)
            arguments = ("--attr", f"reduction={reduction}", "--attr", "label_smoothing=0.1")
            once = lossctl(
                "eval", "cross_entropy", "--json", *(
                    item for name, path in whole.items() for item in ("--tensor", f"{name}={path}")),
                *arguments, server=daemon.unix)
            results = [
                self.eval(daemon, "cross_entropy", whole, *arguments, "--batch-size", batch,
                          "--save-state", self.folder / "whole")
                for batch in (1, 64, 777, 3000)]
            for result in results:
                self.assertEqual((result["values"], result["state"]), (results[0]["values"], results[0]["state"]))
            self.assertAlmostEqual(once["outputs"]["loss"]["values"][0], results[0]["values"]["loss"], delta=abs(
                results[0]["values"]["loss"]) * 1e-6)
            states = []
            for index, part in enumerate(parts):
                states.append(self.folder / f"part{index}")
                self.eval(daemon, "cross_entropy", part, *arguments, "--save-state", states[-1])
            for _ in range(4):
                self.random.shuffle(states)
                some = self.random.randint(1, len(states) - 1)
                first = self.folder / "first"
                self.merge(daemon, *states[:some], "--save-state", first)
                merged = self.merge(daemon, first, *states[some:])
                self.assertEqual((merged["values"], merged["state"], merged["rows"]), (
                    results[0]["values"], results[0]["state"], 3000), self.seed)

    def test_more_states_than_a_request_takes(self):
        daemon = self.daemon()
        whole, (part, _) = self.parts(4, 3, [2])
        state = self.folder / "state"
        one = self.eval(daemon, "cross_entropy", part, "--save-state", state)
        merged = self.merge(daemon, *[state] * 600)
        self.assertEqual((merged["rows"], merged["batches"]), (1200, 600))
        # 600 times both sums are rounded anew.
        self.assertAlmostEqual(merged["values"]["loss"] / one["values"]["loss"], 1, delta=1e-15)

    def test_what_does_not_belong_together_is_refused_by_file_and_reason(self):
        daemon = self.daemon()
        _, (part, other) = self.parts(20, 3, [10])
        paths = {}
        for name, function, arguments in (
                ("mean", "cross_entropy", ()), ("sum", "cross_entropy", ("--attr", "reduction=sum")),
                ("nll", "nll_loss", ())):
            paths[name] = self.folder / name
            self.eval(daemon, function, part, *arguments, "--save-state", paths[name])
        good = paths["mean"].read_bytes()

        def damaged(name, data):
            paths[name] = self.folder / name
            paths[name].write_bytes(data)

        damaged("short", good[:-3])
        damaged("foreign", b"no state")
        damaged("empty", b"")
        # The sum's last digit, which says no more than the sign; and a sum that the function has not.
        damaged("renamed", good.replace(b"weight_sum", b"weight_nix"))
        for names, text in (
                (("mean", "sum"), "reduction is"), (("mean", "nll"), "it is of nll_loss, not of cross_entropy"),
                (("mean", "short"), "no state that"), (("foreign",), "no state that"), (("empty",), "no state that"),
                (("renamed",), "weight_nix"), (("missing",), "No such file")):
            result = self.merge(daemon, *(paths.get(name, self.folder / name) for name in names), check=False)
            self.assertNotEqual(result.returncode, 0, names)
            self.assertIn(text, result.stderr, names)
            self.assertEqual(result.stdout, "")

    def test_states_of_different_kernels_are_merged_and_told(self):
        _, parts = self.parts(20, 3, [10])
        states = []
        for index, (part, kernels) in enumerate(zip(parts, ("reference", "baseline"))):
            states.append(self.folder / f"{index}")
            with self.daemon(kernels=kernels) as daemon:
                self.eval(daemon, "cross_entropy", part, "--save-state", states[-1])
                if index == 0:
                    continue
                result = self.merge(daemon, *states, check=False)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("different kernels (baseline,reference)", result.stderr)
                self.assertEqual(json.loads(result.stdout)["rows"], 20)


if __name__ == "__main__":
    unittest.main()
