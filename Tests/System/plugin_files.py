"""Builds plugins for the tests: into a hidden file, then moved into place, as an installation does."""

import os
import pathlib
import shutil
import subprocess

from daemon import ROOT

INCLUDE = ROOT / "Sources" / "CLossdPlugin" / "include"
EXAMPLES = ROOT / "Plugins" / "Examples"
WICKED = ROOT / "Plugins" / "Wicked"


def build(source, output, *flags, include=INCLUDE):
    """Compiles a C file of Plugins/Examples, or of any place, as strictly as plugin.h promises to bear."""
    output = pathlib.Path(output)
    temporary = output.with_name("." + output.name)
    subprocess.run(
        ["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC",
         "-fvisibility=hidden", "-I", include, "-o", temporary, EXAMPLES / source, *flags],
        check=True)
    os.rename(temporary, output)


def make_wicked(folder, *names, **variables):
    """Makes files of Plugins/Wicked in a folder: `wicked.so`, `load/entry_null.so`; all of them by default."""
    subprocess.run(
        ["make", "-s", "-j2", "-C", WICKED, f"OUT={folder}", *(f"{folder}/{name}" for name in names),
         *(f"{key}={value}" for key, value in variables.items())], check=True)


def build_cpp(source, output, *flags):
    """Compiles a plugin that uses plugin.hpp, with the flags that its comment asks for."""
    output = pathlib.Path(output)
    temporary = output.with_name("." + output.name)
    subprocess.run(
        ["c++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O3", "-fno-math-errno",
         "-fno-trapping-math", "-shared", "-fPIC", "-fvisibility=hidden", "-I", INCLUDE, "-o", temporary, source,
         *flags], check=True)
    os.rename(temporary, output)


def make_plugins(folder):
    """Builds the plugins of Plugins/Makefile into a folder, the Swift ones with Swift's package manager."""
    subprocess.run(["make", "-s", "-j2", "-C", ROOT / "Plugins", f"OUT={folder}"], check=True,
                   stdout=subprocess.DEVNULL)


def build_swift(package, product, output):
    """Builds a package as a template's Makefile does. What is built is kept beside the package for the next time."""
    output = pathlib.Path(output)
    folder = package / ".build" / "any"
    subprocess.run(
        ["swift", "build", "-c", "release", "--package-path", package, "--scratch-path", folder, "--product", product],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "LOSSD_SDK": str(ROOT / "sdk")})
    temporary = output.with_name("." + output.name)
    shutil.copy(folder / "release" / f"lib{product}.so", temporary)
    os.rename(temporary, output)
