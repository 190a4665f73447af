"""Two builds of lossd beside one another, in turn, so that a busy machine is busy for both.

    python3 Benchmarks/pair.py OLD NEW [--rounds 50] [--seconds 0.4] [CASE...]

OLD and NEW are lossd's programs. The load is made by `lossctl bench` of the build in .build/release, for both. Each round
measures both, the first one and the other in turn. Printed for each case are the ratios NEW / OLD of the calls a second and
of the daemon's processor time a call: of the medians, with a 95 % interval of that ratio by bootstrap over the rounds, and of
the best rounds, which other work on the machine disturbs the least.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

LOSSCTL = pathlib.Path(__file__).resolve().parent.parent / ".build" / "release" / "lossctl"
CASES = {
    "small-pipelined": ["--depth", "100"],
    "small-one-by-one": ["--depth", "1"],
    "big": ["--shape", "256x50257", "--gradient", "--depth", "2"],
    "softmax": ["softmax", "--shape", "4096x1000", "--gradient", "--depth", "2"],
    "sigmoid": ["sigmoid", "--shape", "1000000", "--gradient", "--depth", "2"],
}


def start(program, place):
    process = subprocess.Popen([program, "--listen", f"unix:{place}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not pathlib.Path(place).exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{program} does not start")
        time.sleep(0.05)
    return process


def measure(place, arguments, seconds):
    """Calls a second, and the daemon's processor time a call in us."""
    run = subprocess.run(
        [LOSSCTL, "bench", "--server", f"unix:{place}", "--json", "--warm-up", "0.05", "--duration", str(seconds), *arguments],
        capture_output=True, text=True, timeout=60 + 10 * seconds)
    if run.returncode != 0:
        raise SystemExit(f"lossctl bench: {run.stderr.strip()}")
    result = json.loads(run.stdout)
    return result["rate"], result["daemon_processors"] / result["rate"] * 1e6


def ratio(old, new):
    """Of the medians, and its 95 % interval."""
    middle = statistics.median(new) / statistics.median(old)
    rounds = range(len(old))
    ratios = []
    for _ in range(1000):
        some = random.choices(rounds, k=len(old))
        ratios.append(statistics.median(new[i] for i in some) / statistics.median(old[i] for i in some))
    ratios.sort()
    return f"{middle:.3f} ({ratios[25]:.3f} to {ratios[974]:.3f})"


def main():
    parser = argparse.ArgumentParser(description="Two builds of lossd beside one another.")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; without any, all")
    arguments = parser.parse_intermixed_args()
    for case in arguments.cases:
        if case not in CASES:
            parser.error(f"there is no case {case}")
    with tempfile.TemporaryDirectory(prefix="lossd-pair-") as folder:
        places = {"old": f"{folder}/old.sock", "new": f"{folder}/new.sock"}
        daemons = []
        try:
            for side, place in places.items():
                daemons.append(start(getattr(arguments, side), place))
            for case in arguments.cases or CASES:
                rates = {"old": [], "new": []}
                costs = {"old": [], "new": []}
                for number in range(arguments.rounds):
                    for side in ("old", "new") if number % 2 else ("new", "old"):
                        rate, cost = measure(places[side], CASES[case], arguments.seconds)
                        rates[side].append(rate)
                        costs[side].append(cost)
                print(f"{case}: calls a second {ratio(rates['old'], rates['new'])}, "
                      f"best {max(rates['new']) / max(rates['old']):.3f}; processor time a call "
                      f"{ratio(costs['old'], costs['new'])}, least {min(costs['new']) / min(costs['old']):.3f}", flush=True)
        finally:
            for daemon in daemons:
                daemon.terminate()


if __name__ == "__main__":
    main()
