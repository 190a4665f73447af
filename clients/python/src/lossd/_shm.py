"""Memory that a client shares with its daemon, so that big tensors cross no socket.

A segment is a region of one connection: the daemon makes it (REGION), and reads inputs and writes results right there.
Segments are used again and again, since new pages cost more than copying into old ones. Some time after a connection's
end the daemon frees their pages, and they read as zeros: arrays that lie there are made ordinary memory before that.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import select
import socket
import sys
import threading
import warnings
import weakref
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

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
#: The daemon makes 256 for each connection.
SEGMENTS_MAX = 200

_GET_SEALS, _SEAL_SHRINK = 1034, 2
_MAP_FIXED, _POPULATE_WRITE, _POLLRDHUP = 0x10, 23, 0x2000
#: Linux has had sealed memory since 3.17.
IS_THERE = hasattr(os, "memfd_create")
#: Room for the descriptor of a region, and how it is received.
ANCILLARY = socket.CMSG_SPACE(8 * 4) if hasattr(socket, "CMSG_SPACE") else 0
RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_numbers, _uses = itertools.count(1), itertools.count(1)

if IS_THERE:
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _libc.mlock.argtypes = _libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _lost(size: int) -> None:
    warnings.warn(f"no memory to keep {size} bytes of arrays in shared memory: they are lost", RuntimeWarning)


def _keep(address: int, size: int) -> None:
    """Every page of a private mapping becomes this process's own, as it is: what others do to the file changes it no
    more. What other threads write there meanwhile stays."""
    if _libc.madvise(address, size, _POPULATE_WRITE) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        return _lost(size)
    # Linux before 5.14. Locking a private page also makes it one's own.
    for begin in range(address, address + size, 1 << 16):
        length = min(1 << 16, address + size - begin)
        if _libc.mlock(begin, length) != 0:
            return _lost(size)
        _libc.munlock(begin, length)


class Segment:
    """A region of a connection, mapped. Takes the descriptor over; OSError where it is not what was asked for."""

    def __init__(self, number: int, size: int, fd: int):
        self.number = number
        self.size = size
        self.fd = fd
        #: Who uses it: the lease of a call, or the array that lies there. None, or gone: nobody, the daemon neither. So
        #: whoever is interrupted loses none.
        self.holder: Optional["weakref.ref[Any]"] = None
        #: Orders the segments by when their use began.
        self.began = 0
        #: A result is written here.
        self.is_result = False
        #: A result that was there when the connection ended.
        self.kept: Optional[mmap.mmap] = None
        try:
            # Sealed first, then measured: from then on it cannot become shorter, and touching it is never a SIGBUS.
            if not fcntl.fcntl(fd, _GET_SEALS) & _SEAL_SHRINK or os.fstat(fd).st_size < size:
                raise OSError(errno.EINVAL, "the daemon's memory can become shorter, or is")
            # Inputs are written here.
            self.map = mmap.mmap(fd, size)
        except BaseException:
            os.close(fd)
            raise

    def __del__(self) -> None:
        if hasattr(self, "map"):
            os.close(self.fd)

    def user(self) -> Any:
        holder = self.holder
        return None if holder is None else holder()

    def begin(self, holder: Optional["weakref.ref[Any]"]) -> None:
        self.is_result = False
        self.began = next(_uses)
        self.holder = holder

    def private(self) -> mmap.mmap:
        """Its memory as a result's: what is written to it stays with who writes, also after a fork."""
        try:
            return mmap.mmap(self.fd, self.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # A mapping of a file takes a descriptor, and there is no room for another one: a copy.
        copy = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        copy[:] = memoryview(self.map)
        return copy

    def keep(self) -> None:
        """The memory that inputs are written to becomes this process's own, in its place: the daemon sees it no more."""
        address = address_of(np.frombuffer(self.map, np.uint8))
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        if _libc.mmap(address, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self.fd, 0) == address:
            _keep(address, self.size)
        else:
            _lost(self.size)


def _rounded(size: int) -> int:
    """Sizes in steps of an eighth, so that a segment fits again when shapes change a little."""
    step = max(1 << 16, 1 << max(size.bit_length() - 4, 0))
    return (size + step - 1) // step * step


class Pool:
    """The segments of one connection. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all: Dict[int, Segment] = {}
        #: Sizes of those that the daemon has been asked for and has not answered, and whose they are to be, by number.
        self._asked: Dict[int, Tuple[int, Optional["weakref.ref[Any]"]]] = {}
        self._to_release: List[int] = []
        self._refused = float("inf")  # bytes from which on the daemon gives none
        self._is_closed = False
        #: Descriptors that have come and whose frames have not; None: one was lost.
        self._descriptors: Deque[Optional[int]] = deque()
        #: Arrays of `empty`, and where they are, by the segment's number.
        self._visible: Dict[int, Tuple["weakref.ref[np.ndarray]", int]] = {}
        _pools.add(self)

    def __del__(self) -> None:
        self.close()
        while self._descriptors:
            fd = self._descriptors.popleft()
            if fd is not None:
                os.close(fd)

    # ---- Segments for calls

    def take(self, size: int, lease: "Lease") -> Optional[Segment]:
        """One that is there, for the lease's own; None: the daemon is to be asked for one."""
        size = _rounded(size)
        with self._lock:
            fitting = [segment for segment in self._trim() if size <= segment.size <= 2 * size]
            if not fitting:
                return None
            best = min(fitting, key=lambda segment: segment.size)
            self._visible.pop(best.number, None)
            best.begin(weakref.ref(lease))
            return best

    def number(self) -> int:
        """One for `ask`."""
        return next(_numbers)

    def ask(self, number: int, size: int, lease: "Lease") -> Optional[int]:
        """The size of the segment that the daemon is to be asked for by that number; None where there shall be none."""
        size = _rounded(size)
        most = TOTAL_MAX if size < ALONE else sys.maxsize
        with self._lock:
            idle = self._trim()
            while idle and (self._total() + size > TOTAL_MAX or len(self._all) >= SEGMENTS_MAX):
                self._drop(idle.pop(0))
            if (self._is_closed or not IS_THERE or size >= self._refused or self._total() + size > most
                    or len(self._all) + len(self._asked) >= SEGMENTS_MAX):
                return None
            self._asked[number] = (size, weakref.ref(lease))
            return size

    def is_asked(self, number: int) -> bool:
        return number in self._asked

    def collect(self, number: int) -> Optional[Segment]:
        """What the daemon has answered with."""
        return self._all.get(number)

    def leave(self, number: int, was_sent: bool) -> None:
        """Nobody waits for it any more. `was_sent`: the daemon has been asked, or is going to be."""
        with self._lock:
            asked = self._asked.get(number)
            if asked is not None and was_sent:
                self._asked[number] = (asked[0], None)
            elif asked is not None:
                del self._asked[number]

    def came(self, ancillary: List[Any], is_truncated: bool) -> None:
        """What came along with bytes. BadFrame for more descriptors than regions that have been asked for."""
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = memoryview(data)[:len(data) // 4 * 4].cast("i")
                self._descriptors.extend(numbers)
                is_truncated = is_truncated and not numbers
        if is_truncated:
            self._descriptors.append(None)  # this process has no room for another one
        if len(self._descriptors) > len(self._asked):
            raise BadFrame("a descriptor that nobody asked for")

    def answered(self, number: int, is_made: bool) -> None:
        """The daemon's answer to REGION."""
        with self._lock:
            if number not in self._asked:
                raise BadFrame("an answer to a REGION that was not sent")
            size, holder = self._asked[number]
            segment = None
            if is_made:
                fd = self._descriptors.popleft() if self._descriptors else None
                try:
                    segment = None if fd is None else Segment(number, size, fd)
                except (OSError, ValueError, MemoryError):
                    pass
                if segment is None:
                    self._to_release.append(number)
            if segment is None:
                self._refused = min(self._refused, size)
            else:
                segment.begin(holder)
                self._all[number] = segment
            del self._asked[number]

    def released(self) -> List[int]:
        """Numbers of those that the daemon is to be told are used no more."""
        with self._lock:
            self._trim()
            return self._to_release[:]

    def told(self, released: List[int]) -> None:
        """The daemon has been told, or is going to be."""
        if released:
            with self._lock:
                self._to_release = [number for number in self._to_release if number not in released]

    def give_back(self, lease: "Lease") -> None:
        """What the lease has is used no more, also by the daemon."""
        for segment in list(self._all.values()):
            if segment.user() is lease:
                segment.holder = None

    def discard(self, lease: "Lease") -> None:
        """What the lease has is not to be used again: the daemon may still be at it."""
        with self._lock:
            for segment in list(self._all.values()):
                if segment.user() is lease:
                    self._drop(segment)

    def _total(self) -> int:
        return sum(segment.size for segment in self._all.values()) + sum(size for size, _ in self._asked.values())

    def _trim(self) -> List[Segment]:
        """Those that nobody uses, the ones first that have not been used for longest: not too many."""
        idle = sorted((segment for segment in self._all.values() if segment.user() is None),
                      key=lambda segment: segment.began)
        while sum(segment.size for segment in idle) > IDLE_MAX:
            self._drop(idle.pop(0))
        return idle

    def _drop(self, segment: Segment) -> None:
        self._visible.pop(segment.number, None)
        if segment.number in self._all:
            self._to_release.append(self._all.pop(segment.number).number)

    # ---- Arrays of the caller's

    def _lend(self, segment: Segment, memory: mmap.mmap, size: int) -> np.ndarray:
        root = np.frombuffer(memory, np.uint8, size)
        if not self._is_closed:
            segment.holder = weakref.ref(root)
        return root

    def visible(self, segment: Segment, size: int) -> np.ndarray:
        """Its memory, which the daemon reads where it lies."""
        with self._lock:
            root = self._lend(segment, segment.map, size)
            if self._is_closed:
                segment.keep()  # too late for that
            else:
                self._visible[segment.number] = (weakref.ref(root), address_of(root))
            return root

    def result(self, segment: Segment, size: int) -> np.ndarray:
        """The result that lies there."""
        with self._lock:
            memory, segment.kept = segment.kept, None
            if memory is None and self._is_closed:
                raise ValueError("the connection has ended, and what lay in its memory is gone")
            return self._lend(segment, memory or segment.private(), size)

    def find(self, array: np.ndarray) -> Optional[Tuple[Segment, int, np.ndarray]]:
        """The segment that the array lies in, its offset there, and whose segment that is as long as it lives; None:
        it does not, or not as the daemon wants."""
        address = address_of(array)
        for number, (reference, base) in list(self._visible.items()):
            root, segment = reference(), self._all.get(number)
            offset = address - base
            if (root is not None and segment is not None and 0 <= offset <= segment.size - array.nbytes
                    and offset % 64 == 0):
                return segment, offset, root
        return None

    def keep_arrays(self) -> None:
        """Makes the memory of arrays their own, as it is. Before anybody else may change what lies in the segments."""
        with self._lock:
            for segment in list(self._all.values()):
                root = segment.user()  # stays where it is meanwhile
                if not isinstance(root, np.ndarray):
                    continue
                if self._visible.pop(segment.number, None) is not None:
                    segment.keep()
                    self._drop(segment)
                else:
                    _keep(address_of(root), segment.size)
                    segment.holder = None

    def close(self) -> None:
        """The connection has ended, or is about to: what is in its segments is kept for who has it, or is to get it."""
        with self._lock:
            if self._is_closed:
                return
            self.keep_arrays()
            for segment in self._all.values():
                if segment.is_result and segment.user() is not None:
                    segment.kept = segment.private()
                    _keep(address_of(np.frombuffer(segment.kept, np.uint8)), segment.size)
            self._is_closed = True
            self._to_release.extend(self._all)
            self._all.clear()
            self._asked.clear()


#: Of this process.
_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _before_fork() -> None:
    # What a child has, the parent's daemon must not write to or free: from here on both have their own.
    for pool in list(_pools):
        pool.keep_arrays()


def _after_fork() -> None:
    for pool in list(_pools):
        pool._lock = threading.RLock()  # another thread of the parent's may have held it


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def watch(connected: socket.socket, pool: Pool) -> None:
    """Sees the connection's end where nobody reads from it, as in an event loop that is busy or has stopped. OSError
    without a descriptor for that."""
    end = connected.dup()
    threading.Thread(target=_watch, args=(end, weakref.ref(pool)), name="lossd-watch", daemon=True).start()


def _watch(end: socket.socket, pool: "weakref.ref[Pool]") -> None:
    with end:
        poller = select.poll()
        poller.register(end, _POLLRDHUP)
        poller.poll()
        there = pool()
        if there is not None:
            there.close()


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Lease:
    """The segments of one call: of its inputs until the daemon has ended it, of its results until the arrays go."""

    def __init__(self, pool: Pool):
        self._pool = pool
        #: Used by the call and nobody else afterwards.
        self.own: List[Segment] = []
        #: Result by name: its segment.
        self.results: Dict[str, Segment] = {}
        #: Arrays that lie in segments of their own, which stay theirs meanwhile.
        self.borrowed: List[Any] = []

    def array(self, tensor: Any, shape: Tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The result's array. Its segment is its own from here on."""
        segment = self.results[tensor.name]
        place = tensor.shared
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if place.region != segment.number or place.offset != 0 or place.length != size or size > segment.size:
            raise ValueError(f"{tensor.name} is not where it was asked for")
        array: np.ndarray = self._pool.result(segment, size).view(dtype).reshape(shape)
        del self.results[tensor.name]
        return array

    def end(self, is_safe: bool) -> None:
        """The call is over. `is_safe`: the daemon has said so, and touches nothing any more."""
        (self._pool.give_back if is_safe else self._pool.discard)(self)
        self.own.clear()
        self.results.clear()
        self.borrowed.clear()
