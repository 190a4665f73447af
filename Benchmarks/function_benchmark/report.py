"""From times to functions.md and its plots."""
import math
import os
import pathlib
import statistics

from . import cases, catalogue


def row(case, times):
    """One case's medians, seconds, and ratios: above 1 lossd is the faster one."""
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {
        "function": case.function, "type": case.type, "shape": case.shape_text,
        "elements": math.prod(case.shape), "sizes": list(case.shape), "gradient": case.gradient,
        "threads": case.threads, "lossd_s": medians["lossd"], "torch_s": medians["torch"],
        "torch_kept_s": medians["torch_kept"], "ratio": medians["torch"] / medians["lossd"],
        "ratio_kept": medians["torch_kept"] / medians["lossd"],
        "calls": {side: len(values) for side, values in times.items()}}


def means(rows):
    """The geometric mean of each function's ratios, forward and with gradient."""
    ratios = {}
    for item in rows:
        ratios.setdefault((item["function"], item["gradient"]), []).append(item["ratio_kept"])
    return [{"function": function, "gradient": gradient, "ratio_kept": statistics.geometric_mean(values),
             "least": min(values), "count": len(values)}
            for (function, gradient), values in ratios.items()]


def means_text(results):
    single = [item for item in results["rows"] if item["threads"] == 1]
    text = ""
    for gradient, kind in ((False, "forward"), (True, "with gradient")):
        ratios = [item["ratio_kept"] for item in single if item["gradient"] == gradient]
        text += (f"Of {len(ratios)} cases {kind} on one core the geometric mean is {statistics.geometric_mean(ratios):.2f}; "
                 f"{sum(ratio < 1 for ratio in ratios)} are below 1.\n\n")
    pairs = {}
    for item in means(single):
        pairs.setdefault(item["function"], {})[item["gradient"]] = item
    lines = [[function] + [f"{pair[gradient][key]:.2f}" for gradient in (False, True) for key in ("ratio_kept", "least")]
             for function, pair in pairs.items() if len(pair) == 2]
    return text + table(["", "forward: mean", "least", "with gradient: mean", "least"], lines)


def activations_text(results):
    """Activations of a million float32 beside what memory and one exponential alone take."""
    count = math.prod(cases.VECTOR)
    exp_s = count * min(values["exp.float32"] for values in results["bounds"].values())
    copy_s = memory_s(results, "copy", 4 * count)
    lines = []
    for item in results["rows"]:
        chosen = (item["sizes"] == list(cases.VECTOR) and item["type"] == "float32" and item["threads"] == 1
                  and not item["gradient"] and catalogue.result_shape(item["function"], cases.VECTOR))
        if chosen:
            lines.append([item["function"], milliseconds(item["lossd_s"]), f"{item['lossd_s'] / exp_s:.2f}",
                          f"{item['lossd_s'] / copy_s:.2f}"])
    return (f"Activations of a million float32, one core; the exponential alone takes {milliseconds(exp_s)} ms, a copy "
            f"{milliseconds(copy_s)} ms:\n\n") + table(["", "ms", "of the exponential alone", "of a copy"], lines)


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def memory_s(results, kind, count):
    """The time of `read`, `write` or `copy` of so many bytes, by the nearest size that was measured."""
    bounds = {int(size): values for size, values in results["bounds"].items()}
    size = min(bounds, key=lambda size: abs(math.log(size / count)))
    return bounds[size][kind] * count / size


def bound(results, row):
    """What memory and exp alone take for such a case: (how, seconds of memory, seconds of exp)."""
    element = {"float64": 8, "float32": 4}.get(row["type"], 2)
    size = row["elements"] * element
    is_loss = row["function"] not in ("sigmoid", "softmax", "log_softmax")
    exp_s = row["elements"] * min(
        values[f"exp.{row['type']}"] for values in results["bounds"].values())
    has_dense_target = row["function"].startswith(("binary", "multilabel"))
    reading = memory_s(results, "read", size * (2 if has_dense_target else 1))
    if row["gradient"] and is_loss and has_dense_target:
        return "read twice, write", reading + memory_s(results, "write", size), exp_s
    if row["gradient"] or not is_loss:
        return "copy", memory_s(results, "copy", size), exp_s
    return "read twice" if has_dense_target else "read", reading, exp_s


