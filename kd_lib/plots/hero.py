"""The figure of the README: test errors against parameters, ours beside the published ones."""

import matplotlib as mpl
import numpy as np
from matplotlib.transforms import Bbox

from kd_lib.plots.style import PALETTE, finish, new_axes
from kd_lib.results import PUBLISHED, summarise


def _count(number):
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def _kind(group):
    if not group["model"].startswith("student"):
        return "teacher"
    return "plain" if group["method"] == "plain" else "distilled"


def _plain_twin(group, groups):
    """The plain network that a distilled one is to be compared with, or None."""
    keys = ("model", "image_size", "scale", "refit")
    twins = [other for other in groups if _kind(other) == "plain" and all(other[key] == group[key] for key in keys)]
    return twins[0] if twins and _kind(group) == "distilled" else None


def _hero_title(groups, person):
    """The finding, from the data: the smallest distilled network, the same network alone, and a person."""
    distilled = [group for group in groups if _kind(group) == "distilled"]
    if not distilled:
        return "Test errors against size"
    # Chosen by size, method and teacher, never by its test errors.
    smallest = min(
        distilled,
        key=lambda group: (group["params"], group["method"] != "kd", group["teacher"] != "teacher", not group["refit"]),
    )
    twin = _plain_twin(smallest, groups)
    text = f"{_count(smallest['params'])} parameters: "
    text += f"{twin['errors']:.0f} errors alone, " if twin else ""
    text += f"{smallest['errors']:.0f} {'' if twin else 'errors '}distilled"
    return text + (f"; a person {person * smallest['test_size']:.0f}" if person else "")


def _side_by_side(groups):
    """Where each group stands on the axis of parameters: its number, moved a little where several networks share it."""
    sizes = [group["params"] for group in groups]
    steps = [sizes[:place].count(size) - (sizes.count(size) - 1) / 2 for place, size in enumerate(sizes)]
    return [size * 1.15**step for size, step in zip(sizes, steps, strict=True)]


def _place_labels(axes, labels, taken, lines):
    """Write labels beside their points where they cover least: of each other, of dots, of level lines, of the rim.

    `taken` are the dots (data points), `lines` the heights of the lines in data.
    """
    axes.figure.draw_without_rendering()
    inside = axes.get_window_extent()
    boxes = [Bbox.from_extents(*(axes.transData.transform(point) - 8), *(axes.transData.transform(point) + 8))
             for point in taken]  # fmt: skip
    for height in (axes.transData.transform((1, value))[1] for value in lines):
        boxes.append(Bbox.from_extents(inside.x0, height - 2, inside.x1, height + 2))
    sides = [("left", "center", 9, 0), ("right", "center", -9, 0), ("center", "bottom", 0, 9), ("center", "top", 0, -9),
             ("left", "bottom", 6, 6), ("left", "top", 6, -6), ("right", "bottom", -6, 6), ("right", "top", -6, -6),
             ("center", "bottom", 0, 22), ("center", "top", 0, -22)]  # fmt: skip
    for text, point, style in labels:
        best = None
        for order, (horizontal, vertical, x, y) in enumerate(sides):
            note = axes.annotate(text, point, (x, y), textcoords="offset points", ha=horizontal, va=vertical, **style)
            box = note.get_window_extent()
            cost = order + box.width * box.height
            for other, sign in [(inside, -1)] + [(box_taken, 1) for box_taken in boxes]:
                shared = Bbox.intersection(box, other)
                cost += sign * (shared.width * shared.height if shared else 0)
            if best is None or cost < best[0]:
                if best:
                    best[1].remove()
                best = (cost, note, box)
            else:
                note.remove()
        boxes.append(best[2])


