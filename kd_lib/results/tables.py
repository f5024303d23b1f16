"""Rows in words and tables: means over seeds, intervals, and the table of the README."""

import json
import math
import re
import statistics
from pathlib import Path

from kd_lib.files import writing
from kd_lib.results.files import load, notebook_seconds
from kd_lib.results.rows import GROUP, recipe, stands_on
from kd_lib.scale import REPOSITORY

_COLUMNS = (
    "Model", "Trained", "Teacher", "Input", "Seeds", "Test accuracy %", "95 % interval", "Test errors",
    "Agrees with teacher %", "Parameters", "kB", "MACs",
)  # fmt: skip
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
BENCH_BEGIN, BENCH_END = "<!-- bench:begin -->", "<!-- bench:end -->"


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


def _order(group):
    """Teachers, then other networks from large to small, then what was pruned and what is in 8 bits; the plain student
    before the distilled one."""
    name = group["model"]
    family = [not name.startswith(kind) for kind in ("teacher", "committee", "mobilenet", "student")]
    made_smaller = ["-int8" in name, "-pruned" in name]
    rank = {"plain": 0, "kd": 1}.get(group["method"], 2)
    return (
        *family, *made_smaller, -(group["params"] or 0), name, group["image_size"], rank, group["method"],
        group["teacher"] or "", group["refit"],
    )  # fmt: skip


