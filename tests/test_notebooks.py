"""The form of the committed notebooks: short cells, honest outputs, working links, no traces of one machine.

Each rule is a function from a notebook (and its path) to a list of problems. It is applied to every committed notebook
and, in the second half of this file, to small notebooks that break exactly that rule: a rule that cannot fail protects
nothing. That the notebooks *run* is tested by nbval; that nbval's settings work is tested at the end.
"""

import ast
import copy
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
from nbformat import v4  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
SCALES = {"smoke", "laptop", "full"}
FOLLOWED_BY = {5: 10, 10: 6, 6: 7}  # where the order to read in is not that of the numbers; the last needs no next one


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def markdown(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tree(cell):
    """The cell's syntax tree; lines that only IPython understands are left out."""
    return ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source))


def start(cell):
    lines = cell.source.strip().splitlines()
    return f"the cell that begins {lines[0][:60]!r}" if lines else "an empty cell"


def output_text(cell):
    texts = []
    for output in cell.outputs:
        texts += [output.text] if "text" in output else [str(text) for text in output.get("data", {}).values()]
    return "\n".join(texts)


def numbered(path):
    return int(path.name[:2])


# ---- rules for notebooks and solutions: rule(notebook, path) -> list of problems


def tags_are_known(notebook, path):
    known = {"nbval-check-output", "photo"}  # nbval ignores a misspelt tag without a word
    return [f"{start(c)} has the tag {tag!r}" for c in notebook.cells for tag in tags(c) if tag not in known]


def checked_cells_have_output(notebook, path):
    checked = [c for c in code_cells(notebook) if "nbval-check-output" in tags(c) or "NBVAL_CHECK_OUTPUT" in c.source]
    return [f"{start(c)} is checked but stores no text" for c in checked if not output_text(c) or not c.execution_count]


def notebook_is_small(notebook, path):
    size = len(nbformat.writes(notebook).encode())
    return [f"{size:,} bytes, more than 500,000"] if size > 500_000 else []


def no_error_was_committed(notebook, path):
    return [f"{start(c)} stores an error" for c in code_cells(notebook) for o in c.outputs if o.output_type == "error"]


def no_stderr_was_committed(notebook, path):
    return [f"{start(c)} stores stderr" for c in code_cells(notebook) for o in c.outputs if o.get("name") == "stderr"]


def code_cells_are_short(notebook, path):
    problems = []
    for cell in code_cells(notebook):
        limit = 50 if re.search(r"(?m)^class ", cell.source) else 25
        lines = len(cell.source.splitlines())
        problems += [f"{start(cell)} has {lines} lines, more than {limit}"] if lines > limit else []
    return problems


def setup_prints_one_line(notebook, path):
    first = code_cells(notebook)[0]
    lines = output_text(first).strip().splitlines()
    return [] if len(lines) == 1 else [f"the setup cell prints {len(lines)} lines"]


def few_asserts(notebook, path):
    count = sum(isinstance(node, ast.Assert) for cell in code_cells(notebook) for node in ast.walk(tree(cell)))
    return [f"{count} asserts, more than 3"] if count > 3 else []


def photographs_are_dropped_and_have_a_twin(notebook, path):
    cells = code_cells(notebook)
    problems = []
    for cell, twin in zip(cells, [*cells[1:], None], strict=True):
        if "photo" in tags(cell):
            problems += [f"{start(cell)} stores photographs"] if cell.outputs else []
            problems += [f"{start(cell)} has no twin"] if twin is None or "photo" in tags(twin) else []
            problems += [f"the twin of {start(cell)} stores no output"] if twin is not None and not twin.outputs else []
    return problems


def extra_cells_say_so_first(notebook, path):
    return [
        f"{start(cell)} does not begin with '# Extra: '"
        for cell in code_cells(notebook)
        if re.search(r"(?im)^\s*# *extra\b", cell.source) and not cell.source.startswith("# Extra: ")
    ]


