#!/usr/bin/env python3
"""Writes the golden files beside this script, and index.json, which says what is in them.

Needs numpy, ml_dtypes and safetensors:
    pip install numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0
"""

import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
TYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}
index = []


def elements(name):
    """(3, 2): exact in every type, negative where the type has signs, and its extremes."""
    if name == "bool":
        values = [1, 0, 0, 1, 1, 0]
    elif name == "uint8":
        values = [0, 1, 2, 128, 254, 255]
    elif name.startswith("int"):
        info = np.iinfo(TYPES[name])
        values = [0, 1, -1, 100, info.min, info.max]
    else:
        values = [0.0, 1.0, -1.5, 0.0078125, -240.0, np.inf]
    return np.array(values).astype(TYPES[name]).reshape(3, 2)


def entry(file, array, data_type, tensor=None):
    # As integers where they are, so that 2^63 - 1 stays exact; infinity is not JSON.
    flat = [x.item() if hasattr(x, "item") else x for x in array.reshape(-1)]
    values = ["Infinity" if x == np.inf else float(x) if data_type.endswith(("16", "32", "64"))
              and "int" not in data_type else int(x) for x in flat]
    index.append({"file": file, "tensor": tensor, "data_type": data_type,
                  "shape": list(array.shape), "values": values})


def npy(file, array, data_type, version=(1, 0)):
    with open(HERE / file, "wb") as handle:
        np.lib.format.write_array(handle, array, version=version)
    array = np.ascontiguousarray(array).reshape(array.shape)
    entry(file, array, data_type)


def refused(file, array):
    with open(HERE / file, "wb") as handle:
        np.lib.format.write_array(handle, array, version=(1, 0))


tensors = {}
for name in TYPES:
    npy(f"{name}.npy", elements(name), name)
    tensors[name] = elements(name)
npy("version2.npy", elements("float32"), "float32", (2, 0))
npy("version3.npy", elements("int64"), "int64", (3, 0))
npy("scalar.npy", np.array(2.5, np.float64), "float64")
npy("vector.npy", np.arange(5, dtype=np.int32), "int32")
npy("rank4.npy", np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4), "float32")
npy("empty.npy", np.zeros((0, 10), np.float32), "float32")
npy("empty_rows.npy", np.zeros((3, 0, 2), np.int64), "int64")

# In another order than lossd's: written back they are row-major and little-endian.
for name in TYPES:
    npy(f"order_fortran_{name}.npy", np.asfortranarray(elements(name)), name)
    if name in ("float32", "float64", "float16", "int64", "int32", "int16"):
        code = ">" + np.dtype(TYPES[name]).str[1:]
        npy(f"order_big_{name}.npy", elements(name).astype(code), name)
        npy(f"order_both_{name}.npy", np.asfortranarray(elements(name).astype(code)), name)
npy("order_fortran_rank4.npy", np.asfortranarray(np.arange(120, dtype=np.float32).reshape(5, 2, 3, 4)), "float32")
npy("order_fortran_column.npy", np.asfortranarray(np.arange(3, dtype=np.int16).reshape(3, 1)), "int16")
npy("order_big_scalar.npy", np.array(2.5, ">f8"), "float64")
npy("order_big_empty.npy", np.asfortranarray(np.zeros((0, 3), ">f4")), "float32")


def spelled(file, array, data_type, descriptor, fortran=False):
    """numpy reads headers that it does not write itself."""
    text = f"{{'descr': '{descriptor}', 'fortran_order': {fortran}, 'shape': {array.shape}, }}".encode()
    text += b" " * (64 - (10 + len(text) + 1) % 64) + b"\n"
    data = array.tobytes("F" if fortran else "C")
    (HERE / file).write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    assert np.array_equal(np.load(HERE / file), array)
    entry(file, array, data_type)


for index_, (name, descriptor) in enumerate([
        ("uint8", "<u1"), ("uint8", ">u1"), ("int8", "<i1"), ("int8", "=i1"), ("bool", "<b1"), ("bool", "?"),
        ("float32", "=f4"), ("int64", "i8"), ("float64", "|f8")]):
    spelled(f"order_spelled{index_}_{name}.npy", elements(name), name, descriptor, fortran=index_ % 2 == 1)
spelled("order_spelled_vector.npy", np.arange(4, dtype=np.float32), "float32", "<f4", fortran=True)
spelled("order_spelled_scalar.npy", np.array(7, np.int32), "int32", "<i4", fortran=True)

refused("refused_object.npy", np.array([None, 1], object))
refused("refused_structured.npy", np.zeros(2, [("a", "<f4"), ("b", "<i8")]))
refused("refused_complex.npy", np.zeros(2, np.complex64))
refused("refused_unsigned.npy", np.zeros(2, np.uint32))
np.savez(HERE / "refused_archive.npz", a=np.zeros(2, np.float32))

tensors["scalar"] = np.array(-3, np.int8)
tensors["empty"] = np.zeros((0, 7), np.float64)
tensors['name with "quotes", \\ and \u00e9\U0001f600\n'] = np.arange(3, dtype=np.uint8)
tensors["unsupported"] = np.arange(3, dtype=np.uint32)
save_file(tensors, HERE / "every.safetensors", metadata={"format": "np", "by": "make_golden.py"})
for name, array in tensors.items():
    if name != "unsupported":
        data_type = name if name in TYPES else {"empty": "float64", "scalar": "int8"}.get(name, "uint8")
        entry("every.safetensors", array, data_type, name)
save_file({"logits": elements("float16")}, HERE / "single.safetensors")
entry("single.safetensors", elements("float16"), "float16")
save_file({}, HERE / "none.safetensors")

(HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")
