"""Loading: libraries that are wicked while they are loaded or unloaded, files that are not to be trusted, names that
clash, files that change under a call."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from isolation import HINGE, Neighbours, PluginDaemon, built, check_neighbours, is_alive, start_neighbours, until
from plugin_files import INCLUDE, WICKED, build, make_wicked
from test_isolation import FINE, Wicked
from wire import CallError, Response, Tensor

# What a variant of load.c comes to when it is loaded: nothing (it serves), or what the reply and the log say.
PROCESS = "its process {} while loading it"
VARIANTS = {
    "good": None, "constructor_mode": None, "constructor_thread": None, "constructor_spins": None, "nodelete": None, "unknown_fields": None,
    "many_functions": None, "stop_crash": None, "stop_hang": None, "destructor_crash": None, "destructor_hang": None,
    "constructor_signals": "loading it changed a signal's handler", "constructor_mask": "loading it changed the signal mask",
    "constructor_locale": "loading it changed the locale", "constructor_cwd": "its process was killed by SIGSEGV",
    "entry_null": "lossd_plugin_entry returned NULL", "no_entry": "does not export lossd_plugin_entry",
    "abi_major": "built for plugin.h 2.", "abi_minor": "built for plugin.h 1.", "plugin_short": "16 bytes long",
    "function_short": "64 bytes long", "function_null": "function 0 is NULL", "no_functions": "it has no functions",
    "clash": "the function sigmoid exists already, in the plugin catalogue",
    "clash_own": "exists already, in the plugin load_clash_own", "bad_name": "the function name `Two words`",
    "name_null": "a function has no name", "too_many_inputs": "declares 1000 inputs", "no_plan": "lacks plan or run",
    "wrong_bounds": "a default or bound of another type", "start_fails": "its start failed: no licence was found",
    "undefined": "undefined symbol: nobody_defines_this", "needs_swift": "link Swift's runtime statically",
    "needs_missing": "liblossd_nowhere.so", "much_tls": "static TLS", "executable_stack": "wants an executable stack",
    "constructor_crash": PROCESS.format("was killed by SIGSEGV"), "constructor_hang": "it has not loaded within 700 ms",
    "constructor_exit": PROCESS.format("exited with status 3"),
    "constructor_abort": PROCESS.format("was killed by SIGABRT"), "entry_crash": PROCESS.format("was killed by SIGSEGV"),
    "entry_hang": "it has not loaded within 700 ms", "entry_is_data": PROCESS.format("was killed by SIGSEGV"),
    "start_crash": PROCESS.format("was killed by SIGSEGV"), "start_hang": "it has not loaded within 700 ms",
    "resolver_crash": PROCESS.format("was killed by SIGSEGV"),
}


class WickedWhileLoading(unittest.TestCase):
    def every_variant(self, isolation):
        self.assertEqual(sorted(VARIANTS), sorted(path.stem for path in (built() / "load").glob("*.so")))
        with PluginDaemon("hinge.so", plugins__isolation=isolation, plugins__load_timeout="700ms",
                          plugins__processes=1) as daemon:
            daemon.put("hinge.so", "v.so")
            daemon.plugin("unload", "hinge")
            daemon.plugin("load", "v.so")
            os.remove(daemon.folder / "hinge.so")
            with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                before = self.resources(daemon)
                for name, reason in VARIANTS.items():
                    with self.subTest(name, isolation=isolation):
                        if reason is None:
                            continue
                        # In place of the file that is loaded.
                        daemon.put(f"load/{name}.so", "v.so")
                        answer = daemon.plugin("load", "v.so", check=False)
                        self.assertNotEqual(answer.returncode, 0)
                        self.assertIn(reason, answer.stderr)
                        self.assertIn(f": {daemon.folder}/v.so: ", answer.stderr)
                        lines = [line for line in daemon.log().splitlines() if reason in line]
                        self.assertTrue(lines, daemon.log()[-1000:])
                        self.assertIn("; the version before goes on serving", lines[-1])
                        check_neighbours(*(Response(*connection.finish(call)) for call in start_neighbours(connection)))
                        self.assertEqual(daemon.list()["hinge"]["version"], "1.0")
                until(lambda: self.resources(daemon) == before,
                      lambda: f"left over: {before} to {self.resources(daemon)}", 3)
                daemon.put("hinge.so", "v.so")
                daemon.plugin("load", "v.so")
            self.assertEqual(neighbours.failures, [])
            self.assertEqual(os.readlink(f"/proc/{daemon.pid}/cwd"), os.getcwd())
            caught = [line for line in pathlib.Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
                      if line.startswith("SigCgt")][0].split()[1]
            self.assertTrue(int(caught, 16) & 1 << signal.SIGTERM - 1)
            self.assertEqual(daemon.daemon.stop(), 0)

    def resources(self, daemon):
        """Processes, and descriptors but for connections that come and go."""
        names = []
        for number in os.listdir(f"/proc/{daemon.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{daemon.pid}/fd/{number}").split(":")[0])
            except OSError:
                pass
        return len(daemon.children()), sorted(name for name in names if name != "socket")

    def test_each_is_refused_with_its_reason_and_the_old_version_serves(self):
        self.every_variant("process")

    def test_nothing_of_it_runs_in_the_daemon_either(self):
        self.every_variant("none")

    def test_what_loads_serves_and_what_is_odd_about_it_is_said(self):
        for isolation in ("process", "none"):
            with PluginDaemon("hinge.so", plugins__isolation=isolation, workers=2) as daemon:
                with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                    for name in ("good", "constructor_mode", "constructor_thread", "nodelete", "unknown_fields",
                                 "many_functions"):
                        with self.subTest(name, isolation=isolation):
                            daemon.put(f"load/{name}.so")
                            daemon.plugin("load", f"{name}.so")
                            loss = connection.evaluate(f"load_{name}", {})["loss"].values()
                            self.assertEqual(loss, [4])
                            if name == "many_functions":
                                self.assertEqual(len(daemon.list()[f"load_{name}"]["functions"]), 1000)
                                self.assertEqual(connection.evaluate(f"load_{name}.999", {})["loss"].values(), [4])
                            daemon.plugin("unload", f"load_{name}")
                            with self.assertRaises(CallError):
                                connection.evaluate(f"load_{name}", {})
                    if isolation == "none":
                        until(lambda: len(daemon.pinned()) == 2, daemon.pinned)
                        self.assertEqual(daemon.pinned(), {
                            "load_constructor_thread": ("pinned", "it has started threads of its own"),
                            "load_nodelete": ("pinned", "it has unique symbols or thread destructors")})
                        self.assertIn("plugin load_nodelete 1.0 is unloaded, but stays in memory", daemon.log())
                    else:
                        self.assertEqual(daemon.pinned(), {})
                self.assertEqual(neighbours.failures, [])
                self.assertEqual(daemon.daemon.stop(), 0)

    def test_what_crashes_or_hangs_when_it_is_unloaded(self):
        names = ("stop_crash", "stop_hang", "destructor_crash", "destructor_hang")
        with PluginDaemon(*(f"load/{name}.so" for name in names), "hinge.so", plugins__isolation="process") as daemon:
            with Neighbours(daemon) as neighbours:
                children = [pid for name in names for pid in daemon.list()[f"load_{name}"]["processes"]]
                for name in names:
                    daemon.plugin("unload", f"load_{name}")
                until(lambda: not any(map(is_alive, children)), lambda: f"still there: {children}", 3)
            self.assertEqual(neighbours.failures, [])
        # In the daemon it would end it, or hold the dynamic linker's lock for ever: that is tried before, elsewhere.
        with PluginDaemon(*(f"load/{name}.so" for name in names), "hinge.so", plugins__isolation="none",
                          plugins__load_timeout="500ms") as daemon:
            with Neighbours(daemon) as neighbours, daemon.connect() as connection:
                for name in names:
                    ended = "its process was killed by SIGSEGV" if "crash" in name else "it has not ended within 500 ms"
                    self.assertIn(
                        f"load/{name}.so".split("/")[1] + ": it is not fit for the daemon and runs in a process of its "
                        f"own: when it was unloaded, {ended}", daemon.log())
                    self.assertEqual(daemon.list()[f"load_{name}"]["isolation"], "process")
                    self.assertEqual(connection.evaluate(f"load_{name}", {})["loss"].values(), [4])
                    daemon.plugin("unload", f"load_{name}")
                    daemon.plugin("reload", "hinge")
            self.assertEqual(neighbours.failures, [])
            self.assertEqual(daemon.daemon.stop(), 0)

    def test_a_stop_that_hangs_in_the_daemon_alone_holds_up_nobody(self):
        """One that knows where it is."""
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        text = (WICKED / "load.c").read_text()
        self.assertIn("static void stop(void) {", text)
        (folder / "sly.c").write_text(text.replace(
            "static void stop(void) {", "#include <errno.h>\nstatic void stop(void) {\n"
            "  if (kill(getpid(), 0) == 0) hang(); /* which a process of its own may not even ask */\n"))
        subprocess.run(["cc", "-std=gnu99", "-shared", "-fPIC", "-DGOOD", '-DNAME="sly"', "-I", INCLUDE, "-o",
                        folder / "sly.so", folder / "sly.c"], check=True)
        with PluginDaemon("hinge.so", plugins__isolation="none") as daemon:
            shutil.copy(folder / "sly.so", daemon.folder)
            daemon.plugin("load", "sly.so")
            self.assertEqual(daemon.list()["load_sly"]["isolation"], "none")
            with Neighbours(daemon) as neighbours:
                daemon.plugin("unload", "load_sly")
                daemon.plugin("reload", "hinge")
                time.sleep(0.2)
            self.assertEqual(neighbours.failures, [])
            begin = time.time()
            self.assertEqual(daemon.daemon.stop(), 0)
            self.assertLess(time.time() - begin, 4)
            self.assertIn("plugin load_sly 1.0 has not stopped: the daemon ends without waiting for it", daemon.log())

    def test_what_is_said_while_it_is_loaded_is_logged(self):
        source = pathlib.Path(tempfile.mkdtemp()) / "talks.c"
        self.addCleanup(shutil.rmtree, source.parent)
        source.write_text('''
            #include <lossd/plugin.h>
            #include <stdio.h>
            __attribute__((constructor)) static void constructor(void) {
              for (int i = 0; i < 20000; i++) fprintf(stderr, "line %d of many\\n", i);
            }
            const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
              host->log(host, LOSSD_LOG_ERROR, "cannot work\\nwith this");
              return 0;
            }
        ''')
        build(source, source.with_suffix(".so"))
        with PluginDaemon("hinge.so") as daemon:
            shutil.copy(source.with_suffix(".so"), daemon.folder / "talks.so")
            answer = daemon.plugin("load", "talks.so", check=False)
            self.assertIn("lossd_plugin_entry returned NULL", answer.stderr)
            log = daemon.log()
            self.assertIn("talks.so, being loaded: line 0 of many", log)
            self.assertLess(log.count("of many"), 200)
            self.assertIn("lines more, which are left out", log)


class Trust(unittest.TestCase):
    """Which files are taken."""

    def load(self, daemon, name="x.so"):
        answer = daemon.plugin("load", name, check=False)
        return answer.stderr if answer.returncode else ""

    def test_checksums(self):
        digest = hashlib.sha256((built() / "hinge.so").read_bytes()).hexdigest()
        with PluginDaemon("hinge.so", plugins__pins=f"hinge.so={digest.upper()},wicked.so={'0' * 64}") as daemon:
            self.assertIn("hinge", daemon.list())
            daemon.put("wicked.so")
            text = self.load(daemon, "wicked.so")
            self.assertIn("wicked.so: refused: its SHA-256 is ", text)
            self.assertIn(f"pinned is {'0' * 64}", text)
            # One that is good, under the name of one that is pinned.
            daemon.put("load/good.so", "hinge.so")
            self.assertIn(f"pinned is {digest.upper()}", self.load(daemon, "hinge.so"))
            with daemon.connect() as connection:
                connection.evaluate("hinge", HINGE)
            daemon.put("load/good.so")
            self.assertEqual(self.load(daemon, "good.so"), "", "what is not pinned")

    def test_files_that_are_none_or_anybodys(self):
        with PluginDaemon("hinge.so") as daemon:
            path = daemon.folder / "x.so"

            def refused(text, make):
                make()
                begin = time.time()
                self.assertIn(text, self.load(daemon))
                self.assertLess(time.time() - begin, 3)
                # What the watcher makes of it is the same.
                os.rmdir(path) if path.is_dir() and not path.is_symlink() else os.remove(path)

            refused("a symbolic link", lambda: os.symlink(built() / "hinge.so", path))
            refused("not a regular file", lambda: os.mkdir(path))
            refused("not a regular file", lambda: os.mkfifo(path))
            refused("writable by its group or others (mode 666)", lambda: (daemon.put("load/good.so", "x.so"),
                                                                           os.chmod(path, 0o666)))
            refused("0 bytes long", lambda: path.write_bytes(b""))
            if os.geteuid() == 0:
                refused("owned by user 1234, not by root or the daemon's own",
                        lambda: (daemon.put("load/good.so", "x.so"), os.chown(path, 1234, 1234)))
                refused("not a regular file", lambda: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3)))
            # Mended, it is taken by itself, though nothing of its bytes has changed.
            daemon.put("load/good.so", "x.so")
            os.chmod(path, 0o666)
            self.assertIn("writable", self.load(daemon))
            os.chmod(path, 0o644)
            until(lambda: "load_good" in daemon.list(), daemon.log)

    def test_folders_that_another_may_change(self):
        root = pathlib.Path(tempfile.mkdtemp(prefix="lossd-trust-"))
        self.addCleanup(shutil.rmtree, root)
        os.chmod(root, 0o755)
        (root / "real" / "deep" / "plugins").mkdir(parents=True)
        (root / "links").mkdir()
        os.symlink("../real/deep/plugins", root / "links" / "near")
        os.symlink(root / "links" / "near", root / "links" / "far")
        os.symlink("round", root / "links" / "round")
        for folder, plugins in (("plain", root / "real" / "deep" / "plugins"), ("link", root / "links" / "far")):
            # The service's own: only the folder's files are wanted here.
            shutil.copy(built() / "load" / "good.so", root / "real" / "deep" / "plugins" / "x.so")
            with PluginDaemon("hinge.so") as daemon:
                daemon.daemon.stop()
                daemon.daemon.folder.cleanup()
                daemon.settings["plugin_folders"] = f"{plugins}/"
                (daemon.folder / "admin.sock").unlink(missing_ok=True)
                daemon.start()
                daemon.plugin("unload", "load_good", check=False)
                self.assertEqual(self.load(daemon), "", folder)
                spoilt = [root / "real" / "deep", root / "real" / "deep" / "plugins", root]
                if folder == "link":
                    spoilt += [root / "links", root / "real"]
                for place in spoilt:
                    os.chmod(place, 0o777)
                    text = self.load(daemon)
                    self.assertIn("writable by its group or others (mode 777)", text, place)
                    self.assertIn(str(place), text)
                    # With the sticky bit nobody renames what is another's, as in /tmp.
                    os.chmod(place, 0o1777)
                    self.assertEqual(self.load(daemon), "", place)
                    if os.geteuid() == 0:
                        os.chown(place, 1234, 1234)
                        self.assertIn("is owned by user 1234", self.load(daemon), place)
                        os.chown(place, 0, 0)
                    os.chmod(place, 0o755)
                if folder == "link" and os.geteuid() == 0:
                    os.lchown(root / "links" / "near", 1234, 1234)
                    self.assertIn("is a link owned by user 1234", self.load(daemon))
                    os.lchown(root / "links" / "near", 0, 0)
                self.assertEqual(self.load(daemon), "")

    def test_names_that_clash(self):
        with PluginDaemon("hinge.so") as daemon:
            daemon.put("hinge.so", "second.so")
            self.assertIn("second.so: the plugin hinge is loaded already, from", self.load(daemon, "second.so"))
            self.assertIn("goes on", daemon.log() + "goes on")
            # A function that another plugin has.
            folder = pathlib.Path(tempfile.mkdtemp())
            self.addCleanup(shutil.rmtree, folder)
            from plugin_files import EXAMPLES
            source = folder / "other.c"
            text = (EXAMPLES / "hinge.c").read_text()
            self.assertIn('LOSSD_ABI_MINOR, "hinge"', text)
            source.write_text(text.replace('LOSSD_ABI_MINOR, "hinge"', 'LOSSD_ABI_MINOR, "other"'))
            build(source, daemon.folder / "other.so")
            self.assertIn("plugin other: the function hinge exists already, in the plugin hinge",
                          self.load(daemon, "other.so"))
            with daemon.connect() as connection:
                connection.evaluate("hinge", HINGE)
                # Once what is in its way has gone, the other is loaded by itself.
                os.remove(daemon.folder / "second.so")
                os.remove(daemon.folder / "hinge.so")
                until(lambda: "other" in daemon.list(), daemon.log)
                connection.evaluate("hinge", HINGE)

    def test_a_file_that_is_renamed_is_the_same_plugin_all_the_time(self):
        with PluginDaemon("hinge.so") as daemon:
            with Neighbours(daemon) as neighbours:
                for index in range(5):
                    old, new = ("hinge.so", "other.so") if index % 2 == 0 else ("other.so", "hinge.so")
                    os.rename(daemon.folder / old, daemon.folder / new)
                    until(lambda: daemon.list()["hinge"]["file"].endswith(new), daemon.log)
            self.assertEqual(neighbours.failures, [])


class Changes(Wicked, unittest.TestCase):
    """The same path replaced, truncated, overwritten, with a call in flight."""

    def test_with_a_call_in_flight(self):
        newer = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, newer)
        make_wicked(newer, "wicked.so", DEFINES='-DVERSION=\'"2.0"\'')
        for isolation in ("process", "none"):
            with PluginDaemon("wicked.so", "hinge.so", plugins__isolation=isolation, plugins__processes=1) as daemon:
                path = daemon.folder / "wicked.so"
                good = path.read_bytes()
                changes = {
                    "truncated": lambda: os.truncate(path, 1000), "emptied": lambda: os.truncate(path, 0),
                    "overwritten": lambda: path.write_bytes(os.urandom(len(good))),
                    "removed and put back": lambda: (os.remove(path), path.write_bytes(good)),
                    "written again": lambda: path.write_bytes(good),
                }
                with Neighbours(daemon) as neighbours, daemon.connect() as connection, daemon.connect() as other:
                    for name, change in changes.items():
                        with self.subTest(name, isolation=isolation):
                            stream = connection.start(
                                "wicked", {"input": Tensor(FINE)}, {"mode": "lie_cheap", "argument": 400}, ["output"])
                            time.sleep(0.05)
                            change()
                            if isolation == "none":
                                self.is_fine(other)
                            self.assertEqual(Response(*connection.finish(stream))["output"].values(), FINE)
                            until(lambda: self.serves(other), daemon.log)
                    # Exchanged: the call ends with the version that it began with, the next one has the new.
                    shutil.copy(newer / "wicked.so", daemon.folder / ".new")
                    stream = connection.start(
                        "wicked", {"input": Tensor(FINE)}, {"mode": "lie_cheap", "argument": 500}, ["output"])
                    time.sleep(0.05)
                    os.rename(daemon.folder / ".new", path)
                    daemon.plugin("load", "wicked.so")
                    self.assertEqual(daemon.list()["wicked"]["version"], "2.0")
                    self.is_fine(other)
                    self.assertEqual(Response(*connection.finish(stream))["output"].values(), FINE)
                self.assertEqual(neighbours.failures, [])

    def serves(self, connection):
        try:
            self.is_fine(connection)
            return True
        except CallError:
            return False

    def test_what_glibc_does_not_let_go_is_reported_and_the_next_version_is_the_next(self):
        """Inline variables that are one for the whole process; values of threads with destructors."""
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for version in ("1.0", "2.0"):
            # Visible, unlike the one that is built with all others: its inline variables are unique symbols.
            subprocess.run(["c++", "-std=c++17", "-O2", "-shared", "-fPIC", "-I", INCLUDE, f'-DVERSION="{version}"', "-o",
                            folder / f"{version}.so", WICKED / "wicked.cpp"], check=True)

        def put(version):
            shutil.copy(folder / f"{version}.so", daemon.folder / ".new")
            os.rename(daemon.folder / ".new", daemon.folder / "wicked_cpp.so")
            daemon.plugin("load", "wicked_cpp.so")
            self.assertEqual(daemon.list()["wicked_cpp"]["version"], version)
            self.assertEqual(connection.evaluate("wicked_cpp", {}, {"mode": "none"})["loss"].values(), [4])

        for isolation in ("none", "process"):
            with PluginDaemon("wicked.so", "hinge.so", plugins__isolation=isolation, workers=2) as daemon:
                with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                    for version in ("1.0", "2.0", "1.0"):
                        put(version)
                    daemon.plugin("unload", "wicked_cpp")
                    if isolation == "none":
                        # The first one stays, since the others' unique symbols are its own.
                        until(lambda: "pinned" in daemon.plugin("list"), lambda: daemon.plugin("list"))
                        self.assertIn("wicked_cpp 1.0", daemon.plugin("list"))
                        self.assertIn("pinned: it has unique symbols or thread destructors", daemon.plugin("list"))
                        self.assertIn("plugin wicked_cpp 1.0 is unloaded, but stays in memory", daemon.log())
                    else:
                        self.assertEqual(daemon.pinned(), {})
                self.assertEqual(neighbours.failures, [])

    def test_what_a_library_leaves_in_threads_is_done_before_it_is_closed(self):
        """C++'s thread_local with a destructor, which glibc counts, and pthread_key_create's, which it does not."""
        with PluginDaemon("wicked_cpp.so", "wicked.so", "hinge.so", plugins__isolation="none", workers=2) as daemon:
            with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                for name in ("wicked", "wicked_cpp"):
                    for _ in range(5):
                        for _ in range(8):
                            self.assertEqual(connection.evaluate("wicked_cpp", {}, {"mode": "none"})["loss"].values(), [4])
                            self.assertEqual(self.wicked(connection, "thread_tls"), [FINE, [10.0]])
                        daemon.plugin("reload", name)
                for name in ("wicked", "wicked_cpp"):
                    daemon.plugin("unload", name)

                def mapped():
                    return {line.split()[4] for line in pathlib.Path(f"/proc/{daemon.pid}/maps").read_text().splitlines()
                            if "lossd-plugin" in line}

                until(lambda: len(mapped()) == 1, lambda: f"mapped: {mapped()}, {daemon.pinned()}")
                self.assertEqual(daemon.pinned(), {})
            self.assertEqual(neighbours.failures, [])
            self.assertEqual(daemon.daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
