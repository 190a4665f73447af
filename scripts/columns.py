#!/usr/bin/env python3
"""Hold Swift sources to the columns that .swift-format names. The formatter never breaks a comment or a string, and
its linter does not report them; this script does.

    columns.py [--fix] [FILE...]

Without FILE: all Swift files of the repository. --fix fills the paragraphs of comments anew that have a longer line;
a long string is for its author to break. Lines of a text between two \"\"\" are not looked at: their columns belong
to what the text is.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = json.loads((ROOT / ".swift-format").read_text())["lineLength"]

# The kernels and the functions on them are written anew, file by file; each file comes here when it is done.
UNFINISHED = ("Sources/LossdKernels/", "Plugins/Catalogue/")

COMMENT = re.compile(r"^(\s*)(///?)(?: (.*))?$")
#: What begins a line that is no continuation of the line before: a list's item, a heading, a mark, laid-out text.
APART = re.compile(r"^(- |\* |\d+\. |#|\||```|MARK:|swift-|  )")


def outside_texts(lines: List[str]) -> Iterator[Tuple[int, str]]:
    """The lines that are not within a text of several lines, with their numbers from 0."""
    is_text = False
    for number, line in enumerate(lines):
        if not is_text:
            yield number, line
        if line.count('"""') % 2 == 1:
            is_text = not is_text


def too_long(lines: List[str]) -> List[int]:
    return [number for number, line in outside_texts(lines) if len(line) > COLUMNS]


def fill(margin: str, words: List[str], hanging: str) -> List[str]:
    """Words in as few lines as there can be; lines after the first begin with `hanging`."""
    lines = []
    line = ""
    for word in words:
        indent = hanging if lines else ""
        if line and len(margin) + len(indent) + len(line) + 1 + len(word) > COLUMNS:
            lines.append(margin + indent + line)
            line = word
        else:
            line = line + " " + word if line else word
    lines.append(margin + (hanging if lines else "") + line)
    return lines


def filled(lines: List[str]) -> List[str]:
    """The lines, with the paragraphs of comments that have a long line filled anew."""
    long = set(too_long(lines))
    result: List[str] = []
    number = 0
    while number < len(lines):
        match = COMMENT.match(lines[number])
        if not match or not match[3] or match[3].startswith("  "):
            result.append(lines[number])
            number += 1
            continue
        indent, slashes, text = match[1], match[2], match[3]
        end = number + 1
        is_item = re.match(r"^(- |\* |\d+\. )", text)
        hanging = " " * len(is_item[0]) if is_item else ""
        words = text.split()
        while end < len(lines):
            next_match = COMMENT.match(lines[end])
            if not next_match or (next_match[1], next_match[2]) != (indent, slashes) or not next_match[3]:
                break
            rest = next_match[3]
            if hanging and rest.startswith(hanging) and not rest[len(hanging):].startswith(" "):
                rest = rest[len(hanging):]
            elif APART.match(rest) or hanging:
                break
            words += rest.split()
            end += 1
        if any(line in long for line in range(number, end)):
            result += fill(f"{indent}{slashes} ", words, hanging)
        else:
            result += lines[number:end]
        number = end
    return result


def main(arguments: List[str]) -> int:
    fixes = "--fix" in arguments
    names = [name for name in arguments if name != "--fix"]
    if not names:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.swift"], cwd=ROOT,
            check=True, capture_output=True, text=True).stdout
        names = [name for name in listing.split("\0") if name and not name.startswith(UNFINISHED)]
    found = 0
    for name in names:
        path = ROOT / name
        if path.is_symlink() or not path.is_file():
            continue
        lines = path.read_text().split("\n")
        if fixes:
            better = filled(lines)
            if better != lines:
                path.write_text("\n".join(better))
                lines = better
        for number in too_long(lines):
            found += 1
            print(f"{name}:{number + 1}: {len(lines[number])} columns, the most are {COLUMNS} (.swift-format)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
