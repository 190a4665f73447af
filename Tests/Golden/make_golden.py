"""Makes the golden files from torch 2.13: values, elementwise, operands, rows, classes and specials, each a .json and a
.bin, and types.json with the table of types in docs/functions.md.

    pip install "torch==2.13.0+cpu" numpy --extra-index-url https://download.pytorch.org/whl/cpu
    python Tests/Golden/make_golden.py

*.bin: little-endian tensors, each at a multiple of 8. *.json:
  tensors  [data type, offset, dimension...]
  cases    {f: function, i: {input: tensor}, a: attributes (infinities as texts),
           o: {output: [torch's, truth, term]}}, or
           r: torch's refusal in place of o, w: what was wanted
           k: {output: kinds} in place of o in specials.json
The truth is reference.py's, in float64 (float32 for 16-bit results): from the exactly widened inputs, in extended precision, and
checked here against torch in float64. `term` (bfloat16, or -1) is the largest magnitude added up on the
way to each element: the yardstick for a result that nearly cancels.
"""
import itertools
import json
import pathlib
import warnings

import numpy as np
import torch

import cases
import cases_classes
import cases_operands
import cases_rows
import reference
import specials
import torch_side
import type_table

CODES = list(torch_side.TYPES)  # in the order of the wire's numbers, from 1
BEGIN, END = "<!-- types: begin -->", "<!-- types: end -->"
INF = float("inf")
HERE = pathlib.Path(__file__).parent


class Writer:
    """Tensors in one file, each content once."""

    def __init__(self):
        self.index = []
        self.places = {}
        self.offsets = {}
        self.data = bytearray()

    def add(self, tensor):
        raw = torch_side.raw_bytes(tensor)
        if raw not in self.offsets:
            self.data += bytes(-len(self.data) % 8)
            self.offsets[raw] = len(self.data)
            self.data += raw
        kind = CODES.index(torch_side.name_of(tensor.dtype)) + 1
        entry = (kind, self.offsets[raw], *tensor.shape)
        if entry not in self.places:
            self.places[entry] = len(self.index)
            self.index.append(list(entry))
        return self.places[entry]


def torch_in_float64(function, inputs, attributes, wanted):
    wide = {k: v.double() if v.dtype.is_floating_point else v for k, v in inputs.items()}
    attributes = {k: v for k, v in attributes.items() if k != "dtype"}
    if function in torch_side.ACTIVATIONS:
        wide = {k: v.double() for k, v in wide.items()}
    return torch_side.run(function, wide, attributes, wanted)


def check(function, attributes, name, value, term, wide):
    """The reference's values are torch's in float64, but for what rounding explains."""
    wide = wide.numpy()
    isFinite = np.isfinite(wide)
    if not isFinite.any():
        return
    # Torch loses small results beside large ones (s (1 - s) of a sigmoid near 1): the yardstick is the
    # largest of the tensor.
    size = np.max(np.abs(value if term is None else np.maximum(np.abs(value), term))[isFinite])
    error = np.abs(wide - value)[isFinite] / max(size, 1e-300)
    worst = float(error.max(initial=0))
    assert worst < 1e-12, (function, attributes, name, worst)


def cast_inputs(function, inputs, attributes):
    """What the result is computed from: softmax casts its input to dtype first. softmin turns the sign before, which
    wraps around in integers' types."""
    if attributes.get("dtype"):
        turned = -1 if function == "softmin" and not inputs["input"].dtype.is_floating_point else 1
        return {**inputs, "input": turned * (turned * inputs["input"]).to(torch_side.TYPES[attributes["dtype"]])}
    return inputs


def entry(writer, function, inputs, attributes, wanted):
    entry = {"f": function, "i": {k: writer.add(v) for k, v in inputs.items()}}
    if attributes:
        # JSON has no infinities.
        entry["a"] = {k: str(v) if isinstance(v, float) and np.isinf(v) else v for k, v in attributes.items()}
    try:
        results = torch_side.run(function, inputs, attributes, wanted)
    except Exception as error:  # torch's refusals have many types
        entry["r"] = str(error).split("\n")[0][:80]
        entry["w"] = list(wanted)
        return entry
    inputs = cast_inputs(function, inputs, attributes)
    exact = {k: torch_side.widened(v) for k, v in inputs.items()}
    if function == "multilabel_soft_margin_loss":
        # In the target's own type: 1 - 2 is 255 for uint8.
        exact["1 - target"] = torch_side.widened(1 - inputs["target"])
        if inputs["target"].dtype.is_floating_point:
            exact["1 - target"] = 1 - exact["target"]
    truths = reference.evaluate(function, exact, attributes)
    wide = torch_in_float64(function, inputs, attributes, wanted)
    entry["o"] = {}
    for name in wanted:
        value, term = truths[name]
        value = np.broadcast_to(value, wide[name].shape)
        check(function, attributes, name, value, term, wide[name])
        truth = torch.from_numpy(np.array(value, dtype=np.float64))
        if results[name].dtype in (torch.float16, torch.bfloat16):
            truth = truth.float()  # 13 bits more than the result has, or 16
        yardstick = -1
        if term is not None and np.any(np.asarray(term) > np.abs(value)):
            term = np.broadcast_to(term, value.shape)
            yardstick = writer.add(torch.from_numpy(np.array(term, dtype=np.float64)).bfloat16())
        entry["o"][name] = [writer.add(results[name]), writer.add(truth), yardstick]
    return entry


def kinds(tensor):
    """A letter an element: finite, +, -, n; a number in front of it says how often."""
    values = tensor.detach().double().flatten().tolist()
    letters = ["n" if v != v else "+" if v == INF else "-" if v == -INF else "f" for v in values]
    runs = ((letter, len(list(run))) for letter, run in itertools.groupby(letters))
    return "".join(letter if length == 1 else f"{length}{letter}" for letter, length in runs)


def special_entry(writer, function, inputs, attributes, wanted):
    results = torch_side.run(function, inputs, attributes, wanted)
    return {
        "f": function, "i": {k: writer.add(v) for k, v in inputs.items()}, "a": attributes,
        "k": {name: kinds(results[name]) for name in wanted}}


def write(name, make, calls):
    writer = Writer()
    rows = [make(writer, *call) for call in calls]
    (HERE / f"{name}.bin").write_bytes(writer.data)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    tensors = json.dumps(writer.index, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(f'{{"tensors":{tensors},\n"cases":[\n{lines}\n]}}\n')
    refused = sum("r" in row for row in rows)
    print(f"{name}: {len(rows)} calls, {refused} refused, {len(writer.data)} bytes of tensors")


def write_types():
    types = type_table.make()
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in types["rows"])
    table = json.dumps(types["table"])
    (HERE / "types.json").write_text(f'{{"rows":[\n{lines}\n],\n"table":{table}}}\n')
    page = HERE.parent.parent / "docs" / "functions.md"
    if page.exists():
        before, rest = page.read_text().split(BEGIN, 1)
        page.write_text(before + BEGIN + "\n" + types["table"] + END + rest.split(END, 1)[1])
    print(f"types: {len(types['rows'])} rows")


def main():
    assert torch.__version__.startswith("2.13."), torch.__version__
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    write("values", entry, cases.everything())
    write("elementwise", entry, cases.elementwise())
    write("operands", entry, cases_operands.everything())
    write("rows", entry, cases_rows.everything())
    write("classes", entry, cases_classes.everything())
    write("specials", special_entry, specials.everything())
    write_types()


if __name__ == "__main__":
    main()
