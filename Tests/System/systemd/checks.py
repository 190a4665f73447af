"""Runs inside of the machine that machine.sh boots: the package's whole life under a real systemd, in its order."""

import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path[:0] = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..")]
import pages  # noqa: E402
from load import ADDRESS, PATH, Connecting, Follower, Load  # noqa: E402
from wire import CallError, Connection, Tensor, parse  # noqa: E402  (load made the way to it)

SOURCE = pathlib.Path("/src")
DATA = SOURCE / "examples" / "data"
DROPINS = pathlib.Path("/usr/share/doc/lossd/examples/systemd")
UNITS = ("lossd.socket", "lossd-admin.socket", "lossd.service", "lossd-settings.service")


def run(*command, check=True, user=None, **options):
    if user:
        command = ("runuser", "-u", user, "--", *command)
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, **options)
    if check and result.returncode:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def show(key, unit="lossd.service"):
    return run("systemctl", "show", "-P", key, unit).stdout.strip()


def pid():
    return int(show("MainPID"))


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {seconds} s\n" + journal())
        time.sleep(0.02)


def journal():
    run("journalctl", "--sync")
    return run("journalctl", "-u", "lossd", "--no-pager", "-n", "40", "-o", "short-monotonic").stdout


def hello_streams():
    with Connection(ADDRESS) as connection:
        return parse(connection.receive()[3])[4][0]


# Of the machine and of the package manager itself.
OTHERS = (
    "/root", "/run/dbus", "/run/lock", "/run/log", "/run/systemd", "/run/udev", "/run/user", "/var/cache", "/var/lib/apt",
    "/var/lib/dpkg", "/var/lib/PackageKit", "/var/log", "/var/tmp/systemd-private-")


def is_others(path):
    # passwd-, group-: the accounts' tools leave them. Of systemd's state, the packages' part alone.
    return path.startswith(OTHERS) or path.endswith(("-", ".lock")) or (
        path.startswith("/var/lib/systemd/") and not path.startswith("/var/lib/systemd/deb-systemd-helper-"))


def tree():
    """Every file and folder but others'."""
    found = set()
    for top in ("etc", "usr", "var", "run", "opt", "srv", "home", "root"):
        for folder, folders, names in os.walk(f"/{top}"):
            folders[:] = [name for name in folders if not is_others(f"{folder}/{name}")]
            found.update(path for path in (f"{folder}/{name}" for name in folders + names) if not is_others(path))
    return found


