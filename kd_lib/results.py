"""Where every number in prose comes from: results.json and bench.json.

A row is one trained model and seed; a comparison is one paired difference with its interval. Rows are checked before
they are written, files are replaced atomically under a lock, and the README table is rendered from them. This module
imports no TensorFlow. It leaves out statistics beyond means, deviations and one interval: `kd_lib.evaluation` measures.
"""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows: atomic replacement alone, best effort
    fcntl = None

_NUMBER, _NONE = (int, float), type(None)
# Every field of a row and the types that it may hold; a bool never passes for a number.
FIELDS = {
    "model": str, "method": str, "teacher": (str, _NONE), "dataset": str, "crop": bool, "image_size": int,
    "scale": str, "seed": int, "epochs": int, "params": (int, _NONE), "macs": (int, _NONE), "bytes": int,
    "validation_accuracy": (*_NUMBER, _NONE), "test_accuracy": (*_NUMBER, _NONE), "test_errors": (int, _NONE),
    "test_size": (int, _NONE), "wrong": (list, _NONE), "agreement": (*_NUMBER, _NONE), "refit": bool,
    "weights": (str, _NONE), "config": dict, "seconds": _NUMBER, "device": str, "backend": (str, _NONE),
    "command": str, "commit": (str, _NONE), "versions": dict,
}  # fmt: skip
_GROUP = ("model", "method", "teacher", "dataset", "crop", "image_size", "scale", "refit")
_TEST = ("test_accuracy", "test_errors", "test_size", "wrong")
_DIFFERENCE = ("difference", "low", "high", "errors", "excludes_zero")
_COLUMNS = (
    "Model", "Trained", "Teacher", "Input", "Seeds", "Test accuracy %", "95 % interval", "Test errors",
    "Agrees with teacher %", "Parameters", "MACs",
)  # fmt: skip
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


class Mark(NamedTuple):
    """A published GTSRB result: `params` is None for a person, `accuracy` is in percent of the official test."""

    name: str
    params: int | None
    accuracy: float
    note: str


PUBLISHED = (
    Mark("person", None, 98.84, "average of people"),
    Mark("Zhang 2019, student", 800_000, 99.61, "the one reproduction found: 97.17 %"),
    Mark("Arcos-García 2018", 14_600_000, 99.71, "48 px, three spatial transformers"),
    Mark("Cireşan 2012, 25 nets", 38_500_000, 99.46, "25 networks vote"),
    Mark("qNet 2019", 290_000, 99.4, ""),
    Mark("sqNet 2019", 45_000, 99.0, "7 M MACs"),
    Mark("MicronNet 2018", 510_000, 98.9, ""),
    Mark("public CNN + API", 356_000, 99.24, "validated on a random split"),
)