def summarise(rows):
    """One entry per model, method and recipe: means over its seeds, in the order of the README table.

    Args:
        rows: results rows; those that only validation saw are left out.

    Returns:
        A list of dicts: the group's fields ("model", "method", "teacher", "dataset", "crop", "image_size", "scale",
        "refit", "weights"), "test_size", "seeds" (how many), "drawn" (drawn signs among the training images),
        "params", "bytes", "macs", "accuracy" and "errors" (means over seeds),
        "accuracy_sd" and "errors_sd" (sample standard deviations, 0 for one seed), "errors_by_seed" (list),
        "agreement" (mean or None) and "interval" (95 % Wilson interval of the mean accuracy over test images).
    """
    groups = {}
    for row in rows:
        if row["test_errors"] is not None:
            key = (*(row[key] for key in (*GROUP, "test_size")), recipe(row))
            groups.setdefault(key, []).append(row)
    summary = []
    for key, members in groups.items():
        members = sorted(members, key=lambda row: row["seed"])
        errors, size = [row["test_errors"] for row in members], members[0]["test_size"]
        agreements = [row["agreement"] for row in members if row["agreement"] is not None]
        mean, deviation = statistics.mean(errors), statistics.stdev(errors) if len(errors) > 1 else 0.0
        summary.append(
            dict(zip((*GROUP, "test_size"), key[:-1], strict=True))
            | {"drawn": members[0]["config"].get("drawn", 0)}
            | {"seeds": len(members)}
            | {key: members[0][key] for key in ("params", "bytes", "macs")}
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
    weights = f", weights {group['weights']}" if group["weights"] else ""  # of the network, or else of its teacher
    return (
        group["model"],
        group["method"] + ("" if group["teacher"] else weights) + (" (train + validation)" if group["refit"] else ""),
        group["teacher"] + weights if group["teacher"] else "–",
        f"{group['image_size']} px",
        str(group["seeds"]),
        f"{100 * group['accuracy']:.2f}" + (f" ± {100 * group['accuracy_sd']:.2f}" if several else ""),
        f"{100 * low:.2f} to {100 * high:.2f}",
        f"{group['errors']:.1f} ± {group['errors_sd']:.1f}" if several else str(group["errors"]),
        "–" if agreement is None else f"{100 * agreement:.2f}",
        "–" if group["params"] is None else f"{group['params']:,}",
        f"{group['bytes'] / 1e3:,.0f}",
        "–" if macs is None else f"{macs / 1e6:,.1f} M" if macs >= 1e5 else f"{macs:,}",
    )


def _sentence(comparison):
    """One comparison in words."""
    names = [
        f"{group['model']} {group['method']}"
        + (f" from {group['teacher']}" if group["teacher"] else "")
        + (" (train + validation)" if group["refit"] else "")
        for group in (comparison["a"], comparison["b"])
    ]
    verdict = "excludes" if comparison["excludes_zero"] else "contains"
    seeds = comparison.get("seeds_a"), comparison.get("seeds_b")
    of_seeds = "" if seeds[0] == seeds[1] else f" (means over {seeds[0]} and {seeds[1]} seeds)"
    return (
        f"{names[0]} against {names[1]}: {comparison['difference']:+.2f} points of accuracy "
        f"({comparison['low']:+.2f} to {comparison['high']:+.2f}), {comparison['errors']:+.1f} errors{of_seeds}; "
        f"the interval {verdict} zero"
    )


def table(rows, comparisons=(), *, markdown=True):
    """Render the results: one table per dataset, crop, scale and test size, with the comparisons below.

    Args:
        rows: results rows (`load(path)["rows"]`).
        comparisons: recorded comparisons (`load(path)["comparisons"]`); shown where both groups of rows that they were
            made from are in the table, in that recipe alone.
        markdown: False gives aligned plain text for a terminal, without the columns Input, kB and MACs.

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
            columns = [column for column in zip(*lines, strict=True) if column[0] not in ("Input", "kB", "MACs")]
            widths = [max(map(len, column)) for column in columns]
            pairs = [list(zip(line, widths, strict=True)) for line in zip(*columns, strict=True)]
            block = [heading, *("  ".join(text.ljust(width) for text, width in pair).rstrip() for pair in pairs)]
        notes = [
            _sentence(comparison)
            for comparison in comparisons
            if stands_on(comparison, rows)
            and all(comparison["a"][key] == groups[0][key] for key in ("dataset", "crop", "scale", "test_size"))
        ]
        for count in sorted({group["drawn"] for group in groups} - {0}):
            names = dict.fromkeys(f"{group['model']} {group['method']}" for group in groups if group["drawn"] == count)
            notes.append(f"among the training images were {count:,} drawn signs: {', '.join(names)}")
        notes = [("- " if markdown else "  ") + note for note in notes]
        blocks.append("\n".join(block + ([""] if markdown and notes else []) + notes))
    return "\n\n".join(blocks) or "No test results yet."


def side_by_side(wanted, path, *, dataset, scale, weights=None):
    """Set this run's results beside the committed ones, on GTSRB at full scale: whole images, not refitted.

    Args:
        wanted: list of (model, method, teacher's name or None), a line for each.
        path: results file of this run.
        dataset, scale: names in its rows.
        weights: what a pretrained backbone started from in this run: rows of others are left out.

    Returns:
        The text: accuracy, its 95 % interval, and mean errors ± standard deviation over seeds; "-" where there is none.
    """
    columns = []
    for place, *named in ((path, dataset, scale), (REPOSITORY / "figures" / "results.json", "gtsrb", "full")):
        rows = [
            row
            for row in load(place)["rows"]
            if [row["dataset"], row["scale"]] == named and not row["crop"] and not row["refit"]
            if place != path or row["weights"] in (None, weights)
        ]
        columns.append(
            {tuple(group[key] for key in ("model", "method", "teacher")): group for group in summarise(rows)}
        )

    def text(group):
        if group is None:
            return "-"
        low, high = group["interval"]
        errors = f"{group['errors']:.1f} ± {group['errors_sd']:.1f}" if group["seeds"] > 1 else f"{group['errors']:.0f}"
        return f"{group['accuracy']:.2%} ({100 * low:.2f} to {100 * high:.2f}), {errors}"

    lines = [f"{'test accuracy (95 % interval), errors':40}{'yours':40}ours (GTSRB, full)"]
    for model, method, teacher in wanted:
        name = f"{model} {method}" + (f" from {teacher}" if teacher else "")
        cells = [text(column.get((model, method, teacher))) for column in columns]
        lines.append(f"{name:40}{cells[0]:40}{cells[1]}")
    return "\n".join(lines)


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
    document = load(results_path)
    _put_between(readme_path, BEGIN, END, table(document["rows"], document["comparisons"]))


def render_bench(readme_path, bench_path):
    """Replace what stands between the markers of a README by the benchmarks that compare or sum up, and fill in the
    minutes of its notebook table.

    Args:
        readme_path: a Markdown file that holds the lines `BENCH_BEGIN` and `BENCH_END` once each, in this order. A line
            that starts with "| 03 |" is that of a notebook: its last cells are those of smoke, laptop and full.
        bench_path: the file that `append_bench` wrote; must exist. Latencies and sizes of single networks stay there.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the markers are missing, repeated or in the wrong order; the file is left as it was.
    """
    rows = [row for row in json.loads(Path(bench_path).read_text(encoding="utf-8"))["rows"] if _sums_up(row)]
    lines = ["| measured | | |", "|---|--:|---|"]
    for row in rows:
        value = row.get("ratio", row.get("value"))
        lines.append(f"| {row['name']} | {value:,.{0 if value >= 100 else 2}f} | {row['unit']} |")
    devices = sorted({row["device"] for row in rows})
    _put_between(readme_path, BENCH_BEGIN, BENCH_END, "\n".join([*lines, "", f"On {', '.join(devices)}."]))
    seconds = notebook_seconds(bench_path)
    lines = Path(readme_path).read_text(encoding="utf-8").split("\n")
    for place, line in enumerate(lines):
        if re.match(r"\| \d\d \|", line):
            found = [seconds.get((line[2:4], scale)) for scale in ("smoke", "laptop", "full")]
            cells = ["" if value is None else _minutes(value) for value in found]
            lines[place] = "|".join([*line.split("|")[:4], *(f" {cell} " for cell in cells), ""])
    with writing(readme_path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def _minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"


def _sums_up(row):
    alone = row["unit"] == "kB" or ", batch " in row["name"] or row["name"].startswith("notebook ")
    return "ratio" in row or not alone


def _put_between(path, begin, end, text):
    readme = Path(path).read_text(encoding="utf-8")
    if readme.count(begin) != 1 or readme.count(end) != 1 or readme.index(begin) > readme.index(end):
        raise ValueError(f"{path} must hold the line {begin} once and then the line {end} once; add them")
    head, tail = readme.split(begin)[0], readme.split(end)[1]
    with writing(path) as temporary:
        temporary.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
