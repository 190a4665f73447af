"""What arguments may be, as lossd._core takes it."""

from __future__ import annotations

import sys
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import numpy as np

from .errors import InvalidArgument, LossdError

_NUMBERS = {
    "float32": 1, "float64": 2, "float16": 3, "bfloat16": 4, "int64": 5, "int32": 6, "int16": 7,
    "int8": 8, "uint8": 9, "bool": 10,
}
_NAMES = {number: name for name, number in _NUMBERS.items()}


class BFloat16Array:
    """bfloat16 elements as their 16 bits, for who has no ml_dtypes: `bits` is a uint16 array."""

    def __init__(self, bits: np.ndarray):
        # Not ascontiguousarray, which makes a scalar an array of one.
        self.bits = np.asarray(bits, dtype=np.uint16, order="C")
        self.shape = self.bits.shape


def to_array(value: Any, name: str) -> Any:
    """An array of one of the wire's types, row-major and little-endian; bfloat16's bits come with the type's name."""
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
    return (value.view(np.uint16), kind) if kind == "bfloat16" else value


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


def arrays(inputs: Any) -> Dict[str, Any]:
    """Inputs as lossd._core takes them: arrays, or the bits of one and "bfloat16". None is one that is not there."""
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


def attributes(given: Optional[Mapping[str, Any]]) -> Dict[str, Union[bool, int, float, str]]:
    """Attributes as lossd._core takes them."""
    if given is not None and not hasattr(given, "items"):
        raise InvalidArgument(f"attributes is {type(given).__name__}, expected a dict of values by name")
    return {name: plain_value(value, name) for name, value in (given or {}).items()}


def function_name(given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidArgument(f"function is {given!r}, expected a function's name")
    return given


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
