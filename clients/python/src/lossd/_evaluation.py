"""An evaluation as a request: its tensors go by the socket, or lie in shared memory."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from . import _shm, _wire as wire
from ._shm import Lease, Pool
from .errors import InvalidArgument


class Evaluation:
    """What an evaluation asks for: as a request whose tensors go by the socket, or lie in shared memory."""

    def __init__(self, function: str, inputs: Mapping[str, Any], attributes: Optional[Mapping[str, Any]],
                 outputs: Union[str, Sequence[str]], id: int,
                 arrays: Optional[wire.Arrays] = None):
        """`arrays`: the inputs, where they have been made arrays before."""
        if not isinstance(function, str):
            raise InvalidArgument(f"function is {function!r}, expected a function's name")
        if attributes is not None and not hasattr(attributes, "items"):
            raise InvalidArgument(f"attributes is {type(attributes).__name__}, expected a dict of values by name")
        self.arrays = wire.arrays(inputs) if arrays is None else arrays
        self.function = function
        self.attributes = attributes
        self.outputs = wire.names(outputs)
        self.id = id
        self._plain: Optional[wire.Request] = None
        self.bytes = sum(array.nbytes for array, _ in self.arrays.values())

    @property
    def is_big(self) -> bool:
        """Whether shared memory may be worth it."""
        return self.bytes >= _shm.THRESHOLD

    def plain(self) -> wire.Request:
        if self._plain is None:
            self._plain = wire.request(self.function, self.arrays, self.attributes, self.outputs, self.id)
        return self._plain

    def expected(self) -> Dict[str, int]:
        """Bytes of those results that are big, and whose size is known: gradients are like their inputs, the
        activations' output is like theirs."""
        found: Dict[str, int] = {}
        for name in self.outputs:
            like = name[len("grad."):] if name.startswith("grad.") else None
            if name == "output" and self.function in ("sigmoid", "softmax", "log_softmax") and not (
                    self.attributes or {}).get("dtype"):
                like = "input"
            array, kind = self.arrays.get(like or "", (None, ""))
            if array is not None and kind in ("float32", "float64", "float16", "bfloat16") and (
                    array.nbytes >= _shm.THRESHOLD):
                found[name] = array.nbytes
        return found

    def lease(self, pool: Pool, has_results: bool) -> Optional[Tuple[wire.Request, Lease]]:
        """The request with its big tensors in shared memory; None where that is not worth it, or there is none."""
        expected = self.expected() if has_results else {}
        if not _shm.IS_THERE or (self.bytes < _shm.THRESHOLD and not expected):
            return None
        lease = Lease(pool)
        places: Dict[str, Tuple[int, int]] = {}
        copied: List[Tuple[str, np.ndarray, int]] = []
        size = 0
        for name, (array, _) in self.arrays.items():
            found = pool.find(array)
            if found is not None:
                places[name] = (found[0].number, found[1])
                lease.borrowed.append(found[0])
            elif self.bytes >= _shm.THRESHOLD:
                size = (size + 63) // 64 * 64
                copied.append((name, array, size))
                size += array.nbytes
        if size >= _shm.THRESHOLD:
            segment = pool.take(size)
            if segment is None:
                return None
            lease.own.append(segment)
            for name, array, offset in copied:
                target = np.frombuffer(segment.map, array.dtype, array.size, offset)
                np.copyto(target.reshape(array.shape), array)
                places[name] = (segment.number, offset)
        into: Dict[str, Tuple[int, int, int]] = {}
        for name, length in expected.items():
            result = pool.take(length)
            if result is not None:
                lease.results[name] = result
                into[name] = (result.number, 0, length)
        if not places and not into:
            return None
        request = wire.request(self.function, self.arrays, self.attributes, self.outputs, self.id, places, into)
        return request, lease
