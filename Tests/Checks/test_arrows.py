"""Who may know whom: targets by their imports, and the folders of LossdServer by the types that they name."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "Sources"

#: What a target's files may import of the project. Each arrow points down.
TARGETS = {
    "LossdTensor": "",
    "LossdThreads": "",
    "LossdYAML": "CYAML LossdTensor",
    "LossdSocket": "CLinux",
    "LossdSystemd": "LossdSocket LossdThreads",
    "LossdFiles": "LossdTensor",
    "LossdLoop": "CUV",
    "LossdWire": "CLossdProto CProtobufC LossdTensor",
    "LossdHTTP": "CNGHTTP2 CZlib LossdTensor",
    "LossdPluginKit": "CLossdPlugin LossdTensor",
    "LossdEngine": "CLinux CLossdPlugin CPluginCalls LossdTensor",
    "LossdPluginHost": "CDigest CLinux CLossdPlugin CPluginCalls CSeccomp LossdEngine LossdPluginKit LossdTensor "
                       "LossdThreads",
    "LossdServer": "CLinux CLossdPlugin LossdEngine LossdHTTP LossdLoop LossdPluginHost LossdSocket LossdTensor "
                   "LossdThreads LossdWire",
    "LossdClient": "LossdSocket LossdTensor LossdThreads LossdWire",
}

#: The folders of LossdServer, and which others each may know. The files beside them bind them together.
FOLDERS = {
    "Limits": "",
    "Channels": "Limits",
    "Calls": "Limits",
    "Services": "Calls Limits",
    "Sessions": "Calls Channels Limits Services",
}

DECLARATION = re.compile(
    r"^(?:public |package |private |fileprivate |final |@unchecked |indirect )*"
    r"(?:class|struct|enum|protocol|typealias|actor) (\w+)", re.MULTILINE)
PRIVATE = re.compile(r"^(?:private|fileprivate) ", re.MULTILINE)


def code(path):
    """A file without its comments and texts."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"//.*", "", text)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


class Arrows(unittest.TestCase):
    def test_targets_import_what_stands_below_them_alone(self):
        package = (ROOT / "Package.swift").read_text()
        own = {path.name for path in SOURCES.iterdir()} | {"LossdCatalogue"}
        for target, allowed in TARGETS.items():
            files = list((SOURCES / target).rglob("*.swift"))
            self.assertTrue(files, f"{target} has no files")
            for path in files:
                imports = set(re.findall(r"^(?:@testable )?import (\w+)", path.read_text(), re.MULTILINE))
                wrong = imports & own - set(allowed.split())
                self.assertFalse(wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}")
            declared = re.search(r'name: "%s"(?:, dependencies:|,\s*dependencies:)?(.*?)\n    \.' % target, package,
                                 re.DOTALL)
            self.assertIsNotNone(declared, f"{target} is not in Package.swift")
            dependencies = re.search(r"dependencies: \[(.*?)\]", declared.group(0), re.DOTALL)
            listed = set(re.findall(r'"(\w+)"', dependencies.group(1))) if dependencies else set()
            self.assertLessEqual(listed, set(allowed.split()), target)

    def test_folders_of_the_server_know_what_stands_below_them_alone(self):
        server = SOURCES / "LossdServer"
        owners = {}
        for folder in FOLDERS:
            for path in (server / folder).rglob("*.swift"):
                for match in DECLARATION.finditer(code(path)):
                    if not PRIVATE.match(match.group(0)):
                        owners[match.group(1)] = folder
        self.assertGreater(len(owners), 60)
        beside = {match.group(1) for path in server.glob("*.swift") for match in DECLARATION.finditer(code(path))}
        for folder, allowed in FOLDERS.items():
            for path in (server / folder).rglob("*.swift"):
                words = set(re.findall(r"\b[A-Z]\w+", code(path)))
                for word in sorted(words):
                    where = owners.get(word, folder)
                    self.assertIn(where, {folder, *allowed.split()},
                                  f"{path.relative_to(ROOT)} names {word}, which is {where}'s")
                self.assertFalse(words & beside,
                                 f"{path.relative_to(ROOT)} names {words & beside}, which bind the folders together")

    def test_every_folder_says_what_it_is_for(self):
        for folder in FOLDERS:
            text = " ".join((SOURCES / "LossdServer" / folder / "README.md").read_text().split())
            self.assertIn("may not know", text, folder)


if __name__ == "__main__":
    unittest.main()
