"""One measurement each: a rate and latencies, and the processor time that both sides took."""

import json
import pathlib
import statistics
import struct
import subprocess
import tempfile

from systems import BUILD, GREETING

GRPC_METHOD = "/loss.Loss/CrossEntropy"


class Meter:
    """What a server's process takes of a processor in the time of a measurement, its warm-up included."""

    def __init__(self, server, seconds):
        self.server, self.seconds = server, seconds
        self.before = server.processor_seconds()

    def per_call(self, made):
        """Microseconds of processor time for each of so many calls."""
        return (self.server.processor_seconds() - self.before) / made * 1e6 if made else None


def drive(helpers, server, transport, call, depth, seconds, warm_up):
    """lossd or the echo, by drive.c."""
    with tempfile.TemporaryDirectory(prefix="lossd-drive-") as folder:
        folder = pathlib.Path(folder)
        (folder / "greeting").write_bytes(GREETING)
        (folder / "calls").write_bytes(call.all)
        meter = Meter(server, seconds + warm_up)
        result = json.loads(subprocess.run(
            [helpers / "drive", server.address(transport), folder / "greeting", folder / "calls",
             str(call.variants), ",".join(map(str, call.offsets)), str(depth), str(seconds), str(warm_up)],
            check=True, capture_output=True, text=True).stdout)
    # As many in the warm-up, at the same rate.
    result["server_us"] = meter.per_call(result["calls"] * (seconds + warm_up) / seconds)
    return result


def h2load(server, call, depth, seconds, warm_up):
    """The gRPC service, by h2load (nghttp2), a client in C++ that costs a tenth of the service."""
    from grpc_service import Reply, Request
    import grpc

    message = Request(input=call.logits, target=call.target, shape=[call.rows, call.classes],
                      gradient=call.gradient).SerializeToString()
    # h2load looks at HTTP's status alone: here, once, at the answer.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        reply = Reply.FromString(channel.unary_unary(GRPC_METHOD)(message))
    if not reply.loss > 0 or len(reply.gradient) != (len(call.logits) if call.gradient else 0):
        raise RuntimeError("the gRPC service answers nonsense")
    with tempfile.TemporaryDirectory(prefix="lossd-h2load-") as folder:
        body, log = f"{folder}/body", f"{folder}/log"
        pathlib.Path(body).write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        command = [
            "h2load", "-D", str(max(round(seconds), 1)), "--warm-up-time", str(max(round(warm_up), 1)), "-c", "1", "-m",
            str(depth), "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers", "-w", "30", "-W",
            "30", "-f", str((1 << 24) - 1), f"--log-file={log}"]
        if server.transport == "unix":
            command += ["-B", server.target, f"http://localhost{GRPC_METHOD}"]
        else:
            command += [f"http://{server.target}{GRPC_METHOD}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line.split("\t") for line in pathlib.Path(log).read_text().splitlines()]
    times = sorted(int(row[2]) for row in rows if row[1] == "200")
    if not times or len(times) < 0.9 * len(rows):
        raise RuntimeError(f"h2load: {output}")
    span = (max(int(row[0]) + int(row[2]) for row in rows) - min(int(row[0]) for row in rows)) / 1e6

    def percentile(share):
        return float(times[min(int(share * len(times)), len(times) - 1)])

    return {"calls": len(times), "seconds": span, "rate": len(times) / span, "p50": percentile(0.5),
            "p90": percentile(0.9), "p99": percentile(0.99), "p999": percentile(0.999), "max": float(times[-1])}


def lossctl(server, transport, *arguments, seconds, warm_up, processors=None):
    """lossd, by lossctl bench, which may use these processors; again for twice as long where no call came to its end, as
    big ones do not in a short run beside other programs."""
    pinned = ["taskset", "-c", processors] if processors else []
    while True:
        told = subprocess.run(
            [*pinned, BUILD / "lossctl", "bench", "--server", server.address(transport), "--json",
             "--duration", str(seconds), "--warm-up", str(warm_up), *map(str, arguments)], capture_output=True, text=True)
        if not told.stdout:
            raise RuntimeError(f"lossctl bench: {told.stderr}")
        result = json.loads(told.stdout)
        if result["calls"] or result["failed"] or result["unanswered"] or seconds > 10:
            break
        seconds *= 2
    if result["failed"] or result["unanswered"]:
        raise RuntimeError(f"calls failed: {result['first_failure']}")
    if told.returncode:
        raise RuntimeError(f"lossctl bench: {result['calls']} calls, {told.stderr}")
    latency = result["latency_us"]
    return {"calls": result["calls"], "seconds": result["seconds"], "rate": result["rate"], "p50": latency["p50"],
            "p90": latency["p90"], "p99": latency["p99"], "p999": latency["p99.9"], "max": latency["max"],
            "client_processors": result["client_processors"], "server_processors": result["daemon_processors"]}


def engine(shape, gradient, workers, seconds):
    """The same evaluation in one process, without a socket: FunctionBenchmark, whose workers compute."""
    rows, classes = shape.split("x")
    operands = f"input:float32:{shape}:-6,6 target:int64:{rows}:0,{classes}"
    output = subprocess.run(
        [BUILD / "FunctionBenchmark"],
        input=f"case cross_entropy {int(gradient)} {workers} {seconds} {operands}\n",
        check=True, capture_output=True, text=True).stdout.split()
    return {"rate": 1 / statistics.median(map(float, output))}
