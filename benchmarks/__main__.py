"""`python -m benchmarks [NAME ...]`: TinyTorch beside PyTorch, at one and at two threads each."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TINYTORCH_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[1]


def worker(names, threads, rounds):
    """Time the workloads in this process, and print the results as JSON."""
    import torch

    from benchmarks.measure import interleaved
    from benchmarks.workloads import WORKLOADS

    torch.set_num_threads(threads)
    for name in names or WORKLOADS:
        title, at_most, make = WORKLOADS[name]
        result = {"name": name, "title": title, "at_most": at_most, "threads": threads}
        print(json.dumps({**result, "times": interleaved(make(), rounds)}), flush=True)


def start_up(rounds):
    """Seconds that `import tinytorch` takes beyond `import numpy`: medians over whole processes, taken in turn."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = {"numpy": [], "tinytorch": []}
    for turn in range(2 * rounds + 2):
        for name, kept in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True, cwd=ROOT, env=environment)
            if turn:  # the first one compiles
                kept.append(time.perf_counter() - start)
    return statistics.median(times["tinytorch"]) - statistics.median(times["numpy"])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads; all of them if none is named")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts, one process each")
    parser.add_argument("--rounds", type=int, default=5, help="turns each library takes")
    parser.add_argument("--json", type=Path, help="write the results into this file, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.names, options.threads[0], options.rounds)

    results = []
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; times as large as PyTorch's"
    )
    print(f"{'':66} threads  fastest   median  at most")
    for threads in options.threads:
        command = [sys.executable, "-m", "benchmarks", "--worker", "--threads", str(threads)]
        command += ["--rounds", str(options.rounds), *options.names]
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                result = json.loads(line)
                times = result["times"]
                for kind in ("minimum", "median"):
                    result[kind] = times["tinytorch"][kind] / times["torch"][kind]
                results.append(result)
                bound = f"{result['at_most']:8.2f}" if result["at_most"] and threads == 1 else ""
                print(f"{result['title']:66} {threads:7}  {result['minimum']:7.2f}  {result['median']:7.2f} {bound}")
                if "numpy" in times:
                    own = 1e3 * (times["tinytorch"]["minimum"] - times["numpy"]["minimum"])
                    print(f"    {own:.2f} us above the same in NumPy")
        if process.returncode:
            sys.exit(process.returncode)
    if not options.names:
        seconds = start_up(options.rounds)
        results.append({"name": "import", "title": "import tinytorch beyond NumPy", "seconds": seconds})
        print(f"import tinytorch takes {1e3 * seconds:.1f} ms beyond import numpy (at most 20)")
    if options.json:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({**machine, "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
