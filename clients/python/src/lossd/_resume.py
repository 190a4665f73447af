"""What of a stream the next daemon has to know when one is shut down: without I/O, for both clients."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, FrozenSet, List, Mapping, Optional, Sequence, Union

import numpy as np

from . import _wire as wire
from ._evaluation import Evaluation
from ._messages import FunctionDescription
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
        activations, and where several daemons evaluated the stream of a function that declares no reduction."""
        return self.values["loss"]

    def __repr__(self) -> str:
        return (f"Summary(batches={self.batches}, rows={self.rows}, values={self.values}, "
                f"state={self.state})")


class SummaryRule:
    """How the Summary of a data set follows from the Summaries of its parts, which several daemons evaluated: by what
    the function declares, never by its name.

    A function that declares a reduction has the sums loss_sum and weight_sum, which add up, and its value is loss_sum,
    or loss_sum over weight_sum for a mean. Of other functions nothing is known: a plugin may merge its sums in a way of
    its own. Their total has counts alone, since no number is better than a wrong one.
    """

    #: The sums that a declared reduction has.
    SUMS = ("loss_sum", "weight_sum")

    def __init__(self, description: Optional[FunctionDescription], attributes: Mapping[str, Any]):
        declared = [item for item in description.attributes if item.role == "reduction"] if description else []
        #: "none", "mean" or "sum"; None: the function declares no reduction.
        self.reduction: Optional[str] = None
        if declared:
            given = attributes.get(declared[0].name)
            self.reduction = str(declared[0].default.string_value if given is None else given)

    def added(self, first: Summary, second: Summary) -> Summary:
        """Both parts together, without a value unless one of them is of no batch."""
        if first.batches == 0:
            return second
        if second.batches == 0:
            return first
        state = {}
        if self.reduction is not None:
            for name in self.SUMS:
                parts = [part.state[name] for part in (first, second) if name in part.state]
                if parts:
                    state[name] = sum(parts[1:], parts[0])
        return Summary(first.batches + second.batches, first.rows + second.rows, {}, state)

    def valued(self, total: Summary, last: Summary) -> Summary:
        """`total` with the value of the whole data set, where `last`, the last part, has one of its own."""
        if len(last.values) != 1 or "loss_sum" not in total.state:
            return total
        (name,) = last.values
        if self.reduction == "sum":
            total.values[name] = total.state["loss_sum"]
        elif self.reduction == "mean" and "weight_sum" in total.state:
            with np.errstate(all="ignore"):
                total.values[name] = float(np.float64(total.state["loss_sum"]) / np.float64(total.state["weight_sum"]))
        return total


class Progress:
    """Function, attributes, outputs, the inputs that stay, and the requests that have no answer yet."""

    def __init__(self, function: str, attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]]):
        Evaluation(function, {}, attributes, outputs, 0).plain()  # InvalidArgument now, and not with the first batch
        self.function = function
        self.attributes = dict(attributes or {})
        self.outputs = wire.names(outputs)
        #: Names of inputs that stay, and how sums add up; known once the daemon has been asked.
        self.kept_names: FrozenSet[str] = frozenset()
        self.rule = SummaryRule(None, self.attributes)
        self._kept: Arrays = {}
        self._unanswered: Deque[Item] = deque()
        self._carried: Optional[Summary] = None
        self.answered_here = 0

    def describe(self, description: FunctionDescription) -> None:
        """What the daemon says of the function."""
        self.kept_names = frozenset(item.name for item in description.inputs if item.kept)
        self.rule = SummaryRule(description, self.attributes)

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
            self._carried = summary if self._carried is None else self.rule.added(self._carried, summary)

    def total(self, summary: Summary) -> Summary:
        """Of all daemons together, `summary` being the last one's."""
        if self._carried is None:
            return summary
        return self.rule.valued(self.rule.added(self._carried, summary), summary)
