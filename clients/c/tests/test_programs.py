"""The test programs in C: the parts without a daemon, calls and streams against a daemon on a Unix socket and TCP."""

import re
import subprocess
import unittest

from harness import BUILD, run
from daemon import Daemon


class Programs(unittest.TestCase):
    def check(self, program, argument, at_least):
        result = run(program, argument, timeout=600)
        print(result.stdout, end="")
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        self.assertGreaterEqual(result.stdout.count("\nok: ") + 1, at_least)

    def test_the_parts(self):
        self.check("test_units", BUILD / "seed", 9)

    def test_the_parts_without_a_driver(self):
        """Named `parts` for valgrind's selection, too."""
        self.check("test_core", "nowhere", 7)

    def test_parts_of_the_core_make_no_system_call(self):
        """What its objects take from libc is memory, text and numbers: no socket, file, mapping, clock, thread or process."""
        allowed = re.compile(
            "(lossd|protobuf_c|__(asan|ubsan|lsan|sanitizer)|_GLOBAL_OFFSET|__stack_chk|__odr|mem|str|__(mem|str)|"
            "(m|c|re)alloc$|free$|posix_memalign$|(__)?vsnprintf(_chk)?$|__assert_fail$|abort$)")
        objects = sorted((BUILD / "core").glob("*.o"))
        self.assertGreater(len(objects), 15)
        names = subprocess.run(["nm", "-u", "-P", *map(str, objects)], capture_output=True, text=True, check=True).stdout
        defined = subprocess.run(["nm", "-P", "-g", "--defined-only", *map(str, objects)], capture_output=True, text=True,
                                 check=True).stdout
        own = {line.split()[0] for line in defined.splitlines() if len(line.split()) > 1}
        wanted = {line.split()[0] for line in names.splitlines() if len(line.split()) > 1}
        self.assertIn("malloc", wanted)
        self.assertEqual(sorted(name for name in wanted - own if not allowed.match(name)), [])

    def test_calls_and_streams_on_a_unix_socket(self):
        with Daemon() as daemon:
            self.check("test_calls", daemon.unix, 20)
            self.check("test_streams", daemon.unix, 11)
            # Nothing of what this is about crosses the socket, but what it compares with.
            received, sent = (daemon.status()[field][0] for field in (8, 9))
            self.check("test_shared", daemon.unix, 11)
            received, sent = (daemon.status()[field][0] - before for field, before in ((8, received), (9, sent)))
            self.assertLess(received, 8 << 20)
            self.assertEqual(daemon.stop(), 0)

    def test_calls_and_streams_on_tcp(self):
        with Daemon(tcp=True) as daemon:
            self.check("test_calls", daemon.tcp, 20)
            self.check("test_streams", daemon.tcp, 11)
            self.check("test_shared", daemon.tcp, 11)

    def test_calls_and_streams_under_the_smallest_limits(self):
        """Eight calls at a time, one request a stream: the rest waits in the library."""
        with Daemon(limits__streams=8, limits__stream_credit=1) as daemon:
            self.check("test_calls", daemon.unix, 20)
            self.check("test_streams", daemon.unix, 11)


if __name__ == "__main__":
    unittest.main()
