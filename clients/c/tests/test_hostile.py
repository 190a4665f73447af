"""liblossd against servers that break every rule they can: each ends as an error with a text, never as a crash, a
hang or a wrong answer, and what is wrong inside of one answer harms that call alone."""

import struct
import unittest

from harness import FakeServerCase
from fakes import HI, OK3, SHM_HI, answer, goaway, listed, status, tensor
from wire import ACK, CREDIT, END_STREAM, GOAWAY, HELLO, MESSAGE, PING, REGION, STATUS, block, frame, number, parse

class Frames(FakeServerCase):
    """What no frame may be: the connection is given up, its calls are UNAVAILABLE."""

    def ends(self, data, text, code="UNAVAILABLE", action="calls", hang=False, **environment):
        def serve(fake):
            if action != "ping":
                fake.request()
            fake.send(data)
            if hang:
                fake.until_closed()
        line = self.drive(serve, action, **environment)[0]
        self.assertRegex(line, f"^{code} .*{text}")

    def test_a_server_that_closes_or_cuts_a_frame(self):
        whole = HI + answer()
        for cut in (0, 1, 15, 16, 20, len(HI), len(HI) + 7, len(HI) + 30, len(whole) - 1):
            with self.subTest(cut=cut):
                self.ends(whole[:cut], "closed the connection")

    def test_headers_that_break_the_rules(self):
        broken = "broke the protocol: "
        for data, text in (
                (b"HTTP/1.1 400 Bad Request\r\n\r\n", broken),
                (answer(), broken + "the first frame is no HELLO"),
                (HI + HI, broken + "a second HELLO"),
                (HI + frame(11, 0), broken + "a frame of type 0x0b"),
                (HI + frame(REGION, 0, number(1, 3)), broken + "an answer to a REGION that was not sent"),
                (HI + frame(REGION, 0, b"\xff"), "a REGION that does not decode"),
                (HI + frame(2, 1), broken + "a frame of type 0x02"),
                (HI + frame(MESSAGE, 1, flags=2), broken + "flags 0x02"),
                (HI + frame(STATUS, 1, number(1, 3), flags=1), broken + "flags 0x01"),
                (HI + frame(MESSAGE, 1, reserved=256), broken + "reserved"),
                (HI + frame(MESSAGE, 0), broken + "a frame of type 3 on stream 0"),
                (HI + frame(PING, 1), broken + "a frame of type 7 on stream 1"),
                (HI + frame(STATUS, 1, number(1, 3), b"x"), broken + "a payload of 1 bytes"),
                (HI + frame(PING, 0, bytes(65)), broken + "a message of 65 bytes"),
                (HI + struct.pack("<IIIBBH", 0, 2**32 - 1, 1, MESSAGE, 1, 0), "a message of 4294967295 bytes"),
                (HI + answer(stream=2), broken + "a frame of stream 2, which was never opened"),
                (HI + frame(PING, 0, b"", flags=ACK), "an answer to a PING"),
                (HI + answer(flags=0), broken + "a response without END_STREAM")):
            with self.subTest(text=text, data=data[:40]):
                self.ends(data, text)

    def test_control_messages_that_do_not_decode(self):
        garbage = b"\x0a\xff\xff\xff\xff\xff"
        self.ends(frame(HELLO, 0, garbage), "a HELLO that does not decode")
        self.ends(frame(HELLO, 0, block(1, "x")), "a HELLO that allows no calls")
        self.ends(HI + frame(STATUS, 1, garbage), "a STATUS that does not decode")
        self.ends(HI + frame(STATUS, 1), "a STATUS with code 0")
        self.ends(HI + frame(CREDIT, 1, garbage), "a CREDIT that does not decode")
        self.ends(HI + frame(CREDIT, 1), "a CREDIT that does not decode")
        self.ends(HI + frame(GOAWAY, 0, garbage), "a GOAWAY that does not decode")

    def test_a_fatal_goaway_says_why(self):
        self.ends(HI + goaway(0, 3, "you spoke out of turn"), "ended the connection: you spoke out of turn")

    def test_a_status_has_its_code_and_text(self):
        self.ends(HI + status(3, "target[1] is 7"), "target\\[1\\] is 7", code="INVALID_ARGUMENT")
        self.ends(HI + status(99, "what"), "what", code="UNKNOWN")
        self.ends(HI + status(8, "ä" * 4000), "ä{500,}$", code="RESOURCE_EXHAUSTED")

    def test_a_payload_over_what_hello_allowed(self):
        self.ends(HI + answer(payload=bytes(2000), message=tensor(shape=(500,), length=2000)),
                  "a payload of 2000 bytes", PAYLOAD_MAX="1000")

    def test_a_server_that_says_nothing(self):
        self.ends(b"", "did not say HELLO", hang=True)
        self.ends(b"", "HELLO", action="ping", hang=True)
        self.ends(HI, "did not answer within", code="DEADLINE_EXCEEDED", action="calls_300ms", hang=True)
        self.ends(HI + answer()[:-1], "did not answer within", code="DEADLINE_EXCEEDED", action="calls_300ms",
                  hang=True)
        claims = tensor(shape=(2**30 - 1,), length=2**32 - 4)
        self.ends(HI + struct.pack("<IIIBBH", 2**32 - 4, len(claims), 1, MESSAGE, 1, 0) + claims + bytes(5000),
                  "did not answer within|INVALID_ARGUMENT", code="(DEADLINE_EXCEEDED|INVALID_ARGUMENT)",
                  action="calls_300ms", hang=True)

    def test_pings_whose_answers_nobody_reads(self):
        def serve(fake):
            fake.request()
            fake.send(HI)
            try:
                while True:
                    fake.send(frame(PING, 0, bytes(64)) * 1000)
            except OSError:
                pass
        self.assertRegex(self.drive(serve, "calls")[0], "^UNAVAILABLE .*PING")


