"""What clients try with descriptors and shared memory, so that others wait, the daemon ends, or its memory fills."""

import contextlib
import os
import pathlib
import resource
import socket
import struct
import time
import unittest

from daemon import Daemon
from wire import (
    DAEMON_STATUS, HELLO, PING, PREFACE, REGION, RELEASE, CallError, Connection, Shared, Tensor, frame, hello, number)

SO_PASSRIGHTS = 83
REFUSES = True  # the kernel can refuse descriptors (6.16)
with socket.socket(socket.AF_UNIX) as probe:
    try:
        probe.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        REFUSES = False


def lingering(seconds):
    """A TCP socket that takes so long to be closed by who closes it last, and what keeps it so."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.listen()
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 16))
    return client, listener


# Other programs on the machine make everybody wait at times: in one of so many tries nobody does.
TRIES = 3


def bound(quiet):
    """How long another client may wait while somebody attacks, seconds."""
    return max(0.05, 10 * quiet)


def slowest_status(daemon, seconds):
    """The longest that another client waits for the daemon's status meanwhile, seconds."""
    slowest, end = 0, time.monotonic() + seconds
    with daemon.connect() as other:
        while time.monotonic() < end:
            began = time.perf_counter()
            other.call(DAEMON_STATUS)
            slowest = max(slowest, time.perf_counter() - began)
            time.sleep(0.002)
    return slowest


class Descriptors(unittest.TestCase):
    """Descriptors are never taken: neither what they are nor how long they take to be closed holds anybody up."""

    def attack(self, daemon, send, count=12, linger=1):
        """`send` with a socket that lingers, on so many connections; then everybody's last copies are closed by the
        daemon, and another client waits no longer than it may. Returns how often the kernel refused to send."""
        quiet = slowest_status(daemon, 0.5)
        waits = []
        for _ in range(TRIES):
            refused, slowest = self.attack_once(daemon, send, count, linger)
            waits.append(slowest)
            if slowest < bound(quiet):
                return refused
        self.fail(f"another client waited {waits} s, the bound is {bound(quiet)} s")

    def attack_once(self, daemon, send, count, linger):
        kept, refused = [], 0
        for _ in range(count):
            descriptor, listener = lingering(linger)
            kept.append(listener)
            attacker = socket.socket(socket.AF_UNIX)
            attacker.settimeout(10)
            with self.another_user(daemon):
                attacker.connect(daemon.path)
            kept.append(attacker)
            try:
                send(attacker, descriptor.fileno())
            except PermissionError:
                refused += 1
            descriptor.close()
        slowest = slowest_status(daemon, 1.5)
        for item in kept:
            item.close()
        return refused, max(slowest, slowest_status(daemon, 1))

    @staticmethod
    @contextlib.contextmanager
    def another_user(daemon):
        """Who connects meanwhile is somebody else, where we may: who sends such descriptors waits for them."""
        if os.geteuid() != 0:
            yield
            return
        os.chmod(daemon.folder.name, 0o755)
        os.chmod(daemon.path, 0o666)
        os.seteuid(54321)
        try:
            yield
        finally:
            os.seteuid(0)

    @staticmethod
    def with_first_bytes(attacker, fd):
        socket.send_fds(attacker, [PREFACE[:4]], [fd])

    @staticmethod
    def with_region(attacker, fd):
        attacker.sendall(PREFACE + hello(features=("shm",)))
        attacker.recv(1000)
        socket.send_fds(attacker, [frame(REGION, 0, number(1, 1) + number(2, 4096))], [fd])

    @staticmethod
    def many(attacker, fd):
        """253 of them, and more behind the frame that ends the connection."""
        attacker.sendall(PREFACE + hello())
        for _ in range(4):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(attacker, [frame(PING, 0, b"x")], [fd] + [0] * 252)

    @staticmethod
    def unread(attacker, fd):
        """They lie in the socket when the daemon closes it."""
        attacker.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(3):
                socket.send_fds(attacker, [b"x"], [fd])

    def test_where_the_kernel_can_they_cannot_even_be_sent(self):
        if not REFUSES:
            self.skipTest("Linux before 6.16")
        with Daemon() as daemon:
            for send in (self.with_first_bytes, self.with_region):
                self.assertEqual(self.attack(daemon, send, count=3), 3)

    def test_elsewhere_they_are_closed_where_nobody_waits_for_it(self):
        for send in (self.with_first_bytes, self.with_region, self.many, self.unread):
            if send == self.many and os.geteuid() != 0:
                continue  # they would wait for their own
            with self.subTest(send.__name__), Daemon(passes_descriptors=True) as daemon:
                self.assertEqual(self.attack(daemon, send), 0)
                threads = pathlib.Path(f"/proc/{daemon.process.pid}/task")
                names = [(entry / "comm").read_text().strip() for entry in threads.iterdir()]
                self.assertLessEqual(names.count("lossd-closer"), 8)

    def test_whatever_it_is_the_connection_that_sent_it_ends_and_nothing_of_it_stays(self):
        with Daemon(passes_descriptors=True) as daemon:
            before = daemon.descriptors()
            pipe, memory = os.pipe(), os.memfd_create("mine")
            for descriptors in ([pipe[0]], [memory], [memory] * 253, [pipe[1], memory]):
                for shared in ((), ("shm",)):
                    with daemon.connect(features=shared) as connection:
                        self.assertEqual(connection.receive()[0], HELLO)
                        connection.send_with_descriptors(frame(PING, 0, b"x"), descriptors)
                        with self.assertRaises(CallError) as caught:
                            connection.answer_of(REGION, 0)
                        self.assertIn("descriptors are never taken", caught.exception.text)
            for fd in (*pipe, memory):
                os.close(fd)
            deadline = time.monotonic() + 10
            while daemon.descriptors() > before and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertLessEqual(daemon.descriptors(), before)

    def test_as_many_as_wait_to_be_closed_are_bounded(self):
        """A user whose descriptors take long is not read from; the daemon's descriptors do not run out."""
        with Daemon(passes_descriptors=True) as daemon:
            before = daemon.descriptors()
            descriptor, listener = lingering(8)
            copies = [os.dup(descriptor.fileno()) for _ in range(100)]
            attackers = []
            most = 0
            for _ in range(40):
                attacker = socket.socket(socket.AF_UNIX)
                attacker.connect(daemon.path)
                attackers.append(attacker)
                # The same file 253 times: the last to close it waits.
                socket.send_fds(attacker, [PREFACE], (copies * 3)[:253])
                most = max(most, daemon.descriptors())
            for fd in copies:
                os.close(fd)
            descriptor.close()
            self.assertLess(most, before + 1024 + 2 * 253 + 40 + 8)
            for attacker in attackers:
                attacker.close()
            listener.close()


