"""Reading and changing results.json and bench.json: under a lock, and written whole or not at all."""

import contextlib
import json
import math
import re
from pathlib import Path

from kd_lib.files import lock, writing
from kd_lib.results.environment import device
from kd_lib.results.rows import GROUP, contradicts, recipe, side_of, stands_on, validate

_DIFFERENCE = ("difference", "low", "high", "errors", "excludes_zero")


def load(path):
    """Read a results file.

    Args:
        path: results.json; a file that does not exist yet reads as an empty one.

    Returns:
        {"rows": [...], "comparisons": [...]}.

    Raises:
        ValueError: the file is not a results file.
    """
    path = Path(path)
    if not path.exists():
        return {"rows": [], "comparisons": []}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {"rows": list(document["rows"]), "comparisons": list(document.get("comparisons", []))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a results file ({error!r}); restore it from version control or move it away"
        ) from error


@contextlib.contextmanager
def _updating(path, keys=("rows", "comparisons")):
    """Lend the document for a change: lock, read, yield, write atomically (nothing is written if the change raises)."""
    path = Path(path)
    with lock(path.parent):
        document = load(path)
        yield document
        # One row per line: a changed row is one changed line in version control.
        parts = [
            f'"{key}": [' + ",".join("\n" + json.dumps(row, ensure_ascii=False) for row in document[key]) + "\n]"
            for key in keys
        ]
        with writing(path) as temporary:
            temporary.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


def _group(row):
    return tuple(row[key] for key in GROUP)


def _put(rows, row, identity):
    """Replace the row of the same identity in its place, or add the row at the end."""
    for place, old in enumerate(rows):
        if all(old.get(key) == row.get(key) for key in identity):
            rows[place] = row
            return
    rows.append(row)


def _forget(document, rows):
    """Drop the comparisons that were made from other rows than these of the same groups."""
    document["comparisons"] = [
        comparison for comparison in document["comparisons"] if not any(contradicts(row, comparison) for row in rows)
    ]


def append(row, path):
    """Add a row; an older row with the same model, method, teacher, dataset, crop, size, scale, refit and seed goes.

    Comparisons that were made from rows of its group with another recipe go too.

    Args:
        row: what `make_row` returns.
        path: the results file; created with its folder if absent.

    Raises:
        ValueError: the row or the file is not valid; the file is left as it was.
    """
    row = validate(row)
    with _updating(path) as document:
        for old in document["rows"]:
            # The same network measured again: what first made it still does, and what was known of its agreement with
            # its teacher still holds if it was measured without one now.
            if all(old[key] == row[key] for key in (*GROUP, "seed", "config", "wrong")):
                row["command"] = old["command"]
                row["agreement"] = old["agreement"] if row["agreement"] is None else row["agreement"]
        _put(document["rows"], row, (*GROUP, "seed"))
        _forget(document, [row])


def add_comparison(row_a, row_b, difference, path):
    """Record a paired difference between two groups of rows (all seeds of one model and method); replaces an older one.

    The recipes of both rows are noted with it: where a group's rows have another one, it is not shown any more.

    Args:
        row_a: any row of the first group, e.g. distilled.
        row_b: any row of the second group, e.g. plain.
        difference: what `kd_lib.evaluation.compare(reports_a, reports_b)` returned.
        path: the results file.

    Raises:
        ValueError: a row is not valid or the difference lacks a field.
    """
    missing = [key for key in _DIFFERENCE if key not in difference]
    if missing:
        raise ValueError(f"a comparison needs the fields that evaluation.compare returns; missing {missing}")
    rows = [validate(row) for row in (row_a, row_b)]
    with _updating(path) as document:
        _forget(document, rows)
        comparison = {"a": side_of(rows[0]), "b": side_of(rows[1]), **difference}
        _put(document["comparisons"], comparison, ("a", "b"))


def merge(from_path, to_path, *, scale, dataset):
    """Publish a run: put its rows and comparisons into another file, replacing those of the same identity, and those
    of the same group that were made with another recipe. A comparison is published where all rows of both its groups
    are of its recipe.

    Args:
        from_path: the results file of the run; must exist.
        to_path: the file that receives them, usually figures/results.json.
        scale: name of the scale whose rows are published.
        dataset: name of the data set; networks that learned from it and were tested on another are published too.

    Raises:
        FileNotFoundError: no file at `from_path`.
        ValueError: a row is not valid; then nothing is written.
    """
    if not Path(from_path).exists():
        raise FileNotFoundError(f"no results file at {from_path}; run the notebooks first, or give another path")
    source = load(from_path)

    def wanted(group):
        return group["scale"] == scale and group["dataset"].split(" to ")[0] == dataset

    rows = list(filter(wanted, source["rows"]))
    recipes = {}
    for row in rows:
        recipes.setdefault(_group(row), set()).add(recipe(row))
    with _updating(to_path) as document:
        document["rows"] = [row for row in document["rows"] if recipe(row) in recipes.get(_group(row), {recipe(row)})]
        for row in rows:
            _put(document["rows"], validate(row), (*GROUP, "seed"))
        _forget(document, rows)
        for comparison in source["comparisons"]:
            if stands_on(comparison, rows):
                _put(document["comparisons"], comparison, ("a", "b"))


def notebook_seconds(path):
    """Return how long each notebook took where that was measured: seconds by (number, scale), such as ("03", "laptop").

    Args:
        path: the file that `append_bench` wrote, with rows called "notebook 03, laptop"; without it nothing is known.
    """
    rows = load(path)["rows"]
    found = ((re.fullmatch(r"notebook (\d\d), (\w+)", row["name"]), row) for row in rows)
    return {match.groups(): row["value"] for match, row in found if match}


def append_bench(name, unit, *, value=None, ratio=None, path):
    """Add a measurement to bench.json; an older one of the same name goes.

    Args:
        name: what was measured, e.g. "signs render 32 px".
        unit: of the value, e.g. "images/s"; of a ratio, e.g. "x keras.distillation".
        value: a number in that unit, or None if `ratio` is given.
        ratio: a number that compares two things measured in one run, or None if `value` is given.
        path: the bench file.

    Raises:
        ValueError: not exactly one finite number given.
    """
    if (value is None) == (ratio is None) or not math.isfinite(value if ratio is None else ratio):
        raise ValueError(f"give exactly one finite number, value or ratio; got value={value!r}, ratio={ratio!r}")
    number = {"value": float(value)} if ratio is None else {"ratio": float(ratio)}
    with _updating(path, keys=("rows",)) as document:
        _put(document["rows"], {"name": name, **number, "unit": unit, "device": device()}, ("name",))
