"""An evaluation as a request: its tensors go by the socket, or lie in shared memory."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import _shm, _wire as wire
from ._shm import Lease, Pool
from .errors import InvalidArgument


class Plan(NamedTuple):
    """Which tensors of an evaluation are to lie in shared memory."""
    #: Inputs that lie there already: region and offset, and what keeps them there.
    places: Dict[str, Tuple[int, int]]
    borrowed: List[np.ndarray]
    #: Those that are to be copied to a segment of `size` bytes, and where in it.
    copied: List[Tuple[str, np.ndarray, int]]
    size: int
    #: Results that are to go there, and their bytes.
    expected: Dict[str, int]


class Evaluation:
    """What an evaluation asks for: as a request whose tensors go by the socket, or lie in shared memory."""

    def __init__(self, function: str, inputs: Mapping[str, Any], attributes: Optional[Mapping[str, Any]],
                 outputs: Union[str, Sequence[str]], id: int,
                 arrays: Optional[wire.Arrays] = None, defaults: Mapping[str, Sequence[str]] = {},
                 summaries: Sequence[Any] = ()):
        """`arrays`: the inputs, where they have been made arrays before. `defaults`: the results that functions are
        thought to give, by function, where no outputs are named. `summaries`: those that a stream goes on from."""
        if not isinstance(function, str):
            raise InvalidArgument(f"function is {function!r}, expected a function's name")
        if attributes is not None and not hasattr(attributes, "items"):
            raise InvalidArgument(f"attributes is {type(attributes).__name__}, expected a dict of values by name")
        self.arrays = wire.arrays(inputs) if arrays is None else arrays
        self.function = function
        self.attributes = attributes
        self.outputs = wire.names(outputs)
        self._results = self.outputs or tuple(defaults.get(function, ()))
        self.id = id
        self._summaries = summaries
        self._plain: Optional[wire.Request] = None
        self.bytes = sum(array.nbytes for array, _ in self.arrays.values())

    @property
    def is_big(self) -> bool:
        """Whether shared memory may be worth it."""
        return self.bytes >= _shm.THRESHOLD

    def plain(self) -> wire.Request:
        if self._plain is None:
            self._plain = wire.request(self.function, self.arrays, self.attributes, self.outputs, self.id,
                                       summaries=self._summaries)
        return self._plain

    def expected(self) -> Dict[str, int]:
        """Bytes of those results that are big, and whose size is thought to be known: a gradient is like its input, and
        `output` is like `input` unless the request asks for another type. The daemon refuses a place of another size,
        and the request is then sent again without places."""
        found: Dict[str, int] = {}
        for name in self._results:
            like = name[len("grad."):] if name.startswith("grad.") else None
            if name == "output" and not (self.attributes or {}).get("dtype"):
                like = "input"
            array, kind = self.arrays.get(like or "", (None, ""))
            if array is not None and kind in ("float32", "float64", "float16", "bfloat16") and (
                    array.nbytes >= _shm.THRESHOLD):
                found[name] = array.nbytes
        return found

    def plan(self, pool: Pool, has_results: bool) -> Optional[Plan]:
        """What is to lie in shared memory; None where that is not worth it."""
        expected = self.expected() if has_results else {}
        if self.bytes < _shm.THRESHOLD and not expected:
            return None
        plan = Plan({}, [], [], 0, expected)
        size = 0
        for name, (array, _) in self.arrays.items():
            found = pool.find(array)
            if found is not None:
                plan.places[name] = (found[0].number, found[1])
                plan.borrowed.append(found[2])
            elif self.bytes >= _shm.THRESHOLD:
                size = (size + 63) // 64 * 64
                plan.copied.append((name, array, size))
                size += array.nbytes
        if size < _shm.THRESHOLD:
            plan.copied.clear()
            size = 0
        return plan._replace(size=size)

    def shared(self, plan: Plan, lease: Lease) -> Optional[wire.Request]:
        """The request with its tensors where the plan says, in the lease's segments; None where nothing is."""
        lease.borrowed.extend(plan.borrowed)
        places = dict(plan.places)
        for name, array, offset in plan.copied:
            segment = lease.own[0]
            target = np.frombuffer(segment.map, array.dtype, array.size, offset)
            np.copyto(target.reshape(array.shape), array)
            places[name] = (segment.number, offset)
        into = {name: (segment.number, 0, plan.expected[name]) for name, segment in lease.results.items()}
        if not places and not into:
            return None
        outputs = self._results if into else self.outputs
        return wire.request(self.function, self.arrays, self.attributes, outputs, self.id, places, into, self._summaries)
