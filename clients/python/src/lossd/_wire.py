"""Frames and tensors, to and from bytes: no I/O here. docs/protocol.md says how they look."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import _schema
from ._frames import HEADER, HELLO, MESSAGE_MAX, OPEN, PAYLOAD_MAX
from ._version import __version__
from .errors import Internal, InvalidArgument, LossdError, ResourceExhausted

#: Of the system's daemon.
DEFAULT_ADDRESS = "unix:/run/lossd/lossd.sock"
#: Of a daemon of the user's own, which comes and goes.
PRIVATE_ADDRESS = "private:"
PREFACE = b"LOSSD/1\n"
SOFTWARE = f"lossd-python/{__version__}"
#: The feature of HELLO that brings REGION and RELEASE.
SHARED_MEMORY = "shm"

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
Region = _schema.message("Region")
RegionResult = _schema.message("RegionResult")

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
    message = Hello(software=SOFTWARE, max_message_bytes=MESSAGE_MAX, features=[SHARED_MEMORY])
    return PREFACE + frame(HELLO, 0, message.SerializeToString())


def region_frame(kind: int, number: int, length: int = 0) -> bytes:
    return frame(kind, 0, Region(region=number, length=length).SerializeToString())


def open_call(stream: int, method: str, timeout: Optional[float], credit: int = 0) -> bytes:
    microseconds = 0 if timeout is None else max(1, min(int(timeout * 1e6), 10**15))
    return frame(OPEN, stream, Open(
        method=method, timeout_us=microseconds, credit=credit).SerializeToString())


def to_array(value: Any, name: str) -> Tuple[np.ndarray, str]:
    """An array of one of the wire's types, row-major and little-endian, and the type's name."""
    if type(value) is not np.ndarray:
        value = _plain(value, name)
        if isinstance(value, BFloat16Array):
            return value.bits, "bfloat16"
    kind = value.dtype.name
    if kind not in _NUMBERS:
        raise InvalidArgument(
            f"{name}: the type is {value.dtype}, expected one of {', '.join(_NUMBERS)}: {_advice(value.dtype, name)}")
    if value.dtype.byteorder == ">" or (value.dtype.byteorder == "=" and sys.byteorder == "big"):
        value = value.astype(value.dtype.newbyteorder("<"))
    # ascontiguousarray makes a scalar an array of one.
    if not value.flags["C_CONTIGUOUS"]:
        value = np.ascontiguousarray(value)
    return value, kind


def _advice(dtype: np.dtype, name: str) -> str:
    if dtype.kind == "c":
        return f"take {name}.real and {name}.imag"
    if dtype.kind in "OSUV" and not dtype.name.startswith("float"):
        return "expected an array of numbers, with as many in each row"
    return f"{name}.astype(np.float32) makes one"


def _plain(value: Any, name: str) -> Any:
    """What is no plain array as one."""
    if isinstance(value, BFloat16Array):
        return value
    if isinstance(value, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(value).sum())
        if masked:
            raise InvalidArgument(
                f"{name}: {masked} elements are masked, and lossd knows no masks: give {name}.filled(number), with "
                "a weight of 0 or a target of ignore_index where they shall not count")
        return np.asarray(np.ma.getdata(value))
    if isinstance(value, np.ndarray):
        return np.asarray(value)  # np.matrix and others are arrays with ways of their own
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        from ._tensors import array
        tensor: Any = value
        if tensor.requires_grad:
            raise InvalidArgument(
                f"{name}: the tensor requires grad, which an array cannot: give {name}.detach(), or use lossd.torch")
        try:
            return array(tensor, name)
        except (RuntimeError, TypeError) as error:
            raise InvalidArgument(f"{name}: the tensor gives no array: {error}") from error
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            try:
                return np.asarray(np.from_dlpack(value))
            except (BufferError, RuntimeError, TypeError) as error:
                raise InvalidArgument(f"{name}: DLPack gives no array of the CPU: {error}") from error
        return np.asarray(value)
    except LossdError:
        raise
    except Exception as error:  # Whatever the object's own conversion raises.
        raise InvalidArgument(f"{name}: {type(value).__name__} gives no array: {error}") from error


def from_payload(tensor: Any, payload: memoryview, lease: Any) -> Any:
    """The array of a response's tensor, sharing the payload's memory, or in shared memory."""
    dtype = dtype_of(tensor.data_type)
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):  # to reshape -1 is "whatever is left"
        raise ValueError(f"{tensor.name} has the shape {shape}")
    if tensor.HasField("shared"):
        if lease is None or tensor.name not in lease.results:
            raise ValueError(f"{tensor.name} is in shared memory, which nobody asked for")
        array = lease.array(tensor, shape, dtype)
    else:
        data: Any = bytearray(tensor.data)
        if tensor.HasField("payload"):
            begin, length = tensor.payload.offset, tensor.payload.length
            if begin + length > len(payload):
                raise ValueError(f"{tensor.name} lies outside of the payload")
            data = payload[begin:begin + length]
        array = np.frombuffer(data, dtype).reshape(shape)
    return bfloat16(array) if _NAMES[tensor.data_type] == "bfloat16" else array


def dtype_of(number: int) -> Any:
    """numpy's data type for the wire's of that number; bfloat16's elements are their bits."""
    name = _NAMES[number]
    return np.dtype("<u2") if name == "bfloat16" else np.dtype(name).newbyteorder("<")


def bfloat16(bits: np.ndarray) -> Any:
    """The array of those elements."""
    try:
        import ml_dtypes
    except ImportError:
        return BFloat16Array(bits)
    return bits.view(ml_dtypes.bfloat16)


def plain_value(value: Any, name: str) -> Union[bool, int, float, str]:
    """An attribute's value as one of the wire's kinds."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a number of numpy's or of torch's
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -2**63 <= value < 2**63:
            raise InvalidArgument(f"attribute {name}: {value} is outside of int64")
        return int(value)
    if isinstance(value, float):
        return float(value)
    return value if isinstance(value, str) else _type_name(value, name)


def _set_value(message: Any, value: Any, name: str) -> None:
    value = plain_value(value, name)
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.float_value = value
    else:
        message.string_value = value


def _type_name(value: Any, name: str) -> str:
    """Of a data type of numpy's or torch's."""
    try:
        if isinstance(value, (type, np.dtype)):
            return str(np.dtype(value).name)
    except TypeError:
        pass
    kind = type(value)
    if (kind.__module__, kind.__name__) == ("torch", "dtype"):
        return str(value)[len("torch."):]
    raise InvalidArgument(
        f"attribute {name}: {kind.__name__} is not a bool, an int, a float, a str or a data type: leave the attribute "
        "out for its default" if value is None else
        f"attribute {name}: {kind.__name__} is not a bool, an int, a float, a str or a data type")


class Request(NamedTuple):
    message: bytes
    #: Of the payload, in order: arrays' memory, and zeros between.
    parts: List[Any]
    #: Of the payload, bytes.
    length: int

    def check(self, hello: Any) -> None:
        """Raises ResourceExhausted when it is over what the daemon's HELLO allows."""
        limit = min(hello.max_payload_bytes or PAYLOAD_MAX, PAYLOAD_MAX)
        if self.length > limit:
            setting = "the most that the protocol has" if limit == PAYLOAD_MAX else "limits.payload_bytes"
            raise ResourceExhausted(
                f"the tensors take {self.length} bytes, the daemon takes payloads up to {limit} ({setting}); shared "
                "memory has no such ceiling: on a Unix socket it serves while limits.connection_bytes has room")
        if hello.max_message_bytes and len(self.message) > hello.max_message_bytes:
            raise ResourceExhausted(
                f"the request's message takes {len(self.message)} bytes, the daemon takes "
                f"{hello.max_message_bytes} (limits.message_bytes)")


#: Tensor by name: what `to_array` gives.
Arrays = Dict[str, Tuple[np.ndarray, str]]


def arrays(inputs: Mapping[str, Any]) -> Arrays:
    """None is an input that is not there."""
    if not hasattr(inputs, "items"):
        raise InvalidArgument(f"inputs is {type(inputs).__name__}, expected a dict of arrays by name")
    return {name: to_array(value, name) for name, value in inputs.items() if value is not None}


def names(outputs: Any) -> Tuple[str, ...]:
    """Of results; a single one may come as it is."""
    found = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    for name in found:
        if not isinstance(name, str):
            raise InvalidArgument(f"outputs has {name!r}, expected names of results, such as \"loss\"")
    return found


def request(function: str, inputs: Arrays, attributes: Optional[Mapping[str, Any]], outputs: Sequence[str], id: int,
            places: Optional[Dict[str, Tuple[int, int]]] = None,
            into: Optional[Dict[str, Tuple[int, int, int]]] = None, summaries: Sequence[Any] = ()) -> Request:
    """An EvaluateRequest, its tensors borrowed. `places`: region and offset of inputs that lie in shared memory;
    `into`: region, offset and length of results that shall; `summaries`: those that a stream goes on from."""
    message = EvaluateRequest(function=function, id=id)
    parts: List[Any] = []
    length = 0
    for name, (array, kind) in inputs.items():
        tensor = message.inputs.add(name=name, data_type=_NUMBERS[kind])
        tensor.shape.extend(array.shape)
        if places is not None and name in places:
            tensor.shared.region, tensor.shared.offset = places[name]
            tensor.shared.length = array.nbytes
            continue
        gap = -length % 64
        if gap:
            parts.append(_ZEROS[:gap])
            length += gap
        tensor.payload.offset = length
        tensor.payload.length = array.nbytes
        if array.nbytes:
            parts.append(array.reshape(-1).view(np.uint8).data)
        length += array.nbytes
    for name, value in (attributes or {}).items():
        _set_value(message.attributes[name], value, name)
    for name in outputs:
        output = message.outputs.add(name=name)
        if into is not None and name in into:
            output.into.region, output.into.offset, output.into.length = into[name]
    for summary in summaries:
        message.summaries.add(batches=summary.batches, rows=summary.rows, state=summary.state)
    return Request(message.SerializeToString(), parts, length)


def decoded(kind: Any, message: bytes) -> Any:
    """A message of that class; Internal where the bytes are none."""
    try:
        return kind.FromString(message)
    except Exception as error:  # protobuf's own differ by version
        raise Internal(f"the daemon's answer does not decode: {error}") from error


def response(message: bytes, payload: memoryview, lease: Any = None) -> Tuple[int, Dict[str, Any], Any]:
    """The id, the arrays by name, and the Summary or None, of an EvaluateResponse. `lease`: where results in shared
    memory were asked for."""
    try:
        decoded = EvaluateResponse.FromString(message)
        arrays = {item.name: from_payload(item, payload, lease) for item in decoded.outputs}
    except Exception as error:  # What protobuf and numpy say to bytes that make no sense differs by version.
        raise Internal(f"the daemon's answer makes no sense: {error}") from error
    return decoded.id, arrays, decoded.summary if decoded.HasField("summary") else None


def parse_address(text: str) -> Tuple[str, Any]:
    """('unix', path), ('tcp', (host, port)) or ('private', None)."""
    if text == PRIVATE_ADDRESS:
        return "private", None
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
    raise ValueError(f"address {text!r}: expected unix:PATH, tcp:HOST:PORT or private:")