def made(cell):
    """Names that a cell assigns, defines or imports."""
    names = set()
    for node in ast.walk(tree(cell)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


def extra_cells_can_be_skipped(notebook, path):
    """No other cell reads a name that only `# Extra:` cells have made."""
    regular, extra, problems = set(), set(), []
    for cell in code_cells(notebook):
        if cell.source.startswith("# Extra: "):
            extra |= made(cell) - regular
        else:
            read = {n.id for n in ast.walk(tree(cell)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            regular |= made(cell)
            problems += [f"{start(cell)} needs {name!r} from an Extra cell" for name in sorted(read & extra - regular)]
    return problems


def links_point_to_files(notebook, path):
    links = re.findall(r"\]\(([^)#]+?\.\w+)(?:#[^)]*)?\)", markdown(notebook))
    local = {link for link in links if "://" not in link}
    missing = {link for link in local if not (path.parent / link).exists()}
    if path.parent == FOLDER and path == NOTEBOOKS[-1]:  # the newest notebook may announce one that is yet to come
        missing = {link for link in missing if not link.startswith(f"{numbered(path) + 1:02d}_")}
    return [f"the link to {link} points nowhere" for link in sorted(missing)]


def no_path_of_one_machine(notebook, path):
    unix, windows = r"(?<![\w./-])/(?:home|Users|root|tmp|work|private|mnt|var)/[\w.-]+", r"[A-Z]:\\Users\b"
    pattern = "|".join([unix, windows, re.escape(str(FOLDER.parent))])
    texts = [c.source + "\n" + (output_text(c) if c.cell_type == "code" else "") for c in notebook.cells]
    return [f"{match.group()!r} is a path of one machine" for text in texts for match in re.finditer(pattern, text)]


def scale_is_data(notebook, path):
    """No branch on the scale, and no reading of KD_ variables: kd_lib.scale does that."""
    problems = []
    for cell in code_cells(notebook):
        for node in ast.walk(tree(cell)):
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            compared += [node.subject] if isinstance(node, ast.Match) else []
            constants = {c.value for part in compared for c in ast.walk(part) if isinstance(c, ast.Constant)}
            names = {ast.unparse(part) for part in compared}
            if constants & SCALES or "scale.name" in names:
                problems.append(f"{start(cell)} compares the scale")
        if re.search(r"(environ|getenv).*KD_", cell.source):
            problems.append(f"{start(cell)} reads a KD_ variable")
    return problems


def nothing_waits_for_input(notebook, path):
    calls = [(c, node) for c in code_cells(notebook) for node in ast.walk(tree(c)) if isinstance(node, ast.Call)]
    return [
        f"{start(c)} calls input" for c, node in calls if isinstance(node.func, ast.Name) and node.func.id == "input"
    ]


def metadata_is_plain(notebook, path):
    problems = [] if notebook.metadata.get("kernelspec", {}).get("name") == "python3" else ["the kernel is not python3"]
    problems += [f"metadata holds {key!r}" for key in set(notebook.metadata) - {"kernelspec", "language_info"}]
    return problems + [f"{start(c)} holds {key!r}" for c in notebook.cells for key in set(c.metadata) - {"tags"}]


def cells_ran_from_top_to_bottom(notebook, path):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts are {counts}"]


def figures_have_a_text_alternative(notebook, path):
    """The markdown just before or after a figure holds a description that begins *In words:*."""
    problems = []
    for index, cell in enumerate(notebook.cells):
        outputs = cell.get("outputs", [])
        if any(key.startswith("image/") for output in outputs for key in output.get("data", {})):
            beside = notebook.cells[max(index - 1, 0) : index + 2]
            if not any("*In words:*" in c.source for c in beside if c.cell_type == "markdown"):
                problems.append(f"{start(cell)} draws a figure without '*In words:*' beside it")
    return problems


# ---- rules for notebooks alone


def opening_is_short_and_names_the_minutes(notebook, path):
    first = notebook.cells[0]
    lines = [line for line in first.source.splitlines() if line.strip()]
    problems = [] if first.cell_type == "markdown" and first.source.startswith("# ") else ["it opens without a title"]
    problems += [f"the opening has {len(lines)} lines, more than 7"] if len(lines) > 7 else []
    problems += [f"the opening does not name {scale}" for scale in sorted(SCALES) if scale not in first.source]
    return problems + (
        [] if re.search(r"\b(min|minutes?|h|hours?)\b", first.source) else ["the opening names no minutes"]
    )


def few_predictions(notebook, path):
    count = markdown(notebook).count("**Predict")
    return [f"{count} Predict questions, more than 2"] if count > 2 else []


def three_exercises_with_solutions(notebook, path):
    numbers = re.findall(r"(?m)^### Exercise (\d)", markdown(notebook))
    problems = [] if numbers == ["1", "2", "3"] else [f"the exercises are {numbers}, not 1, 2 and 3"]
    link = f"(solutions/{path.stem}_solutions.ipynb)"
    return problems + ([] if link in markdown(notebook) else [f"no link to {link}"])


def closing_is_complete(notebook, path):
    headings = ["## What to take away", "## What did not work", "## Exercises"]
    return [f"no heading {heading!r}" for heading in headings if heading not in markdown(notebook)]


def next_notebook_is_linked(notebook, path):
    number = FOLLOWED_BY.get(numbered(path), numbered(path) + 1)
    found = re.search(rf"\*\*Next\*\*.*\({number:02d}_\w+\.ipynb\)", markdown(notebook))
    exists = any(path.parent.glob(f"{number:02d}_*.ipynb"))
    return [] if found or not exists else [f"no link to notebook {number:02d}"]


# ---- rules for solutions alone


def solutions_answer_three_exercises(notebook, path):
    numbers = re.findall(r"(?m)^## Exercise (\d)", markdown(notebook))
    return [] if numbers == ["1", "2", "3"] else [f"the answers are {numbers}, not 1, 2 and 3"]


def solutions_link_back(notebook, path):
    link = f"(../{path.name.replace('_solutions', '')})"
    return [] if link in notebook.cells[0].source else [f"the first cell has no link to {link}"]


COMMON = [
    tags_are_known,
    checked_cells_have_output,
    notebook_is_small,
    no_error_was_committed,
    no_stderr_was_committed,
    code_cells_are_short,
    setup_prints_one_line,
    few_asserts,
    photographs_are_dropped_and_have_a_twin,
    extra_cells_say_so_first,
    extra_cells_can_be_skipped,
    links_point_to_files,
    no_path_of_one_machine,
    scale_is_data,
    nothing_waits_for_input,
    metadata_is_plain,
    cells_ran_from_top_to_bottom,
    figures_have_a_text_alternative,
]
LESSON = [
    opening_is_short_and_names_the_minutes,
    few_predictions,
    three_exercises_with_solutions,
    closing_is_complete,
    next_notebook_is_linked,
]
ANSWERS = [solutions_answer_three_exercises, solutions_link_back]


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def cases(paths, rules):
    return [pytest.param(path, rule, id=f"{path.stem}-{rule.__name__}") for path in paths for rule in rules]


@pytest.mark.parametrize(("path", "rule"), cases(NOTEBOOKS, COMMON + LESSON) + cases(SOLUTIONS, COMMON + ANSWERS))
def test_committed_notebook_keeps_the_rule(path, rule):
    assert rule(read(path), path) == []


def test_every_notebook_has_solutions_and_every_solution_a_notebook():
    assert [f"{path.stem}_solutions" for path in NOTEBOOKS] == [path.stem for path in SOLUTIONS]


def test_the_first_notebook_needs_neither_tensorflow_nor_this_library():
    allowed = {"IPython", "matplotlib", "numpy", "sklearn", "threadpoolctl"}  # the last comes with scikit-learn
    allowed |= set(sys.stdlib_module_names)
    for path in [*FOLDER.glob("00_*.ipynb"), *(FOLDER / "solutions").glob("00_*.ipynb")]:
        nodes = [node for cell in code_cells(read(path)) for node in ast.walk(tree(cell))]
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {module.split(".")[0] for module in modules} <= allowed, path.name


# ---- the rules can fail: each finds nothing in a good notebook and something in one that breaks it


def code(source, text="", *, tag=None, image=False):
    outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
    outputs += [v4.new_output("display_data", data={"image/png": "AAAA"})] if image else []
    return v4.new_code_cell(source, outputs=outputs, metadata={"tags": [tag]} if tag else {})


def good(*more):
    """A small notebook that keeps every rule, with more cells in its middle."""
    opening = "# 05 · Try\n**Does it work?**\n- smoke: 5 s · laptop: 1 min · full: 2 min\n- [back](../03_try.ipynb)"
    closing = (
        "## What to take away\n## What did not work\n## Exercises\n### Exercise 1 ·\n### Exercise 2 ·\n### Exercise 3 ·"
    )
    answers = "## Exercise 1 ·\n## Exercise 2 ·\n## Exercise 3 ·"
    links = "[solutions](solutions/03_try_solutions.ipynb)\n**Next**: [06](04_teach.ipynb)"
    cells = [v4.new_markdown_cell(opening), code("print('laptop')", "laptop\n"), *copy.deepcopy(more)]
    notebook = v4.new_notebook(cells=[*cells, *map(v4.new_markdown_cell, (closing, answers, links))])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
    return notebook


def changed(action, *more):
    notebook = copy.deepcopy(good(*more))
    action(notebook)
    return notebook


def without(text):
    def action(notebook):
        for cell in notebook.cells:
            cell.source = cell.source.replace(text, "")

    return action


twin = code("draw('signs')", image=True)
words = v4.new_markdown_cell("*In words:* a line that rises.")
GOOD = {
    "plain": good(),
    "a class of 50 lines": good(code("class Long:\n" + "    a = 1\n" * 49)),
    "photographs with a twin": good(code("draw(photographs)", tag="photo"), twin, words),
    "a checked cell": good(code("print(1)", "1\n", tag="nbval-check-output")),
    "an extra cell": good(code("# Extra: more\ny = 1"), code("y = 2\nprint(y)")),
    "a magic": good(code("%matplotlib inline\nassert True")),
    "a website": good(v4.new_markdown_cell("[page](https://example.org/work/page.html)")),
    "a name that only looks like a scale": good(code("full = 3\nprint(full == 3)")),
}
BAD = [
    (tags_are_known, good(code("print(1)", "1\n", tag="nbval-check-outputs"))),
    (checked_cells_have_output, good(code("print(1)", tag="nbval-check-output"))),
    (checked_cells_have_output, good(code("draw()", tag="nbval-check-output"))),
    (notebook_is_small, good(code("print('x' * 500_000)", "x" * 500_000))),
    (no_error_was_committed, changed(lambda n: n.cells[1].outputs.append(v4.new_output("error", ename="E")))),
    (no_stderr_was_committed, changed(lambda n: n.cells[1].outputs.append(v4.new_output("stream", name="stderr")))),
    (code_cells_are_short, good(code("a = 1\n" * 26))),
    (code_cells_are_short, good(code("class Long:\n" + "    a = 1\n" * 50))),
    (setup_prints_one_line, changed(lambda n: n.cells[1].outputs[0].update(text="one\ntwo\n"))),
    (setup_prints_one_line, changed(lambda n: n.cells[1].update(outputs=[]))),
    (few_asserts, good(code("assert 1\nassert 2"), code("def f():\n    assert 3\n    assert 4"))),
    (photographs_are_dropped_and_have_a_twin, good(code("draw()", image=True, tag="photo"), twin)),
    (photographs_are_dropped_and_have_a_twin, good(code("draw()", tag="photo"))),
    (photographs_are_dropped_and_have_a_twin, good(code("a()", tag="photo"), code("b()", tag="photo"), twin)),
    (photographs_are_dropped_and_have_a_twin, good(code("draw()", tag="photo"), code("draw()"))),
    (extra_cells_say_so_first, good(code("a = 1\n# Extra: this comes too late"))),
    (extra_cells_say_so_first, good(code("# extra - spelt otherwise"))),
    (extra_cells_can_be_skipped, good(code("# Extra: more\ny = 1"), code("print(y)"))),
    (extra_cells_can_be_skipped, good(code("# Extra: more\ndef f():\n    pass"), code("f()"))),
    (links_point_to_files, good(v4.new_markdown_cell("[gone](gone.ipynb)"))),
    (links_point_to_files, good(v4.new_markdown_cell("[gone](../figures/gone.png#top)"))),
    (no_path_of_one_machine, good(code("open('/home/ada/data')"))),
    (no_path_of_one_machine, good(code("print(path)", "saved in /tmp/run/x.png"))),
    (no_path_of_one_machine, good(v4.new_markdown_cell(r"C:\Users\ada"))),
    (no_path_of_one_machine, good(code("print(path)", f"{FOLDER.parent}/figures"))),
    (scale_is_data, good(code("if scale.name == name:\n    pass"))),
    (scale_is_data, good(code("epochs = 1 if kind in ('smoke', 'laptop') else 9"))),
    (scale_is_data, good(code("match scale.name:\n    case _:\n        pass"))),
    (scale_is_data, good(code("import os\nprint(os.environ['KD_SCALE'])"))),
    (nothing_waits_for_input, good(code("answer = input('Your answer?')"))),
    (metadata_is_plain, changed(lambda n: n.metadata["kernelspec"].update(name="my-env"))),
    (metadata_is_plain, changed(lambda n: n.metadata.update(jupytext={"formats": "ipynb,py"}))),
    (metadata_is_plain, changed(lambda n: n.cells[1].metadata.update(execution={"iopub.execute_input": "2026"}))),
    (cells_ran_from_top_to_bottom, changed(lambda n: n.cells[1].update(execution_count=7))),
    (cells_ran_from_top_to_bottom, changed(lambda n: n.cells[1].update(execution_count=None))),
    (figures_have_a_text_alternative, good(code("draw()", image=True))),
    (figures_have_a_text_alternative, good(words, code("a = 1"), code("draw()", image=True))),
    (opening_is_short_and_names_the_minutes, changed(without("smoke"))),
    (opening_is_short_and_names_the_minutes, changed(without(" min"))),
    (opening_is_short_and_names_the_minutes, changed(without("# "))),
    (
        opening_is_short_and_names_the_minutes,
        changed(lambda n: n.cells[0].update(source=n.cells[0].source + "\na" * 4)),
    ),
    (few_predictions, good(v4.new_markdown_cell("> **Predict.** What?\n\n" * 3))),
    (three_exercises_with_solutions, changed(without("### Exercise 2 ·"))),
    (three_exercises_with_solutions, good(v4.new_markdown_cell("### Exercise 4 ·"))),
    (three_exercises_with_solutions, changed(without("solutions/"))),
    (closing_is_complete, changed(without("## What did not work"))),
    (next_notebook_is_linked, changed(without("**Next**"))),
    (solutions_answer_three_exercises, changed(without("## Exercise 3 ·"))),
    (solutions_link_back, changed(without("../"))),
]


@pytest.fixture
def lesson(tmp_path):
    """The path of a notebook 03_try.ipynb in a course where everything it links to exists."""
    (tmp_path / "course" / "solutions").mkdir(parents=True)
    for name in ("03_try.ipynb", "course/04_teach.ipynb", "course/solutions/03_try_solutions.ipynb"):
        (tmp_path / name).touch()
    return tmp_path / "course" / "03_try.ipynb"


@pytest.mark.parametrize("rule", COMMON + LESSON + ANSWERS)
def test_rule_finds_nothing_in_good_notebooks(rule, lesson):
    assert {name: rule(notebook, lesson) for name, notebook in GOOD.items()} == dict.fromkeys(GOOD, [])


@pytest.mark.parametrize(("rule", "notebook"), BAD, ids=[rule.__name__ for rule, _ in BAD])
def test_rule_finds_the_notebook_that_breaks_it(rule, notebook, lesson):
    assert rule(notebook, lesson)


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _ in BAD} == set(COMMON + LESSON + ANSWERS)


def test_nbval_compares_checked_cells_alone_at_smoke_scale_and_ignores_stderr(tmp_path):
    pytest.importorskip("nbval")
    show = "import os\nprint(os.environ['KD_SCALE'], os.environ['KD_DATA'], os.environ['KD_MOBILENET'])"
    show += "\nassert os.environ['KD_HOME']"
    warn = "import sys\nprint('a library warns', file=sys.stderr)\nprint(1)"
    right = [code(show, "smoke signs signs\n", tag="nbval-check-output"), code(warn, "1\n", tag="nbval-check-output")]
    nbformat.write(good(*right, code("print(2)", "another scale printed 3\n")), tmp_path / "right.ipynb")
    nbformat.write(good(code("print(1)", "2\n", tag="nbval-check-output")), tmp_path / "wrong.ipynb")
    shutil.copy(FOLDER / "conftest.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "PYTEST_"))}
    environment |= {"KD_SCALE": "", "KD_HOME": ""}  # as good as none
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "."]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "wrong.ipynb::Cell 1" in run.stdout and "1 failed, 5 passed" in run.stdout, run.stdout + run.stderr
