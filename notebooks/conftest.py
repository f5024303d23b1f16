"""Settings for `pytest --nbval-lax notebooks`: every notebook and solution runs from top to bottom at smoke scale.

Only cells tagged `nbval-check-output` have their output compared with the stored one; every other cell must only run
without an error. A variable that is already set keeps its value: `KD_SCALE=laptop pytest --nbval-lax notebooks` works;
`make test` sets them all, so that it is at smoke scale whatever the shell exports. An empty variable counts as not set.
What the notebooks make (drawn signs, trained networks) goes to a fresh folder that is removed at the end: a test that
loaded yesterday's networks would not notice that training is broken today. tests/test_notebooks.py checks the form.
"""

import atexit
import os
import shutil
import tempfile

import nbval.kernel

# Kernels are started by this process and inherit its environment.
for name, value in {
    "KD_SCALE": "smoke",
    "KD_DATA": "signs",
    "KD_MOBILENET": "signs",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's start-up messages say nothing about the notebook
}.items():
    os.environ[name] = os.environ.get(name) or value

if not os.environ.get("KD_HOME"):
    os.environ["KD_HOME"] = tempfile.mkdtemp(
        prefix="kd_lib_notebooks_"
    )  # all notebooks share it: 04 loads 02's teacher
    atexit.register(shutil.rmtree, os.environ["KD_HOME"], ignore_errors=True)


start_once = nbval.kernel.start_new_kernel


def start_new_kernel(*arguments, **options):
    """Start a kernel, twice if need be: its ports are chosen before they are taken, and two workers start at once."""
    try:
        return start_once(*arguments, **options)
    except RuntimeError:
        return start_once(*arguments, **options)


nbval.kernel.start_new_kernel = start_new_kernel


def pytest_collectstart(collector):
    """Leave stderr out of the comparison: a library's warning is no reason for a cell's result to be wrong."""
    if hasattr(collector, "skip_compare"):  # nbval's collector of one notebook
        collector.skip_compare += ("stderr",)