class Answers(FakeServerCase):
    """What is wrong inside of an answer: INTERNAL for that call, and the next one on the connection is answered."""

    def check(self, message, payload, text, code="INTERNAL", action="calls_into"):
        def serve(fake):
            for data in (answer(message, payload), answer(stream=2)):
                fake.request()
                fake.send((HI if fake.sent == 0 else b"") + data)
            fake.until_closed()
        lines = self.drive(serve, action, 2)
        self.assertRegex(lines[0], f"^{code} .*{text}")
        self.assertEqual(lines[1], "OK rank 1 bytes 12 first 0.5")

    def test_tensors_that_make_no_sense(self):
        no_shape, outside = "no type or shape", "outside of its payload"
        for message, payload, text in (
                (b"\x12\xff", b"", "does not decode"),
                (b"\x12\x00" * 100_000, b"", "has 100000 tensors"),
                (b"\x12\x00" * 2_000_000, b"", "does not decode"),  # 64 MiB of memory are the limit
                (tensor(data_type=0), OK3, no_shape),
                (tensor(data_type=11), OK3, no_shape),
                (tensor(shape=(2**64 - 1,)), OK3, no_shape),
                (tensor(shape=(2**62, 2**62), length=0), b"", no_shape),
                (tensor(shape=(1,) * 65, length=4), OK3, no_shape),
                (tensor(offset=64), OK3, outside),
                (tensor(offset=2**63), OK3, outside),
                (tensor(offset=32), bytes(64), outside),
                (tensor(length=16), bytes(64), outside),
                (tensor(length=2**64 - 1), OK3, outside),
                (tensor(shape=(4,)), bytes(64), outside),
                (tensor(storage=b""), OK3, "without bytes"),
                (tensor(storage=block(4, b"1234")), b"", "not where it should be"),
                (tensor(storage=block(6, number(1, 1) + number(3, 12))), b"", "nobody asked for"),
                (tensor() + tensor(), OK3, "has output twice"),
                (tensor() + tensor("other"), OK3, "overlap"),
                (tensor("other"), OK3, "lacks output"),
                (b"", b"", "lacks output"),
                (b"", bytes(100_000), "lacks output")):
            with self.subTest(text=text, message=message[:60]):
                self.check(message, payload, text)

    def test_an_answer_that_does_not_fit_into_the_callers_memory(self):
        self.check(tensor(shape=(4,), length=16), bytes(16), "takes 16 bytes, the buffer has 12",
                   code="INVALID_ARGUMENT")

    def test_what_is_allowed_is_taken(self):
        """Inline tensors, empty ones, gaps that are not zero, tensors out of order, trailing bytes; every cut."""
        gap = b"\xff" * 52
        for message, payload, expected in (
                (tensor(storage=block(4, OK3)), b"", "OK rank 1 bytes 12 first 0.5"),
                (tensor(shape=(0,), length=0, offset=12), OK3, "OK rank 1 bytes 0 first 0"),
                (tensor(shape=(2, 0), storage=b""), b"", "OK rank 2 bytes 0 first 0"),
                (tensor(offset=64) + tensor("b"), OK3 + gap + OK3 + gap, "OK rank 1 bytes 12 first 0.5"),
                (tensor(shape=(), length=4, offset=128), bytes(128) + OK3[:4], "OK rank 0 bytes 4 first 0.5")):
            with self.subTest(expected=expected):
                def serve(fake):
                    fake.request()
                    fake.send(HI + answer(message, payload), piece=1)
                    fake.until_closed()
                self.assertEqual(self.drive(serve, "calls")[0], expected)

    def test_results_of_ever_new_names_are_not_kept_forever(self):
        def serve(fake):
            fake.send(HI)
            for turn in range(6):
                fake.request()
                names = [tensor(f"r{turn}-{n}", shape=(1,), length=4) for n in range(1 if turn < 5 else 1)]
                fake.send(answer(b"".join(names), OK3[:4], stream=turn + 1))
            fake.until_closed()
        lines = self.drive(serve, "calls", 6)
        self.assertEqual(set(lines), {"OK rank 1 bytes 4 first 0.5"})


