"""The walk through the notebooks: run them in order, show where it stands, and keep each as a page under `build/`.

Execution itself is nbclient's, the pages are nbconvert's. A notebook that fails is reported and the walk goes on. Left
out: comparing outputs with the committed ones, which nbval does in the tests.
"""

import re
import shutil
import sys
import threading
import time
from typing import NamedTuple

from kd_lib import results
from kd_lib.files import writing
from kd_lib.scale import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
COURSE = ("00", "01", "02", "03", "04", "05")
_STARTING = re.compile(r"WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d:")


class Step(NamedTuple):
    """One notebook of a walk."""

    name: str
    seconds: float
    failed: str | None  # what went wrong


def notebooks(only=(), solutions=False):
    """Return the paths of the notebooks `COURSE` in order, or of those whose number is in `only`; or their solutions.

    Raises:
        ValueError: there are no notebooks, or none has that number; the message lists those there are.
    """
    folder = NOTEBOOKS / "solutions" if solutions else NOTEBOOKS
    found = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not found:
        raise ValueError(f"There are no notebooks in {folder}: run this in a clone of the project.")
    only = only or COURSE
    unknown = [number for number in only if number not in found]
    if unknown:
        raise ValueError(f"No notebook has the number {', '.join(unknown)}. There are: {', '.join(found)}")
    return [path for number, path in found.items() if number in only]


def walk(scale, *, only=(), solutions=False, write=False, build=REPOSITORY / "build", out=print):
    """Execute notebooks in order and write each as HTML, and beside it what its kernel wrote to stderr.

    Args:
        scale: Scale; exported to the kernels as environment variables.
        only: numbers such as "03"; none for 00 to 05.
        solutions: run the solutions to the exercises instead.
        write: also store the outputs in the notebook files, without what shows photographs or warnings.
        build: folder of the HTML pages.
        out: called with each finished line.

    Returns:
        list of Step, one for each notebook.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came while a notebook ran; its kernel is gone, and no other one starts.
    """
    import nbformat
    from nbclient import NotebookClient

    scale.export()
    build.mkdir(parents=True, exist_ok=True)
    expected = {} if solutions else results.notebook_seconds(REPOSITORY / "figures" / "bench.json")
    steps = []
    for path in notebooks(only, solutions):
        notebook, log = nbformat.read(path, as_version=4), build / f"{path.stem}.log"
        client = NotebookClient(
            notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        )
        with _Ticker(path.stem, expected.get((path.name[:2], scale.name))) as ticker:
            try:
                with open(log, "wb") as said:  # TensorFlow's and the kernel's own lines
                    client.execute(stderr=said)
                message = None
            except Exception as error:  # a cell, the kernel, or what starts it: the others still run
                if hasattr(client, "_async_cleanup_kernel_future"):  # so nbclient, which takes the signal, notes it
                    raise KeyboardInterrupt from error
                message = _what_failed(error)
        steps.append(Step(path.stem, ticker.seconds, message))
        _settle(notebook)
        page = build / f"{path.stem}.html"
        page.write_text(_html(notebook, path.stem), encoding="utf-8")
        out(f"{ticker.line()} {'FAILED: ' + message if message else page.relative_to(build.parent)}")
        if write and not message:
            with writing(path) as temporary:
                nbformat.write(_committable(notebook), temporary)
    return steps


class _Ticker:
    """One line of progress: rewritten every few seconds on a terminal, printed once otherwise."""

    def __init__(self, name, expected):
        self.name, self.expected, self.started = name, expected, time.monotonic()
        self.stopped, self.seconds = threading.Event(), None

    def line(self):
        elapsed = time.monotonic() - self.started if self.seconds is None else self.seconds
        expected = "" if self.expected is None else f" of about {_clock(self.expected)}"
        return f"{self.name:<26} {_clock(elapsed):>7}{expected:<18}"

    def __enter__(self):
        if sys.stdout.isatty():
            self.thread = threading.Thread(target=self._tick, daemon=True)
            self.thread.start()
        return self

    def _tick(self):
        while not self.stopped.wait(2):
            print("\r" + self.line()[: shutil.get_terminal_size().columns - 1], end="", flush=True)

    def __exit__(self, *error):
        self.stopped.set()
        self.seconds = time.monotonic() - self.started
        if sys.stdout.isatty():
            self.thread.join()
            print("\r", end="")


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _what_failed(error):
    """The exception of a cell without its traceback, with all its lines: they may say what to do."""
    if hasattr(error, "evalue"):
        return f"{error.ename}: {error.evalue}".strip(": \n")
    return str(error).strip() or type(error).__name__


def _html(notebook, title):
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": title}})
    return page


def _settle(notebook):
    """Keep of each printed line what a terminal would show in the end, and not what TensorFlow says as it starts."""
    for cell in notebook.cells:
        merged = []
        for output in cell.get("outputs", ()):
            last = merged[-1] if merged else {}
            if output.output_type == "stream" and output.name == last.get("name"):
                last.text += output.text  # a line comes in several pieces
            else:
                merged.append(output)
        for output in merged:
            if output.output_type == "stream":
                lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in output.text.split("\n")]
                output.text = "\n".join(line for line in lines if not _STARTING.match(line))
        if "outputs" in cell:
            cell.outputs = [output for output in merged if output.get("text") != ""]


def _committable(notebook):
    """Drop what must not be committed: outputs of cells that show photographs, warnings, and the machine's metadata."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if "photo" in cell.metadata.get("tags", []):
            cell.outputs = []
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook
