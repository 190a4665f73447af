"""HTTP/2 frame by frame: what conforming servers do, and what clients do that mean no good."""

import gzip
import random
import struct
import time
import unittest

from hyperframe import frame as frames
from hyperframe.exceptions import InvalidDataError, InvalidFrameError

from frames import (CANCEL, ENHANCE_YOUR_CALM, EVALUATE, NO_ERROR, PREFACE,
                    PROTOCOL_ERROR, REFUSED_STREAM, Peer, fields, message)
from support import KEPT, Daemon, ended, pb, request, tensor

OK, INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 4, 8, 12, 13
SIGMOID = request("sigmoid", [tensor("input", struct.pack("<3f", 0, 1, 2), [3])], id=7).SerializeToString()
STREAM = "/lossd.v1.Evaluator/EvaluateStream"
SEED = random.randrange(1 << 30)


class Frames(unittest.TestCase):
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True, workers=1, **cls.settings)

    @classmethod
    def tearDownClass(cls):
        ended(cls.daemon)

    def peer(self, **options):
        return Peer(self.daemon.unix, **options)

    def answers(self, peer, stream):
        """The connection goes on."""
        peer.call(stream, SIGMOID)
        heads, body, _ = peer.answer(stream)
        self.assertEqual(heads[-1]["grpc-status"], "0")
        self.assertEqual(pb.EvaluateResponse.FromString(body[5:]).id, 7)

    def settles(self):
        end = time.time() + 10
        while self.daemon.status()[6][0] > 1 and time.time() < end:
            time.sleep(0.02)
        self.assertEqual(self.daemon.status().get(6, [0])[0], 1, "the status's own call alone")


