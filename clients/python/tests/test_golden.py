"""The golden values of Tests/Golden, made from torch, end to end: through the client, a socket and the daemon. The
rules are those of Tests/GoldenTests."""

import itertools
import json
import re
from collections import defaultdict

import numpy as np
import pytest

import lossd
from conftest import ROOT

GOLDEN = ROOT / "Tests" / "Golden"
TYPES = {1: "float32", 2: "float64", 3: "float16", 4: "bfloat16", 5: "int64", 6: "int32", 7: "int16", 8: "int8",
         9: "uint8", 10: "bool"}
#: Bits of the fraction, and the exponent of the smallest number.
ULPS = {"float64": (52, -1074), "float32": (23, -149), "float16": (10, -24), "bfloat16": (7, -133)}


#: The files of values, and of what torch refuses: how many numbers there are at least.
FILES = {"values": 20_000, "elementwise": 20_000, "operands": 20_000, "rows": 20_000, "classes": 15_000}


def floor(function, name, is_reduced):
    """What a result may be off where torch's is less, ulps: docs/functions.md."""
    if is_reduced:
        # The error of one element's exponential may be that of the sum.
        return 2 if function in ("poisson_nll_loss", "kl_div") else 1
    return 4 if function == "erfc" or (function, name) == ("mish", "grad.input") else 3


class Golden:
    """A .json and .bin of Tests/Golden."""

    def __init__(self, name):
        index = json.loads((GOLDEN / f"{name}.json").read_text())
        self.cases = index["cases"]
        self._places = index["tensors"]
        self._data = (GOLDEN / f"{name}.bin").read_bytes()

    def tensor(self, number):
        kind, offset, *shape = self._places[number]
        name = TYPES[kind]
        dtype = np.dtype("<u2") if name == "bfloat16" else np.dtype(name)
        array = np.frombuffer(self._data, dtype, int(np.prod(shape)), offset).reshape(shape)
        return lossd.BFloat16Array(array) if name == "bfloat16" else array

    def evaluate(self, client, row, outputs):
        inputs = {name: self.tensor(number) for name, number in row["i"].items()}
        attributes = row.get("a", {})
        attributes = {name: float(value) if value in ("inf", "-inf") else value for name, value in attributes.items()}
        return client.evaluate(row["f"], inputs, attributes, outputs)


def type_name(array):
    return "bfloat16" if isinstance(array, lossd.BFloat16Array) else array.dtype.name


def wide(array):
    """float64; bfloat16's bits are the upper half of a float32's."""
    if isinstance(array, lossd.BFloat16Array):
        array = (array.bits.ravel().astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, np.float64).ravel()


def kinds(values):
    return np.select([np.isnan(values), values == np.inf, values == -np.inf], ["n", "+", "-"], "f")


def ulp(magnitudes, name):
    bits, smallest = ULPS[name]
    exponents = np.frexp(magnitudes)[1] - 1
    return np.ldexp(1.0, np.where(magnitudes > 0, np.maximum(exponents - bits, smallest), smallest).astype(int))


@pytest.mark.parametrize("file", FILES)
def test_results_are_as_near_to_the_truth_as_torchs(client, file):
    golden = Golden(file)
    sets = defaultdict(list)
    compared = 0
    for row in golden.cases:
        if "o" not in row:
            continue
        results = golden.evaluate(client, row, sorted(row["o"]))
        for name, (torch, truth, term) in row["o"].items():
            ours, theirs, true = results[name], golden.tensor(torch), wide(golden.tensor(truth))
            kind = type_name(ours)
            assert (kind, ours.shape) == (type_name(theirs), theirs.shape), (row, name)
            ours, theirs = wide(ours), wide(theirs)
            finite = np.isfinite(theirs) & np.isfinite(true)
            assert (kinds(ours[~finite]) == kinds(theirs[~finite])).all(), (row, name)
            largest = np.abs(true) if term < 0 else np.maximum(np.abs(true), wide(golden.tensor(term)))
            step = ulp(largest[finite], kind)
            distances = [np.abs(each[finite] - true[finite]) / step for each in (ours, theirs)]
            is_reduced = name == "loss" and row.get("a", {}).get("reduction") != "none"
            arguments = (*sorted(row["i"]), *sorted(row.get("a", {})))
            sets[row["f"], name, is_reduced, kind, arguments].append(distances)
            compared += ours.size
    assert compared > FILES[file]
    for key, parts in sets.items():
        ours, theirs = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        least = floor(*key[:3])
        if len(ours):
            assert ours.max() <= max(theirs.max(), least), key
            assert ours.mean() <= max(theirs.mean(), least), key


@pytest.mark.parametrize("file", FILES)
def test_what_torch_refuses_is_an_invalid_argument(client, file):
    golden = Golden(file)
    refused = [row for row in golden.cases if "r" in row]
    assert len(refused) > 20
    for row in refused:
        upstream = golden.tensor(row["i"]["grad.loss"]) if "grad.loss" in row["i"] else None
        if (row["r"] == "upstream gradient differs from the result" and upstream.shape == ()
                and type_name(upstream) == "float64"):
            # Taken on purpose, for batches of a mean: docs/functions.md.
            golden.evaluate(client, row, row.get("w", []))
            continue
        if row["r"].startswith("size mismatch") and golden.tensor(row["i"]["target"]).shape == (1,):
            # torch's loss takes a target of (1) for an input of (C), torch's backward does not: docs/functions.md.
            assert golden.tensor(row["i"]["input"]).ndim == 1
            golden.evaluate(client, row, row.get("w", []))
            continue
        with pytest.raises(lossd.InvalidArgument):
            golden.evaluate(client, row, row.get("w", []))


def test_results_are_special_where_torchs_are(client):
    golden = Golden("specials")
    for row in golden.cases:
        results = golden.evaluate(client, row, sorted(row["k"]))
        for name, runs in row["k"].items():
            wanted = list(itertools.chain.from_iterable(
                kind * int(count or 1) for count, kind in re.findall(r"(\d*)([fn+-])", runs)))
            assert (kinds(wide(results[name])) == wanted).all(), (row, name)


def test_result_types_are_torchs(client):
    def zeros(name, *shape):
        if name == "bfloat16":
            return lossd.BFloat16Array(np.zeros(shape, np.uint16))
        return np.zeros(shape, name)

    rows = json.loads((GOLDEN / "types.json").read_text())["rows"]
    assert len(rows) > 300
    for function, inputs, attributes, _, ours in rows:
        try:
            results = client.evaluate(function, {name: zeros(*spec) for name, spec in inputs.items()}, attributes)
            found = type_name(next(iter(results.values())))
        except lossd.InvalidArgument:
            found = None
        assert found == ours, (function, inputs, attributes)
