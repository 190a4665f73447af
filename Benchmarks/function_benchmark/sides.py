"""The processes that take turns."""
import importlib.metadata
import os
import pathlib
import subprocess
import sys

from . import catalogue


class Side:
    """A process that answers a line with a line."""

    command = ""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"{self.name}: {line}: {answer or 'ended'}")
        return answer

    def seconds(self, case, budget_s):
        """None where the side refuses the type."""
        # The calling thread is not among the engine's workers: with one core it computes by itself.
        threads = 0 if case.threads == 1 and isinstance(self, Engine) else case.threads
        answer = self.ask(self.command + catalogue.line(case, threads, budget_s))
        return None if answer == "refused" else [float(value) for value in answer.split()]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Engine(Side):
    """lossd's engine, without the daemon around it."""

    command = "case "

    def __init__(self, program):
        if not program.exists():
            sys.exit(f"{program} is missing: make build")
        super().__init__("lossd", [str(program)])

    def bounds(self, size):
        fields = (field.split("=") for field in self.ask(f"bounds {size}").split())
        return {key: float(value) for key, value in fields}

    def name_of_kernels(self):
        return self.ask("name")


class Torch(Side):
    def __init__(self, name, keeps_memory):
        environment = dict(os.environ)
        if keeps_memory:
            # No memory from mmap, and none given back: what a call frees the next one takes, without a page
            # fault. As it comes, glibc maps each block over 32 MiB anew, and the kernel clears it.
            environment.update(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 40),
                               MALLOC_TOP_PAD_=str(64 << 20))
        worker = pathlib.Path(__file__).with_name("torch_worker.py")
        super().__init__(name, [sys.executable, str(worker)], environment)


def torch_version():
    return importlib.metadata.version("torch")
