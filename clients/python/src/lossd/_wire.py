"""Frames and tensors, to and from bytes: no I/O here. docs/protocol.md says how they look."""

from __future__ import annotations

import struct
import sys
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from . import _schema
from .errors import InvalidArgument

PREFACE = b"LOSSD/1\n"
HELLO, OPEN, MESSAGE, STATUS, CANCEL, CREDIT, PING, GOAWAY = range(1, 9)
END_STREAM, ACK = 1, 2
HEADER = struct.Struct("<IIIBBH")
PAYLOAD_MAX = 2**32 - 1
SOFTWARE = "lossd-python/0.1.0"

Hello = _schema.message("Hello")
Open = _schema.message("Open")
Status = _schema.message("Status")
Credit = _schema.message("Credit")
GoAway = _schema.message("GoAway")
EvaluateRequest = _schema.message("EvaluateRequest")
EvaluateResponse = _schema.message("EvaluateResponse")
ListFunctionsRequest = _schema.message("ListFunctionsRequest")
ListFunctionsResponse = _schema.message("ListFunctionsResponse")
GetStatusResponse = _schema.message("GetStatusResponse")

EVALUATE = "/lossd.v1.Evaluator/Evaluate"
EVALUATE_STREAM = "/lossd.v1.Evaluator/EvaluateStream"
LIST_FUNCTIONS = "/lossd.v1.Evaluator/ListFunctions"
GET_STATUS = "/lossd.v1.Daemon/GetStatus"

_NUMBERS = {
    "float32": 1, "float64": 2, "float16": 3, "bfloat16": 4, "int64": 5, "int32": 6, "int16": 7,
    "int8": 8, "uint8": 9, "bool": 10,
}
_NAMES = {number: name for name, number in _NUMBERS.items()}
_ZEROS = bytes(64)


class BFloat16Array:
    """bfloat16 elements as their 16 bits, for who has no ml_dtypes: `bits` is a uint16 array."""

    def __init__(self, bits: np.ndarray):
        # Not ascontiguousarray, which makes a scalar an array of one.
        self.bits = np.asarray(bits, dtype=np.uint16, order="C")
        self.shape = self.bits.shape


def frame(kind: int, stream: int = 0, message: bytes = b"", payload_length: int = 0,
          flags: int = 0) -> bytes:
    return HEADER.pack(payload_length, len(message), stream, kind, flags, 0) + message


def hello() -> bytes:
    return PREFACE + frame(HELLO, 0, Hello(software=SOFTWARE).SerializeToString())


def open_call(stream: int, method: str, timeout: Optional[float], credit: int = 0) -> bytes:
    microseconds = 0 if timeout is None else max(1, min(int(timeout * 1e6), 10**15))
    return frame(OPEN, stream, Open(
        method=method, timeout_us=microseconds, credit=credit).SerializeToString())


def to_array(value: Any, name: str) -> Tuple[np.ndarray, str]:
    """An array of one of the wire's types, row-major and little-endian, and the type's name."""
    if isinstance(value, BFloat16Array):
        return value.bits, "bfloat16"
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            value = np.from_dlpack(value)
        else:
            value = np.asarray(value)
    kind = value.dtype.name
    if kind not in _NUMBERS:
        raise InvalidArgument(
            f"{name}: the type is {value.dtype}, expected one of {', '.join(_NUMBERS)}")
    if value.dtype.byteorder == ">" or (value.dtype.byteorder == "=" and sys.byteorder == "big"):
        value = value.astype(value.dtype.newbyteorder("<"))
    # ascontiguousarray makes a scalar an array of one.
    if not value.flags["C_CONTIGUOUS"]:
        value = np.ascontiguousarray(value)
    return value, kind


def from_payload(tensor, payload: memoryview) -> Any:
    """The array of a response's tensor, sharing the payload's memory."""
    name = _NAMES[tensor.data_type]
    data: Any = tensor.data
    if tensor.HasField("payload"):
        begin = tensor.payload.offset
        data = payload[begin:begin + tensor.payload.length]
    shape = tuple(tensor.shape)
    if name == "bfloat16":
        bits = np.frombuffer(data, dtype="<u2").reshape(shape)
        try:
            import ml_dtypes
        except ImportError:
            return BFloat16Array(bits)
        return bits.view(ml_dtypes.bfloat16)
    return np.frombuffer(data, dtype=np.dtype(name).newbyteorder("<")).reshape(shape)


def _value(message, value: Any, name: str) -> None:
    if isinstance(value, (bool, np.bool_)):
        message.bool_value = bool(value)
    elif isinstance(value, (int, np.integer)):
        message.int_value = int(value)
    elif isinstance(value, (float, np.floating)):
        message.float_value = float(value)
    elif isinstance(value, str):
        message.string_value = value
    else:
        raise InvalidArgument(
            f"attribute {name}: {type(value).__name__}, expected bool, int, float or str")


def request(function: str, inputs: Dict[str, Any], attributes: Optional[Dict[str, Any]],
            outputs: Sequence[str], id: int) -> Tuple[bytes, List[Any], int]:
    """An EvaluateRequest's message, the parts of its payload, and the payload's length."""
    message = EvaluateRequest(function=function, id=id)
    parts: List[Any] = []
    length = 0
    for name, value in inputs.items():
        if value is None:
            continue
        array, kind = to_array(value, name)
        gap = -length % 64
        if gap:
            parts.append(_ZEROS[:gap])
            length += gap
        tensor = message.inputs.add(name=name, data_type=_NUMBERS[kind])
        tensor.shape.extend(array.shape)
        tensor.payload.offset = length
        tensor.payload.length = array.nbytes
        if array.nbytes:
            parts.append(memoryview(array.reshape(-1).view(np.uint8)))
        length += array.nbytes
    for name, value in (attributes or {}).items():
        if value is not None:
            _value(message.attributes[name], value, name)
    for name in outputs:
        message.outputs.add(name=name)
    return message.SerializeToString(), parts, length


def response(message: bytes, payload: memoryview) -> Tuple[int, Dict[str, Any], Any]:
    """The id, the arrays by name, and the Summary or None, of an EvaluateResponse."""
    decoded = EvaluateResponse.FromString(message)
    arrays = {item.name: from_payload(item, payload) for item in decoded.outputs}
    return decoded.id, arrays, decoded.summary if decoded.HasField("summary") else None


def parse_address(text: str) -> Tuple[str, Any]:
    """('unix', path) or ('tcp', (host, port))."""
    if text.startswith("unix:") and len(text) > 5:
        return "unix", text[5:]
    if text.startswith("tcp:"):
        rest = text[4:]
        if rest.startswith("["):
            host, _, port = rest[1:].partition("]")
            port = port.lstrip(":")
        else:
            host, _, port = rest.partition(":")
        if host and (not port or port.isdigit()):
            return "tcp", (host, int(port or 5677))
    raise ValueError(f"address {text!r}: expected unix:PATH or tcp:HOST:PORT")


def join(parts: Iterable[Any]) -> bytes:
    return b"".join(parts)