class SharedMemory(FakeServerCase):
    """What a server may say of the memory that it is offered."""
    BYTES = 400_000
    #: Where a client's memory begins in its region: liblossd keeps a page for itself.
    BEGIN = 4096

    def regions(self, fake, count=2, refused=()):
        """Reads so many REGIONs and answers them; their numbers. Those of which `refused` has no arguments for
        give_region are refused."""
        numbers = []
        while len(numbers) < count:
            id, length = fake.region()
            numbers.append(id)
            self.assertGreaterEqual(length, self.BYTES)
            problem = refused.get(len(numbers), {})
            if problem is None:
                fake.send(frame(REGION, 0, number(1, id) + block(2, number(1, 8) + block(2, "no"))))
            else:
                fake.give_region(id, length, **problem)
        return numbers

    def drive_big(self, answers, refused={}, in_payload=False, again=False):
        def serve(fake):
            fake.send(SHM_HI)
            numbers = self.regions(fake, refused=refused)
            request = fake.request()
            self.assertEqual(len(request[4]), self.BYTES if in_payload else 0)
            inputs = parse(parse(request[3])[2][0])
            self.assertIn(5 if in_payload else 6, inputs)
            fake.send(answers(numbers, request))
            if again:
                request = fake.request()
                self.assertNotIn(2, parse(parse(request[3])[4][0]))  # no `into`
                fake.send(self.plain(request[1]))
            fake.send(answer(stream=fake.request()[1]))
            fake.until_closed()
        return self.drive(serve, "big")

    def plain(self, stream):
        return answer(tensor(shape=(100_000,), length=self.BYTES), bytes(self.BYTES), stream)

    def shared(self, region, stream, offset=0, length=BYTES, shape=100_000):
        place = block(6, number(1, region) + number(2, self.BEGIN + offset) + number(3, length))
        return answer(tensor(shape=(shape,), storage=place), b"", stream)

    SMALL = "OK rank 1 bytes 12 first 0.5"

    def test_results_in_place_and_in_the_payload(self):
        self.assertEqual(self.drive_big(lambda numbers, request: self.shared(numbers[1], request[1])),
                         ["OK ", self.SMALL])
        self.assertEqual(self.drive_big(lambda numbers, request: self.plain(request[1])), ["OK ", self.SMALL])

    def test_a_region_that_is_refused(self):
        for refused in ({1: None}, {2: None}, {1: None, 2: None}):
            self.falls_back(refused)

    def falls_back(self, refused):
        """Where the input's memory is wrong all goes by the socket, where the result's is, that does."""
        with self.subTest(refused=refused):
            self.assertEqual(self.drive_big(lambda numbers, request: self.plain(request[1]), refused, 1 in refused),
                             ["OK ", self.SMALL])

    def test_memory_that_could_end_the_process_is_not_touched(self):
        short, unsealed, none = {"size": 4096}, {"seals": 0}, {"descriptors": 0}
        for wrong in (short, unsealed, {"seals": 4}, {"size": 0, "seals": 0}, none):
            # Without one the next region's would be taken for it: a server's own fault, which harms nobody.
            for place in ({1: wrong}, {2: wrong}, {1: wrong, 2: wrong})[wrong is none:]:
                self.falls_back(place)

    def test_a_descriptor_that_nobody_asked_for_is_the_connections_end(self):
        def serve(fake):
            fake.request()
            fake.give_region(1, 65536, message=HI)
            fake.until_closed()
        self.assertRegex(self.drive(serve, "calls")[0], "^UNAVAILABLE .*a descriptor that nobody asked for")

        def serve_two(fake):
            fake.send(SHM_HI)
            fake.give_region(*fake.region(), descriptors=3)
            fake.until_closed()

        def serve_plain(fake):
            fake.send(HI)
            fake.send(self.plain(fake.request()[1]))
            fake.send(answer(stream=fake.request()[1]))
            fake.until_closed()
        # The call had not been sent: it goes elsewhere.
        self.assertEqual(self.drive([serve_two, serve_plain], "big"), ["OK ", self.SMALL])

    def test_results_where_nobody_asked_for_them(self):
        for what in (lambda numbers, request: self.shared(numbers[0], request[1]),
                     lambda numbers, request: self.shared(99, request[1]),
                     lambda numbers, request: self.shared(numbers[1], request[1], offset=64),
                     lambda numbers, request: self.shared(numbers[1], request[1], length=4, shape=1),
                     lambda numbers, request: self.shared(numbers[1], request[1], shape=1 << 40),
                     lambda numbers, request: self.shared(numbers[1], request[1], length=2**64 - 4)):
            lines = self.drive_big(what)
            self.assertRegex(lines[0], "^INTERNAL .*output in memory that nobody asked for")
            self.assertEqual(lines[1], self.SMALL)

    def test_a_result_of_another_size_is_asked_for_again(self):
        self.assertEqual(self.drive_big(lambda _, request: status(3, "another size", request[1]), again=True),
                         ["OK ", self.SMALL])
        lines = self.drive_big(lambda _, request: status(5, "no such function", request[1]))
        self.assertEqual(lines, ["NOT_FOUND no such function", self.SMALL])

    def test_a_server_without_it_gets_everything_by_the_socket(self):
        def serve(fake):
            fake.send(HI)
            request = fake.request()
            self.assertEqual(len(request[4]), self.BYTES)
            fake.send(self.plain(request[1]))
            fake.send(answer(stream=fake.request()[1]))
            fake.until_closed()
        self.assertEqual(self.drive(serve, "big"), ["OK ", self.SMALL])


