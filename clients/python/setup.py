"""Builds lossd._core, the part of the client that is in C: over liblossd's core, from the source tree or an sdist."""

import glob
import pathlib
import shutil
import sys
import sysconfig

from setuptools import Extension, setup

HERE = pathlib.Path(__file__).resolve().parent
#: Copies of liblossd's sources, so that an sdist has them. Licences are copied, too.
COPIES = HERE / "csrc"
ROOT = HERE.parents[1]
LIBLOSSD = ROOT / "clients" / "c"
PROTO = ROOT / "Sources" / "CLossdProto"


def copy_sources() -> None:
    """From the source tree, where this is one."""
    if not (LIBLOSSD / "src" / "core").is_dir():
        return
    copies = {
        "core": [*(LIBLOSSD / "src" / "core").glob("*.[ch]"), LIBLOSSD / "include" / "lossd.h",
                 PROTO / "lossd.pb-c.c", *(PROTO / "include").glob("lossd.pb-c.h")],
        ".": [LIBLOSSD / "src" / f"{name}.{end}" for name in ("clock", "mapping", "socket") for end in "ch"],
    }
    shutil.rmtree(COPIES, ignore_errors=True)
    for folder, files in copies.items():
        (COPIES / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, COPIES / folder)
    (HERE / "licenses").mkdir(exist_ok=True)
    shutil.copy(ROOT / "LICENSE", HERE / "licenses")


copy_sources()
# One build for all Pythons from 3.11 on, which has buffers in its limited API; others and free-threaded ones build
# theirs.
IS_LIMITED = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")
# -iquote: the names of liblossd's headers are also some of the system's.
FOLDERS = [COPIES, COPIES / "core", HERE / "src" / "_core"]
sources = [*(HERE / "src" / "_core").glob("*.c"), *COPIES.glob("*.c"), *(COPIES / "core").glob("*.c")]

setup(
    ext_modules=[Extension(
        "lossd._core",
        sources=sorted(str(source.relative_to(HERE)) for source in sources),
        depends=glob.glob("src/_core/*.h") + glob.glob("csrc/**/*.h", recursive=True),
        define_macros=[("_GNU_SOURCE", None), *([("Py_LIMITED_API", "0x030b0000")] if IS_LIMITED else [])],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-missing-braces", "-fvisibility=hidden",
                            *(f"-iquote{folder.relative_to(HERE)}" for folder in FOLDERS)],
        libraries=["protobuf-c", "pthread"],
        py_limited_api=IS_LIMITED,
    )],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if IS_LIMITED else {},
)
