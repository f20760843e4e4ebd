"""Results: where they were measured, as a table, as a file, as a picture, and beside those of another day."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

SCHEMA = "tinytorch-benchmarks/1"
NOISE = 0.15  # medians of five rounds part by up to this much when nothing has changed
NAMES = {"tinytorch": "TinyTorch", "torch": "PyTorch", "numpy": "NumPy by hand"}


def called(library):
    return NAMES.get(library, library)


def cores():
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor():
    """What the processor calls itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def libraries():
    """What this process has loaded that runs threads, BLAS above all, if threadpoolctl is there to ask."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    keys = ("internal_api", "version", "num_threads", "architecture")
    return [{key: pool.get(key) for key in keys} for pool in threadpool_info()]


def versions():
    found = {}
    for library in ("numpy", "torch", "tokenizers", "autograd", "micrograd", "tinygrad"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment():
    """Where and when: the head of a file of results."""
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def save(file, content):
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(file):
    """What `save` wrote. Raises ValueError for any other file."""
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error})") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{file} has the schema {schema!r}, and {SCHEMA!r} is needed; measure again")
    return content


# The table


def others(results):
    """The libraries beside TinyTorch and what it is compared with, in order of appearance."""
    found = [library for result in results for library in result["ratios"] if library != "tinytorch"]
    return list(dict.fromkeys(found))


def number(value, width=7, digits=2):
    return f"{'' if value is None else f'{value:.{digits}f}':>{width}}"


def heading(libraries):
    columns = "".join(f"{called(library).replace('NumPy ', ''):>10}" for library in libraries)
    return f"{'':66} threads fastest  median at most stretch{columns}   memory  grows like size to the"


def row(result, libraries):
    """One line of the table."""
    ratios = result["ratios"]
    ours = ratios.get("tinytorch", {})
    line = f"{result['title']:66} {result['threads']:7} "
    line += number(ours.get("minimum")) + " " + number(ours.get("median")) + " "
    line += number(result["at_most"]) + " " + number(result["stretch"])
    line += "".join(number(ratios.get(library, {}).get("median"), 10) for library in libraries)
    line += number(memory_ratio(result), 9)
    exponents = (result.get("growth") or {}).get("exponents", {}).get("tinytorch")
    if exponents:
        line += "  " + " ".join(f"{p:.2f}" for p in exponents) + f" ({result['growth']['of']})"
    return line.rstrip()


def remarks(result):
    """What the table has no column for: bars in seconds and on memory."""
    lines = []
    at_most, stretch = result.get("seconds") or (None, None)
    if at_most:
        took = result["times"]["tinytorch"]["median"]
        lines.append(f"    took {took:.4f} s; at most {at_most:.4f}, stretch {stretch:.4f}")
    at_most, stretch = result.get("memory_bars") or (None, None)
    if at_most and memory_ratio(result) is not None:
        ours, theirs = (result["memory"][library] / 2**20 for library in ("tinytorch", result["beside"]))
        lines.append(
            f"    memory: {ours:.1f} MiB beside {theirs:.1f}, {memory_ratio(result):.2f} times; "
            f"at most {at_most}, stretch {stretch}"
        )
    return lines


def memory_ratio(result):
    """Our peak memory in times of theirs; None where one was not measured, or took less than a quarter of a megabyte,
    which is a few pages here or there."""
    memory = result.get("memory") or {}
    ours, theirs = memory.get("tinytorch"), memory.get(result["beside"])
    return ours / theirs if ours is not None and theirs and theirs >= 1 << 18 else None


# Another day's results


def figures(content):
    """What is compared: {(workload, threads): figure}; the ratio where there is one, else seconds; memory apart."""
    found = {}
    for result in content["results"]:
        key = result["name"], result["threads"]
        if "tinytorch" in result["ratios"]:
            found[key] = result["ratios"]["tinytorch"]["median"]
        else:
            found[key] = result["times"]["tinytorch"]["median"]
        if memory_ratio(result) is not None:
            found[f"{result['name']}, memory", result["threads"]] = memory_ratio(result)
    return found


def compare(old, new, noise=NOISE):
    """Lines to print, and the keys of what became worse by more than the share `noise`. Both as `load` returns them."""
    before, after = figures(old), figures(new)
    lines, worse = [f"{'':32} threads      old      new   change"], []
    for key in after:
        if key not in before:
            lines.append(f"{key[0]:32} {key[1]:7} {'':8} {after[key]:8.3f}   new")
            continue
        change = after[key] / before[key] - 1
        verdict = ""
        if change > noise:
            worse.append(key)
            verdict = "   WORSE"
        elif change < -noise:
            verdict = "   better"
        lines.append(f"{key[0]:32} {key[1]:7} {before[key]:8.3f} {after[key]:8.3f} {change:+8.0%}{verdict}")
    lines += [
        f"{name:32} {threads:7} {before[name, threads]:8.3f} {'':8}   not measured now"
        for name, threads in before
        if (name, threads) not in after
    ]
    lines.append(f"{len(worse)} worse by more than {noise:.0%}, the noise")
    return lines, worse


# The picture


def picture(content, file):
    """Bars from 1, PyTorch, to the left where we are faster and to the right where slower; so are those by hand. Marks
    show what is accepted at most."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    results = [r for r in content["results"] if "tinytorch" in r["ratios"]]
    if not results:
        raise ValueError("a picture needs results with ratios, and there are none")
    counts = sorted({r["threads"] for r in results})
    titles = list(dict.fromkeys(r["title"] for r in results))
    figure = Figure(figsize=(5 + 4.5 * len(counts), 1.6 + 0.42 * len(titles)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, threads in zip(panels, counts):
        for result in (r for r in results if r["threads"] == threads):
            _bars(axes, titles.index(result["title"]), result)
        axes.axvline(1, color="black", lw=0.8)
        axes.set_title(f"{threads} thread{'s' * (threads > 1)} each", fontsize=10)
        axes.set_xlabel("times as long as PyTorch eager (BPE: as tokenizers)")
        axes.spines[["top", "right"]].set_visible(False)
    ticks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    panels[0].set(xscale="log", xlim=(LEFT, 10), xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks])
    panels[0].minorticks_off()
    panels[0].set_yticks(range(len(titles)), titles, fontsize=8)
    panels[0].invert_yaxis()
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{content['processor']}, {content['date'][:10]}", fontsize=9)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


LEFT = 0.09  # the edge of the picture; what is beyond it is said in numbers


def _bars(axes, y, result):
    for library, shift, color in (("tinytorch", -0.2, "tab:blue"), ("numpy", 0.2, "tab:gray")):
        if library in result["ratios"]:
            value = result["ratios"][library]["median"]
            axes.barh(y + shift, value - 1, 0.38, left=1, color=color, label=called(library))
            side = "left" if value >= 1 or value < 1.5 * LEFT else "right"
            place = max(value, LEFT) * (1.03 if side == "left" else 1 / 1.03)
            white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
            axes.text(place, y + shift, f"{value:.2f}", va="center", ha=side, fontsize=7, bbox=white, zorder=3)
    if result["at_most"]:
        axes.plot([result["at_most"]] * 2, [y - 0.45, y + 0.45], color="tab:red", lw=2, label="at most")
