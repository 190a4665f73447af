"""Both clients against servers that break the protocol: each ends as an exception with a text, in time."""

import struct
import time

import numpy as np
import pytest

import lossd
import lossd._clock
from fakes import HI, OK3, answer, goaway, listed, serving, status, tensor
from wire import ACK, CREDIT, GOAWAY, HELLO, MESSAGE, PING, STATUS, block, frame, number

X = np.array([0, 1, -1], np.float32)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tests of what does not come are short."""
    monkeypatch.setattr(lossd._clock, "CONNECT_TIMEOUT", 0.5)


def evaluate(both, data, **options):
    """One call that is answered with these bytes, of which HELLO, if it is there, comes before the call."""
    def serve(fake):
        fake.frame()
        has_hello = data.startswith(HI)
        if has_hello:
            fake.send(HI)
            fake.request()
        fake.send(data[len(HI):] if has_hello else data)

    with serving(serve) as address:
        return both.evaluate(address, "sigmoid", {"input": X}, **options)


#: The system says "reset" where the server had not read all that the client sent.
ENDED = "closed the connection|reset by peer"


@pytest.mark.parametrize("data, text", [
    (b"", ENDED),
    (HI[:20], ENDED),
    (HI + answer()[:-1], ENDED),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "broke the protocol"),
    (answer(), "the first frame is no HELLO"),
    (HI + HI, "a second HELLO"),
    (HI + frame(11, 0), "a frame of type 0x0b"),
    (HI + frame(9, 0, number(1, 5)), "an answer to a REGION that was not sent"),
    (HI + frame(2, 1), "a frame of type 0x02"),
    (HI + frame(MESSAGE, 1, flags=2), "flags 0x02"),
    (HI + frame(MESSAGE, 1, reserved=256), "reserved"),
    (HI + frame(MESSAGE, 0), "a frame of type 3 on stream 0"),
    (HI + frame(STATUS, 1, number(1, 3), b"x"), "a payload of 1 bytes"),
    (HI + frame(PING, 0, bytes(65)), "a message of 65 bytes"),
    (HI + struct.pack("<IIIBBH", 0, 2**32 - 1, 1, MESSAGE, 1, 0), "a message of 4294967295 bytes"),
    (HI + answer(stream=2), "stream 2, which was never opened"),
    (HI + frame(PING, 0, b"", flags=ACK), "an answer to a PING"),
    (frame(HELLO, 0, b"\x0a\xff"), "broke the protocol"),
    (frame(HELLO, 0, block(1, "x")), "a HELLO that allows no calls"),
    (HI + frame(STATUS, 1, b"\x0a\xff"), "broke the protocol"),
    (HI + frame(CREDIT, 1), "CREDIT"),
    (HI + frame(GOAWAY, 0, b"\x0a\xff"), "broke the protocol"),
    (HI + goaway(0, 3, "you spoke out of turn"), "you spoke out of turn"),
])
def test_a_connection_that_breaks_the_rules_is_unavailable(both, data, text):
    with pytest.raises(lossd.Unavailable, match=text):
        evaluate(both, data)


def test_a_status_has_its_code_and_text(both):
    with pytest.raises(lossd.InvalidArgument, match=r"target\[1\] is 7"):
        evaluate(both, HI + status(3, "target[1] is 7"))
    with pytest.raises(lossd.LossdError, match="what") as caught:
        evaluate(both, HI + status(16, "what"))
    assert caught.value.code == 16


@pytest.mark.parametrize("message, payload", [
    (b"\x12\xff", b""),
    (tensor(data_type=0), OK3),
    (tensor(data_type=77), OK3),
    (tensor(shape=(2**63,)), OK3),
    (tensor(shape=(4,)), OK3),
    (tensor(shape=(2**62, 4)), OK3),
    (tensor(offset=64), OK3),
    (tensor(offset=2**63), OK3),
    (tensor(length=2**64 - 1), OK3),
    (tensor(storage=block(4, b"1234")), b""),
])
def test_an_answer_that_makes_no_sense_harms_its_call_alone(both, message, payload):
    def serve(fake):
        fake.send(HI)
        for data in (answer(message, payload), answer(stream=2)):
            fake.request()
            fake.send(data)
        fake.until_closed()

    with serving(serve) as address:
        first, second = both.evaluate_many(address, 2, "sigmoid", {"input": X})
    assert isinstance(first, lossd.Internal) and "answer" in str(first)
    assert second["output"][0] == 0.5


def test_what_is_allowed_is_taken_in_whatever_pieces(both):
    def serve(fake):
        fake.send(HI, piece=1)
        fake.request()
        fake.send(frame(PING, 0, b"hello") + answer(
            tensor(offset=64) + tensor("b", shape=(0, 2), length=0, offset=12) + tensor("c", storage=block(4, OK3)),
            bytes(64) + OK3), piece=1)
        assert fake.frame()[:1] == (PING,)

    with serving(serve) as address:
        result = both.evaluate(address, "sigmoid", {"input": X})
    assert result["output"].tolist() == result["c"].tolist() and result["b"].shape == (0, 2)
    assert all(array.flags.writeable for array in result.values())


def test_a_server_that_says_nothing_is_left(both):
    began = time.monotonic()
    with serving(lambda fake: fake.until_closed()) as address, pytest.raises(lossd.Unavailable, match="HELLO"):
        both.evaluate(address, "sigmoid", {"input": X})
    with serving(lambda fake: fake.until_closed()) as address, pytest.raises(lossd.Unavailable, match="HELLO"):
        both.ping(address)

    def serve(fake):
        fake.send(HI)
        fake.until_closed()

    with serving(serve) as address, pytest.raises(lossd.DeadlineExceeded):
        both.evaluate(address, "sigmoid", {"input": X}, timeout=0.2)
    assert time.monotonic() - began < 10


def test_a_server_that_takes_nothing_is_left(both):
    def serve(fake):
        fake.send(HI)
        fake.frame()
        time.sleep(1)

    began = time.monotonic()
    with serving(serve) as address, pytest.raises(lossd.DeadlineExceeded):
        both.evaluate(address, "sigmoid", {"input": np.zeros(10_000_000, np.float32)}, timeout=0.3)
    assert time.monotonic() - began < 10


def test_pings_whose_answers_nobody_reads(both):
    def serve(fake):
        fake.send(HI)
        fake.request()
        while True:
            fake.send(frame(PING, 0, bytes(64)) * 1000)

    with serving(serve) as address, pytest.raises(lossd.Unavailable):
        both.evaluate(address, "sigmoid", {"input": X})


def test_a_response_to_no_request_is_not_kept(both):
    def serve(fake):
        fake.send(HI)
        fake.request(count=2)
        fake.send(answer(stream=2, flags=0) * 2)
        fake.until_closed()

    with serving(serve) as address:
        first, _ = both.evaluate_many(address, 2, "sigmoid", {"input": X}, timeout=5)
    assert isinstance(first, lossd.Unavailable) and (
        "on stream 2 to no request" in str(first) or "a response without END_STREAM" in str(first))


def stream(both, data, batches=2):
    def serve(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("sigmoid"))
        fake.request(streams=(2,))
        fake.send(data)
        fake.until_closed()

    with serving(serve) as address:
        return both.stream(address, "sigmoid", [{"input": X}] * batches)


@pytest.mark.parametrize("data, kind, text", [
    (answer(stream=2, flags=0) * 2, lossd.Internal, "a batch that was not sent"),
    (frame(MESSAGE, 2, block(3, number(1, 7))), lossd.Internal, "summary is of 7 batches, 0 have been answered"),
    (frame(MESSAGE, 2, block(3, b""), b"", 1), lossd.Internal, "before all batches were answered"),
    (answer(b"\x12\xff", stream=2, flags=0), lossd.Internal, "does not decode"),
    (status(3, "batch 0: bad", 2), lossd.InvalidArgument, "batch 0: bad"),
    (status(14, "gone", 2), lossd.Unavailable, "gone"),
    (goaway(0, 2, "bad frame"), lossd.Unavailable, "bad frame"),
    (b"\0" * 16, lossd.Unavailable, "broke the protocol"),
])
def test_streams_of_which_the_server_says_what_cannot_be(both, data, kind, text):
    with pytest.raises(kind, match=text):
        stream(both, data, batches=1)
