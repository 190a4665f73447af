"""functions-*.png."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

from . import catalogue, report  # noqa: E402

FORWARD, GRADIENT, GOAL = "#4477aa", "#ee6677", "#222222"
DPI = 80


def bars(labels, series, title, path, marks=None):
    """Ratios as horizontal bars, one group a label; series: {name: (colour, values)}."""
    height = 0.8 / len(series)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.16 * len(labels) * (len(series) + 0.6)))
    for number, (name, (colour, values)) in enumerate(series.items()):
        places = [index + (number - (len(series) - 1) / 2) * height for index in range(len(labels))]
        axes.barh(places, values, height, label=name, color=colour)
        for place, value in zip(places, values):
            axes.text(value * 1.03, place, f"{value:.1f}", va="center", fontsize=6)
    for index, mark in enumerate(marks or ()):
        axes.plot([mark, mark], [index - 0.45, index + 0.45], color=GOAL, linewidth=1.5,
                  label="goal" if index == 0 else None)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(max(values) for _, values in series.values()) * 1.6)
    axes.set_xlabel("torch's time divided by lossd's")
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def kinds(rows, key):
    """Labels, and the ratios of forward and of forward with gradient."""
    pairs = {}
    for item in rows:
        pairs.setdefault(key(item), {})[item["gradient"]] = item["ratio_kept"]
    pairs = {label: pair for label, pair in pairs.items() if len(pair) == 2}
    series = {
        "forward": (FORWARD, [pair[False] for pair in pairs.values()]),
        "forward and gradient": (GRADIENT, [pair[True] for pair in pairs.values()])}
    return list(pairs), series


def draw(results, goals, folder):
    single = [item for item in results["rows"] if item["threads"] == 1]
    on = f"one core, {results['kernels']}, torch {results['torch']}, memory kept"
    labels, series = kinds(report.means(single), lambda item: item["function"])
    bars(labels, series, f"each function's mean over types and shapes, {on}", folder / "functions-all.png")
    single = [item for item in single if item["function"] in catalogue.SEED]
    rows = [item for item in single if item["type"] == "float32"]
    if rows:
        labels, series = kinds(rows, lambda item: f"{item['function']} {item['shape']}")
        bars(labels, series, f"float32, {on}", folder / "functions-float32.png")
    rows = [item for item in single if item["shape"] == "4096x1000"]
    if rows:
        labels, series = kinds(rows, lambda item: f"{item['function']} {item['type']}")
        bars(labels, series, f"4096x1000, {on}", folder / "functions-types.png")
    if goals:
        labels = [f"{item['function']} {item['shape']}{', gradient' if item['gradient'] else ''}"
                  for item, _ in goals]
        series = {
            "memory kept": (FORWARD, [item["ratio_kept"] for item, _ in goals]),
            "as it comes": (GRADIENT, [item["ratio"] for item, _ in goals])}
        bars(labels, series, f"goals: float32, one core, {results['kernels']}, torch "
             f"{results['torch']}", folder / "functions-goals.png", [goal for _, goal in goals])