def errors_vs_params(rows, *, published=PUBLISHED, title=None, axes=None):
    """Test errors against parameters, both logarithmic: our networks in colour, published ones in grey.

    A large dot is the mean over seeds, its whisker runs from the best seed to the worst. Networks of one size stand
    side by side, the middle of them at their number of parameters.

    Args:
        rows: results rows of one dataset and test set; those without a test are left out.
        published: marks as `results.PUBLISHED`, () for none (they are of GTSRB).
        title: the finding; None computes it from the rows.
        axes: None for a new figure.

    Returns:
        Axes

    Raises:
        ValueError: no tested row, or rows of several test sets.
    """
    groups = [group for group in summarise(rows) if group["params"]]
    tests = {(group["dataset"], group["crop"], group["test_size"]) for group in groups}
    if len(tests) != 1:
        raise ValueError(f"need tested rows of exactly one dataset, crop and test set; got {sorted(tests)}")
    size = groups[0]["test_size"]
    axes = new_axes(axes, 8.6, 5.4)
    axes.set(xscale="log", yscale="log")
    person, labels, taken, kinds = None, [], [], set()
    groups.sort(key=lambda group: (group["params"], _kind(group) == "distilled", group["errors"]))
    placed = list(zip(groups, _side_by_side(groups), strict=True))
    for group, place in placed:
        kind, errors = _kind(group), 100 * np.array(group["errors_by_seed"]) / size
        mean = errors.mean()
        dot = {"color": PALETTE[kind], "ms": 10, "mec": "white", "zorder": 3}
        axes.plot(place, mean, "o", label=None if kind in kinds else kind, **dot)
        if len(errors) > 1:
            whisker = [[mean - errors.min()], [errors.max() - mean]]
            axes.errorbar(place, mean, whisker, capsize=4, lw=1.4, color=PALETTE[kind])
        kinds.add(kind)
        taken += [(place, value) for value in (mean, *np.geomspace(errors.min(), errors.max(), 7))]
        if len([other for other in groups if _kind(other) == "distilled"]) > 1 and kind == "distilled":
            style = {"color": PALETTE["distilled"], "fontsize": 8.5}
            labels.append((f"from {group['teacher']}", (place, mean), style))
        if kind != "distilled":
            style = {"color": PALETTE["ink"], "fontsize": 9.5, "weight": "bold"}
            labels.append((group["model"], (place, mean), style))
    for number in {group["params"] for group in groups}:
        places = [place for group, place in placed if group["params"] == number]
        if len(places) > 1:
            axes.axvspan(min(places) / 1.1, max(places) * 1.1, color="#F0F0F0", lw=0, zorder=0)
            axes.annotate(f"all {number:,}", (np.sqrt(min(places) * max(places)), 1), (0, -4), ha="center", va="top",
                          xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8.5)  # fmt: skip
    for mark in published:
        share = 100 - mark.accuracy
        if mark.params is None:
            person = share / 100
            axes.axhline(share, color=PALETTE["grey"], ls="--", lw=1.2)
            axes.annotate(mark.name, (1, share), xycoords=("axes fraction", "data"), xytext=(-3, 4), ha="right",
                          textcoords="offset points", color="#5A5A5A", fontsize=9.5)  # fmt: skip
        else:
            axes.plot(
                mark.params, share, "o", color="#B5B5B5", ms=6, label=None if "published" in kinds else "published"
            )
            kinds.add("published")
            taken.append((mark.params, share))
            labels.append((mark.name, (mark.params, share), {"color": "#5A5A5A", "fontsize": 8.5}))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set(xlim=(left / 1.5, right * 1.5), ylim=(bottom / 1.1, top * 1.1))
    count = axes.secondary_yaxis(
        "right", functions=(lambda share: share * size / 100, lambda value: value * 100 / size)
    )
    count.set_ylabel(f"wrong answers of {size:,}")
    for axis in (axes.yaxis, count.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.4g}"))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: _count(value)))
    axes.legend(loc="lower left")
    finish(
        axes,
        title or _hero_title(groups, person),
        "parameters, log scale (networks of one size side by side)",
        "test errors (%), log scale",
    )
    _place_labels(axes, labels, taken, [100 * person] if person else [])
    return axes
