"""What it was measured on."""
import os
import pathlib
import platform


def field(path, name):
    for line in pathlib.Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def cache_sizes():
    """`L1d 48K, L2 2048K, L3 266240K`, as one core sees them."""
    sizes = []
    for index in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = (index / "type").read_text().strip()
        if kind != "Instruction":
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
            sizes.append(f"L{level}{'d' if kind == 'Data' else ''} {size}")
    return ", ".join(sizes)


def describe():
    """Name, value: what a reader has to know to compare numbers."""
    flags = (field("/proc/cpuinfo", "flags") or field("/proc/cpuinfo", "Features") or "").split()
    memory_kib = int(field("/proc/meminfo", "MemTotal").split()[0])
    return {
        "processor": field("/proc/cpuinfo", "model name") or platform.machine(),
        "family, model": f"{field('/proc/cpuinfo', 'cpu family')}, {field('/proc/cpuinfo', 'model')}",
        "cores": str(len(os.sched_getaffinity(0))),
        "vector instructions": ", ".join(
            f for f in ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "asimd") if f in flags),
        "caches of a core": cache_sizes(),
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "virtual machine": "yes" if "hypervisor" in flags else "no",
        "kernel": platform.release(),
        "C library": " ".join(platform.libc_ver()),
        "load when it ended": f"{os.getloadavg()[0]:.2f}",
    }