def goals(results):
    """The rows of the goals: (row, goal)."""
    found = []
    for function, sizes, gradient, goal in cases.GOALS:
        for candidate in results["rows"]:
            if (candidate["function"], candidate["sizes"], candidate["gradient"]) == (
                    function, list(sizes), gradient) and candidate["type"] == "float32" \
                    and candidate["threads"] == 1 and "dim" not in candidate["shape"]:
                found.append((candidate, goal))
    return found


def table(head, lines):
    numbers = ["---" if index == 0 else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, numbers, *lines]) + "\n"


def machine_text(results):
    lines = [[name, value] for name, value in results["machine"].items()]
    lines += [["kernels", results["kernels"]], ["torch", results["torch"]]]
    text = table(["", ""], lines)
    limits = []
    for size, values in results["bounds"].items():
        speeds = [f"{int(size) / values[kind] * 1e-9:.1f}" for kind in ("read", "write", "copy")]
        limits.append([f"{int(size) / 1e6:.0f} MB", *speeds])
    text += "\nMemory by the C library (memchr, memset, memcpy), GB/s of the bytes named:\n\n"
    text += table(["", "read", "write", "copy"], limits)
    exps = [
        f"{kind} {min(v[f'exp.{kind}'] for v in results['bounds'].values()) * 1e9:.2f} ns"
        for kind in cases.TYPES]
    return text + "\nThe kernels' exp alone, in the nearest cache, an element: " + ", ".join(exps) + ".\n"


def goals_text(results):
    lines = []
    for item, goal in goals(results):
        how, memory, exp_s = bound(results, item)
        reached = "yes" if item["ratio_kept"] >= goal else (
            "as it comes" if item["ratio"] >= goal else "no")
        kind = "forward, gradient" if item["gradient"] else "forward"
        lines.append([
            f"{item['function']} {item['shape']}, {kind}", f"{goal:g}", f"{item['ratio_kept']:.2f}",
            f"{item['ratio']:.2f}", reached, milliseconds(item["lossd_s"]),
            f"{milliseconds(memory)} ({how})", milliseconds(exp_s)])
    return table(
        ["float32, one core", "goal", "ratio, memory kept", "ratio, as it comes", "reached", "lossd ms",
         "memory alone ms", "exp alone ms"], lines)


def least_text(results):
    def worst(item):
        return min(item["ratio"], item["ratio_kept"])

    slower = sorted((item for item in results["rows"] if worst(item) < 1.1), key=worst)
    if not slower:
        return "No case is less than 1.1 times as fast as torch.\n"
    lines = [[
        f"{item['function']} {item['type']} {item['shape']}"
        f"{', gradient' if item['gradient'] else ''}, {item['threads']} cores"
        .replace("1 cores", "1 core"), f"{item['ratio_kept']:.2f}", f"{item['ratio']:.2f}"]
        for item in slower]
    return "Cases of a ratio under 1.1:\n\n" + table(["", "memory kept", "as it comes"], lines)


def function_text(results, function, threads):
    lines = []
    for item in results["rows"]:
        if item["function"] == function and item["threads"] == threads:
            lines.append([
                item["shape"], item["type"], "gradient" if item["gradient"] else "forward",
                milliseconds(item["lossd_s"]), milliseconds(item["torch_kept_s"]),
                milliseconds(item["torch_s"]), f"{item['ratio_kept']:.2f}", f"{item['ratio']:.2f}"])
    return table(
        ["shape", "type", "", "lossd ms", "torch ms, kept", "as it comes", "ratio, kept",
         "as it comes"], lines)


def write(results, folder):
    page = os.path.relpath(pathlib.Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md", folder)
    from . import plots

    text = "# lossd's functions beside torch's\n\nMade by `make bench`; not to be edited. "
    text += f"[benchmarks.md]({page}) says what is measured and what it means.\n\n"
    text += "## The machine\n\n" + machine_text(results) + "\n## The goals\n\n" + goals_text(results)
    text += "\n![goals](functions-goals.png)\n\n## All functions\n\n" + means_text(results)
    text += "\n" + activations_text(results)
    text += "\n![all functions](functions-all.png)\n\n## The least ratios\n\n" + least_text(results)
    for threads in sorted({item["threads"] for item in results["rows"]}):
        cores = "One core" if threads == 1 else f"{threads} cores"
        text += f"\n## {cores}\n"
        if threads == 1:
            text += "\n![float32](functions-float32.png)\n\n![types](functions-types.png)\n"
        for function in dict.fromkeys(item["function"] for item in results["rows"]):
            text += f"\n### {function}\n\n" + function_text(results, function, threads)
    (folder / "functions.md").write_text(text)
    plots.draw(results, goals(results), folder)
