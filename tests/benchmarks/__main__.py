"""Run the benchmarks, print them and write their rows."""

import argparse
from pathlib import Path

from kd_lib import results
from kd_lib.scale import REPOSITORY

from . import bench_data, bench_latency, bench_memory, bench_notebooks, bench_pictures, bench_training

BENCHMARKS = {
    "pictures": bench_pictures,
    "data": bench_data,
    "training": bench_training,
    "memory": bench_memory,
    "latency": bench_latency,
    "notebooks": bench_notebooks,
}
COMMITTED = REPOSITORY / "figures" / "bench.json"
NETWORKS = ["teacher", "mobilenet_v2", "student-1.0", "student-0.5", "student-0.25", "student-0.25-pruned"]


def main(arguments=None):
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(BENCHMARKS), help="default: all")
    parser.add_argument("--images", type=int, default=2048, help="images drawn, augmented, and in an epoch")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=32, help="pixels")
    parser.add_argument("--student-width", type=float, default=0.25)
    parser.add_argument("--teacher-width", type=int, default=32, help="of the trainings' teacher, six cells a stage")
    parser.add_argument("--memory-images", type=int, default=39_209, help="images of the distillation (GTSRB's)")
    parser.add_argument("--calls", type=int, default=200, help="answers of the quickest network in a timed run")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="whose latency is measured")
    parser.add_argument("--scales", nargs="+", default=["smoke", "laptop"], choices=list(bench_notebooks.DATA))
    parser.add_argument("--notebooks", nargs="+", default=bench_notebooks.NUMBERS, help="which ones take their time")
    parser.add_argument("--path", type=Path, default=COMMITTED, help="file of the rows")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.which) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    for which in options.which or BENCHMARKS:
        for name, unit, number in BENCHMARKS[which].measure(options):
            (value,) = number.values()
            print(f"{name:<58} {value:>12,.2f} {unit}", flush=True)
            results.append_bench(name, unit, **number, path=options.path)
    if options.path == COMMITTED:
        results.render_bench(REPOSITORY / "README.md", COMMITTED)


if __name__ == "__main__":
    main()
