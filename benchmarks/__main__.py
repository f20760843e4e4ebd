"""`python -m benchmarks [NAME ...]`: TinyTorch beside PyTorch and NumPy by hand, at one and at two threads each.
`python -m benchmarks growth`: how time and memory grow with the size, drawn."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import measure, report

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).resolve().parent / "out"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TINYTORCH_NUM_THREADS", "RAYON_NUM_THREADS")
SCALES = (0.25, 0.5, 1, 2)  # the size doubles three times


def environment(threads):
    """The environment of a process whose libraries may all use as many threads."""
    tinygrad = {"DEV": "CPU", "THREADS": str(int(threads > 1))}
    tokenizers = {"TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    return {**os.environ, **dict.fromkeys(THREADS, str(threads)), **tinygrad, **tokenizers}


def run(*arguments, threads=1):
    """The lines that `python -m benchmarks` prints with these arguments, each as it comes, read as JSON."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(threads), stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        sys.exit(process.returncode)


def limit(threads):
    """Let PyTorch, which asks nobody, use no more threads than this."""
    import torch

    torch.set_num_threads(threads)


def with_medians(times):
    return {library: {**found, "median": statistics.median(found["rounds"])} for library, found in times.items()}


# What runs in processes of its own


def time_it(options):
    """Time the workloads in this process; print in JSON the libraries that run threads, then a result for each."""
    from benchmarks.peers import absent
    from benchmarks.workloads import WORKLOADS, check

    (threads,) = options.threads
    limit(threads)
    print(json.dumps({"libraries": report.libraries()}), flush=True)
    for name in options.names or WORKLOADS:
        work = WORKLOADS[name]
        if absent(work.beside):
            continue
        built = {library: build() for library, build in work.build().items() if not absent(library)}
        check(built, work.beside)
        steps = {library: step for library, (step, _) in built.items()}
        clock = measure.clock_for(threads)
        times = measure.interleaved(steps, options.rounds, options.seconds, clock)
        bars = {"at_most": work.at_most, "stretch": work.stretch}
        result = {
            "name": name,
            "title": work.title,
            "threads": threads,
            "beside": work.beside,
            "clock": clock.__name__,
            **{bar: values[threads - 1] if threads <= 2 else None for bar, values in bars.items()},
            "seconds": work.seconds,
            "memory_bars": work.memory,
            "times": with_medians(times),
            "ratios": {
                library: measure.ratios(times, library, work.beside) for library in steps if library != work.beside
            },
        }
        del built, steps
        if threads == 1 and not options.times_only:
            result["memory"] = {
                library: next(run("--peak-of", library, name))
                for library in ("tinytorch", work.beside)
                if library in result["times"]
            }
            result["growth"] = sizes(work)
        print(json.dumps(result), flush=True)


def sizes(work):
    """How long TinyTorch and what it is beside take at every scale, and the exponents from each scale to the next."""
    libraries = ("tinytorch", work.beside)
    times = {library: [] for library in libraries}
    for scale in SCALES:
        steps = {library: work.build(scale)[library]()[0] for library in libraries}
        for library, found in measure.interleaved(steps, 3, 0.1, measure.clock_for(1)).items():
            times[library].append(statistics.median(found["rounds"]))
    pairs = [slice(i, i + 2) for i in range(len(SCALES) - 1)]
    exponents = {
        library: [measure.slope(SCALES[pair], values[pair]) for pair in pairs] for library, values in times.items()
    }
    return {"of": work.grows, "scales": SCALES, "times": times, "exponents": exponents}


def peak_of(library, name):
    """Print the peak memory of a workload in one library, in bytes, in this process that does nothing else.

    A small one runs first, so that what the library loads or sets up once is there already; what the big one builds
    before its first step does not count either.
    """
    from benchmarks.workloads import WORKLOADS

    if library == "torch":
        limit(1)
    build = WORKLOADS[name].build
    build(min(SCALES) / 4)[library]()[0]()
    step, _ = build()[library]()
    print(json.dumps(measure.peak_memory(step)))


