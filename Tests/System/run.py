"""Runs the system tests, each module in a process: two at a time, and alone those that measure time.

    python3 Tests/System/run.py [MODULE...]

The latter wait for the file that LOSSD_QUIET_FILE names, which says that nothing else is at work any more.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).parent
AT_ONCE = 2
# What is measured must not be disturbed by a neighbour.
MEASURING = ("test_attacks", "test_bench", "test_busy_poll", "test_call_benchmark", "test_in_daemon", "test_isolation",
             "test_limits", "test_region_attacks", "test_same_bits", "test_service", "test_streams")
# They take longest and begin first.
LONG = ("test_plugin_new", "test_shared_memory", "test_package", "test_readme", "test_plugin_check")


def run(module):
    """Whether all tests of a module passed; prints what it says when it is done."""
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "unittest", "-v", module], cwd=FOLDER,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    print(f"{result.stdout}{module}: {time.monotonic() - start:.0f} s, status {result.returncode}\n", flush=True)
    return result.returncode == 0


def main():
    modules = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("test_*.py"))
    beside = sorted((name for name in modules if name not in MEASURING), key=lambda name: name not in LONG)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(beside, pool.map(run, beside)))
    quiet = os.environ.get("LOSSD_QUIET_FILE")
    while quiet and not os.path.exists(quiet):
        time.sleep(1)
    outcomes.update((name, run(name)) for name in modules if name in MEASURING)
    failed = [name for name, passed in outcomes.items() if not passed]
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