class Conforming(Frames):
    def test_settings_come_before_anything_is_asked(self):
        with self.peer() as peer:
            first = peer.settings
            self.assertIsInstance(first, frames.SettingsFrame)
            self.assertEqual(first.settings[frames.SettingsFrame.MAX_CONCURRENT_STREAMS], 256)
            self.assertEqual(first.settings[frames.SettingsFrame.MAX_FRAME_SIZE], 1 << 20)
            self.assertEqual(first.settings[frames.SettingsFrame.MAX_HEADER_LIST_SIZE], 16 << 10)

    def test_an_answer_in_full(self):
        with self.peer() as peer:
            peer.call(1, SIGMOID)
            heads, body, reset = peer.answer(1)
            self.assertEqual(heads[0], {":status": "200", "content-type": "application/grpc"})
            self.assertEqual(heads[1], {"grpc-status": "0"})
            self.assertEqual(struct.unpack(">BI", body[:5]), (0, len(body) - 5))
            self.assertIsNone(reset)

    def test_every_split_of_bytes(self):
        with self.peer(greet=False) as made:
            talk = b"".join([PREFACE, frames.SettingsFrame(0).serialize(), made.headers(1, fields()).serialize(),
                             made.data(1, message(SIGMOID), end=True).serialize()])
        for cut in range(len(talk) + 1):
            with self.peer(greet=False) as peer:
                peer.send(talk[:cut])
                if cut % 16 == 0:
                    time.sleep(0.002)
                peer.send(talk[cut:])
                heads, body, _ = peer.answer(1)
                self.assertEqual((heads[-1]["grpc-status"], body[5:7]), ("0", b"\x08\x07"), f"cut at {cut}")

    def test_messages_have_nothing_to_do_with_frames(self):
        """Bytes one by one, frames with padding, empty ones, two messages in one."""
        with self.peer() as peer:
            peer.send(peer.headers(1, fields()))
            for byte in message(SIGMOID):
                peer.send(peer.data(1, bytes([byte])))
            peer.send(peer.data(1, b"", end=True))
            self.assertEqual(peer.status(1), OK)
            padded = frames.DataFrame(3, message(SIGMOID), pad_length=255)
            padded.flags |= {"PADDED", "END_STREAM"}
            peer.send(peer.headers(3, fields()), padded)
            self.assertEqual(peer.status(3), OK)
            first = message(SIGMOID)
            later = message(request("", [tensor("input", b"1234", [1])], id=9).SerializeToString())
            peer.send(peer.headers(5, fields(STREAM)), peer.data(5, first + later[:7]),
                      peer.data(5, later[7:], end=True))
            heads, body, _ = peer.answer(5)
            self.assertEqual(heads[-1]["grpc-status"], "0")
            ids = []
            while body:
                length = struct.unpack(">xI", body[:5])[0]
                ids.append(pb.EvaluateResponse.FromString(body[5:5 + length]).id)
                body = body[5 + length:]
            self.assertEqual(ids, [7, 9, 0])

    def test_random_cuts_of_big_messages(self):
        """Requests of all sizes, in DATA frames of all sizes, several streams woven together."""
        source = random.Random(SEED)
        with self.peer(settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 24}) as peer:
            window = frames.WindowUpdateFrame(0, window_increment=1 << 28)
            peer.send(window)
            parts = {}
            for index in range(8):
                stream, count = 2 * index + 1, source.choice([1, 100, 3000, 4000, 20_000, 50_000])
                data = struct.pack("<f", source.random()) * count
                body = message(request("relu", [tensor("input", data, [count])]).SerializeToString())
                parts[stream] = [data, body]
                peer.send(peer.headers(stream, fields()))
            while any(body for _, body in parts.values()):
                stream = source.choice([stream for stream, (_, body) in parts.items() if body])
                cut = source.choice([1, 5, 100, 16_000])
                body = parts[stream][1]
                peer.send(peer.data(stream, body[:cut], end=len(body) <= cut))
                parts[stream][1] = body[cut:]
            got = {}
            ended_streams = set()
            while len(ended_streams) < 8:
                made = peer.receive()
                self.assertIsNotNone(made, f"seed {SEED}")
                if isinstance(made, frames.DataFrame):
                    got[made.stream_id] = got.get(made.stream_id, b"") + made.data
                if isinstance(made, frames.HeadersFrame):
                    head = made.fields
                    self.assertIn(head.get("grpc-status", "0"), "0", f"{head} seed {SEED}")
                    if "END_STREAM" in made.flags:
                        ended_streams.add(made.stream_id)
            for stream, (data, _) in parts.items():
                answer = pb.EvaluateResponse.FromString(got[stream][5:])
                self.assertEqual(answer.outputs[0].data, data, f"seed {SEED}")

    def test_what_is_no_request_is_reset(self):
        wrong = [fields(without=[name]) for name in (":method", ":path", ":scheme")] + [
            fields(EVALUATE, (":path", "/x")), fields(EVALUATE, ("connection", "close")), fields(te="gzip"),
            fields(EVALUATE, (":late", "x")), fields(EVALUATE, ("transfer-encoding", "chunked")),
            fields(EVALUATE, ("Upper", "x")), fields(EVALUATE, ("x", "a\nb")), fields(_path=""),
            fields(EVALUATE, ("host", "a"), ("host", "b"))]
        with self.peer() as peer:
            stream = 1
            for items in wrong:
                peer.send(peer.headers(stream, items))
                _, _, code = peer.answer(stream)
                self.assertEqual(code, PROTOCOL_ERROR, items)
                stream += 2
            self.answers(peer, stream)

    def test_requests_of_http_that_are_none_of_grpc(self):
        with self.peer() as peer:
            stream = 1
            for items, status in [(fields(_method="GET"), "405"), (fields(content_type="application/json"), "415"),
                                  (fields(without=["content-type"]), "415")]:
                peer.send(peer.headers(stream, items, end=True))
                heads, _, _ = peer.answer(stream)
                self.assertEqual(heads, [{":status": status}])
                stream += 2
            self.answers(peer, stream)

    def test_what_refuses_a_call_at_once_also_ends_its_request(self):
        cases = [(fields(grpc_timeout="0m"), DEADLINE), (fields(grpc_timeout="soon"), INTERNAL),
                 (fields(grpc_timeout="123456789S"), INTERNAL), (fields(grpc_encoding="br"), UNIMPLEMENTED),
                 (fields("/none"), UNIMPLEMENTED),
                 (fields(EVALUATE, *[("x", "y" * 1000)] * 20), EXHAUSTED)]
        with self.peer() as peer:
            stream = 1
            for items, status in cases:
                peer.send(peer.headers(stream, items))
                heads, _, code = peer.answer(stream)
                self.assertEqual((int(heads[-1]["grpc-status"]), heads[0][":status"]), (status, "200"))
                # Trailers have END_STREAM; the request's end is a reset without an error.
                found = peer.until(lambda made: isinstance(made, frames.RstStreamFrame))[-1]
                self.assertEqual((found.stream_id, found.error_code), (stream, NO_ERROR))
                stream += 2
            self.answers(peer, stream)

    def test_malformed_messages(self):
        cases = [(b"\x02\0\0\0\0", INTERNAL), (b"\x01\0\0\0\0", INTERNAL), (message(b"abc")[:7], INTERNAL),
                 (b"\0\0", INTERNAL), (b"", UNIMPLEMENTED), (message(SIGMOID) * 2, UNIMPLEMENTED),
                 (message(b"\xff\xff"), INVALID), (message(SIGMOID, flag=1), INTERNAL),
                 (b"\0\xff\xff\xff\xff", EXHAUSTED)]
        with self.peer() as peer:
            stream = 1
            for data, status in cases:
                peer.send(peer.headers(stream, fields()), peer.data(stream, data, end=True))
                self.assertEqual(peer.status(stream), status, data)
                stream += 2
            for data in (b"no gzip", gzip.compress(SIGMOID)[:-4], gzip.compress(SIGMOID) + b"x", b""):
                peer.send(peer.headers(stream, fields(grpc_encoding="gzip")),
                          peer.data(stream, message(data, flag=1), end=True))
                self.assertEqual(peer.status(stream), INTERNAL, data)
                stream += 2
            self.answers(peer, stream)
        self.settles()

    def test_a_length_that_does_not_agree(self):
        with self.peer() as peer:
            peer.send(peer.headers(1, fields(content_length="3")), peer.data(1, message(SIGMOID), end=True))
            self.assertEqual(peer.answer(1)[2], PROTOCOL_ERROR)
            peer.send(peer.headers(3, fields(content_length="1000")), peer.data(3, message(SIGMOID), end=True))
            self.assertEqual(peer.answer(3)[2], PROTOCOL_ERROR)
            peer.send(peer.headers(5, fields(content_length=str(len(SIGMOID) + 5))),
                      peer.data(5, message(SIGMOID), end=True))
            self.assertEqual(peer.status(5), OK)
        self.settles()

    def test_trailers_of_the_client(self):
        with self.peer() as peer:
            peer.send(peer.headers(1, fields()), peer.data(1, message(SIGMOID)),
                      peer.headers(1, [("x-trailer", "1")], end=True))
            self.assertEqual(peer.status(1), OK)
            peer.send(peer.headers(3, fields()), peer.headers(3, [("x-trailer", "1")]))
            self.assertEqual(peer.answer(3)[2], PROTOCOL_ERROR)
            self.answers(peer, 5)

    def test_connection_errors_end_with_goaway(self):
        def even(peer):
            return [peer.headers(2, fields())]

        def data_on_idle(peer):
            return [peer.data(1, b"x")]

        def reset_on_idle(_):
            return [frames.RstStreamFrame(1, 0)]

        def window_of_none(_):
            return [frames.WindowUpdateFrame(0, window_increment=1), b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"]

        def overflow(_):
            return [frames.WindowUpdateFrame(0, window_increment=0x7FFFFFFF)] * 2

        def long_ping(_):
            return [b"\0\0\x09\x06\0\0\0\0\0" + bytes(9)]

        def odd_settings(_):
            return [b"\0\0\x05\x04\0\0\0\0\0" + bytes(5)]

        def settings_of_a_stream(_):
            return [b"\0\0\0\x04\0\0\0\0\1"]

        def too_long(_):
            return [b"\x10\0\x01\0\0\0\0\0\1" + bytes(100)]

        def broken_hpack(_):
            return [b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff"]

        def continuation_alone(_):
            return [b"\0\0\0\x09\4\0\0\0\1"]

        def interrupted(peer):
            begun = frames.HeadersFrame(1, peer.block(fields()))
            return [begun, frames.PingFrame(0, bytes(8))]

        def push(peer):
            return [b"\0\0\4\5\4\0\0\0\1\0\0\0\2"]

        def bad_window(_):
            return [frames.SettingsFrame(0, settings={4: 1 << 31})]

        for wrong in (even, data_on_idle, reset_on_idle, window_of_none, overflow, long_ping, odd_settings,
                      settings_of_a_stream, too_long, broken_hpack, continuation_alone, interrupted, push, bad_window):
            with self.subTest(wrong.__name__), self.peer() as peer:
                peer.send(*wrong(peer))
                said = peer.end()
                self.assertIsNotNone(said)
                self.assertNotEqual(said[0], NO_ERROR)
        with self.peer() as peer:
            self.answers(peer, 1)

    def test_unknown_frames_and_settings_are_skipped(self):
        with self.peer(settings={0xFE03: 1, 0x77: 5}) as peer:
            peer.send(b"\0\0\3\x2a\0\0\0\0\0abc", b"\0\0\3\x2a\0\0\0\0\1abc")
            self.answers(peer, 1)

    def test_windows_of_the_client_are_kept(self):
        count = 100_000
        data = request("relu", [tensor("input", bytes(4 * count), [count])]).SerializeToString()
        with self.peer(settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 10}) as peer:
            peer.send(peer.headers(1, fields()))
            body = message(data)
            for begin in range(0, len(body), 16_000):
                peer.send(peer.data(1, body[begin:begin + 16_000], end=begin + 16_000 >= len(body)))
            got = b""
            while len(got) < 10:
                made = peer.receive()
                if isinstance(made, frames.DataFrame):
                    got += made.data
            self.assertEqual(len(got), 10)
            self.assertIsNotNone(peer.ping())
            # Others are not held back by it: this one's answer is shorter than its window.
            peer.send(peer.headers(3, fields("/grpc.health.v1.Health/Check")), peer.data(3, message(b""), end=True))
            self.assertEqual(peer.answer(3)[1], message(b"\x08\x01"))
            peer.send(frames.WindowUpdateFrame(1, window_increment=1 << 20))
            while len(got) < 65535 - 7:
                made = peer.receive()
                if isinstance(made, frames.DataFrame):
                    got += made.data
            peer.send(frames.WindowUpdateFrame(0, window_increment=1 << 20))
            _, rest, _ = peer.answer(1)
            answer = pb.EvaluateResponse.FromString((got + rest)[5:])
            self.assertEqual(len(answer.outputs[0].data), 4 * count)
        self.settles()

    def test_the_window_is_opened_for_a_whole_message(self):
        """And a client that keeps to its windows gets 20 MB through in one."""
        count = 5_000_000
        body = message(request("relu", [tensor("input", bytes(4 * count), [count])]).SerializeToString())
        with self.peer(timeout=30) as peer:
            peer.send(frames.WindowUpdateFrame(0, window_increment=1 << 30))
            peer.send(frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30}))
            peer.send(peer.headers(1, fields()), peer.data(1, body[:100]))
            found = peer.until(lambda made: isinstance(made, frames.WindowUpdateFrame) and made.stream_id == 1)
            self.assertGreaterEqual(found[-1].window_increment + (256 << 10), len(body) - 100)
            for begin in range(100, len(body), 1 << 20):
                peer.send(peer.data(1, body[begin:begin + (1 << 20)], end=begin + (1 << 20) >= len(body)))
            _, answer, _ = peer.answer(1)
            self.assertEqual(len(pb.EvaluateResponse.FromString(answer[5:]).outputs[0].data), 4 * count)

    def test_a_big_answer_does_not_keep_others_waiting(self):
        """40 MB are on their way, which the client does not read yet, and it asks for something small."""
        count = 10_000_000
        body = message(request("relu", [tensor("input", bytes(4 * count), [count])]).SerializeToString())
        with self.peer(settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30}, timeout=30) as peer:
            peer.send(frames.WindowUpdateFrame(0, window_increment=1 << 30))
            peer.send(peer.headers(1, fields()))
            for begin in range(0, len(body), 1 << 20):
                peer.send(peer.data(1, body[begin:begin + (1 << 20)], end=begin + (1 << 20) >= len(body)))
            first = peer.until(lambda made: isinstance(made, frames.DataFrame))
            peer.send(peer.headers(3, fields("/grpc.health.v1.Health/Check")), peer.data(3, message(b""), end=True))
            time.sleep(0.2)
            big = len(first[-1].data)
            while True:
                made = peer.receive()
                if isinstance(made, frames.DataFrame) and made.stream_id == 1:
                    big += len(made.data)
                elif isinstance(made, frames.HeadersFrame) and made.stream_id == 3 and "END_STREAM" in made.flags:
                    break
            self.assertLess(big, 8 << 20)
            rest, _ = peer.answer(1)[1:]
            self.assertGreater(big + len(rest), 4 * count)
        self.settles()

    def test_a_deadline_ends_a_call_that_sends_nothing(self):
        with self.peer() as peer:
            begin = time.monotonic()
            peer.send(peer.headers(1, fields(grpc_timeout="200m")))
            self.assertEqual(peer.status(1), DEADLINE)
            self.assertLess(time.monotonic() - begin, 5)
            self.assertGreater(time.monotonic() - begin, 0.15)
        self.settles()


