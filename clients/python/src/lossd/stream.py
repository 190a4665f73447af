"""Streams for threads: a data set in batches, sent by one thread and taken by another, or by the same one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Union

from ._driver import run
from ._streams import Batches, RepeatedBatches, Summary
from .errors import Cancelled

if TYPE_CHECKING:
    from .client import Client


class Stream:
    """The evaluation of a data set. Iterating gives each batch's results by name, in order; `summary` is there
    after the last.

    When the daemon is shut down in between it says how far it came: the stream goes on with the next one at the
    same address, from the batch after, and adds the sums up, so that each batch counts once. One thread may send
    while another iterates. Whoever leaves before the end calls `cancel`, as a `with` block does.
    """

    def __init__(self, client: "Client", function: str, batches: Optional[Iterable[Mapping[str, Any]]],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]],
                 timeout: Optional[float], window: int):
        kind = RepeatedBatches if client.retry else Batches
        self._batches = kind(client, function, attributes, outputs, timeout, window)
        run(self._batches.open())
        if batches is not None:
            threading.Thread(target=self._send_all, args=(batches,), name="lossd-sender", daemon=True).start()

    @property
    def summary(self) -> Optional[Summary]:
        """Of the whole data set, once the last result has been taken."""
        return self._batches.summary

    def __enter__(self) -> "Stream":
        return self  # __enter__

    def __exit__(self, *_: Any) -> None:
        if self.summary is None:
            try:
                self.cancel()
            finally:  # What Ctrl-C did not let it do.
                self.cancel()

    def _send_all(self, batches: Iterable[Mapping[str, Any]]) -> None:
        try:
            for number, batch in enumerate(batches):
                self.send(batch, id=number)
            self.finish()
        except BaseException as error:
            self._batches.fail(error)

    def send(self, inputs: Mapping[str, Any], id: int = 0) -> None:
        """Sends a batch, or inputs that stay (weight, pos_weight) alone, which go with the next batch; waits while
        `window` batches are under way and while the daemon takes no more. Arrays must stay as they are until the batch's
        results have been taken, those of inputs that stay until the stream has ended."""
        run(self._batches.send(inputs, id))

    def finish(self) -> None:
        """No more batches."""
        run(self._batches.finish())

    def cancel(self) -> None:
        """Asks the daemon to stop; iterating then raises Cancelled."""
        self._batches.fail(Cancelled("the stream was cancelled"))

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return self

    def __next__(self) -> Dict[str, Any]:
        results = run(self._batches.next())
        if results is None:
            raise StopIteration
        return results
