#!/usr/bin/env python3
"""The version stands in VERSION. Parts that are installed by themselves (the C client, the Python client) and languages
that read no file when they are compiled need a copy of their own; this script looks after the copies.

    version.py          fail where a copy differs, or a source says the version that is not known here
    version.py --write  bring VERSION's content to every copy

LOSSD_ROOT: the checkout, where it is not the one that the script lies in.
"""

import os
import re
import sys
from pathlib import Path
from typing import Iterator, List

ROOT = Path(os.environ.get("LOSSD_ROOT") or Path(__file__).resolve().parent.parent)
NUMBER = r"\d+\.\d+\.\d+[\w.+~-]*"

#: The copies: a file, and what stands around the version in it.
COPIES = [
    ("Sources/LossdTensor/Version.swift", f'(lossdVersion = ")({NUMBER})(")'),
    ("Plugins/Catalogue/Catalogue.swift", f'(name: "catalogue", version: ")({NUMBER})(")'),
    ("clients/c/include/lossd.h", f'(#define LOSSD_VERSION ")({NUMBER})(")'),
    ("clients/python/src/lossd/_version.py", f'(__version__ = ")({NUMBER})(")'),
    ("README.md", rf"(lossd/)({NUMBER})(\b)"),
    ("docs/plugins.md", rf"(^catalogue )({NUMBER})(\b)"),
]
#: Where nothing else may say the version.
SOURCES = ["Package.swift", "Sources", "Plugins", "clients", "packaging", "systemd", "sdk"]
ENDINGS = {".swift", ".c", ".h", ".hpp", ".py", ".toml", ".sh", ".in", ".service", ".socket", ".1", ".5", ".7", ".8"}


def version() -> str:
    return (ROOT / "VERSION").read_text().strip()


def differing(wanted: str) -> Iterator[str]:
    for name, pattern in COPIES:
        found = [match[2] for match in re.finditer(pattern, (ROOT / name).read_text(), re.MULTILINE)]
        if not found:
            yield f"{name}: the version is not where scripts/version.py looks for it"
        for other in found:
            if other != wanted:
                yield f"{name}: says {other}, VERSION says {wanted}: make version"


def strangers(wanted: str) -> Iterator[str]:
    """Lines of sources that say the version and are no copy that is known here."""
    known = {name for name, _ in COPIES}
    whole = re.compile(rf"(?<![\w.]){re.escape(wanted)}(?![\w]|\.\d)")
    for top in SOURCES:
        path = ROOT / top
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            name = str(file.relative_to(ROOT))
            parts = set(file.relative_to(ROOT).parts)
            if file.suffix not in ENDINGS or not file.is_file() or name in known or parts & {"build", "csrc", "tests"}:
                continue
            for number, line in enumerate(file.read_text(errors="replace").split("\n"), 1):
                if whole.search(line):
                    yield f"{name}:{number}: says {wanted}; take it from where the others do (scripts/version.py)"


def write(wanted: str) -> None:
    for name, pattern in COPIES:
        path = ROOT / name
        text = path.read_text()
        path.write_text(re.sub(pattern, lambda match: match[1] + wanted + match[3], text, flags=re.MULTILINE))


def main(arguments: List[str]) -> int:
    wanted = version()
    if not re.fullmatch(NUMBER, wanted):
        print(f"VERSION: `{wanted}` is not a version, such as 1.2.3")
        return 1
    if "--write" in arguments:
        write(wanted)
    wrong = [*differing(wanted), *strangers(wanted)]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
