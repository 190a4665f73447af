"""What a result was measured on."""

import os
import pathlib
import platform
import re
import subprocess

from systems import BUILD


def describe(with_grpc):
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    memory = int(re.search(r"MemTotal: +(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) // (1 << 20)
    found = {
        "processor": re.search(r"model name\s*: (.*)|$", cpu).group(1) or platform.machine(),
        "processors": len(os.sched_getaffinity(0)), "memory": f"{memory} GiB", "kernel": platform.release(),
        "lossd": subprocess.run(
            [BUILD / "lossd", "--version"], check=True, capture_output=True, text=True).stdout.strip(),
        "libuv": subprocess.run(
            ["pkg-config", "--modversion", "libuv"], check=True, capture_output=True, text=True).stdout.strip()}
    if with_grpc:
        import grpc
        import torch
        found |= {"python": platform.python_version(), "grpcio": grpc.__version__, "torch": torch.__version__}
    return found


def load():
    """Runnable processes in the last minute: others' work that a result has in it."""
    return os.getloadavg()[0]