def start_up(rounds):
    """What `import tinytorch` takes beyond `import numpy`: medians over whole processes, taken in turn, in the time of
    the processor where the system tells.

    There is nothing to write by hand here, and PyTorch's start takes a second or more.
    """
    plain = {name: value for name, value in environment(1).items() if name != "PYTHONDONTWRITEBYTECODE"}
    clock = measure.clock_of_children()
    times = {"numpy": [], "tinytorch": []}
    for turn in range(4 * rounds + 1):
        for name, kept in times.items():
            start = clock()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True, cwd=ROOT, env=plain)
            if turn:  # the first one compiles
                kept.append(clock() - start)
    beyond = {
        "minimum": min(times["tinytorch"]) - min(times["numpy"]),
        "median": statistics.median(times["tinytorch"]) - statistics.median(times["numpy"]),
        "rounds": [mine - other for mine, other in zip(times["tinytorch"], times["numpy"])],
    }
    return {
        "name": "import",
        "title": "import tinytorch, beyond import numpy",
        "threads": 1,
        "beside": "numpy",
        "at_most": None,
        "stretch": None,
        "seconds": (0.020, 0.006),
        "times": {"tinytorch": beyond},
        "ratios": {},
    }


# The whole


def everything(options):
    """Run the workloads at each thread count, print the table as it grows, and return (where, results)."""
    from benchmarks.peers import PEERS, absent

    where, results = report.environment(), []
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    print(f"{where['processor']}, {where['cores']} cores, Python {where['python']}, {versions}")
    print(
        "How many times as long as PyTorch eager (BPE: as tokenizers); others: medians. Memory: TinyTorch, one thread."
    )
    libraries = ["numpy", *(peer for peer in PEERS[:3] if not absent(peer))]
    print(report.heading(libraries))
    arguments = ["--time", "--rounds", options.rounds, "--seconds", options.seconds]
    arguments += ["--times-only"] * options.times_only
    where["libraries"] = {}
    for threads in options.threads:
        lines = run(*options.names, *arguments, "--threads", threads, threads=threads)
        where["libraries"][threads] = next(lines)["libraries"]
        for result in lines:
            results.append(result)
            print("\n".join([report.row(result, libraries), *report.remarks(result)]), flush=True)
    if not options.names:
        results.append(start_up(options.rounds))
        print("\n".join([report.row(results[-1], libraries), *report.remarks(results[-1])]))
    return where, results


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads, all of them if none is named; or the one word growth")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts, one process each")
    parser.add_argument("--rounds", type=int, default=5, help="turns each library takes")
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long one turn is")
    parser.add_argument("--times-only", action="store_true", help="neither memory nor other sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results into this file")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help=f"draw them; for growth {OUT}/growth.png if absent"
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: take the results of this file")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="say what became slower; exit 1 if anything did")
    parser.add_argument("--noise", type=float, default=report.NOISE, help="share by which medians may part for nothing")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text for BPE, instead of a made-up one")
    parser.add_argument("--time", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--curve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        return time_it(options)
    if options.peak_of:
        return peak_of(options.peak_of, *options.names)
    if options.curve or options.names == ["growth"]:
        from benchmarks import growth

        if options.curve:
            return growth.curve(options.curve)
        found = growth.draw(options.picture or OUT / "growth.png")
        if options.json:
            report.save(options.json, {**report.environment(), "growth": found, "results": []})
        return
    if options.text:
        os.environ["BENCHMARK_TEXT"] = str(options.text.resolve())
    if options.results:
        content = report.load(options.results)
    else:
        unknown = [] if not options.names else sorted(set(options.names) - set(known()))
        if unknown:
            parser.error(f"there is no workload {unknown[0]}; there are {', '.join(known())}, and growth")
        where, results = everything(options)
        content = {**where, "results": results}
    if options.json:
        report.save(options.json, content)
    if options.picture:
        report.picture(content, options.picture)
    if options.compare:
        lines, worse = report.compare(report.load(options.compare), content, options.noise)
        print("\n".join(lines))
        sys.exit(1 if worse else 0)


def known():
    from benchmarks.workloads import WORKLOADS

    return WORKLOADS


if __name__ == "__main__":
    main()
