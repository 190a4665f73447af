"""What a plugin's process cannot do to its daemon, tried from a constructor and from a callback, by a daemon of root's and
by one of an ordinary user's; what is said where the kernel cannot confine."""

import ctypes
import errno
import fcntl
import os
import pathlib
import re
import signal
import struct
import unittest

from isolation import PluginDaemon, until
from plugin_files import WICKED
from wire import CallError

DESCRIPTORS = 5
ATTEMPTS = [(name, eval(count, {"REACH_DESCRIPTORS": DESCRIPTORS})) for name, count in re.findall(
    r'\{"(\w+)", reach_\w+, ([\w *]+)\}', (WICKED / "reach.h").read_text())]
ORDINARY = 65533
USERS = (None, ORDINARY) if os.geteuid() == 0 else (None,)
F_GETSIG, F_GETOWN_EX = 11, 16
PIDFD_GETFD = 438

libc = ctypes.CDLL(None, use_errno=True)


def owners(pid):
    """Of each descriptor of a process: who is told when something comes there, by which signal, and whether somebody is."""
    found = {}
    process = os.pidfd_open(pid)
    try:
        for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
            copy = libc.syscall(PIDFD_GETFD, process, number, 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), f"descriptor {number}")
            kind, who = struct.unpack("ii", fcntl.fcntl(copy, F_GETOWN_EX, bytes(8)))
            found[number] = (who, fcntl.fcntl(copy, F_GETSIG), bool(fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_ASYNC))
            os.close(copy)
    finally:
        os.close(process)
    return found


def condition(pid):
    """What others could change of a process: limits, niceness, scheduling, group."""
    tasks = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    return {
        "limits": pathlib.Path(f"/proc/{pid}/limits").read_text(),
        "niceness": [os.getpriority(os.PRIO_PROCESS, task) for task in tasks[:2]],
        "schedulers": {os.sched_getscheduler(task) for task in tasks},
        "processors": {frozenset(os.sched_getaffinity(task)) for task in tasks},
        "group": os.getpgid(pid), "session": os.getsid(pid),
    }


def refuse_calls(*calls):
    """For `before`: a filter that has system calls, x86-64's numbers, fail with an errno."""
    program = [(0x20, 0, 0, 0)]  # the number of the call
    for number, code in calls:
        program += [(0x15, 0, 1, number), (0x06, 0, 0, 0x0005_0000 | code)]
    program.append((0x06, 0, 0, 0x7FFF_0000))
    bytes_of = b"".join(struct.pack("HBBI", *line) for line in program)

    def install():
        memory = ctypes.create_string_buffer(bytes_of)
        filter = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(memory))
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
            os._exit(99)

    return install


LANDLOCK_CREATE_RULESET, CAPSET = 444, 126


