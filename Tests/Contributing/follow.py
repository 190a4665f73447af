"""Follows CONTRIBUTING.md's "Adding a function" word by word in a copy of the tree, builds it, and tries the function.

    python3 Tests/Contributing/follow.py

The copy and what is built of it stay in .build-contributing, for the next time. The kernels are not optimised there (LOSSD_QUICK), which
makes the build some minutes shorter.
"""
import array
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / ".build-contributing"
COPY = WORK / "tree"


def copy():
    """The tracked files as they are now."""
    shutil.rmtree(COPY, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, goal = ROOT / name, COPY / name
        if not source.is_symlink() and not source.exists():
            continue
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, goal, follow_symlinks=False)


def steps():
    """The numbered steps: their text and what stands between ``` in them."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    section = page.split("## Adding a function\n", 1)[1].split("\n## ", 1)[0]
    found = []
    for part in re.split(r"\n(?=\d+\. )", section)[1:]:
        part = part.split("\n**", 1)[0]
        block = re.search(r"```(\w+)\n(.*?)```", part, re.DOTALL)
        code = re.sub(r"^   ", "", block[2], flags=re.MULTILINE) if block else None
        found.append((part, code))
    return found


def insert(place, after, code):
    """Adds `code` behind the last line of the file that matches `after`, with that line's indentation."""
    path = COPY / place
    lines = path.read_text().splitlines(keepends=True)
    number = max(index for index, line in enumerate(lines) if re.match(after, line))
    indentation = re.match(r" *", lines[number])[0]
    lines.insert(number + 1, "".join(f"{indentation}{line}\n" for line in code.splitlines()))
    path.write_text("".join(lines))


def named(text, pattern):
    """The path that a step names."""
    return re.search(rf"`({pattern})`", text)[1]


def follow():
    name, formula, walk, declaration, listed, attempt, _ = steps()
    insert(named(*name[:1], r"Sources/\S+ElementCall\.swift"), r"  case gaussian", name[1])
    (COPY / named(formula[0], r"Sources/\S+\.swift")).write_text(formula[1])
    insert(named(walk[0], r"Sources/\S+Elements\.swift"), r" *case \.gaussian: ", walk[1])
    folder = COPY / named(declaration[0], r"Plugins/Catalogue/Activations")
    (folder / "Swish.swift").write_text(declaration[1])
    insert(named(listed[0], r"Plugins/\S+Catalogue\.swift"), r" *makeFunction\(", listed[1])
    command = re.search(r"\$ (lossctl eval .*)", attempt[1])[1]
    return command.split()


def write_npy(path, values):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % len(values)
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
                     + array.array("f", values).tobytes())


def main():
    copy()
    command = follow()
    subprocess.run(["swift", "build", "--product", "lossd", "--scratch-path", WORK / "build"], cwd=COPY, check=True,
                   env={**os.environ, "LOSSD_QUICK": "1"})
    program = WORK / "lossctl"
    program.unlink(missing_ok=True)
    program.symlink_to(WORK / "build" / "debug" / "lossd")
    values = [-7.5, -1.0, -0.25, 0.0, 0.5, 1.0, 3.75, 20.0, 100.0]
    write_npy(WORK / "x.npy", values)
    command = [program if word == "lossctl" else word for word in command]
    run = subprocess.run([*command, "--json"], cwd=WORK, check=True, capture_output=True, text=True)
    outputs = json.loads(run.stdout)["outputs"]
    worst = 0.0
    for x, value, slope in zip(values, outputs["output"]["values"], outputs["grad.input"]["values"], strict=True):
        s = 1 / (1 + math.exp(-2 * x))
        for mine, truth in ((value, x * s), (slope, s + 2 * x * s * (1 - s))):
            worst = max(worst, abs(mine - truth) / max(abs(truth), 1e-3))
    if worst > 1e-6:
        sys.exit(f"swish is wrong by {worst}: {outputs}")
    print(f"CONTRIBUTING.md's function works: {len(values)} elements, at most {worst:.1e} from float64's")


if __name__ == "__main__":
    main()
