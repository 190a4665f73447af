#!/usr/bin/env python3
"""Evaluates the cross entropy of a data set that need not fit into memory, streamed from .npy files.

    python examples/make_rows.py --rows 10000000 /tmp/rows
    LOSSD_ADDRESS=unix:/run/lossd/lossd.sock python examples/evaluate_rows.py /tmp/rows/logits.npy /tmp/rows/labels.npy
"""

import argparse
import pathlib
import re
import time

import numpy as np

import lossd


def batches(logits, labels, size):
    """Views of the mapped files: pages are read when they are sent."""
    for first in range(0, len(logits), size):
        yield {"input": logits[first:first + size], "target": labels[first:first + size]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logits")
    parser.add_argument("labels")
    parser.add_argument("--batch-size", type=int, default=8192)
    arguments = parser.parse_args()
    logits = np.load(arguments.logits, mmap_mode="r")
    labels = np.load(arguments.labels, mmap_mode="r")
    began = time.perf_counter()
    with lossd.connect() as client:
        stream = client.stream("cross_entropy", batches(logits, labels, arguments.batch_size))
        for _ in stream:
            pass  # each batch's own loss
    seconds = time.perf_counter() - began
    print(f"loss {stream.summary.loss:.9f} of {stream.summary.rows} rows")
    # What of the files is mapped is the page cache's, and goes when others want it.
    own = int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
    print(f"{stream.summary.rows / seconds:,.0f} rows/s, {own:.0f} MiB of memory beside the files")


if __name__ == "__main__":
    main()
