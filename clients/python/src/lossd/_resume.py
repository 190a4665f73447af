"""What of a stream the next daemon has to know when one is shut down: without I/O, for both clients."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Union

from . import _wire as wire
from ._evaluation import Evaluation
from ._shm import Lease
from ._wire import Arrays
from .errors import Internal


class Item:
    """A request of a stream."""

    def __init__(self, inputs: Arrays, id: int, is_batch: bool):
        self.inputs = inputs
        self.id = id
        #: It brings an input that does not stay, and so gets an answer.
        self.is_batch = is_batch
        #: Shared memory that it uses while it is under way.
        self.lease: Optional[Lease] = None

    def end_lease(self, is_safe: bool) -> None:
        if self.lease is not None:
            self.lease.end(is_safe)
            self.lease = None


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
        self._carried: Optional[Summary] = None
        self.answered_here = 0

    def item(self, inputs: Mapping[str, Any], id: int) -> Item:
        """InvalidArgument where something is no array: nothing has been sent then."""
        present = wire.arrays(inputs)
        return Item(present, id, any(name not in self.kept_names for name in present))

    def evaluation(self, item: Item, is_first: bool) -> Evaluation:
        """The item as a request; the first one of a call names the function."""
        if is_first:
            return Evaluation(self.function, {}, self.attributes, self.outputs, item.id, item.inputs)
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
                self.answered_here += 1
                return item

    def check(self, summary: Summary, is_last: bool, is_finished: bool) -> Optional[Summary]:
        """What the whole stream came to, when this is its end; None when a daemon says how far it came. Internal
        where it does not go with what was answered."""
        if summary.batches != self.answered_here:
            raise Internal(f"the daemon's summary is of {summary.batches} batches, it has answered "
                           f"{self.answered_here}")
        if not is_last:
            return None
        if not is_finished or self.has_unanswered:
            raise Internal("the daemon ended the stream before all batches were answered")
        self.end_leases()
        return self.total(summary)

    @property
    def has_unanswered(self) -> bool:
        return any(item.is_batch for item in self._unanswered)

    def end_leases(self) -> None:
        """The call has ended; the daemon may still be at the memory of what it has not answered."""
        for item in list(self._unanswered):
            item.end_lease(is_safe=False)

    def again(self) -> List[Item]:
        """What a new call begins with: the inputs that stay, and every request without an answer."""
        self.answered_here = 0
        kept = [Item(dict(self._kept), 0, False)] if self._kept else []
        return kept + list(self._unanswered)

    def carry(self, summary: Optional[Summary]) -> None:
        """A daemon that is shut down had come so far."""
        if summary is not None:
            self._carried = self._added(summary)

    def total(self, summary: Summary) -> Summary:
        """Of all daemons together, `summary` being the last one's."""
        if self._carried is None:
            return summary
        total = self._added(summary)
        if "loss" in summary.values and "loss_sum" in total.state:
            # A daemon's own value is that of its part.
            is_sum = self.attributes.get("reduction") == "sum"
            weight = 1.0 if is_sum else total.state.get("weight_sum", float("nan"))
            total.values["loss"] = total.state["loss_sum"] / weight if weight else float("nan")
        return total

    def _added(self, summary: Summary) -> Summary:
        carried = self._carried
        if carried is None:
            return summary
        names: Iterable[str] = {**carried.state, **summary.state}
        state = {name: carried.state.get(name, 0.0) + summary.state.get(name, 0.0) for name in names}
        return Summary(carried.batches + summary.batches, carried.rows + summary.rows, {}, state)
