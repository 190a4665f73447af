"""lossctl eval by shared memory: the bits of the socket, whatever is refused, lost or restarted meanwhile."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import unittest

import npy
from daemon import ROOT, lossctl, program
from random_files import RandomFiles
from wire import DAEMON_STATUS, END_STREAM, MESSAGE, OPEN, REGION, double, frame, number, parse

sys.path.insert(0, str(ROOT / "clients"))

from fakes import HI, SHM_HI, answer, block, echoed, listed, listed_rows, serving, varint  # noqa: E402

BIG = 8192


def rows_of(connection):
    """How many rows a daemon has evaluated."""
    return parse(connection.call(DAEMON_STATUS)[0]).get(10, [0])[0]


class EvalShared(RandomFiles):
    # ---- Files ----

    def file(self, shape, data_type="float32", values=None, **header):
        """Random numbers from -3 to 3 of 8 bits, which all types hold, or those that are drawn from `values`."""
        path = self.next_path()
        values = values or [number / 32 for number in range(-96, 97)]
        size = 1
        for length in shape:
            size *= length
        # A block of them over and over: of another length than any batch.
        part = npy.pack(self.random.choices(values, k=min(size, 10_007)), data_type)
        width = len(npy.pack([values[0]], data_type))
        with open(path, "wb") as file:
            file.write(npy.header(header.pop("code", npy.CODES[data_type]), shape, **header))
            for _ in range(size * width // len(part)):
                file.write(part)
            file.write(part[:size * width % len(part)])
        return path

    def classification(self, rows, columns, data_type="float32"):
        return {"input": self.file([rows, columns], data_type),
                "target": self.file([rows], "int64", list(range(columns)))}

    # ---- Running ----

    def arguments(self, function, inputs, outputs=(), attributes=(), batch=None, folder="ours"):
        saved = {name: self.folder / folder / f"{name}.npy" for name in outputs}
        (self.folder / folder).mkdir(exist_ok=True)
        arguments = ["eval", function, "--json"]
        for name, path in inputs.items():
            arguments += ["--tensor", f"{name}={path}"]
        for item in attributes:
            arguments += ["--attr", item]
        if outputs:
            arguments += ["--want", ",".join(outputs)]
        for name, path in saved.items():
            path.unlink(missing_ok=True)
            arguments += ["--save", f"{name}={path}"]
        return arguments + (["--batch-size", str(batch)] if batch else []), saved

    def evaluate(self, daemon, *arguments, **options):
        """What it printed, without the names of files, and the bytes of the files."""
        arguments, saved = self.arguments(*arguments, **options)
        printed = lossctl(*arguments, server=daemon.unix)
        printed.pop("files", None)
        for result in printed.get("outputs", {}).values():
            result.pop("file", None)
        return printed, {name: path.read_bytes() for name, path in saved.items()}

    def received(self, daemon):
        status = daemon.status()
        return tuple(status.get(field, [0])[0] for field in (8, 9))

    def bytes_of(self, daemon, *arguments, **options):
        """What an evaluation comes to, and how many bytes of it went through the socket each way."""
        before = self.received(daemon)
        result = self.evaluate(daemon, *arguments, **options)
        after = self.received(daemon)
        return result, [later - former for former, later in zip(before, after)]

    # ---- The same bits ----

    def test_results_by_shared_memory_have_the_bits_of_those_by_the_socket(self):
        shared, plain = self.daemon(), self.daemon(limits__region_bytes=0)
        classes = self.classification(BIG, 32)
        wide = {"input": self.file([BIG, 64], "float16")}
        odd = {"input": self.file([BIG, 32], "float64", code=">f8", fortran=True), "target": classes["target"]}
        binary = {"input": self.file([BIG, 40]), "target": self.file([BIG, 40], values=[0.25, 0.5, 1.0])}
        weighted = {**classes, "weight": self.file([32], values=[0.5, 1.0, 3.0])}
        broad = {"input": self.file([BIG, 2, 64]), "target": self.file([BIG, 2, 64], values=[0.0, 1.0]),
                 "weight": self.file([2, 64], values=[0.5, 2.0])}
        labels = {"input": classes["input"], "target": self.file([BIG], "int32", [-100, *range(32)])}
        upstream = {"input": binary["input"], "grad.output": self.file([BIG, 40])}
        cases = [
            ("cross_entropy", classes, (), ()), ("cross_entropy", classes, ("loss", "grad.input"), ()),
            ("cross_entropy", weighted, ("loss", "grad.input"), ("label_smoothing=0.25",)),
            ("cross_entropy", labels, ("loss", "grad.input"), ("reduction=none",)),
            ("cross_entropy", labels, ("grad.input",), ("reduction=sum",)),
            ("cross_entropy", odd, ("grad.input",), ()),
            ("softmax", wide, ("output",), ()), ("log_softmax", wide, ("output",), ("dtype=float32",)),
            ("sigmoid", upstream, ("output", "grad.input"), ()),
            ("binary_cross_entropy_with_logits", binary, ("loss", "grad.input", "grad.target"), ()),
            ("binary_cross_entropy_with_logits", broad, ("grad.input", "loss"), ()),
            ("binary_cross_entropy_with_logits", broad, ("loss",), ("reduction=none",)),
        ]
        for function, inputs, outputs, attributes in cases:
            for batch in (None, 2500, BIG):
                what = (f"LOSSD_SEED={self.seed}", function, outputs, attributes, batch)
                ours, ways = self.bytes_of(shared, function, inputs, outputs, attributes, batch=batch)
                truth, _ = self.bytes_of(plain, function, inputs, outputs, attributes, batch=batch, folder="truth")
                self.assertEqual(ours[0], truth[0], what)
                for name, data in truth[1].items():
                    self.assertTrue(ours[1][name] == data, (what, name, "differs"))
                self.assertLess(ways[0], 300_000, what)

    def test_big_results_cross_no_socket_where_nothing_of_the_whole_set_is_wanted_with_them(self):
        daemon = self.daemon()
        classes = self.classification(BIG, 64)
        for function, inputs, outputs, batch in (
                ("cross_entropy", classes, ("loss", "grad.input"), None),
                ("cross_entropy", classes, ("loss", "grad.input"), 3000),
                ("sigmoid", {"input": classes["input"]}, ("output",), None),
                ("sigmoid", {"input": classes["input"]}, ("output",), 3000)):
            _, ways = self.bytes_of(daemon, function, inputs, outputs, batch=batch)
            self.assertLess(max(ways), 100_000, (function, outputs, batch))

    def test_small_calls_go_by_the_socket_as_before(self):
        daemon = self.daemon(limits__user_regions=1, limits__region_grace="1h")
        small = self.classification(100, 32)
        for batch in (None, 7):
            _, ways = self.bytes_of(daemon, "cross_entropy", small, ("loss", "grad.input"), batch=batch)
            self.assertGreater(min(ways), 100 * 32 * 4)

    # ---- Refused, lost, released ----

    def test_where_memory_is_refused_the_socket_does(self):
        classes = self.classification(BIG, 64)
        truth = {}
        for settings in (
                {}, {"limits__region_bytes": 0}, {"limits__region_bytes": "1MiB"}, {"limits__user_regions": 1},
                {"limits__regions": 1}, {"limits__regions": 2}, {"limits__user_region_bytes": "3MiB"},
                {"limits__connection_bytes": "3MiB"}):
            daemon = self.daemon(**settings)
            for outputs in ((), ("loss", "grad.input"), ("grad.input",)):
                for batch in (None, 3000):
                    if batch is None and "limits__connection_bytes" in settings:
                        continue  # One call has more than that.
                    result = self.evaluate(daemon, "cross_entropy", classes, outputs, batch=batch)
                    expected = truth.setdefault((outputs, batch), result)
                    self.assertTrue(result == expected, (f"LOSSD_SEED={self.seed}", settings, outputs, batch))

    def test_by_tcp_all_goes_by_the_socket(self):
        daemon = self.daemon(tcp=True)
        classes = self.classification(BIG, 64)
        arguments, saved = self.arguments("cross_entropy", classes, ("loss", "grad.input"))
        lossctl(*arguments, server=daemon.tcp)
        by_tcp = {name: path.read_bytes() for name, path in saved.items()}
        _, ours = self.evaluate(daemon, "cross_entropy", classes, ("loss", "grad.input"))
        self.assertTrue(by_tcp == ours)

    def test_a_descriptor_that_the_process_has_no_room_for_is_done_without(self):
        daemon = self.daemon(limits__user_regions=8)
        classes = self.classification(BIG, 64)
        truth = self.evaluate(daemon, "cross_entropy", classes, batch=3000)[0]
        arguments, _ = self.arguments("cross_entropy", classes, batch=3000)
        found = set()
        for most in range(4, 24):
            before = self.received(daemon)[0]
            process = subprocess.run(
                [program("lossctl"), "--server", daemon.unix, *arguments], capture_output=True, text=True, timeout=60,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
            if process.returncode:
                continue  # No room for the files or the socket itself.
            printed = json.loads(process.stdout)
            printed.pop("files")
            self.assertEqual(printed, truth, most)
            found.add(self.received(daemon)[0] - before > BIG * 64 * 4)
        self.assertEqual(found, {False, True})

    def test_memory_is_given_back_at_once(self):
        # What is not given back counts for an hour, and these are all that there may be.
        daemon = self.daemon(limits__region_grace="1h", limits__user_regions=12, limits__user_region_bytes="32MiB")
        classes = self.classification(BIG, 64)
        missing = self.file([BIG], "int64", [99])
        for outputs, batch in ((("loss", "grad.input"), 3000), (("loss", "grad.input"), None), ((), 3000)) * 3:
            _, ways = self.bytes_of(daemon, "cross_entropy", classes, outputs, batch=batch)
            self.assertLess(max(ways), 100_000, (outputs, batch))
            # A refusal gives back too.
            arguments, _ = self.arguments("cross_entropy", {**classes, "target": missing}, outputs, batch=batch)
            self.assertIn("target[0] is 99", lossctl(*arguments, server=daemon.unix, check=False).stderr)
        with daemon.connect(features=["shm"]) as connection:
            deadline = time.time() + 10
            while True:
                try:
                    connection.region(1, 32 << 20).close()
                    break
                except Exception:
                    self.assertLess(time.time(), deadline)
                    time.sleep(0.05)

    def test_a_file_that_becomes_shorter_is_named(self):
        daemon = self.daemon(kernels="reference", workers=1)
        big = self.file([400_000, 32])
        arguments, _ = self.arguments("sigmoid", {"input": big}, ("output",), batch=4096)
        process = self.stopped_in_the_middle(daemon, arguments)
        os.truncate(big, 1 << 20)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn(f"{big}: it has become shorter", errors)
        self.assertEqual([path.name for path in (self.folder / "ours").iterdir()], [])

    # ---- Restarts ----

    def started(self, daemon, arguments):
        process = subprocess.Popen(
            [program("lossctl"), "--server", daemon.unix, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def stopped_after(self, process, daemon, rows):
        """Stops a lossctl when the daemon has evaluated so many rows."""
        deadline = time.time() + 30
        with daemon.connect() as connection:
            while rows_of(connection) < rows:
                self.assertIsNone(process.poll(), "over before it could be stopped")
                self.assertLess(time.time(), deadline)
        process.send_signal(signal.SIGSTOP)
        self.assertIsNone(process.poll())

    def stopped_in_the_middle(self, daemon, arguments, calls=20):
        """A lossctl that stands still, some batches on."""
        rows = self.rows_in_the_end(daemon)
        process = self.started(daemon, arguments)
        self.stopped_after(process, daemon, rows + 4096 * calls)
        return process

    def next_one(self, daemon, **settings):
        """Another daemon in the place of one that was killed."""
        daemon.process.kill()
        daemon.process.wait(10)
        os.unlink(daemon.path)
        return self.daemon(path=daemon.path, kernels="reference", workers=1, **settings)

    def test_a_daemon_that_is_restarted_in_the_middle_changes_no_result(self):
        classes = self.classification(400_000, 32)
        for function, inputs, outputs in (
                ("cross_entropy", classes, ()), ("sigmoid", {"input": classes["input"]}, ("output",))):
            daemon = self.daemon(kernels="reference", workers=1, limits__drain_timeout="1s")
            truth = self.evaluate(daemon, function, inputs, outputs, batch=4096, folder="truth")
            arguments, saved = self.arguments(function, inputs, outputs, batch=4096)
            process = self.stopped_in_the_middle(daemon, arguments)
            daemon.process.send_signal(signal.SIGTERM)
            while os.path.exists(daemon.path):
                time.sleep(0.01)
            self.daemon(path=daemon.path, kernels="reference")
            process.send_signal(signal.SIGCONT)
            printed, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, errors)
            printed = json.loads(printed)
            self.assertEqual((printed["rows"], printed["batches"]), (truth[0]["rows"], truth[0]["batches"]))
            for name, value in truth[0]["values"].items():
                self.assertAlmostEqual(printed["values"][name] / value, 1, delta=1e-6)
            for name, data in truth[1].items():
                self.assertTrue(saved[name].read_bytes() == data, name)

    def test_an_evaluation_that_a_crash_ends_fails_without_retry(self):
        classes = self.classification(400_000, 32)
        for function, inputs, outputs in (
                ("cross_entropy", classes, ()), ("sigmoid", {"input": classes["input"]}, ("output",))):
            daemon = self.daemon(kernels="reference", workers=1)
            arguments, _ = self.arguments(function, inputs, outputs, batch=4096)
            process = self.stopped_in_the_middle(daemon, arguments)
            daemon.process.kill()
            daemon.process.wait(10)
            process.send_signal(signal.SIGCONT)
            _, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 69, errors)
            self.assertEqual([path.name for path in (self.folder / "ours").iterdir()], [])

    def rows_in_the_end(self, daemon):
        """The rows that a daemon has evaluated, once it evaluates no more."""
        with daemon.connect() as connection:
            rows, former = rows_of(connection), None
            while rows != former:
                time.sleep(0.05)
                rows, former = rows_of(connection), rows
        return rows

    def test_with_retry_what_crashes_end_goes_on_after_the_last_answered_batch(self):
        """By sockets and by shared memory, in one pass and two: each batch counts once, and next to none is repeated."""
        batch, count = 2048, 100
        classes = self.classification(batch * count, 32)
        small = self.classification(1024 * count, 32)
        sigmoid = {"input": classes["input"]}
        loss = ("loss", "grad.input")
        for function, inputs, outputs, size, passes, settings in (
                ("cross_entropy", classes, (), batch, 1, {}), ("sigmoid", sigmoid, ("output",), batch, 1, {}),
                ("cross_entropy", classes, loss, batch, 2, {}),
                ("cross_entropy", classes, loss, batch, 2, {"limits__region_bytes": 0}),
                ("sigmoid", sigmoid, ("output",), batch, 1, {"limits__region_bytes": 0}),
                ("cross_entropy", small, loss, 1024, 2, {})):
            what = (f"LOSSD_SEED={self.seed}", function, outputs, size, settings)
            daemon = self.daemon(kernels="reference", workers=1, **settings)
            truth = self.evaluate(daemon, function, inputs, outputs, batch=size, folder="truth")
            arguments, saved = self.arguments(function, inputs, outputs, batch=size)
            before = self.rows_in_the_end(daemon)
            process, evaluated = self.started(daemon, arguments + ["--retry", "20"]), 0
            for part in range(3):
                self.stopped_after(process, daemon, before + passes * count * size // 5)
                evaluated += self.rows_in_the_end(daemon) - before
                before = 0
                if part % 2:  # There is none for a while.
                    threading.Timer(0.1, process.send_signal, [signal.SIGCONT]).start()
                daemon = self.next_one(daemon, **settings)
                process.send_signal(signal.SIGCONT)
            printed, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, (what, errors))
            evaluated += self.rows_in_the_end(daemon)
            printed = json.loads(printed)
            printed.pop("files")
            self.assertEqual(printed["batches"], count, what)
            self.equal(printed, truth[0], what)
            for name, data in truth[1].items():
                self.assertTrue(saved[name].read_bytes() == data, (what, name))
            # What was under way at each crash, and no more.
            self.assertGreaterEqual(evaluated, passes * count * size, what)
            self.assertLessEqual(evaluated, (passes * count + 3 * 8) * size, what)

    def equal(self, ours, truth, what):
        """Everything, but for the last bit of float64 in sums: a batch's is rounded before it is added."""
        self.assertEqual(ours.keys(), truth.keys(), what)
        for key, value in truth.items():
            if not isinstance(value, dict):
                self.assertEqual(ours[key], value, what)
                continue
            self.assertEqual(ours[key].keys(), value.keys(), what)
            for name, number in value.items():
                self.assertAlmostEqual(ours[key][name], number, delta=abs(number) * 2**-51, msg=str(what))

    def test_what_retry_comes_to_does_not_depend_on_crashes(self):
        """Bit for bit, whatever batches were repeated and in which order they came."""
        classes = self.classification(200_000, 32)
        daemon = self.daemon(kernels="reference", workers=1)
        arguments, saved = self.arguments("cross_entropy", classes, ("loss",), batch=2000)
        truth = lossctl(*arguments, "--retry", "20", server=daemon.unix)
        data = saved["loss"].read_bytes()
        process = self.started(daemon, arguments + ["--retry", "20"])
        rows = 200_000
        for _ in range(3):
            self.stopped_after(process, daemon, rows + 40_000)
            daemon = self.next_one(daemon)
            rows = 0
            process.send_signal(signal.SIGCONT)
        printed, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(json.loads(printed), truth)
        self.assertEqual(saved["loss"].read_bytes(), data)

    def evaluating(self, name, fails=(), state=b""):
        """A daemon that takes batches of rows of 5 float32, and ends the connection at rows that are in `fails`."""
        def serve(fake):
            fake.send(HI)
            methods, batches, merged = {}, {}, {}
            while True:
                kind, stream, flags, message, payload = fake.frame()
                if kind == OPEN:
                    methods[stream] = message
                    batches[stream] = 0
                    merged[stream] = b""
                if kind != MESSAGE:
                    continue
                if b"ListFunctions" in methods[stream]:
                    fake.send(listed_rows(name, stream))
                    continue
                if payload[:20] in fails:
                    return
                if payload:
                    batches[stream] += 1
                    fake.send(echoed(payload, 5, stream))
                for part in parse(message).get(6, []):
                    batches[stream] += parse(part)[1][0]
                    merged[stream] = state
                if flags & END_STREAM:
                    end = block(3, number(1, batches[stream]) + number(2, batches[stream]) + merged[stream])
                    fake.send(frame(MESSAGE, stream, end, b"", END_STREAM))

        return serving(*[serve] * 1000)

    def test_a_batch_that_crashes_the_daemon_each_time_ends_with_its_retry_though_others_go_on(self):
        values = self.file([64, 5])
        bad = values.read_bytes()[-20:]
        with self.evaluating("worse", fails=[bad]) as address:
            begin = time.monotonic()
            result = lossctl("eval", "worse", "--tensor", f"input={values}", "--batch-size", 1, "--retry", 1,
                             server=address, check=False)
        self.assertEqual(result.returncode, 69, result.stderr)
        self.assertIn("(--retry: begun again for 1 s)", result.stderr)
        self.assertTrue(1 <= time.monotonic() - begin < 10)

    def test_what_batches_apart_come_to_is_the_daemons_to_say(self):
        """Whatever the function: its sums may merge in a way of their own."""
        state = block(4, block(1, "biggest") + double(2, 7.0))
        for rows in (4, 2 * 600):  # one request's Summaries, and three's
            values = self.file([rows, 5])
            with self.evaluating("odd", state=state) as address:
                result = lossctl("eval", "odd", "--tensor", f"input={values}", "--batch-size", 2, "--retry", 1,
                                 "--json", server=address)
            self.assertEqual((result["state"], result["batches"]), ({"biggest": 7.0}, rows // 2))

    def test_a_timeout_ends_what_is_repeated(self):
        classes = self.classification(100, 32)
        arguments, _ = self.arguments("cross_entropy", classes)
        begin = time.monotonic()
        result = lossctl(*arguments, "--retry", 60, "--timeout", 1, server=f"unix:{self.folder}/nobody", check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("DEADLINE_EXCEEDED", result.stderr)
        self.assertIn("--timeout", result.stderr)
        self.assertLess(time.monotonic() - begin, 10)

    def test_retry_ends_when_its_time_is_over(self):
        classes = self.classification(100, 32)
        for retry in (0, 1):
            arguments, _ = self.arguments("cross_entropy", classes)
            begin = time.monotonic()
            result = lossctl(*arguments, "--retry", retry, server=f"unix:{self.folder}/nobody", check=False)
            self.assertEqual(result.returncode, 69)
            self.assertIn(f"(--retry: begun again for {retry} s)", result.stderr)
            self.assertTrue(retry <= time.monotonic() - begin < retry + 5)
        result = lossctl(*arguments, "--retry", "-1", server="unix:/nobody", check=False)
        self.assertEqual(result.returncode, 64, result.stderr)

    # ---- Daemons that are wrong ----

    def test_memory_that_could_be_cut_or_is_not_there_is_not_touched(self):
        values = self.file([100_000])

        def serve(give):
            def run(fake):
                fake.send(SHM_HI)
                item = fake.request()
                fake.send(listed("neg", stream=item[1]))
                give(fake, *fake.region())
                _, stream, _, _, payload = fake.request()
                self.assertEqual(len(payload), 400_000, "not by the socket")
                shape = block(3, varint(100_000))
                message = block(2, block(1, "output") + number(2, 1) + shape + block(5, number(2, 400_000)))
                fake.send(answer(message, payload, stream=stream))
                fake.until_closed()
                self.assertEqual(fake.regions.get("released"), None)
            return run

        made = lambda id: frame(REGION, 0, number(1, id))  # noqa: E731
        for give in (
                lambda fake, id, length: fake.give_region(id, length, seals=0),
                lambda fake, id, length: fake.give_region(id, length, size=length - 4096),
                lambda fake, id, length: fake.send(made(id)),
                lambda fake, id, length: fake.give_region(id, length, descriptors=2),
                lambda fake, id, length: fake.send(frame(REGION, 0, number(1, id) + block(2, number(1, 8))))):
            with serving(serve(give)) as address:
                result = lossctl("eval", "neg", "--tensor", f"input={values}", server=address)
                self.assertIn("output", result)

    def test_a_region_that_was_not_asked_for_ends_the_connection(self):
        values = self.file([100_000])

        def serve(fake):
            fake.send(SHM_HI)
            fake.send(listed("neg", stream=fake.request()[1]))
            id, length = fake.region()
            fake.give_region(id + 7, length)
            fake.until_closed()

        with serving(serve) as address:
            result = lossctl("eval", "neg", "--tensor", f"input={values}", server=address, check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("broke the protocol", result.stderr)


if __name__ == "__main__":
    unittest.main()