def wilson_interval(correct, total, level=0.95):
    """Wilson score interval of a share, here of an accuracy; it behaves well near 0 and 1 (Wilson, 1927).

    Args:
        correct: successes, 0..total; a mean over seeds may be fractional.
        total: number of trials, at least 1.
        level: confidence level between 0 and 1.

    Returns:
        (low, high), both between 0 and 1.

    Raises:
        ValueError: arguments out of range.
    """
    if not (total >= 1 and 0 <= correct <= total and 0 < level < 1):
        raise ValueError(f"need 0 <= correct <= total, total >= 1 and 0 < level < 1; got {correct}, {total}, {level}")
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    share = correct / total
    center = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def _device():
    """Processor, its number of cores and, if TensorFlow is loaded, the graphics card."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        name = found.group(1).strip() if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{name}, {cores} cores"
    if "tensorflow" in sys.modules:
        config = sys.modules["tensorflow"].config
        for card in config.list_physical_devices("GPU"):
            text += " + " + config.experimental.get_device_details(card).get("device_name", "GPU")
    return text


def environment():
    """What a number was made with; never fails, with or without git.

    Returns:
        dict with "device" and "backend" (the loaded Keras backend or None), "commit" (or None), "versions" (a dict).
    """
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    backend = sys.modules["keras"].config.backend() if "keras" in sys.modules else None
    versions = {"python": platform.python_version()}
    for package in ("keras", "tensorflow" if backend in (None, "numpy") else backend, "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"device": _device(), "backend": backend, "commit": commit, "versions": versions}


def validate(row):
    """Check one row and return it with plain Python values, in the order of `FIELDS`.

    Args:
        row: dict with exactly the keys of `FIELDS`; NumPy numbers are accepted.

    Returns:
        A new dict that json can write.

    Raises:
        ValueError: a field is unknown, missing, of the wrong type, or contradicts another.
    """
    unknown, missing = sorted(set(row) - set(FIELDS)), sorted(set(FIELDS) - set(row))
    if unknown or missing:
        raise ValueError(f"a results row has the fields of results.FIELDS; unknown: {unknown}, missing: {missing}")
    try:
        plain = json.dumps(row, allow_nan=False, default=lambda value: value.tolist())  # tolist: NumPy values
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"a results row must hold finite, plain JSON values: {error}") from error
    values = json.loads(plain)
    row = {field: values[field] for field in FIELDS}
    for field, types in FIELDS.items():
        if not isinstance(row[field], types) or (isinstance(row[field], bool) and types is not bool):
            raise ValueError(f"results field {field!r} cannot be {row[field]!r}; expected {types}")
    nulls = [row[field] is None for field in _TEST]
    if any(nulls) != all(nulls):
        raise ValueError(f"the test fields {_TEST} are all null (validation only) or all given, got nulls {nulls}")
    if not nulls[0]:
        expected = 1 - row["test_errors"] / row["test_size"] if row["test_size"] else -1
        if len(row["wrong"]) != row["test_errors"] or abs(row["test_accuracy"] - expected) > 1e-6:
            raise ValueError(
                f"test fields contradict each other: accuracy {row['test_accuracy']}, {row['test_errors']} errors of "
                f"{row['test_size']}, {len(row['wrong'])} ids in wrong"
            )
    return row


def make_row(*, report=None, **fields):
    """Build one row of results.json: a trained model and seed.

    Args:
        report: the `Report` of the official test set; fills the test fields and "agreement". None: validation only.
        **fields: the other fields of `FIELDS`; "device", "backend", "commit" and "versions" are gathered if absent,
            "teacher", "macs", "weights" and "agreement" default to None, "crop" and "refit" to False.

    Returns:
        A checked dict.

    Raises:
        ValueError: a field is unknown, missing or wrong.
    """
    row = dict.fromkeys((*_TEST, "teacher", "macs", "weights", "agreement"))
    row |= {"crop": False, "refit": False, **environment()}
    if report is not None:
        row |= {"test_accuracy": report.accuracy, "test_errors": report.errors, "test_size": len(report.labels)}
        row |= {"wrong": list(report.wrong), "agreement": report.agreement}
    return validate(row | fields)


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


def _write(path, text):
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _updating(path, keys=("rows", "comparisons")):
    """Lend the document for a change: lock, read, yield, write atomically (nothing is written if the change raises)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY) if fcntl else None  # locking the folder leaves no lock file behind
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock
            if fcntl:
                fcntl.flock(folder, fcntl.LOCK_EX)
        document = load(path)
        yield document
        # One row per line: a changed row is one changed line in version control.
        parts = [
            f'"{key}": [' + ",".join("\n" + json.dumps(row, ensure_ascii=False) for row in document[key]) + "\n]"
            for key in keys
        ]
        _write(path, "{" + ",\n".join(parts) + "}\n")
    finally:
        if folder is not None:
            os.close(folder)


def _put(rows, row, identity):
    """Replace the row of the same identity in its place, or add the row at the end."""
    for place, old in enumerate(rows):
        if all(old.get(key) == row.get(key) for key in identity):
            rows[place] = row
            return
    rows.append(row)


