"""Memory that a client shares with its daemon, so that big tensors cross no socket.

A segment is a memfd. The daemon maps it once for each connection (REGION) and reads inputs, and writes results, right
there. Segments are used again and again, since new pages cost more than copying into old ones.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import queue
import sys
import threading
import weakref
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np

from ._frames import BadFrame

#: Tensors of a request, or a result, of fewer bytes go by the socket.
THRESHOLD = 256 << 10
#: Bytes of segments that a client has at most; beyond, tensors go by the socket.
TOTAL_MAX = 1 << 30
#: A segment of so many bytes is made whatever there is: the daemon says whether it takes the region.
ALONE = 256 << 20
#: Bytes of segments that nobody uses which it keeps.
IDLE_MAX = 512 << 20
#: The daemon takes 256 for each connection.
SEGMENTS_MAX = 200

_ADD_SEALS, _SEAL_SHRINK = 1033, 2
IS_THERE = hasattr(os, "memfd_create")
_numbers = itertools.count(1)
#: How often this process has forked: what a child may still see is not written to again.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_parent=_forked, after_in_child=_forked)


class Segment:
    """A memfd, of pages that have been used before or are still to come."""

    def __init__(self, size: int):
        #: Its number among all of this process: that of the region on every connection.
        self.number = next(_numbers)
        self.size = size
        self.forks = _forks
        self.fd = os.memfd_create("lossd", os.MFD_CLOEXEC | getattr(os, "MFD_ALLOW_SEALING", 2))
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, _ADD_SEALS, _SEAL_SHRINK)
            # Inputs are written here.
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def __del__(self) -> None:
        if hasattr(self, "map"):
            os.close(self.fd)

    def private(self) -> mmap.mmap:
        """Its memory as a result's: what is written to it stays with who writes, also after a fork."""
        return mmap.mmap(self.fd, self.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _rounded(size: int) -> int:
    """Sizes in steps of an eighth, so that a segment fits again when shapes change a little."""
    step = max(1 << 16, 1 << max(size.bit_length() - 4, 0))
    return (size + step - 1) // step * step


class Pool:
    """The segments of one client in one process. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: Dict[int, Segment] = {}
        self._idle: List[Segment] = []
        self._total = 0
        self._is_closed = False
        # Given back by finalizers, which may run anywhere, also where the lock is held.
        self._returned: "queue.SimpleQueue[Segment]" = queue.SimpleQueue()
        #: Arrays made by `empty`: where they are, and their segments.
        self._visible: Dict[int, Tuple[int, Segment]] = {}

    def take(self, size: int) -> Optional[Segment]:
        """A segment of at least so many bytes for one's own; None where there is none to be had."""
        size = _rounded(size)
        with self._lock:
            self._settle()
            best: Optional[Segment] = None
            for segment in self._idle:
                if segment.size >= size and (best is None or segment.size < best.size):
                    best = segment
            if best is not None and best.size <= 2 * size:
                self._idle.remove(best)
                best.forks = _forks
                return best
            most = TOTAL_MAX if size < ALONE else sys.maxsize
            while self._idle and (self._total + size > TOTAL_MAX or len(self._all) >= SEGMENTS_MAX):
                self._drop(self._idle.pop(0))
            if self._is_closed or self._total + size > most or len(self._all) >= SEGMENTS_MAX:
                return None
            try:
                segment = Segment(size)
            except OSError:
                return None
            self._all[segment.number] = segment
            self._total += size
            return segment

    def give_back(self, segment: Segment) -> None:
        """Nobody uses it any more, nor does the daemon. Also from finalizers."""
        if not self._is_closed:
            self._returned.put(segment)

    def discard(self, segment: Segment) -> None:
        """Not to be used again: the daemon may still be at it."""
        with self._lock:
            self._drop(segment)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._settle()
            self._all.clear()  # what is still in use goes with its arrays

    def numbers(self) -> Set[int]:
        """Of the segments that there are: others' regions can be given back."""
        with self._lock:
            return set(self._all)

    def _settle(self) -> None:
        while not self._returned.empty():
            segment = self._returned.get()
            if segment.number not in self._all:
                continue
            if self._is_closed or segment.forks != _forks:
                self._drop(segment)
            else:
                self._idle.append(segment)
        while sum(segment.size for segment in self._idle) > (0 if self._is_closed else IDLE_MAX):
            self._drop(self._idle.pop(0))

    def _drop(self, segment: Segment) -> None:
        if self._all.pop(segment.number, None) is not None:
            self._total -= segment.size

    # ---- Arrays of the caller's

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array in memory that is shared, or an ordinary one where there is none to be had."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        segment = self.take(size) if IS_THERE and size else None
        if segment is None:
            return np.empty(shape, dtype)
        root = np.frombuffer(segment.map, np.uint8, size)
        number = segment.number
        self._visible[number] = (address_of(root), segment)
        finalizer = weakref.finalize(root, self._return_visible, number)
        finalizer.atexit = False
        array: np.ndarray = root.view(dtype).reshape(shape)
        return array

    def _return_visible(self, number: int) -> None:
        found = self._visible.pop(number, None)
        if found is not None:
            self.give_back(found[1])

    def find(self, array: np.ndarray) -> Optional[Tuple[Segment, int]]:
        """The segment that the array lies in, and its offset there; None: it does not, or not as the daemon wants."""
        address = address_of(array)
        for base, segment in list(self._visible.values()):
            offset = address - base
            if 0 <= offset <= segment.size - array.nbytes and offset % 64 == 0:
                return segment, offset
        return None


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Regions:
    """The segments that one connection's daemon knows. Its connection's lock guards it."""

    def __init__(self) -> None:
        self._known: Dict[int, bool] = {}  # number: answered
        self._sizes: Dict[int, int] = {}
        self._refused = float("inf")  # bytes from which on the daemon wants none

    def begin(self, segment: Segment) -> bool:
        """Whether it is to be sent."""
        if segment.number in self._known or segment.size >= self._refused:
            return False
        self._known[segment.number] = False
        self._sizes[segment.number] = segment.size
        return True

    def answered(self, number: int, is_taken: bool) -> None:
        if number not in self._known:
            raise BadFrame("an answer to a REGION that was not sent")
        if is_taken:
            self._known[number] = True
        else:
            del self._known[number]
            self._refused = min(self._refused, self._sizes.pop(number))

    def forget(self, segment: Segment) -> None:
        """It was not sent."""
        self._known.pop(segment.number, None)
        self._sizes.pop(segment.number, None)

    def is_pending(self, segment: Segment) -> bool:
        return not self._known.get(segment.number, True)

    def is_known(self, segment: Segment) -> bool:
        return self._known.get(segment.number, False)

    def take_dropped(self, pool: Pool) -> List[int]:
        """Numbers of those that the pool has no more: they are to be given back."""
        there = pool.numbers()
        dropped = [number for number, is_taken in self._known.items() if is_taken and number not in there]
        for number in dropped:
            del self._known[number]
            del self._sizes[number]
        return dropped

    def fail(self) -> None:
        self._known.clear()


class Lease:
    """The segments of one call: of its inputs until the daemon has ended it, of its results until the arrays go."""

    def __init__(self, pool: Pool):
        self._pool = pool
        #: Used by the call and nobody else afterwards.
        self.own: List[Segment] = []
        #: Result by name: its segment, data type, shape and bytes.
        self.results: Dict[str, Segment] = {}
        #: Kept alive: arrays that lie in segments of their own.
        self.borrowed: List[Any] = []

    def segments(self) -> List[Segment]:
        return [*self.own, *self.results.values(), *self.borrowed]

    def array(self, tensor: Any, shape: Tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The result's array. Its segment is its own from here on."""
        segment = self.results[tensor.name]
        place = tensor.shared
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if place.region != segment.number or place.offset != 0 or place.length != size or size > segment.size:
            raise ValueError(f"{tensor.name} is not where it was asked for")
        del self.results[tensor.name]
        root = np.frombuffer(segment.private(), np.uint8, size)
        finalizer = weakref.finalize(root, self._pool.give_back, segment)
        finalizer.atexit = False
        array: np.ndarray = root.view(dtype).reshape(shape)
        return array

    def end(self, is_safe: bool) -> None:
        """The call is over. `is_safe`: the daemon has said so, and touches nothing any more."""
        for segment in [*self.own, *self.results.values()]:
            (self._pool.give_back if is_safe else self._pool.discard)(segment)
        self.own.clear()
        self.results.clear()
        self.borrowed.clear()
