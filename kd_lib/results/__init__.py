"""Where every number in prose comes from: results.json and bench.json.

A row is one trained model and seed; a comparison is one paired difference with its interval. Rows are checked before
they are written, files are replaced atomically under a lock, and the README table is rendered from them. This module
imports no TensorFlow. It leaves out statistics beyond means, deviations and one interval: `kd_lib.evaluation` measures.
"""

from kd_lib.results.cards import card
from kd_lib.results.environment import environment
from kd_lib.results.files import add_comparison, append, append_bench, load, merge, notebook_seconds
from kd_lib.results.published import PUBLISHED, Mark
from kd_lib.results.rows import COMMITTED, FIELDS, make_row, validate
from kd_lib.results.tables import (
    BEGIN,
    BENCH_BEGIN,
    BENCH_END,
    END,
    render,
    render_bench,
    side_by_side,
    summarise,
    table,
    wilson_interval,
)

__all__ = [
    "BEGIN",
    "BENCH_BEGIN",
    "BENCH_END",
    "COMMITTED",
    "END",
    "FIELDS",
    "PUBLISHED",
    "Mark",
    "add_comparison",
    "append",
    "append_bench",
    "card",
    "environment",
    "load",
    "make_row",
    "merge",
    "notebook_seconds",
    "render",
    "render_bench",
    "side_by_side",
    "summarise",
    "table",
    "validate",
    "wilson_interval",
]