def append(row, path):
    """Add a row; an older row with the same model, method, teacher, dataset, crop, size, scale, refit and seed goes.

    Args:
        row: what `make_row` returns.
        path: the results file; created with its folder if absent.

    Raises:
        ValueError: the row or the file is not valid; the file is left as it was.
    """
    row = validate(row)
    with _updating(path) as document:
        _put(document["rows"], row, (*_GROUP, "seed"))


def add_comparison(row_a, row_b, difference, path):
    """Record a paired difference between two groups of rows (all seeds of one model and method); replaces an older one.

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
    groups = [{key: validate(row)[key] for key in _GROUP} for row in (row_a, row_b)]
    with _updating(path) as document:
        _put(document["comparisons"], {"a": groups[0], "b": groups[1], **difference}, ("a", "b"))


def merge(from_path, to_path):
    """Publish a run: put its rows and comparisons into another file, replacing those of the same identity.

    Args:
        from_path: the results file of the run; must exist.
        to_path: the file that receives them, usually figures/results.json.

    Raises:
        FileNotFoundError: no file at `from_path`.
        ValueError: a row is not valid; then nothing is written.
    """
    if not Path(from_path).exists():
        raise FileNotFoundError(f"no results file at {from_path}; run the notebooks first, or give another path")
    source = load(from_path)
    with _updating(to_path) as document:
        for row in source["rows"]:
            _put(document["rows"], validate(row), (*_GROUP, "seed"))
        for comparison in source["comparisons"]:
            _put(document["comparisons"], comparison, ("a", "b"))


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
        _put(document["rows"], {"name": name, **number, "unit": unit, "device": _device()}, ("name",))


def _order(group):
    """Teachers, then other networks from large to small; the plain student before the distilled one."""
    family = [group["model"].startswith(name) for name in ("teacher", "mobilenet", "student")]
    rank = {"plain": 0, "kd": 1}.get(group["method"], 2)
    return (
        *(not found for found in family), -(group["params"] or 0), group["model"], group["image_size"], rank,
        group["method"], group["teacher"] or "", group["refit"],
    )  # fmt: skip


def summarise(rows):
    """One entry per model and method: means over its seeds, in the order of the README table.

    Args:
        rows: results rows; those that only validation saw are left out.

    Returns:
        A list of dicts: the group's fields ("model", "method", "teacher", "dataset", "crop", "image_size", "scale",
        "refit"), "test_size", "seeds" (how many), "params", "macs", "accuracy" and "errors" (means over seeds),
        "accuracy_sd" and "errors_sd" (sample standard deviations, 0 for one seed), "errors_by_seed" (list),
        "agreement" (mean or None) and "interval" (95 % Wilson interval of the mean accuracy over test images).
    """
    groups = {}
    for row in rows:
        if row["test_errors"] is not None:
            groups.setdefault(tuple(row[key] for key in (*_GROUP, "test_size")), []).append(row)
    summary = []
    for key, members in groups.items():
        members = sorted(members, key=lambda row: row["seed"])
        errors, size = [row["test_errors"] for row in members], members[0]["test_size"]
        agreements = [row["agreement"] for row in members if row["agreement"] is not None]
        mean, deviation = statistics.mean(errors), statistics.stdev(errors) if len(errors) > 1 else 0.0
        summary.append(
            dict(zip((*_GROUP, "test_size"), key, strict=True))
            | {"seeds": len(members), "params": members[0]["params"], "macs": members[0]["macs"]}
            | {"errors": mean, "errors_sd": deviation, "errors_by_seed": errors}
            | {"accuracy": 1 - mean / size, "accuracy_sd": deviation / size}
            | {"agreement": statistics.mean(agreements) if agreements else None}
            | {"interval": wilson_interval(size - mean, size)}
        )
    return sorted(summary, key=_order)


def _cells(group):
    """The texts of one line of the table."""
    low, high = group["interval"]
    several = group["seeds"] > 1
    agreement, macs = group["agreement"], group["macs"]
    return (
        group["model"],
        group["method"] + (" (train + validation)" if group["refit"] else ""),
        group["teacher"] or "–",
        f"{group['image_size']} px",
        str(group["seeds"]),
        f"{100 * group['accuracy']:.2f}" + (f" ± {100 * group['accuracy_sd']:.2f}" if several else ""),
        f"{100 * low:.2f} to {100 * high:.2f}",
        f"{group['errors']:.1f} ± {group['errors_sd']:.1f}" if several else str(group["errors"]),
        "–" if agreement is None else f"{100 * agreement:.2f}",
        "–" if group["params"] is None else f"{group['params']:,}",
        "–" if macs is None else f"{macs / 1e6:,.1f} M" if macs >= 1e5 else f"{macs:,}",
    )


def _sentence(comparison):
    """One comparison in words."""
    names = [
        f"{group['model']} {group['method']}" + (" (train + validation)" if group["refit"] else "")
        for group in (comparison["a"], comparison["b"])
    ]
    verdict = "excludes" if comparison["excludes_zero"] else "does not exclude"
    return (
        f"{names[0]} against {names[1]}: {comparison['difference']:+.2f} points of accuracy "
        f"({comparison['low']:+.2f} to {comparison['high']:+.2f}), {comparison['errors']:+.1f} errors; "
        f"the interval {verdict} zero"
    )


def table(rows, comparisons=(), *, markdown=True):
    """Render the results: one table per dataset, crop, scale and test size, with the comparisons below.

    Args:
        rows: results rows (`load(path)["rows"]`).
        comparisons: recorded comparisons (`load(path)["comparisons"]`).
        markdown: False gives aligned plain text for a terminal, without the columns Input and MACs.

    Returns:
        The text, without a final newline.
    """
    sections = {}
    for group in summarise(rows):
        sections.setdefault(tuple(group[key] for key in ("dataset", "crop", "scale", "test_size")), []).append(group)
    blocks = []
    for (dataset, crop, scale, size), groups in sections.items():
        heading = f"{dataset}, {'cropped to the sign' if crop else 'whole image'}, scale {scale}, {size:,} test images"
        lines = [_COLUMNS, *map(_cells, groups)]
        if markdown:
            lines.insert(1, [":--"] * 3 + ["--:"] * (len(_COLUMNS) - 3))
            block = [f"**{heading}**", "", *("| " + " | ".join(line) + " |" for line in lines)]
        else:
            columns = [column for column in zip(*lines, strict=True) if column[0] not in ("Input", "MACs")]
            widths = [max(map(len, column)) for column in columns]
            pairs = [list(zip(line, widths, strict=True)) for line in zip(*columns, strict=True)]
            block = [heading, *("  ".join(text.ljust(width) for text, width in pair).rstrip() for pair in pairs)]
        notes = [
            ("- " if markdown else "  ") + _sentence(comparison)
            for comparison in comparisons
            if (dataset, crop, scale) == tuple(comparison["a"][key] for key in ("dataset", "crop", "scale"))
        ]
        blocks.append("\n".join(block + ([""] if markdown and notes else []) + notes))
    return "\n\n".join(blocks) or "No test results yet."


def render(readme_path, results_path):
    """Replace what stands between the markers of a README by the table; doing it twice changes nothing.

    Args:
        readme_path: a Markdown file that holds the lines `BEGIN` and `END` once each, in this order.
        results_path: the results file; must exist.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the markers are missing, repeated or in the wrong order; the file is left as it was.
    """
    if not Path(results_path).exists():
        raise FileNotFoundError(f"no results file at {results_path}; run the notebooks first, or give another path")
    readme = Path(readme_path).read_text(encoding="utf-8")
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"{readme_path} must hold the line {BEGIN} once and then the line {END} once; add them")
    document = load(results_path)
    head, tail = readme.split(BEGIN)[0], readme.split(END)[1]
    text = table(document["rows"], document["comparisons"])
    _write(Path(readme_path), f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")