class Attacks(Frames):
    settings = {"limits__frame_timeout": "1s", "limits__write_timeout": "1s", "limits__hello_timeout": "1s",
                "limits__total_bytes": "1GiB", "limits__connection_bytes": "256MiB", "limits__user_streams": "600"}

    def setUp(self):
        self.before = self.daemon.resident_bytes()

    def undisturbed(self, most=64 << 20):
        """Other clients are answered at once, memory has not grown, and nothing is left of the attack's calls."""
        with self.peer() as peer:
            begin = time.monotonic()
            for stream in range(1, 200, 2):
                self.answers(peer, stream)
            self.assertLess(time.monotonic() - begin, 5)
        self.assertLess(self.daemon.resident_bytes() - self.before, most + KEPT)
        self.assertIsNone(self.daemon.process.poll())
        self.settles()

    def flood(self, make, expected=ENHANCE_YOUR_CALM, rounds=200, **options):
        """Sends what `make` makes until the connection ends, which it has to."""
        with self.peer(**options) as peer:
            try:
                for index in range(rounds):
                    peer.send(make(peer, index))
            except OSError:
                pass
            said = peer.end()
            if said:
                self.assertIn(said[0], expected if isinstance(expected, tuple) else (expected,), said)
            return said

    def test_rapid_reset(self):
        big = message(request("softmax", [tensor("input", bytes(40_000), [10_000])]).SerializeToString())

        def make(peer, index):
            made = b""
            for stream in range(index * 200 + 1, index * 200 + 200, 2):
                made += (peer.headers(stream, fields()).serialize() + peer.data(stream, big[:12_000]).serialize()
                         + frames.RstStreamFrame(stream, CANCEL).serialize())
            return made
        self.flood(make, rounds=2000)
        self.undisturbed()

    def test_resets_that_the_client_provokes(self):
        """Each stream is reset by us: zero increments, then fields that are none."""
        def zero(peer, index):
            return b"".join(
                peer.headers(stream, fields()).serialize() + b"\0\0\4\x08\0" + struct.pack(">II", stream, 0)
                for stream in range(index * 200 + 1, index * 200 + 200, 2))

        def malformed(peer, index):
            return b"".join(peer.headers(stream, fields(te="x"), end=True).serialize()
                            for stream in range(index * 200 + 1, index * 200 + 200, 2))
        self.flood(zero, (ENHANCE_YOUR_CALM, PROTOCOL_ERROR), rounds=1000)
        self.flood(malformed, (ENHANCE_YOUR_CALM, PROTOCOL_ERROR), rounds=1000)
        self.undisturbed()

    def test_continuations_without_end(self):
        def make(peer, index):
            if index == 0:
                return frames.HeadersFrame(1, peer.block(fields()))
            return frames.ContinuationFrame(1, b"\0\x01x\x01y" * 10).serialize() * 10
        self.flood(make, (ENHANCE_YOUR_CALM, PROTOCOL_ERROR))
        self.undisturbed()

    def test_fields_that_grow_when_they_are_decoded(self):
        """An entry of 4000 bytes in HPACK's table, named again and again."""
        with self.peer() as peer:
            block = peer.block(fields()) + b"\x40\x01x\x7f" + self.integer(4000 - 127) + b"a" * 4000
            block += b"\xbe" * 15_000
            made = frames.HeadersFrame(1, block)
            made.flags |= {"END_HEADERS", "END_STREAM"}
            peer.send(made)
            begin = time.monotonic()
            said = peer.end()
            self.assertLess(time.monotonic() - begin, 5)
            self.assertEqual(said[0], ENHANCE_YOUR_CALM)
        self.undisturbed()

    @staticmethod
    def integer(value):
        made = b""
        while value >= 128:
            made += bytes([value & 127 | 128])
            value >>= 7
        return made + bytes([value])

    def test_floods_of_frames_that_carry_nothing(self):
        def pings(_, __):
            return frames.PingFrame(0, bytes(8)).serialize() * 100

        def settings(_, __):
            return frames.SettingsFrame(0, settings={4: 65535}).serialize() * 100

        def priorities(_, __):
            return b"\0\0\5\2\0\0\0\0\7\0\0\0\0\1" * 1000

        def empty(peer, index):
            head = peer.headers(1, fields()).serialize() if index == 0 else b""
            return head + peer.data(1).serialize() * 1000

        def windows(_, __):
            return frames.WindowUpdateFrame(0, window_increment=1).serialize() * 1000

        def unknown(_, __):
            return b"\0\0\0\x2a\0\0\0\0\0" * 1000

        def acknowledged(_, __):
            return frames.PingFrame(0, bytes(8), flags=["ACK"]).serialize() * 1000

        def padding(peer, index):
            padded = frames.DataFrame(1, b"", pad_length=255)
            padded.flags.add("PADDED")
            return (peer.headers(1, fields()).serialize() if index == 0 else b"") + padded.serialize() * 1000

        def refused(peer, index):
            # Answered at once: not a byte of a message comes.
            return b"".join(peer.headers(stream, fields("/x"), end=True).serialize()
                            for stream in range(index * 200 + 1, index * 200 + 200, 2))
        for make in (pings, settings, priorities, empty, windows, unknown, acknowledged, padding, refused):
            with self.subTest(make.__name__):
                begin = time.monotonic()
                self.flood(make)
                self.assertLess(time.monotonic() - begin, 10)
        self.undisturbed()

    def test_floods_of_a_stream_that_is_closed(self):
        """Of which nghttp2 tells nothing."""
        def of_first(make):
            def made(peer, index):
                if index == 0:
                    self.answers(peer, 1)
                return make(peer)
            made.__name__ = make.__name__
            return made

        def data(peer):
            return peer.data(1).serialize() * 1000

        def ends(peer):
            return peer.data(1, end=True).serialize() * 1000

        def windows(_):
            return frames.WindowUpdateFrame(1, window_increment=1).serialize() * 1000

        def headers(peer):
            return b"".join(peer.headers(1, fields()).serialize() for _ in range(100))
        for make in (data, ends, windows, headers):
            with self.subTest(make.__name__):
                self.flood(of_first(make))
        self.undisturbed()

    def test_a_client_that_has_said_its_last_is_closed_to(self):
        """After its last stream: it would be neither heard nor answered."""
        away = frames.GoAwayFrame(0, last_stream_id=0, error_code=NO_ERROR)
        with self.peer() as peer:
            peer.send(away)
            self.assertIsNone(peer.until(lambda made: made is None)[-1])
        with self.peer() as peer:
            peer.send(peer.headers(1, fields()))
            self.assertIsNotNone(peer.ping())
            peer.send(away, peer.data(1, message(SIGMOID), end=True))
            self.assertEqual(peer.status(1), OK)
            self.assertIsNone(peer.until(lambda made: made is None)[-1])
        with self.peer() as peer:
            try:
                for _ in range(100):
                    peer.send(away.serialize() * 1000)
            except OSError:
                pass
            peer.end()
        self.undisturbed()

    def test_nobody_reads_the_acknowledgements(self):
        with self.peer() as peer:
            peer.socket.settimeout(2)
            try:
                for _ in range(10_000):
                    peer.send(frames.SettingsFrame(0, settings={4: 65535}).serialize() * 100)
            except OSError:
                pass
        self.undisturbed()

    def test_more_streams_than_there_may_be(self):
        """Those beyond are refused alone, whether the client knows the limit yet or not, and the connection goes on."""
        for greet in (True, False):
            with self.subTest(greet=greet), self.peer(greet=greet) as peer:
                if greet:
                    # The daemon has had the acknowledgement of its SETTINGS.
                    self.assertIsNotNone(peer.ping())
                else:
                    peer.send(PREFACE, frames.SettingsFrame(0))
                for stream in range(1, 1001, 2):
                    peer.send(peer.headers(stream, fields()))
                found = peer.until(lambda made: made is None or made.stream_id == 999)
                refused = [made for made in found if isinstance(made, frames.RstStreamFrame)]
                self.assertEqual({made.error_code for made in refused}, {REFUSED_STREAM})
                self.assertEqual([made.stream_id for made in refused], list(range(2 * 256 + 1, 1000, 2)))
                # One ends, and there is room for another.
                peer.send(peer.data(1, message(SIGMOID), end=True))
                self.assertEqual(peer.status(1), OK)
                self.answers(peer, 1001)
                peer.send(peer.headers(1003, fields()), peer.headers(1005, fields()))
                found = peer.until(lambda made: made is None or made.stream_id == 1005)
                self.assertEqual((found[-1].stream_id, found[-1].error_code), (1005, REFUSED_STREAM))
                self.assertIsNotNone(peer.ping())
        self.undisturbed()

    def test_streams_beyond_the_limit_without_end(self):
        """Each is refused, and answered with a reset: so many of them end the connection."""
        def make(peer, index):
            return b"".join(peer.headers(stream, fields()).serialize()
                            for stream in range(index * 200 + 1, index * 200 + 200, 2))
        self.flood(make, rounds=2000)
        self.undisturbed()

    def test_calls_of_one_user_over_all_connections(self):
        peers = [self.peer() for _ in range(4)]
        try:
            codes = []
            for peer in peers:
                for stream in range(1, 400, 2):
                    peer.send(peer.headers(stream, fields()))
                self.assertIsNotNone(peer.ping())
            # The fourth's are beyond limits.user_streams.
            for peer in peers[3:]:
                peer.send(peer.headers(401, fields()))
                codes.append(peer.status(401))
            self.assertEqual(codes, [EXHAUSTED])
        finally:
            for peer in peers:
                peer.socket.close()
        self.undisturbed()

    def test_a_client_that_opens_no_window_gets_its_results_dropped(self):
        with self.peer(settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as peer:
            for stream in range(1, 41, 2):
                peer.call(stream, request("relu", [tensor("input", bytes(12_000), [3000])]).SerializeToString())
            found = peer.until(lambda made: isinstance(made, frames.RstStreamFrame))
            self.assertEqual(found[-1].error_code, CANCEL)
            self.assertIsNotNone(peer.ping(), "the connection goes on")
            self.settles()
        self.undisturbed()

    def test_a_body_that_stalls_half_way(self):
        with self.peer() as peer:
            body = message(request("relu", [tensor("input", bytes(1 << 20), [1 << 18])]).SerializeToString())
            peer.send(peer.headers(1, fields()), peer.data(1, body[:16_000]))
            begin = time.monotonic()
            self.assertEqual(peer.status(1), DEADLINE)
            self.assertLess(time.monotonic() - begin, 5)
            peer.send(peer.headers(3, fields()), peer.data(3, b"\0\0"))
            self.assertEqual(peer.status(3), DEADLINE)
            self.answers(peer, 5)
        self.undisturbed()

    def test_a_beginning_that_does_not_go_on(self):
        for talk in (PREFACE[:10], PREFACE, PREFACE + b"\0\0\0\4"):
            with self.peer(greet=False) as peer:
                peer.send(talk)
                begin = time.monotonic()
                peer.end()
                self.assertLess(time.monotonic() - begin, 5)
        with self.peer() as peer:
            peer.send(frames.HeadersFrame(1, peer.block(fields())))
            begin = time.monotonic()
            peer.end()
            self.assertLess(time.monotonic() - begin, 5)
        self.undisturbed()

    def test_compressed_bombs(self):
        bomb = gzip.compress(bytes(200 << 20), 9)
        self.assertLess(len(bomb), 250_000)
        with self.peer() as peer:
            for stream in (1, 3, 5, 7):
                peer.send(peer.headers(stream, fields(grpc_encoding="gzip")))
                body = message(bomb, flag=1)
                for begin in range(0, len(body), 16_000):
                    peer.send(peer.data(stream, body[begin:begin + 16_000], end=begin + 16_000 >= len(body)))
                heads, _, _ = peer.answer(stream)
                self.assertEqual(heads[-1]["grpc-status"], str(EXHAUSTED), heads)
                self.assertIn("(limits.connection_bytes)", heads[-1]["grpc-message"])
        self.undisturbed()

    def test_memory_is_taken_before_it_comes_and_by_nobody_who_does_not_send(self):
        """Prefixes of 200 MB each, of which little comes: they wait, and are refused, and others go on."""
        with self.peer() as peer:
            for stream in range(1, 21, 2):
                peer.send(peer.headers(stream, fields()), peer.data(stream, b"\0" + struct.pack(">I", 200 << 20)))
            self.assertIsNotNone(peer.ping())
            for stream in range(1, 21, 2):
                self.assertIn(peer.status(stream), (DEADLINE, EXHAUSTED))
        self.undisturbed()

    def test_random_bytes(self):
        source = random.Random(SEED)
        kinds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 255]
        for _ in range(300):
            with self.peer(timeout=3) as peer:
                good = peer.headers(1, fields()).serialize() + peer.data(1, message(SIGMOID)).serialize()
                made = bytearray(good)
                for _ in range(source.randrange(6)):
                    length = source.choice([0, 1, 4, 5, 8, 20])
                    made += (struct.pack(">I", length)[1:] + bytes([source.choice(kinds), source.randrange(256)])
                             + struct.pack(">I", source.choice([0, 1, 2, 3, 5])) + source.randbytes(length))
                for _ in range(source.randrange(4)):
                    made[source.randrange(len(made))] = source.randrange(256)
                try:
                    peer.send(bytes(made))
                    peer.socket.shutdown(1)
                    peer.socket.settimeout(0.01)
                    peer.end()
                except (OSError, InvalidFrameError, InvalidDataError):
                    pass
            self.assertIsNone(self.daemon.process.poll(), f"seed {SEED}\n{self.daemon.log()}")
        self.undisturbed()


if __name__ == "__main__":
    unittest.main()
