"""Figures that set networks or settings side by side."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from kd_lib.plots.style import PALETTE, colors_for, finish, new_axes


def learning_curves(histories, metric="accuracy", *, title=None, axes=None):
    """A metric over epochs: validation as a solid line, training as a thin dotted one.

    Args:
        histories: {name: {metric: [values per epoch], "val_" + metric: [...]}}; either list may be absent.
        metric: "accuracy" (drawn in percent), "loss" or another key.
        title: the finding.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = new_axes(axes, 7, 4)
    percent = "accuracy" in metric
    for (name, history), color in zip(histories.items(), colors_for(histories), strict=True):
        for key, style in ((f"val_{metric}", {"lw": 2.2}), (metric, {"ls": ":", "lw": 1.4})):
            values = np.asarray(history.get(key, [])) * (100 if percent else 1)
            label = name if key.startswith("val_") or f"val_{metric}" not in history else None
            if len(values):
                axes.plot(np.arange(1, len(values) + 1), values, color=color, label=label, **style)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(title="solid: validation, dotted: training", title_fontsize=9, alignment="left")
    return finish(axes, title, "epoch", f"{metric.replace('_', ' ')}{' (%)' if percent else ''}")


def sweep(alphas, temperatures, values, *, label="validation errors (%)", best="lowest", title=None, axes=None):
    """A grid of results over alpha and temperature; the best cell is framed.

    Args:
        alphas: A numbers, one per row.
        temperatures: B numbers, one per column.
        values: float [A, B]; nan for a cell that was not run.
        label: name and unit of the values.
        best: "lowest" or "highest".
        title: the finding; None names the best cell.
        axes: None for a new figure.

    Returns:
        Axes
    """
    values = np.asarray(values, np.float64)
    axes = new_axes(axes, 2.6 + 0.95 * len(temperatures), 1.7 + 0.52 * len(alphas))
    place = np.nanargmin(values) if best == "lowest" else np.nanargmax(values)
    row, column = np.unravel_index(place, values.shape)
    names = [[f"{number:g}" for number in numbers] for numbers in (temperatures, alphas)]
    sns.heatmap(
        values, annot=True, fmt=".2f", cmap="cividis_r" if best == "lowest" else "cividis", ax=axes, linewidths=1.5,
        xticklabels=names[0], yticklabels=names[1], cbar_kws={"label": label},
    )  # fmt: skip
    axes.add_patch(plt.Rectangle((column, row), 1, 1, fill=False, lw=3, ec=PALETTE["wrong"], clip_on=False))
    axes.tick_params(axis="y", rotation=0)
    if title is None:
        title = f"Best: α = {names[1][row]}, T = {names[0][column]} ({values[row, column]:.2f})"
    return finish(axes, title, "temperature T", "weight of the labels, α", grid=None)


def compare_bars(values, *, label="test accuracy (%)", from_zero=True, title=None, axes=None):
    """Horizontal bars with whiskers, e.g. the reader, plain, distilled and teacher.

    Args:
        values: {name: number} or {name: (number, low, high)}, drawn from top to bottom.
        label: name and unit of the values.
        from_zero: False draws dots on an axis cut to the values, where bars would mislead.
        title: the finding.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = new_axes(axes, 7, 1.3 + 0.5 * len(values))
    for place, (entry, color) in enumerate(zip(values.values(), colors_for(values), strict=True)):
        value, low, high = entry if np.ndim(entry) else (entry, entry, entry)
        if from_zero:
            axes.barh(place, value, color=color, height=0.65)
        whisker = [[value - low], [high - value]] if high > low else None
        ink, dot = (PALETTE["ink"], "none") if from_zero else (color, "o")
        axes.errorbar(value, place, xerr=whisker, color=ink, fmt=dot, ms=10, capsize=4, lw=1.6, ecolor=ink)
        axes.annotate(f"{value:.4g}", (high, place), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.margins(x=0.12 if from_zero else 0.25)
    return finish(axes, title, label, "", grid="x")


def agreement_bars(reports, *, title=None, axes=None):
    """How often each network gives the teacher's answer; whiskers run from the lowest seed to the highest.

    Args:
        reports: {name: Report or list of Reports, one per seed}, evaluated with teacher=.
        title: the finding.
        axes: None for a new figure.

    Returns:
        Axes

    Raises:
        ValueError: a report has no teacher.
    """
    values = {}
    for name, group in reports.items():
        shares = [report.agreement for report in (group if isinstance(group, (list, tuple)) else [group])]
        if None in shares:
            raise ValueError(f"the report of {name!r} has no agreement; call evaluate(..., teacher=...)")
        values[name] = tuple(100 * number for number in (np.mean(shares), min(shares), max(shares)))
    return compare_bars(values, label="same answer as the teacher (%)", from_zero=False, title=title, axes=axes)


def per_class_difference(reports_a, reports_b, names, *, labels=("distilled", "plain"), top=15, title=None, axes=None):
    """Recall of a minus recall of b, for the classes where they differ most.

    Args:
        reports_a: a `Report` or a list, one per seed (their mean is taken).
        reports_b: likewise.
        names: K class names.
        labels: names of a and b, which also choose the colours.
        top: at most this many classes.
        title: the finding; None counts the classes that gain and lose.
        axes: None for a new figure.

    Returns:
        Axes
    """
    recalls = [
        np.mean([report.per_class for report in (group if isinstance(group, (list, tuple)) else [group])], axis=0)
        for group in (reports_a, reports_b)
    ]
    difference = np.nan_to_num(100 * (recalls[0] - recalls[1]))
    chosen = np.argsort(-np.abs(difference), kind="stable")[:top]
    chosen = chosen[np.argsort(-difference[chosen], kind="stable")]
    chosen = chosen[difference[chosen] != 0]
    axes = new_axes(axes, 8, 1.4 + 0.29 * max(len(chosen), 3))
    colors = colors_for(labels)
    axes.barh(
        range(len(chosen)), difference[chosen], height=0.7, color=[colors[int(v < 0)] for v in difference[chosen]]
    )
    axes.axvline(0, color=PALETTE["ink"], lw=1)
    axes.set_yticks(range(len(chosen)), [names[place] for place in chosen])
    axes.invert_yaxis()
    if title is None:
        gains, losses = (difference > 0).sum(), (difference < 0).sum()
        title = f"{labels[0].capitalize()} beats {labels[1]} in {gains} classes and loses in {losses}"
    return finish(axes, title, f"recall: {labels[0]} minus {labels[1]} (points)", "", grid="x")
