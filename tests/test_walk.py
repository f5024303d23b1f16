"""Tests of kd_lib.walk and of what `run` does around it, with tiny notebooks in place of the course's."""

import json
import os
import shutil
import subprocess
import sys

import pytest

nbformat = pytest.importorskip("nbformat")
from nbformat import v4  # noqa: E402

from kd_lib import commands, walk  # noqa: E402
from kd_lib.__main__ import main  # noqa: E402
from kd_lib.scale import VARIABLES, Scale  # noqa: E402

PICTURE = "from IPython.display import display, HTML\ndisplay(HTML('<b>a photograph</b>'))"
PROGRESS = (
    "import sys\nprint('epoch 1', end='\\r')\nprint('epoch 2', end='\\r')\nprint('done')\n"
    "print('hm', file=sys.stderr)\nprint('I0000 00:00:1795.161 21740 port.cc:153] one' + 'DNN is on.', file=sys.stderr)"
)


@pytest.fixture
def two_notebooks(tmp_path, monkeypatch):
    """A notebook that fails with a message of two lines, and one that shows a photograph."""
    photo = v4.new_code_cell(PICTURE, metadata={"tags": ["photo"], "editable": True})
    cells = {
        "01_fails": [v4.new_code_cell("raise OSError('no archive.\\nPut it there by hand.')"), v4.new_code_cell("1")],
        "02_works": [v4.new_code_cell("import os\nprint(os.environ['KD_SCALE'])"), photo, v4.new_code_cell(PROGRESS)],
    }
    for name, found in cells.items():
        nbformat.write(v4.new_notebook(cells=found), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(walk, "NOTEBOOKS", tmp_path)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # what the walk sets is taken back
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_notebook_that_fails_says_why_in_full_and_the_others_still_run(two_notebooks):
    lines, before = [], (two_notebooks / "01_fails.ipynb").read_bytes()
    fails, works = walk.walk(
        Scale.named("smoke"), only=("01", "02"), write=True, build=two_notebooks / "build", out=lines.append
    )
    assert (fails.name, fails.failed) == ("01_fails", "OSError: no archive.\nPut it there by hand.")
    assert (works.name, works.failed) == ("02_works", None) and 0 < works.seconds < 120
    assert len(lines) == 2 and "FAILED: OSError" in lines[0] and "by hand" in lines[0]
    assert lines[1].startswith("02_works") and "build/02_works.html" in lines[1].replace("\\", "/")
    for name in ("01_fails", "02_works"):
        assert "<html" in (two_notebooks / "build" / f"{name}.html").read_text(encoding="utf-8")
    assert (two_notebooks / "01_fails.ipynb").read_bytes() == before


def test_solutions_are_run_in_place_of_their_notebooks(two_notebooks):
    (two_notebooks / "solutions").mkdir()
    shutil.copy(two_notebooks / "02_works.ipynb", two_notebooks / "solutions" / "02_works_solutions.ipynb")
    (found,) = walk.notebooks(["02"], solutions=True)
    assert found == two_notebooks / "solutions" / "02_works_solutions.ipynb"
    with pytest.raises(ValueError, match="no notebooks in .*solutions|No notebook has the number 01"):
        walk.notebooks(["01"], solutions=True)


def test_what_is_stored_shows_no_photograph_no_warning_and_the_end_of_progress(two_notebooks):
    walk.walk(Scale.named("smoke"), only=("02",), write=True, build=two_notebooks / "build", out=str)
    stored = nbformat.read(two_notebooks / "02_works.ipynb", as_version=4)
    scale, photo, progress = stored.cells
    assert scale.outputs[0].text == "smoke\n"
    assert photo.outputs == [] and photo.metadata == {"tags": ["photo"]}
    assert [output.text for output in progress.outputs] == ["done\n"]
    page = (two_notebooks / "build" / "02_works.html").read_text(encoding="utf-8")
    assert "a photograph" in page and "hm" in page, "the page is for the reader's own machine"
    assert "oneDNN" not in page


STOPPED = """
import sys
from pathlib import Path
from kd_lib import walk
from kd_lib.scale import Scale
walk.NOTEBOOKS = Path(sys.argv[1])
try:
    walk.walk(Scale.named("smoke"), only=("01", "02"), build=Path(sys.argv[1]) / "build")
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
def test_a_walk_that_is_told_to_stop_runs_no_further_notebook(tmp_path):
    stop = v4.new_code_cell("import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)")
    for name, cell in {"01_stops": stop, "02_works": v4.new_code_cell("1")}.items():
        nbformat.write(v4.new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    found = subprocess.run([sys.executable, "-c", STOPPED, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert found.stdout == "stopped\n", found.stdout + found.stderr
    assert not list((tmp_path / "build").glob("*.html"))


def test_run_ends_with_exit_code_1_when_a_notebook_fails_and_with_0_otherwise(monkeypatch, capsys, tmp_path):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    for failed, code in (("OSError: no download", 1), (None, 0)):
        steps = [walk.Step("04_distill", 1.0, None), walk.Step("05_pretrained_teacher", 1.0, failed)]
        monkeypatch.setattr(walk, "walk", lambda *args, steps=steps, **options: steps)
        assert main(["run", "--scale", "smoke"]) == code
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
        assert told == (["FAILED 05_pretrained_teacher: OSError: no download"] if failed else [])


def test_publishing_puts_rows_into_figures_and_the_table_into_the_readme(monkeypatch, capsys, tmp_path):
    from test_results import make_row

    from kd_lib import artifacts, results

    scale = Scale.named("full", data="gtsrb", home_folder=tmp_path / "home")
    (tmp_path / "README.md").write_text(f"{results.BEGIN}\n{results.END}\n{results.BENCH_BEGIN}\n{results.BENCH_END}\n")
    run = tmp_path / "figures" / "run" / "teacher-1234"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"dataset": {"name": "gtsrb", "limit": None}}))
    (run / "history.json").write_text(json.dumps({"seconds": 1800.0}))
    monkeypatch.setattr(commands, "REPOSITORY", tmp_path)
    monkeypatch.setattr(artifacts, "SHIPPED", (tmp_path / "figures" / "run", tmp_path / "pretrained"))
    for row in (make_row(model="teacher", params=720_000), make_row(), make_row(scale="laptop")):
        results.append(row, scale.results)
    commands._publish(scale)
    rows = json.loads((tmp_path / "figures" / "results.json").read_text())["rows"]
    assert [(row["model"], row["scale"]) for row in rows] == [("teacher", "full"), ("student-0.25", "full")]
    assert results.table(rows) in (tmp_path / "README.md").read_text()
    assert "| every training of the committed run, summed | 0.50 | h |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "figures" / "errors_against_parameters.png").stat().st_size > 10_000
    assert "Published full on gtsrb" in capsys.readouterr().out
