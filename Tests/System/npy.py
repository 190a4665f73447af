""".npy files without numpy, for tests."""

import ast
import math
import pathlib
import struct

CODES = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "bfloat16": "<V2", "int64": "<i8", "int32": "<i4",
         "uint8": "|u1", "bool": "|b1"}
FORMATS = {"float32": "f", "float64": "d", "float16": "e", "int64": "q", "int32": "i", "uint8": "B", "bool": "B"}


def pack(values, data_type):
    if data_type == "bfloat16":
        # Cut off, which is exact for values of 8 bits.
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{FORMATS[data_type]}", *values)


def unpack(data, data_type):
    if data_type == "bfloat16":
        return [struct.unpack("<f", b"\0\0" + data[at:at + 2])[0] for at in range(0, len(data), 2)]
    code = FORMATS[data_type]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))


def header(code, shape, fortran=False):
    text = f"{{'descr': '{code}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}".encode()
    text += b" " * (64 - (10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write(path, values, shape, data_type):
    values = list(values)
    assert len(values) == math.prod(shape), (len(values), shape)
    pathlib.Path(path).write_bytes(header(CODES[data_type], shape) + pack(values, data_type))
    return str(path)


def read(path):
    """Type, shape and values."""
    data = pathlib.Path(path).read_bytes()
    end = 10 + int.from_bytes(data[8:10], "little")
    fields = ast.literal_eval(data[10:end].decode())
    data_type = {code: name for name, code in CODES.items()}[fields["descr"]]
    return data_type, list(fields["shape"]), unpack(data[end:], data_type)