class Memory(unittest.TestCase):
    """Regions cost what is counted for them, and are refused where that is too much."""

    def shared_bytes(self, daemon):
        for line in pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
            if line.startswith("RssShmem:"):
                return int(line.split()[1]) << 10

    @staticmethod
    def system_shared_bytes():
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("Shmem:"):
                return int(line.split()[1]) << 10

    def eventually(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not (holds := condition()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(holds)

    def test_more_regions_than_the_process_could_map_end_in_refusals(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        maps = int(pathlib.Path("/proc/sys/vm/max_map_count").read_text())
        with Daemon(limits__user_regions=1_000_000, limits__regions=1_000_000, limits__region_grace="0s") as daemon:
            attackers, made, texts = [], 0, set()
            self.addCleanup(lambda: [attacker.close() for attacker in attackers])
            for _ in range(257):
                attacker = daemon.connect(features=("shm",))
                attackers.append(attacker)
                for id in range(1, 257):
                    attacker.ask_region(id, 4096)
                for id in range(1, 257):
                    code, text = attacker.answer_of(REGION, id)
                    made += code == 0
                    if code:
                        self.assertEqual(code, 8)
                        texts.add(text.split(": ", 1)[1])
                    while attacker.descriptors:
                        os.close(attacker.descriptors.pop())
            self.assertEqual(made, min(maps // 4, 257 * 256))
            self.assertEqual(texts, {f"the daemon has {maps // 4} regions, the limit is {maps // 4} "
                                     "(a quarter of vm.max_map_count)"})
            with daemon.connect() as other:
                for _ in range(20):
                    result = other.evaluate("sigmoid", {"input": Tensor(bytes(12 << 20))})["output"]
                    self.assertEqual(len(result.data), 12 << 20)
            while attackers:
                attackers.pop().close()

            def has_room():
                with daemon.connect(features=("shm",)) as other:
                    try:
                        other.region(1, 4096).close()
                        return True
                    except CallError:
                        return False
            self.eventually(has_room)
            self.assertNotIn("fatal", daemon.log().lower())

    def test_every_limit_is_named_with_its_value_and_setting(self):
        with Daemon(limits__connection_bytes="4MiB", limits__region_bytes="7MiB", limits__user_region_bytes="6MiB",
                    limits__regions=7, limits__user_regions=5, limits__region_grace="0s") as daemon:
            def refusal(connection, id, length):
                with self.assertRaises(CallError) as caught:
                    connection.region(id, length).close()
                self.assertEqual(caught.exception.code, 8)
                return caught.exception.text

            with daemon.connect(features=("shm",)) as one, daemon.connect(features=("shm",)) as two:
                one.region(1, 4 << 20).close()
                self.assertIn("the connection has 4194304 bytes of shared memory, the limit is 4194304 "
                              "(limits.connection_bytes)", refusal(one, 2, 1))
                two.region(1, 1 << 20).close()
                self.assertRegex(refusal(two, 2, 3 << 19), r"user uid \d+ has 5242880 bytes of shared memory, the limit "
                                                           r"is 6291456 \(limits.user_region_bytes\)")
                for id in (2, 3, 4):
                    two.region(id, 1).close()  # 64 KiB each
                self.assertRegex(refusal(two, 5, 1), r"user uid \d+ has 5 regions, the limit is 5 \(limits.user_regions\)")
                two.release(4)
                self.assertEqual(two.answer_of(RELEASE, 4)[0], 0)
                two.region(5, 1).close()
        with Daemon(limits__region_bytes="1MiB", limits__regions=3) as daemon, \
                daemon.connect(features=("shm",)) as one:
            with self.assertRaises(CallError) as caught:
                one.region(1, 2 << 20)
            self.assertIn("the daemon has 0 bytes of shared memory, the limit is 1048576 (limits.region_bytes)",
                          caught.exception.text)
            for id in (2, 3, 4):
                one.region(id, 1).close()
            with self.assertRaises(CallError) as caught:
                one.region(5, 1)
            self.assertIn("the daemon has 3 regions, the limit is 3 (limits.regions)", caught.exception.text)

    def test_holes_that_the_daemon_reads_cost_nothing_once_they_are_released(self):
        """The client keeps descriptor and mapping."""
        size = 512 << 20
        with Daemon(limits__region_grace="300ms") as daemon:
            before = self.system_shared_bytes()
            for is_released in (True, False):
                with self.subTest(is_released=is_released):
                    connection = daemon.connect(features=("shm",))
                    memory = connection.region(1, size)
                    connection.evaluate(
                        "sigmoid", {"input": Shared(1, 0, size // 2, shape=[size // 8])}, {},
                        {"output": Shared(1, size // 2, size // 2)})
                    self.assertEqual(memory.map[size - 4:], struct.pack("<f", 0.5))
                    self.assertGreater(self.system_shared_bytes() - before, size - (64 << 20))
                    if is_released:
                        connection.release(1)
                        self.assertEqual(connection.answer_of(RELEASE, 1)[0], 0)
                        self.assertLess(self.system_shared_bytes() - before, 64 << 20)
                        self.assertEqual(memory.map[size - 4:], bytes(4))
                    connection.close()
                    self.eventually(lambda: self.system_shared_bytes() - before < 64 << 20)
                    self.eventually(lambda: self.shared_bytes(daemon) < 64 << 20)
                    memory.close()

    def test_what_lies_there_stays_for_the_grace_after_a_connections_end(self):
        with Daemon(limits__region_grace="5s", limits__user_region_bytes="1MiB") as daemon:
            with daemon.connect(features=("shm",)) as connection:
                memory = connection.region(1, 1 << 20)
                memory.map[:5] = memory.map[-5:] = b"hello"
            time.sleep(0.5)
            self.assertEqual((memory.map[:5], memory.map[-5:]), (b"hello", b"hello"))
            with daemon.connect(features=("shm",)) as connection:
                with self.assertRaises(CallError):
                    connection.region(1, 4096)  # it counts until then

                def has_room():
                    try:
                        connection.region(1, 1 << 20).close()
                        return True
                    except CallError:
                        return False

                self.eventually(has_room)
                self.assertEqual((memory.map[:5], memory.map[-5:]), (bytes(5), bytes(5)))
            memory.close()
            began = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertLess(time.monotonic() - began, 3)  # nothing waits for a grace

    def test_nobody_waits_while_regions_are_made_filled_and_freed(self):
        with Daemon(limits__region_grace="0s") as daemon:
            quiet = slowest_status(daemon, 0.5)
            attacker = daemon.connect(features=("shm",))
            waits = []
            with daemon.connect() as other:
                for _ in range(TRIES):
                    waits.append(self.slowest_beside_regions(attacker, other, 3))
                    if waits[-1] < bound(quiet):
                        break
            attacker.close()
            self.assertLess(waits[-1], bound(quiet), waits)

    @staticmethod
    def slowest_beside_regions(attacker, other, seconds):
        slowest, end = 0, time.monotonic() + seconds
        id = 0
        while time.monotonic() < end:
            id += 1
            memory = attacker.region(id, 128 << 20)
            memory.map.madvise(23)  # MADV_POPULATE_WRITE
            memory.close()
            attacker.release(id)
            began = time.perf_counter()
            for _ in range(20):
                other.call(DAEMON_STATUS)
                slowest = max(slowest, time.perf_counter() - began)
                began = time.perf_counter()
            attacker.answer_of(RELEASE, id)
        return slowest



if __name__ == "__main__":
    unittest.main()