class Reach(unittest.TestCase):
    def test_no_attempt_reaches_out_of_the_process(self):
        """Every attempt of reach.h ends with EPERM, in a constructor and in a callback, and the daemon is as before."""
        for user in USERS:
            with PluginDaemon("reach.so", "hinge.so", user=user, plugins__isolation="process",
                              plugins__processes=1) as daemon, daemon.connect() as connection:
                before = condition(daemon.pid)
                self.assertIn("reach", daemon.list())
                tried = 0
                for kind, (name, variants) in enumerate(ATTEMPTS):
                    for variant in range(variants):
                        output = connection.evaluate("reach", {}, {"kind": kind, "variant": variant})["output"].values()
                        for where, code in zip(("constructor", "callback"), output):
                            with self.subTest(name, variant=variant, where=where, user=user):
                                self.assertEqual(code, errno.EPERM, errno.errorcode.get(int(code), "it worked"))
                        tried += 1
                self.assertGreater(tried, 200)
                self.assertEqual(condition(daemon.pid), before)
                self.assertEqual(daemon.list()["reach"]["restarts"], 0)
                if os.geteuid() == 0:
                    process, = daemon.list()["reach"]["processes"]
                    for pid in (process, daemon.pid):
                        self.assertEqual({what for what in owners(pid).values() if what != (0, 0, False)}, set(), pid)
                # The next orders are no signals to anybody.
                for _ in range(20):
                    connection.evaluate("reach", {}, {"kind": 0, "variant": 0})
                self.assertEqual(daemon.daemon.stop(), 0)

    @unittest.skipUnless(os.geteuid() == 0, "becomes another user")
    def test_an_ordinary_users_daemon_confines_as_well(self):
        with PluginDaemon("wicked.so", user=ORDINARY, plugins__isolation="process",
                          plugins__confinement="full") as daemon, daemon.connect() as connection:
            process = int(connection.evaluate("wicked", {}, {"mode": "pid"}, ["loss"])["loss"].values()[0])
            status = dict(line.split(":\t", 1) for line in pathlib.Path(
                f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
            self.assertEqual(status["Uid"].split(), [str(ORDINARY)] * 4)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)), ("1", "2", 0))
            for attempt in range(20):
                answer = connection.evaluate("wicked", {}, {"mode": "try", "argument": attempt}, ["loss"])["loss"].values()
                self.assertGreater(answer[0], 0, f"attempt {attempt} worked")

    def test_processes_are_named_after_their_plugin(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="process") as daemon:
            daemon.put("load/many_functions.so", "m.so")
            daemon.plugin("load", "m.so")
            for name, shown in (("wicked", "wicked"), ("hinge", "hinge"), ("load_many_functions", "m")):
                process, = daemon.list()[name]["processes"]
                folder = pathlib.Path(f"/proc/{process}")
                self.assertEqual((folder / "comm").read_text().strip(), name[:15])
                # The first process of a plugin has the file's name where the plugin's is longer.
                self.assertEqual((folder / "cmdline").read_bytes(), f"lossd\0plugin-host\0{shown}\0".encode())
            process, = daemon.list()["load_many_functions"]["processes"]
            os.kill(process, signal.SIGKILL)
            until(lambda: daemon.list()["load_many_functions"]["processes"] not in ([], [process]), daemon.log)
            process, = daemon.list()["load_many_functions"]["processes"]
            self.assertEqual(pathlib.Path(f"/proc/{process}/cmdline").read_bytes(),
                             b"lossd\0plugin-host\0load_many_functions\0")


@unittest.skipUnless(os.uname().machine == "x86_64", "numbers of system calls")
class Gaps(unittest.TestCase):
    """Where the kernel has not what a process is confined with."""

    def test_what_is_missing_is_said_once(self):
        for calls, said in (
                (((LANDLOCK_CREATE_RULESET, errno.ENOSYS),), ("without Landlock (Linux 5.13)", "without Landlock 6")),
                (((LANDLOCK_CREATE_RULESET, errno.EOPNOTSUPP), (CAPSET, errno.EPERM)),
                 ("without Landlock (Linux 5.13)", "capabilities are not dropped"))):
            with PluginDaemon("wicked.so", "hinge.so", "reach.so", before=refuse_calls(*calls),
                              plugins__isolation="process", plugins__processes=1) as daemon:
                with daemon.connect() as connection:
                    connection.evaluate("wicked", {}, {"mode": "none"})
                    with self.assertRaises(CallError):
                        connection.evaluate("wicked", {}, {"mode": "segv_null"})
                    connection.evaluate("wicked", {}, {"mode": "none"})
                    # The filter of system calls stands alone, and stands.
                    for kind, (name, variants) in enumerate(ATTEMPTS):
                        if name in ("owner", "signal", "async", "limit", "priority", "kill"):
                            for variant in range(variants):
                                self.assertEqual(connection.evaluate(
                                    "reach", {}, {"kind": kind, "variant": variant})["output"].values(), [errno.EPERM] * 2)
                lines = [line for line in daemon.log().splitlines() if "not confined in full" in line]
                self.assertEqual(len(lines), 1, lines)
                for text in said:
                    self.assertIn(text, lines[0])
                self.assertIn("plugins.confinement", lines[0])

    def test_it_is_refused_where_full_confinement_is_asked_for(self):
        with PluginDaemon("wicked.so", before=refuse_calls((LANDLOCK_CREATE_RULESET, errno.ENOSYS)),
                          plugins__isolation="process", plugins__confinement="full") as daemon:
            self.assertNotIn("wicked", daemon.list())
            self.assertIn("its process cannot be confined in full, which plugins.confinement asks for: without Landlock",
                          daemon.log())
            self.assertIn("wicked.so", daemon.log())
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__confinement="best") as daemon:
            self.assertIn("wicked", daemon.list())
            self.assertNotIn("not confined in full", daemon.log())


if __name__ == "__main__":
    unittest.main()
