"""Unary calls to a real daemon, over both kinds of socket, and its way to start and stop."""

import json
import math
import os
import signal
import socket
import subprocess
import tempfile
import unittest

from daemon import DATA, Daemon, lossctl, program
from wire import (
    CANCEL, END_STREAM, EVALUATE, FUNCTIONS, MESSAGE, OPEN, STATUS, CallError, Tensor, block, frame,
    number, open_call, parse, request)

LOGITS = Tensor([1, 2, 3, 1, 2, 0, 0, 2, 1], shape=[3, 3])
LABELS = Tensor([2, 0, 1], "int64")


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True)

    @classmethod
    def tearDownClass(cls):
        assert cls.daemon.stop() == 0
        cls.daemon.__exit__()

    def refused(self, code, text, function, inputs, attributes=None, outputs=()):
        with self.daemon.connect() as connection:
            with self.assertRaises(CallError) as caught:
                connection.evaluate(function, inputs, attributes, outputs)
            self.assertEqual(caught.exception.code, code, caught.exception.text)
            self.assertIn(text, caught.exception.text)
            # The connection goes on working.
            loss = connection.evaluate("cross_entropy", {"input": LOGITS, "target": LABELS})
            self.assertEqual(loss["loss"].shape, [])

    def test_every_committed_torch_value_over_both_kinds_of_socket(self):
        rows = json.loads((DATA / "torch_values.json").read_text())["rows"]
        self.assertGreater(len(rows), 30)
        for address in (self.daemon.unix, self.daemon.tcp):
            for row in rows:
                arguments = ["eval", row["function"], "--json", "--want", row["output"]]
                for name, file in row["inputs"].items():
                    arguments += ["--tensor", f"{name}={DATA / file}"]
                for name, item in row["attributes"].items():
                    arguments += ["--attr", f"{name}={item}"]
                result = lossctl(*arguments, server=address)["outputs"][row["output"]]
                self.assertEqual(result["data_type"], row["data_type"], row)
                self.assertEqual(result["shape"], row["shape"], row)
                ulp = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}
                for ours, truth in zip(result["values"], row["torch_float64"], strict=True):
                    bound = 3 * ulp[row["data_type"]] * max(abs(truth), 1e-30)
                    self.assertLessEqual(abs(ours - truth), bound, row)

    def test_many_calls_at_once_on_one_connection(self):
        with self.daemon.connect() as connection:
            streams = []
            for index in range(200):
                streams.append((index, connection.start(
                    "sigmoid", {"input": Tensor([index / 100])})))
            for index, stream in streams:
                # Answers come in any order; this client takes them in that of the calls.
                kind, _, flags, message, payload = connection.receive_of(stream)
                self.assertEqual((kind, flags), (MESSAGE, END_STREAM))
                ours = Tensor(payload).values()[0]
                self.assertAlmostEqual(ours, 1 / (1 + math.exp(-index / 100)), 6)

    def test_bad_calls_are_refused_by_name_and_the_connection_goes_on(self):
        both = {"input": LOGITS, "target": LABELS}
        refused = self.refused
        refused(5, "no function named `crossentropy`; did you mean `cross_entropy`?", "crossentropy", both)
        refused(3, "did you mean `target`?", "cross_entropy", {"input": LOGITS, "targets": LABELS})
        refused(3, "did you mean `reduction`?", "cross_entropy", both, {"reducton": "sum"})
        refused(3, "did you mean `grad.input`?", "cross_entropy", both, None, ["grad_input"])
        refused(3, "no input named `logits`", "cross_entropy", {"logits": LOGITS, "target": LABELS})
        refused(3, "`target` is missing", "cross_entropy", {"input": LOGITS})
        refused(3, "no attribute named `beta`", "cross_entropy", both, {"beta": 1})
        refused(3, "no attribute named `size_average`", "cross_entropy", both, {"size_average": True})
        refused(3, "reduction is `average`", "cross_entropy", both, {"reduction": "average"})
        refused(3, "expected a float", "cross_entropy", both, {"label_smoothing": "much"})
        refused(3, "label_smoothing is 1.5", "cross_entropy", both, {"label_smoothing": 1.5})
        refused(3, "no output named `grad.logits`", "cross_entropy", both, None, ["grad.logits"])
        refused(12, "grad.weight", "cross_entropy", both, None, ["grad.weight"])
        refused(3, "target[1] is 3, outside [0, 3)", "cross_entropy",
                {"input": LOGITS, "target": Tensor([0, 3, 1], "int64")})
        refused(3, "target[0] is -1, outside [0, 3)", "nll_loss",
                {"input": LOGITS, "target": Tensor([-1, 1, 1], "int64")})
        refused(3, "target is", "cross_entropy",
                {"input": LOGITS, "target": Tensor([0, 1], "int64")})
        refused(3, "input[1] is 1.5", "binary_cross_entropy",
                {"input": Tensor([0.5, 1.5]), "target": Tensor([0, 1])})
        refused(3, "target[0] is nan", "binary_cross_entropy",
                {"input": Tensor([0.5]), "target": Tensor([math.nan])})
        refused(3, "dim is 2", "softmax", {"input": LOGITS}, {"dim": 2})
        refused(3, "byte 2", "sigmoid", {"input": Tensor([1, 2], "bool")})

    def malformed(self, code, text, tensor, payload=bytes(64)):
        message = block(1, "sigmoid") + block(2, tensor)
        with self.daemon.connect() as connection:
            with self.assertRaises(CallError) as caught:
                connection.call(EVALUATE, message, payload)
            self.assertEqual(caught.exception.code, code, caught.exception.text)
            self.assertIn(text, caught.exception.text)
            connection.ping()

    def test_ranges_and_shapes_that_lie_are_refused(self):
        def tensor(shape, offset=0, length=64, data_type=1, name="input"):
            return (block(1, name) + number(2, data_type)
                    + b"".join(number(3, size) for size in shape)
                    + block(5, number(1, offset) + number(2, length)))

        self.malformed(3, "length is 64, expected 40", tensor([10]))
        self.malformed(3, "multiple of 64", tensor([1], offset=4, length=4))
        self.malformed(3, "outside the payload", tensor([32], offset=64, length=128))
        self.malformed(3, "outside the payload", tensor([16], offset=2**64 - 64, length=64))
        self.malformed(3, "reaches 2^63 bytes", tensor([2**32, 2**32]))
        self.malformed(3, "reaches 2^63 bytes", tensor([0, 2**62, 2**62]))
        self.malformed(3, "shape[0] is -1", tensor([2**64 - 1]))
        self.malformed(3, "65 dimensions", tensor([1] * 65, length=4))
        self.malformed(3, "data_type is 11", tensor([16], data_type=11))
        self.malformed(3, "data_type is 0", tensor([16], data_type=0))
        self.malformed(3, "no storage is set", block(1, "input") + number(2, 1) + number(3, 4), b"")
        self.malformed(9, "shared memory", block(1, "input") + number(2, 1) + number(3, 4)
                       + block(6, number(1, 1) + number(3, 16)), b"")
        self.malformed(3, "no input named", tensor([16], name=""))

    def test_inline_tensors_and_empty_ones(self):
        inline = (block(1, "input") + number(2, 1) + number(3, 2)
                  + block(4, Tensor([0.0, 0.0]).data))
        with self.daemon.connect() as connection:
            _, payload = connection.call(EVALUATE, block(1, "sigmoid") + block(2, inline))
            self.assertEqual(Tensor(payload).values(), [0.5, 0.5])
            empty = connection.evaluate("softmax", {"input": Tensor([], shape=[0, 4])})
            self.assertEqual(empty["output"].shape, [0, 4])
            mean = connection.evaluate(
                "binary_cross_entropy", {"input": Tensor([]), "target": Tensor([])})
            self.assertTrue(math.isnan(mean["loss"].values()[0]))

    def test_protocol_errors_of_a_call_leave_the_connection(self):
        with self.daemon.connect() as connection:
            def fails(code, text, data, stream):
                connection.send(data)
                kind, _, _, message, _ = connection.receive_of(stream)
                self.assertEqual(kind, STATUS)
                error = CallError(message)
                self.assertEqual(error.code, code, error.text)
                self.assertIn(text, error.text)

            fails(12, "no method", open_call(1, "/lossd.v1.Evaluator/Nope"), 1)
            fails(7, "admin socket", open_call(3, "/lossd.v1.PluginHost/ListPlugins"), 3)
            fails(3, "does not decode", frame(OPEN, 5, b"\xff\xff\xff"), 5)
            good, payload = request("sigmoid", {"input": Tensor([1.0])})
            fails(3, "second request", open_call(7, EVALUATE) + frame(MESSAGE, 7, good, payload)
                  + frame(MESSAGE, 7, good, payload, END_STREAM), 7)
            fails(3, "", open_call(9, EVALUATE) + frame(MESSAGE, 9, b"\x0a\xff", b"", END_STREAM), 9)
            fails(1, "cancel", open_call(11, EVALUATE) + frame(CANCEL, 11), 11)
            fails(3, "names no function", open_call(13, EVALUATE)
                  + frame(MESSAGE, 13, b"", b"", END_STREAM), 13)
            # Frames for a call that has ended are dropped.
            connection.send(frame(CANCEL, 11) + frame(MESSAGE, 11, good, payload, END_STREAM))
            connection.next_stream = 15
            self.assertEqual(
                connection.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values(), [0.5])

    def test_list_functions(self):
        with self.daemon.connect() as connection:
            names = [parse(item)[1][0].decode()
                     for item in parse(connection.call(FUNCTIONS)[0])[1]]
            self.assertEqual(names, sorted(names))
            for name in ("sigmoid", "softmax", "log_softmax", "binary_cross_entropy",
                         "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss",
                         "multilabel_soft_margin_loss"):
                self.assertIn(name, names)
            one = parse(connection.call(FUNCTIONS, block(1, "nll_loss"))[0])[1]
            self.assertEqual(len(one), 1)
            with self.assertRaises(CallError) as caught:
                connection.call(FUNCTIONS, block(1, "nope"))
            self.assertEqual(caught.exception.code, 5)

    def test_embedded_gives_the_same_bits_as_the_daemon(self):
        arguments = ["eval", "cross_entropy", "--input", DATA / "digits_logits.npy", "--target",
                     DATA / "digits_labels.npy", "--want", "loss,grad.input", "--json"]
        ours = lossctl(*arguments, server=self.daemon.unix)
        self.assertEqual(ours, lossctl(*arguments, "--embedded"))


