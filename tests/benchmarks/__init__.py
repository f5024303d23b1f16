"""Speed of kd_lib, measured on one machine in one run: medians of interleaved runs, as ratios where two things compare.

`python -m tests.benchmarks` measures everything and writes figures/bench.json; `--help` lists the amounts. Not part of
the tests: a time says more about the machine than about the code.
"""