class Streams(FakeServerCase):
    """Streams of which the server says what cannot be."""
    def check(self, data, text, batches=2):
        def serve(fake):
            fake.request()
            fake.send(HI + listed("sigmoid"))
            fake.request(streams=(2,), count=2)  # the first request and batch 0
            fake.send(frame(CREDIT, 2, number(1, 1)) + data)
            fake.until_closed()
        self.assertRegex(self.drive(serve, "stream", batches)[0], text)

    def test_answers_out_of_order_or_to_nothing(self):
        one = answer(stream=2, flags=0)
        summary = block(3, number(1, 1) + number(2, 3))
        for data, text in (
                (answer(number(1, 5) + tensor(), stream=2, flags=0), "INTERNAL .*answered batch 5, expected 0"),
                (answer(stream=2), "INTERNAL .*without a summary"),
                (frame(MESSAGE, 2, block(3, number(1, 7))), "INTERNAL .*summary is of 7 batches, 0 have been answered"),
                (one + frame(MESSAGE, 2, summary, b"", END_STREAM), "INTERNAL .*before all batches were answered"),
                (status(3, "batch 0: bad", 2), "INVALID_ARGUMENT batch 0: bad"),
                (status(14, "gone", 2), "UNAVAILABLE gone"),
                (goaway(0, 2, "bad frame"), "UNAVAILABLE .*bad frame")):
            with self.subTest(text=text):
                self.check(data, text)

    def test_more_answers_than_batches(self):
        one = answer(stream=2, flags=0)
        second = answer(number(1, 1) + tensor(), stream=2, flags=0)
        self.check(one + second, "INTERNAL .*answered a batch that was not sent", batches=1)

    def test_lists_of_functions_that_are_not_what_was_asked_for(self):
        one = block(1, block(1, "sigmoid"))
        for message, text in ((b"", "others than"), (one * 2, "others than"), (b"\xff", "does not decode")):
            def serve(fake):
                fake.request()
                fake.send(HI + frame(MESSAGE, 1, message, b"", END_STREAM))
                fake.until_closed()
            self.assertRegex(self.drive(serve, "stream")[0], f"INTERNAL .*{text}")


if __name__ == "__main__":
    unittest.main()