class Life(unittest.TestCase):
    def test_sigterm_ends_cleanly_and_removes_the_socket(self):
        with Daemon() as daemon:
            with daemon.connect() as connection:
                connection.ping()
                self.assertEqual(daemon.stop(signal.SIGTERM), 0)
            self.assertFalse(os.path.exists(daemon.path))
            self.assertIn("stopped", daemon.log())

    def test_a_second_daemon_refuses_a_live_socket_and_takes_over_a_dead_one(self):
        with Daemon() as daemon:
            second = subprocess.run(
                [program("lossd"), "--listen", daemon.unix], capture_output=True, text=True,
                timeout=20)
            self.assertEqual(second.returncode, 1)
            self.assertIn("another daemon answers", second.stderr)
            with daemon.connect() as connection:
                connection.ping()
            daemon.process.kill()
            daemon.process.wait()
            self.assertTrue(os.path.exists(daemon.path))
            third = subprocess.Popen(
                [program("lossd"), "--listen", daemon.unix], stderr=subprocess.PIPE, text=True)
            for line in third.stderr:
                if "is ready" in line:
                    break
            with daemon.connect() as connection:
                connection.ping()
            third.terminate()
            third.stderr.read()
            third.stderr.close()
            self.assertEqual(third.wait(20), 0)

    def test_a_plain_file_in_the_way_is_not_touched(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "file")
            with open(path, "w") as file:
                file.write("mine")
            result = subprocess.run(
                [program("lossd"), "--listen", f"unix:{path}"], capture_output=True, text=True,
                timeout=20)
            self.assertEqual(result.returncode, 1)
            self.assertIn("not a socket", result.stderr)
            with open(path) as file:
                self.assertEqual(file.read(), "mine")

    def test_check_config_says_what_is_wrong(self):
        def check(text, *flags):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                return subprocess.run(
                    [program("lossd"), "--check-config", "--config", file.name, *flags],
                    capture_output=True, text=True, timeout=20)

        good = check("listen:\n  - unix:/tmp/a.sock\nlimits:\n  payload_bytes: 2GiB\nworkers: 3\n")
        self.assertEqual(good.returncode, 0, good.stderr)
        self.assertIn("unix:/tmp/a.sock", good.stdout)
        for text, reason in (
                ("limits:\n  payload_byte: 1\n",
                 "no setting limits.payload_byte; did you mean `limits.payload_bytes`?"),
                ("worker: 1\n", "no setting worker"), ("workers: many\n", "workers: many"),
                ("limits:\n  payload_bytes: 12 parsec\n", "not a size"),
                ("listen: [udp:1]\n", "expected unix:PATH or tcp:HOST:PORT"),
                ("workers: [1\n", ""), ("- a\n", "expected settings")):
            bad = check(text)
            self.assertEqual(bad.returncode, 78, text)
            self.assertIn(reason, bad.stderr)
        flags = check("workers: 3\n", "--set", "workers=-1")
        self.assertEqual(flags.returncode, 78)
        flags = check("workers: 3\n", "--set", "worker=1")
        self.assertEqual(flags.returncode, 78)
        self.assertIn("did you mean `workers`?", flags.stderr)

    def test_lossctl_knows_what_a_command_was_meant_to_be(self):
        for arguments, guess in (
                (["evla", "sigmoid"], "eval"), (["--server", "unix:/a", "stat"], "status"), (["plugin", "lst"], "list"),
                (["function"], "functions")):
            result = lossctl(*arguments, check=False)
            self.assertEqual(result.returncode, 64, arguments)
            self.assertIn(f"did you mean `{guess}`?", result.stderr)
        self.assertIn("there is no command `dance`", lossctl("dance", check=False).stderr)
        for arguments in (["--help"], ["help", "eval"], ["eval", "--help"], ["--version"], ["plugin", "--help"]):
            self.assertEqual(lossctl(*arguments, check=False).returncode, 0, arguments)
        listed = lossctl("eval", "sofmax", "--embedded", check=False)
        self.assertIn("did you mean `softmax`?", listed.stderr)

    def test_lossctl_says_when_nobody_listens(self):
        result = lossctl("ping", "--server", "unix:/nonexistent/lossd.sock", check=False)
        self.assertEqual(result.returncode, 69)
        self.assertIn("/nonexistent/lossd.sock", result.stderr)


if __name__ == "__main__":
    unittest.main()