class Package(unittest.TestCase):
    def setUp(self):
        begun = time.monotonic()
        self.addCleanup(lambda: print(f"{time.monotonic() - begun:.1f} s", end=" ", file=sys.stderr))

    def stay(self):
        """The sockets listen and no unit has failed."""
        for unit in UNITS[:2]:
            self.assertEqual(show("ActiveState", unit), "active")
        self.assertEqual(run("systemctl", "--failed", "--quiet", "--no-legend").stdout.strip(), "")

    def dropin(self, unit, name, text=None):
        folder = pathlib.Path(f"/etc/systemd/system/{unit}.d")
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text if text is not None else (DROPINS / name).read_text())
        run("systemctl", "daemon-reload")

    def no_dropins(self):
        for unit in UNITS:
            shutil.rmtree(f"/etc/systemd/system/{unit}.d", ignore_errors=True)
        run("systemctl", "daemon-reload")

    def test_01_installed_the_sockets_listen_and_nothing_runs_yet(self):
        Package.before = tree()
        Package.groups = pathlib.Path("/etc/group").read_text()
        run("dpkg", "-i", "/debs/lossd_0.0.1_amd64.deb" if os.uname().machine == "x86_64"
            else "/debs/lossd_0.0.1_arm64.deb")
        self.stay()
        self.assertEqual(show("ActiveState"), "inactive")
        self.assertEqual(oct(os.stat(PATH).st_mode & 0o777), "0o660")
        self.assertEqual(oct(os.stat("/run/lossd/admin.sock").st_mode & 0o777), "0o600")
        for unit in (*UNITS[:2], "lossd-settings.service"):
            self.assertEqual(run("systemctl", "is-enabled", unit).stdout.strip(), "enabled")

    def test_02_the_first_connection_starts_the_daemon(self):
        with Connection(ADDRESS) as connection:
            value = connection.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values()
        self.assertEqual(value, [0.5])
        self.assertEqual(show("ActiveState"), "active")
        self.assertEqual(show("StatusText"), "serving")
        self.assertEqual(show("NRestarts"), "0")

    def test_03_the_sandbox_is_in_force(self):
        status = dict(
            line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid()}/status").read_text().splitlines()
            if ":\t" in line)
        for key in ("CapBnd", "CapEff", "CapPrm", "CapAmb"):
            self.assertEqual(int(status[key], 16), 0, key)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        self.assertTrue(61184 <= int(status["Uid"].split()[0]) <= 65519, status["Uid"])
        for name in ("mnt", "net", "ipc", "uts"):
            self.assertNotEqual(
                os.readlink(f"/proc/{pid()}/ns/{name}"), os.readlink(f"/proc/self/ns/{name}"), name)
        # It sees its clients' uids, which limits of users need.
        self.assertEqual(os.readlink(f"/proc/{pid()}/ns/user"), os.readlink("/proc/self/ns/user"))
        limits = pathlib.Path(f"/proc/{pid()}/limits").read_text()
        self.assertIn("20000", [line for line in limits.splitlines() if line.startswith("Max open files")][0])
        # Workers are nicer than loops: setpriority is not refused.
        nice = {}
        for task in os.listdir(f"/proc/{pid()}/task"):
            name, fields = pathlib.Path(f"/proc/{pid()}/task/{task}/stat").read_text().split("(")[1].rsplit(")", 1)
            nice[name] = int(fields.split()[16])
        self.assertEqual(nice["lossd-worker"], nice["lossd-loop"] + 5)

    def test_04_members_of_the_group_evaluate_and_others_do_not(self):
        run("useradd", "-m", "-G", "lossd-clients", "alice")
        run("useradd", "-m", "bob")
        command = ("lossctl", "eval", "cross_entropy", "--input", DATA / "digits_logits.npy", "--target",
                   DATA / "digits_labels.npy", "--json")
        result = json.loads(run(*command, user="alice", cwd="/").stdout)
        self.assertAlmostEqual(result["outputs"]["loss"]["values"][0], 0.0755572, 6)
        refused = run(*command, user="bob", cwd="/", check=False)
        self.assertEqual(refused.returncode, 69)
        self.assertIn("Permission denied", refused.stderr)
        for user in ("alice", "bob"):
            refused = run("lossctl", "plugin", "list", user=user, cwd="/", check=False)
            self.assertIn("Permission denied", refused.stderr)
        self.assertIn("catalogue", run("lossctl", "plugin", "list").stdout)
        # Administration is not to be had at the clients' socket, not even by root.
        refused = run("lossctl", "plugin", "list", "--server", ADDRESS, check=False)
        self.assertIn("PERMISSION_DENIED", refused.stderr)

    def test_05_a_plugin_made_with_the_development_package_is_loaded(self):
        run("dpkg", "-i", *pathlib.Path("/debs").glob("lossd-dev_0.0.1_*.deb"))
        examples = "/usr/share/doc/lossd-dev/examples"
        flags = run("pkg-config", "--cflags", "lossd-plugin").stdout.split()
        folder = run("pkg-config", "--variable=plugindir", "lossd-plugin").stdout.strip()
        for name, folder in (("hinge", "/etc/lossd/plugins"), ("tversky", folder)):
            run("cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", *flags, "-o", f"/root/{name}.so",
                f"{examples}/{name}.c")
            run("lossctl", "plugin", "install", f"/root/{name}.so", "--folder", folder)
            until(lambda: f"{name} 1.0 ({folder}" in run("lossctl", "plugin", "list").stdout, "loaded")
        with Connection(ADDRESS) as connection:
            result = connection.evaluate("hinge", {
                "input": Tensor([0.5, 2.0, -1.0]), "target": Tensor([1.0, 1.0, 1.0])})
            self.assertAlmostEqual(result["loss"].values()[0], 2.5 / 3, 6)
        os.remove("/etc/lossd/plugins/hinge.so")
        until(lambda: "hinge 1.0" not in run("lossctl", "plugin", "list").stdout, "unloaded")
        run("dpkg", "--purge", "lossd-dev")
        os.remove(f"{folder}/tversky.so")

    def test_05b_plugins_run_under_the_sandbox_in_the_daemon_and_in_processes_of_their_own(self):
        run("make", "-s", "-C", SOURCE / "Plugins" / "Wicked", "OUT=/root/wicked", "/root/wicked/wicked.so")

        def place(folder):
            run("lossctl", "plugin", "install", "/root/wicked/wicked.so", "--folder", folder)
            until(lambda: f"wicked 1.0 ({folder}" in run("lossctl", "plugin", "list").stdout, "loaded")

        def wicked(mode, **options):
            with Connection(ADDRESS) as connection:
                return connection.evaluate("wicked", {}, {"mode": mode}, ["loss"], **options)["loss"].values()[0]

        # What an administrator puts there runs in a process of its own, which is more confined than the daemon.
        process = pid()
        place("/etc/lossd/plugins")
        worker = int(wicked("pid"))
        self.assertNotEqual(worker, process)
        fields = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{worker}/status").read_text().splitlines() if ":\t" in line)
        self.assertEqual(int(fields["PPid"]), process)
        daemon = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
        self.assertGreater(int(fields["Seccomp_filters"]), int(daemon["Seccomp_filters"]))
        for mode, code in (("segv_null", 14), ("abrt", 14), ("hang", 4)):
            with self.assertRaises(CallError, msg=mode) as caught:
                wicked(mode, timeout_us=500_000)
            self.assertEqual(caught.exception.code, code, mode)
            self.assertEqual(wicked("none"), 6)
        self.assertEqual((pid(), show("NRestarts")), (process, "0"))
        os.remove("/etc/lossd/plugins/wicked.so")
        until(lambda: "wicked" not in run("lossctl", "plugin", "list").stdout, "unloaded")
        # What packages bring runs in the daemon. There a crash ends it; it is there again at once, and has learnt.
        place("/usr/lib/lossd/plugins")
        self.assertEqual(wicked("pid"), process)
        with Connecting() as clients:
            with self.assertRaises((EOFError, ConnectionResetError)):
                wicked("segv_null")
            until(lambda: pid() not in (0, process) and show("ActiveState") == "active", "restarted")
        self.assertEqual(clients.refused, [])
        until(lambda: "wicked" in run("lossctl", "plugin", "list").stdout, "loaded again")
        run("journalctl", "--sync")
        self.assertIn("SIGSEGV in plugin wicked 1.0", run(
            "journalctl", "-u", "lossd", "-p", "crit", "-o", "cat", "--no-pager").stdout)
        self.assertNotEqual(wicked("pid"), pid(), journal())
        os.remove("/usr/lib/lossd/plugins/wicked.so")
        until(lambda: "wicked" not in run("lossctl", "plugin", "list").stdout, "unloaded")
        self.stay()

    def test_05c_administrators_other_than_root_by_drop_ins(self):
        run("groupadd", "lossd-admins")
        self.addCleanup(run, "groupdel", "lossd-admins")
        run("usermod", "-aG", "lossd-admins", "alice")
        self.dropin("lossd-admin.socket", "admin-group.conf")
        # With the daemon under load: restarting this socket exchanges the daemon, and the clients' socket stays.
        process = pid()
        with Connecting() as clients:
            run("systemctl", "restart", "lossd-admin.socket")
            until(lambda: pid() not in (0, process) and show("ActiveState") == "active", "exchanged")
        self.assertEqual(clients.refused, [])
        self.assertIn("catalogue", run("lossctl", "plugin", "list").stdout)
        # The socket's file lets her in, and the daemon does not know her: its user namespace has root alone.
        refused = run("lossctl", "plugin", "list", user="alice", cwd="/", check=False)
        self.assertIn("is neither root nor the daemon's own user (admin_peers)", refused.stderr)
        self.dropin("lossd.service", "admin-group-service.conf")
        run("systemctl", "restart", "lossd.service")
        self.assertIn("catalogue", run("lossctl", "plugin", "list", user="alice", cwd="/").stdout)
        refused = run("lossctl", "plugin", "list", user="bob", cwd="/", check=False)
        self.assertIn("Permission denied", refused.stderr)
        self.no_dropins()
        run("systemctl", "restart", "lossd-admin.socket")
        self.assertIn("catalogue", run("lossctl", "plugin", "list").stdout)
        refused = run("lossctl", "plugin", "list", user="alice", cwd="/", check=False)
        self.assertIn("Permission denied", refused.stderr)
        run("gpasswd", "-d", "alice", "lossd-admins")
        self.stay()

    def test_06_reload_takes_what_is_good_and_fails_for_what_is_bad(self):
        config = pathlib.Path("/etc/lossd/lossd.yaml")
        shipped, process = config.read_text(), pid()
        with Load(2) as load:
            config.write_text(shipped + "\nlimits:\n  streams: 40\nworkers: 3\n")
            run("systemctl", "reload", "lossd")
            self.assertEqual(hello_streams(), 40)
            self.assertIn("limits.streams 40", show("StatusText"))
            self.assertIn("workers goes from 0 to 3 with the next restart only", journal())
            config.write_text(shipped + "\nlimits:\n  streams: plenty\n")
            self.assertNotEqual(run("systemctl", "reload", "lossd", check=False).returncode, 0)
            self.assertEqual(show("ActiveState"), "active")
            self.assertIn("plenty is not a number", show("StatusText"))
            self.assertIn("the settings before stay: ", journal())
            self.assertEqual(hello_streams(), 40)
            config.write_text(shipped)
            run("systemctl", "reload", "lossd")
            self.assertEqual(hello_streams(), 256)
        self.assertEqual(load.failures, [])
        self.assertEqual(load.moves, 0)
        self.assertEqual(pid(), process)

    def test_07_the_log_has_priorities_and_one_line_a_fact(self):
        run("journalctl", "--sync")
        lines = [json.loads(line) for line in run(
            "journalctl", "-u", "lossd", "-o", "json", "--no-pager").stdout.splitlines()]
        ours = {line["MESSAGE"]: line["PRIORITY"] for line in lines if line.get("_EXE") == "/usr/sbin/lossd"}
        self.assertEqual([number for text, number in ours.items() if "is ready" in text], ["5"])
        self.assertEqual([number for text, number in ours.items() if "reload failed" in text], ["3"])
        self.assertFalse([text for text in ours if text.startswith("<")])
        self.assertFalse([text for text in ours if "thread priority" in text])
        self.assertLess(len(ours), 40)  # Thousands of calls have been made.

    def test_08_killed_under_load_nobody_is_refused(self):
        process = pid()
        with Connecting() as clients:
            time.sleep(0.2)
            os.kill(process, signal.SIGKILL)
            until(lambda: show("ActiveState") == "active" and pid() not in (0, process), "restarted")
            time.sleep(0.2)
        self.assertEqual(clients.refused, [])
        self.assertGreater(clients.connections, 50)
        self.stay()

    def test_09_a_daemon_that_hangs_is_restarted_by_the_watchdog(self):
        self.dropin("lossd.service", "watchdog.conf", "[Service]\nWatchdogSec=2s\n")
        run("systemctl", "restart", "lossd")
        process = pid()
        time.sleep(3)  # An idle one is not taken for one that hangs.
        self.assertEqual(pid(), process)
        begun = time.monotonic()
        with Connecting() as clients:
            os.kill(process, signal.SIGSTOP)
            until(lambda: pid() not in (0, process) and show("ActiveState") == "active", "restarted")
        self.assertEqual(clients.refused, [])
        self.assertLess(time.monotonic() - begun, 6)
        self.assertIn("Watchdog timeout", run("journalctl", "--no-pager", "-u", "lossd").stdout)
        self.no_dropins()
        run("systemctl", "restart", "lossd")
        self.stay()

    def test_10_twenty_kills_in_a_row_reach_no_limit(self):
        with Connecting() as clients:
            for _ in range(20):
                until(lambda: pid() != 0, "started")
                process = pid()
                os.kill(process, signal.SIGKILL)
                until(lambda: pid() not in (0, process), "restarted")
        until(lambda: show("ActiveState") == "active", "serving")
        self.assertEqual(clients.refused, [])
        self.stay()
        follower = Follower()
        follower.call()
        follower.close()

    def test_11_a_start_that_fails_is_tried_again_and_the_socket_stays(self):
        config = pathlib.Path("/etc/lossd/lossd.yaml")
        shipped = config.read_text()
        config.write_text("nonsense: 1\n")
        run("systemctl", "restart", "lossd", check=False)
        begun = int(show("NRestarts"))
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(PATH)
            time.sleep(5)
            self.assertLess(int(show("NRestarts")) - begun, 5)
            self.assertIn("there is no setting nonsense", journal())
            self.assertEqual(show("ActiveState", "lossd.socket"), "active")
            config.write_text(shipped)
            until(lambda: show("ActiveState") == "active" and show("SubState") == "running", "started")
        self.stay()

    def failed(self):
        return run("systemctl", "--failed", "--quiet", "--no-legend", "--plain").stdout

    def test_11_settings_that_cannot_be_used_are_a_failed_unit_until_they_can(self):
        config = pathlib.Path("/etc/lossd/lossd.yaml")
        shipped = config.read_text()
        self.addCleanup(config.write_text, shipped)
        run("systemctl", "stop", "lossd")
        for text, reason in (("nonsense: 1\n", "there is no setting nonsense"),
                             ("limits:\n  streams: many\n", "limits.streams: many is not a number"), (": [", "settings:")):
            config.write_text(text)
            with Connecting() as clients:
                until(lambda: "lossd-settings.service" in self.failed(), "seen")
                # Whoever looks now and then sees it: it is not long away with each try.
                looks = []
                for _ in range(50):
                    looks.append("lossd-settings.service" in self.failed())
                    time.sleep(0.1)
                self.assertGreater(sum(looks), 35)
                self.assertNotIn("lossd.socket", self.failed())
                for unit in UNITS[:2]:
                    self.assertEqual(show("ActiveState", unit), "active")
                run("journalctl", "--sync")
                self.assertIn(reason, run("journalctl", "-u", "lossd-settings", "-n", "20", "-o", "cat").stdout)
                # A corrected file brings the daemon back, without a command.
                config.write_text(shipped)
                until(lambda: show("ActiveState") == "active" and show("SubState") == "running", "started")
            self.assertEqual(clients.refused, [])
            self.stay()
            run("systemctl", "stop", "lossd")
        # And without a client.
        config.write_text("nonsense: 1\n")
        run("systemctl", "start", "lossd-settings", check=False)
        self.assertIn("lossd-settings.service", self.failed())
        config.write_text(shipped)
        run("systemctl", "start", "lossd-settings")
        self.stay()

    def test_12_restarts_lose_no_call_of_clients_that_follow_goaway(self):
        with Load() as load, Connecting() as clients:
            for _ in range(3):
                time.sleep(0.3)
                run("systemctl", "restart", "lossd")
            # Stopped rather than restarted, it comes back with the next connection.
            run("systemctl", "stop", "lossd")
            time.sleep(0.5)
        self.assertEqual(load.failures, [])
        self.assertEqual(clients.refused, [])
        self.assertGreaterEqual(load.moves, 4 * len(load.followers))
        print(f"4 exchanges, {load.calls} calls, {load.moves} moves, {clients.connections} connections")

    def test_13_an_upgrade_under_load_fails_no_call_and_no_stream(self):
        results = []

        def stream():
            results.append(run(
                "lossctl", "eval", "cross_entropy", "--input", DATA / "digits_logits.npy", "--target",
                DATA / "digits_labels.npy", "--batch-size", "1", "--json", check=False))

        def streams():
            while not ended.is_set():
                stream()

        ended = threading.Event()
        thread = threading.Thread(target=streams)
        follower = Follower()
        follower.call()
        process = pid()
        with Load() as load, Connecting() as clients:
            thread.start()
            time.sleep(0.3)
            run("dpkg", "-i", *pathlib.Path("/debs").glob("lossd_0.0.2_*.deb"))
            until(lambda: pid() not in (0, process), "exchanged", 60)
            time.sleep(0.5)
            ended.set()
            thread.join()
        follower.call()
        follower.close()
        self.assertEqual(load.failures, [])
        self.assertEqual(clients.refused, [])
        self.assertGreaterEqual(load.moves, len(load.followers))
        self.assertEqual([result.stderr for result in results if result.returncode], [])
        for result in results:
            self.assertAlmostEqual(json.loads(result.stdout)["values"]["loss"], 0.0755572, 5)
        self.assertEqual(run("dpkg-query", "-W", "-f=${Version}", "lossd").stdout, "0.0.2")
        print(f"upgrade, {load.calls} calls, {load.moves} moves, {len(results)} streams")
        # Back out is the same exchange.
        process = pid()
        with Load() as load, Connecting() as clients:
            run("dpkg", "--force-downgrade", "-i", *pathlib.Path("/debs").glob("lossd_0.0.1_*.deb"))
            until(lambda: pid() not in (0, process), "exchanged", 60)
        self.assertEqual(load.failures, [])
        self.assertEqual(clients.refused, [])
        self.assertEqual(run("dpkg-query", "-W", "-f=${Version}", "lossd").stdout, "0.0.1")
        run("dpkg", "-i", *pathlib.Path("/debs").glob("lossd_0.0.2_*.deb"))

    def test_14_tcp_by_drop_ins(self):
        self.dropin("lossd.socket", "tcp-socket.conf", (DROPINS / "tcp-socket.conf").read_text())
        self.dropin("lossd.service", "tcp-service.conf")
        run("systemctl", "stop", "lossd.service", "lossd.socket", "lossd-admin.socket")
        run("systemctl", "start", "lossd.socket", "lossd-admin.socket")
        for address in ("tcp:127.0.0.1:5677", ADDRESS):
            self.assertIn("lossd/", run("lossctl", "ping", "--server", address).stdout)
        self.no_dropins()
        run("systemctl", "stop", "lossd.service", "lossd.socket", "lossd-admin.socket")
        run("systemctl", "start", "lossd.socket", "lossd-admin.socket")

    def test_15_every_drop_in_is_understood_and_lets_the_daemon_start(self):
        newer = {"slow-start.conf"}  # For systemd 254, as it says.
        sockets = {"tcp-socket.conf", "group.conf", "admin-group.conf"}
        for group in ("ml", "lossd-admins"):
            run("groupadd", group)
            self.addCleanup(run, "groupdel", group)
        (pathlib.Path("/srv/models")).mkdir()
        for path in sorted(DROPINS.glob("*.conf")):
            if path.name in newer or path.name in sockets:
                continue
            self.dropin("lossd.service", path.name)
            since = time.time()
            run("systemctl", "restart", "lossd")
            self.assertIn("lossd/", run("lossctl", "ping").stdout, path.name)
            log = run("journalctl", "--no-pager", "--since", f"@{since - 1}").stdout
            self.assertNotIn("Unknown key", log)
            self.assertNotIn("Failed to parse", log)
            self.no_dropins()
        # A socket's owner shows.
        for unit, name, path, group in (
                ("lossd.socket", "group.conf", PATH, "ml"),
                ("lossd-admin.socket", "admin-group.conf", "/run/lossd/admin.sock", "lossd-admins")):
            self.dropin(unit, name)
            run("systemctl", "stop", *UNITS)
            run("systemctl", "start", *UNITS[:2])
            self.assertEqual(pathlib.Path(path).group(), group)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
            self.no_dropins()
        run("systemctl", "stop", *UNITS)
        run("systemctl", "start", *UNITS[:2])
        run("systemctl", "restart", "lossd")
        os.rmdir("/srv/models")
        # What plugin-files.conf gave plugins to keep stays until the purge.
        self.assertTrue(os.path.isdir("/var/lib/private/lossd"))

    def test_16_the_access_log_says_who_calls(self):
        config = pathlib.Path("/etc/lossd/lossd.yaml")
        shipped = config.read_text()
        config.write_text(shipped + "\naccess_log: true\n")
        run("systemctl", "reload", "lossd")
        process = pid()
        alice = pwd.getpwnam("alice").pw_uid

        def seen(count):
            """The last call's line in the journal, when there are so many."""
            text = []

            def there():
                run("journalctl", "--sync")
                text[:] = [line for line in run(
                    "journalctl", "-u", "lossd", "-o", "cat", "-p", "info..info", "--no-pager").stdout.splitlines()
                    if line.startswith("call uid=")]
                return len(text) >= count
            until(there, f"{count} lines")
            return text[-1]

        run("lossctl", "status", user="alice", cwd="/")
        self.assertRegex(
            seen(1), rf"uid={alice} pid=\d+ .*method=/lossd.v1.Daemon/GetStatus .*code=OK")
        self.dropin("lossd.service", "access-log.conf")
        run("systemctl", "restart", "lossd")
        self.assertNotEqual(pid(), process)
        run("lossctl", "status", user="alice", cwd="/")
        self.assertIn(f"uid={alice} pid=", seen(2))
        config.write_text(shipped)
        self.no_dropins()
        run("systemctl", "restart", "lossd")

    def test_16b_a_user_at_its_limits_disturbs_no_other(self):
        config = pathlib.Path("/etc/lossd/lossd.yaml")
        shipped = config.read_text()
        run("useradd", "-m", "-G", "lossd-clients", "carol")
        self.addCleanup(run, "userdel", "-r", "carol", check=False)
        config.write_text(shipped + "\nlimits:\n  user_connections: 20\n  user_bytes: 16MiB\n")
        run("systemctl", "restart", "lossd")
        tests = pathlib.Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"}

        def start(user, script, *arguments):
            return subprocess.Popen(
                ["runuser", "-u", user, "--", sys.executable, script, *arguments], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True, env=environment, cwd="/")

        def worst():
            other = start("alice", tests.parent / "other_user.py", ADDRESS, "-")
            self.assertEqual(other.stdout.readline().strip(), "ready")
            time.sleep(2)
            told = json.loads(other.communicate("", timeout=60)[0])
            self.assertEqual(told["failures"], [])
            return max(told["times"])

        quiet = worst()
        greedy = start("carol", tests / "greedy.py")
        held, refused = map(int, greedy.stdout.readline().split())
        self.assertEqual((held, refused), (20, 40))
        self.assertLess(min(worst() for _ in range(3)), max(0.05, 10 * quiet))
        run("lossctl", "eval", "sigmoid", "--input", DATA / "worked_sigmoid_input.npy", user="alice", cwd="/")
        greedy.communicate("", timeout=60)
        config.write_text(shipped)
        run("systemctl", "restart", "lossd")

    def test_17_an_administrators_choices_survive_and_a_clean_stop_is_one(self):
        run("systemctl", "stop", *UNITS)
        self.assertEqual(show("Result"), "success")
        self.assertFalse(os.path.exists(PATH))
        self.assertFalse(os.path.exists("/run/lossd-daemon"))
        run("systemctl", "disable", "lossd-admin.socket")
        run("dpkg", "-i", *pathlib.Path("/debs").glob("lossd_0.0.2_*.deb"))
        self.assertEqual(run("systemctl", "is-enabled", "lossd-admin.socket", check=False).stdout.strip(), "disabled")
        self.assertEqual(run("systemctl", "--failed", "--quiet", "--no-legend").stdout.strip(), "")

    def test_18_purged_nothing_is_left(self):
        for user in ("alice", "bob"):
            run("userdel", "-r", user, check=False)
        with Connection(ADDRESS) as connection:
            connection.ping()
        run("dpkg", "--remove", "lossd")
        self.assertEqual(show("ActiveState"), "inactive")
        self.assertTrue(os.path.exists("/etc/lossd/lossd.yaml"))
        run("dpkg", "--purge", "lossd")
        self.assertEqual(sorted(tree() - Package.before), [])
        self.assertEqual(sorted(Package.before - tree()), [])
        self.assertEqual(pathlib.Path("/etc/group").read_text(), Package.groups)
        self.assertEqual(run("systemctl", "--failed", "--quiet", "--no-legend").stdout.strip(), "")

    def test_19_the_page_on_operation_is_right_from_installing_to_purging(self):
        before, groups = tree(), pathlib.Path("/etc/group").read_text()
        run("useradd", "-m", "alice")
        versions = iter(("0.0.1", "0.0.2", "0.0.1"))
        folder = pathlib.Path("/root/packages")
        where = {"#": folder, "$": "/home/alice"}
        folder.mkdir()
        steps = pages.steps((SOURCE / "docs" / "operations.md").read_text(), "#$")
        self.assertGreater(len(steps), 40)
        for prompt, command, expected in steps:
            if "apt-get install" in command:
                for path in folder.glob("*.deb"):
                    path.unlink()
                for path in pathlib.Path("/debs").glob(f"lossd_{next(versions)}_*.deb"):
                    shutil.copy(path, folder)
                where["#"] = folder
            if command.startswith("cd "):
                where["#"] = command[3:]
                continue
            run("journalctl", "--sync")
            result = run(
                "bash", "-c", f"exec 2>&1\n{command}", user="alice" if prompt == "$" else None, cwd=where[prompt], check=False,
                env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", SYSTEMD_EMOJI="0"), stdin=subprocess.DEVNULL)
            said = f"{prompt} {command}\n{result.stdout}"
            self.assertEqual(result.returncode, 0, said + journal())
            self.assertRegex(result.stdout.rstrip("\n"), pages.pattern(expected), said)
        self.assertIsNone(next(versions, None))
        run("userdel", "-r", "alice", check=False)
        shutil.rmtree(folder)
        self.assertEqual(sorted(tree() ^ before), [])
        self.assertEqual(pathlib.Path("/etc/group").read_text(), groups)


if __name__ == "__main__":
    unittest.main(verbosity=2)
