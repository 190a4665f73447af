"""What of a stream the next daemon has to know when one is shut down: without I/O, for both clients."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union

from . import _wire as wire
from ._evaluation import Evaluation
from ._messages import FunctionDescription
from ._shm import Lease
from ._wire import Arrays
from .errors import Internal


class Summary:
    """What a stream came to: `batches`, `rows`, `values` (`loss`) and `state`, the sums behind it."""

    def __init__(self, batches: int, rows: int, values: Dict[str, float], state: Dict[str, float]):
        self.batches = batches
        self.rows = rows
        self.values = values
        self.state = state

    @classmethod
    def of(cls, message: Any) -> "Summary":
        return cls(message.batches, message.rows, dict(message.values), dict(message.state))

    @property
    def loss(self) -> float:
        """What one call over the whole data set would have returned; KeyError for reduction="none" and for
        activations."""
        return self.values["loss"]

    def __repr__(self) -> str:
        return (f"Summary(batches={self.batches}, rows={self.rows}, values={self.values}, "
                f"state={self.state})")


class Item:
    """A request of a stream; `summaries`: what parts of the data set came to before."""

    def __init__(self, inputs: Arrays, id: int, is_batch: bool, summaries: Sequence[Summary] = ()):
        self.inputs = inputs
        self.id = id
        self.summaries = summaries
        #: It brings an input that does not stay, and so gets an answer.
        self.is_batch = is_batch
        #: Shared memory that it uses while it is under way.
        self.lease: Optional[Lease] = None

    def end_lease(self, is_safe: bool) -> None:
        if self.lease is not None:
            self.lease.end(is_safe)
            self.lease = None


class Progress:
    """Function, attributes, outputs, the inputs that stay, and the requests that have no answer yet."""

    def __init__(self, function: str, attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]]):
        Evaluation(function, {}, attributes, outputs, 0).plain()  # InvalidArgument now, and not with the first batch
        self.function = function
        self.attributes = dict(attributes or {})
        self.outputs = wire.names(outputs)
        #: Names of inputs that stay; known once the daemon has been asked.
        self.kept_names: FrozenSet[str] = frozenset()
        self._kept: Arrays = {}
        self._unanswered: Deque[Item] = deque()
        #: What the stream had come to when the last daemon was shut down.
        self._carried: Tuple[Summary, ...] = ()
        self._answered_count = 0

    def describe(self, description: FunctionDescription) -> None:
        """What the daemon says of the function."""
        self.kept_names = frozenset(item.name for item in description.inputs if item.kept)

    def item(self, inputs: Mapping[str, Any], id: int) -> Item:
        """InvalidArgument where something is no array: nothing has been sent then."""
        present = wire.arrays(inputs)
        return Item(present, id, any(name not in self.kept_names for name in present))

    def evaluation(self, item: Item, is_first: bool) -> Evaluation:
        """The item as a request; the first one of a call names the function."""
        if is_first:
            return Evaluation(self.function, {}, self.attributes, self.outputs, item.id, item.inputs,
                              summaries=item.summaries)
        return Evaluation("", {}, None, (), item.id, item.inputs)

    def keep(self, item: Item) -> Item:
        """The item with all inputs that stay, its own among them."""
        self._kept.update({name: value for name, value in item.inputs.items() if name in self.kept_names})
        return Item({**self._kept, **item.inputs}, item.id, item.is_batch)

    def add(self, item: Item) -> None:
        """It is about to be sent."""
        self._unanswered.append(item)

    def answered(self) -> Item:
        """The oldest batch has its results: what was sent before it, and it, has been applied. IndexError:
        there is none."""
        while True:
            item = self._unanswered.popleft()
            item.end_lease(is_safe=True)
            self._kept.update({name: value for name, value in item.inputs.items() if name in self.kept_names})
            if item.is_batch:
                self._answered_count += 1
                return item

    def check(self, summary: Summary, is_last: bool, is_finished: bool) -> Optional[Summary]:
        """What the whole stream came to, when this is its end; None when a daemon says how far it came. Internal
        where it does not go with what was answered."""
        if summary.batches != self._answered_count:
            raise Internal(f"the daemon's summary is of {summary.batches} batches, {self._answered_count} have been "
                           "answered")
        if not is_last:
            return None
        if not is_finished or self.has_unanswered:
            raise Internal("the daemon ended the stream before all batches were answered")
        self.end_leases()
        return summary

    @property
    def has_unanswered(self) -> bool:
        return any(item.is_batch for item in self._unanswered)

    def end_leases(self) -> None:
        """The call has ended; the daemon may still be at the memory of what it has not answered."""
        for item in list(self._unanswered):
            item.end_lease(is_safe=False)

    def again(self) -> List[Item]:
        """What a new call begins with: how far the stream had come, the inputs that stay, and every request without
        an answer."""
        is_begun = bool(self._kept or self._carried)
        return [Item(dict(self._kept), 0, False, self._carried)] * is_begun + list(self._unanswered)

    def carry(self, summary: Optional[Summary]) -> None:
        """A daemon that is shut down had come so far with the whole stream."""
        if summary is not None:
            self._carried = (summary,)
