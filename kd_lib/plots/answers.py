"""Figures of what one network answered: its confusions, its confidence, its soft targets, its gradients."""

import matplotlib.pyplot as plt
import numpy as np

from kd_lib.plots.style import PALETTE, finish, headline, new_axes


def confusion(report, names, *, pairs=12, title=None, axes=None):
    """The most frequent confusions as bars, so that 43 classes stay legible.

    Args:
        report: a `Report`.
        names: K class names.
        pairs: at most this many pairs (true class, answer) are shown.
        title: the finding; None says which share of the errors these pairs hold.
        axes: None for a new figure.

    Returns:
        Axes
    """
    counts = np.array(report.confusion)
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    places = [place for place in np.argsort(-counts, axis=None, kind="stable")[:pairs] if counts.flat[place]]
    axes = new_axes(axes, 8.5, 1.3 + 0.33 * max(len(places), 3))
    labels, values = [], []
    for place in places:
        true, answer = np.unravel_index(place, counts.shape)
        labels.append(f"{names[true]} → {names[answer]}")
        values.append(counts[true, answer])
        axes.text(values[-1], len(labels) - 1, f"  {100 * values[-1] / totals[true]:.1f} %", va="center", fontsize=9)
    axes.barh(range(len(values)), values, color=PALETTE["wrong"], height=0.7)
    axes.set_yticks(range(len(labels)), labels, fontsize=10)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if title is None:
        title = f"{len(values)} kinds of confusion hold {sum(values)} of the {report.errors} errors"
    return finish(axes, title, "images (and share of the true class)", "true class → answer", grid="x")


def confidence_histogram(report, *, title=None, axes=None):
    """How sure the network was, where it was right and where it was wrong, on a logarithmic scale.

    Args:
        report: a `Report`.
        title: the finding; None gives the median confidence of both.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = new_axes(axes, 7, 4)
    right, confidence = report.right, 100 * report.confidence
    groups = [(name, confidence[mask]) for name, mask in (("right", right), ("wrong", ~right)) if mask.any()]
    for name, values in groups:
        line, face = (PALETTE["wrong"], PALETTE["wrong"] + "55") if name == "wrong" else ("#9DB7C9", "#C6D6E1")
        axes.hist(values, bins=np.linspace(0, 100, 26), histtype="stepfilled", edgecolor=line, facecolor=face, lw=2,
                  label=f"{name} ({len(values):,})")  # fmt: skip
    axes.set_yscale("log")
    axes.set(xlim=(0, 100), ylim=(0.7, None))
    axes.legend(loc="upper left")
    if title is None:
        title = "Median confidence: " + ", ".join(f"{np.median(values):.1f} % where {name}" for name, values in groups)
    return finish(axes, title, "confidence in the answer (%)", "images, log scale", grid="y")


def reliability(report, *, title=None, axes=None):
    """Accuracy against confidence; on the diagonal the network is as often right as it says. Area: number of images.

    Hollow dots stand for fewer than 20 images, which luck moves; the line joins the others.

    Args:
        report: a `Report`.
        title: the finding; None gives the expected calibration error and its direction.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = new_axes(axes, 5.4, 5)
    bins = report.calibration()
    axes.plot([0, 100], [0, 100], color=PALETTE["grey"], ls="--", lw=1.2)
    axes.text(28, 31, "as often right as it says", rotation=45, rotation_mode="anchor", ha="center", fontsize=9,
              transform_rotates_text=True, color=PALETTE["grey"])  # fmt: skip
    area = 25 + 500 * bins["count"] / bins["count"].max()
    confidence, accuracy, many = 100 * bins["confidence"], 100 * bins["accuracy"], bins["count"] >= 20
    axes.plot(confidence[many], accuracy[many], color=PALETTE["teacher"], lw=1.2)
    axes.scatter(confidence[many], accuracy[many], s=area[many], color=PALETTE["teacher"], alpha=0.75, clip_on=False)
    axes.scatter(confidence[~many], accuracy[~many], s=area[~many], facecolors="none", edgecolors=PALETTE["teacher"])
    axes.set(xlim=(-2, 104), ylim=(-2, 104))
    if title is None:
        surplus = report.confidence.mean() - report.accuracy
        word = "Calibrated" if report.ece < 0.005 else "Too sure" if surplus > 0 else "Too modest"
        title = f"{word}: calibration error {100 * report.ece:.1f} points"
    return finish(axes, title, "confidence (%)", "right answers (%)")


def soft_targets(logits, names, *, temperatures=(1, 4, 20), top=6, label=None, title=None):
    """One image's probabilities at several temperatures, side by side: bars of its most probable classes.

    Args:
        logits: float [K].
        names: K class names.
        temperatures: positive numbers.
        top: number of classes shown, from the most probable.
        label: None or the true class, drawn in the teacher's colour.
        title: the finding.

    Returns:
        array [len(temperatures)] of Axes.
    """
    logits = np.asarray(logits, np.float64)
    order = np.argsort(-logits, kind="stable")[:top]
    width = 2.2 * len(temperatures) + 2.4
    figure, axes = plt.subplots(1, len(temperatures), figsize=(width, 1.5 + 0.34 * top), sharey=True, squeeze=False)
    for panel, temperature in zip(axes[0], temperatures, strict=True):
        scaled = np.exp((logits - logits.max()) / temperature)
        values = 100 * scaled[order] / scaled.sum()
        colors = [PALETTE["teacher"] if place == label else PALETTE["light"] for place in order]
        panel.barh(range(len(order)), values, color=colors, height=0.7)
        for place, value in enumerate(values):
            text = f"{value:.1f}" if value >= 0.05 else f"{value:.1g}"
            inside = value > 70
            panel.text(value - 3 if inside else value + 3, place, text, va="center", fontsize=8.5,
                       ha="right" if inside else "left", color="white" if inside else PALETTE["ink"])  # fmt: skip
        panel.set(xlim=(0, 108), xticks=(0, 50, 100))
        panel.set_yticks(range(len(order)), [names[place] for place in order])
        finish(panel, f"T = {temperature:g}", "probability (%)", "", grid="x")
    axes[0, 0].invert_yaxis()
    headline(figure, title)
    return axes[0]


def gradient_arrows(label_gradient, teacher_gradient, names, *, top=8, title=None, axes=None):
    """What each source of learning asks of one image's logits: an arrow to the right raises a class's logit.

    Args:
        label_gradient: float [K], gradient of the label loss by the student's logits; arrows show its negative.
        teacher_gradient: float [K], the same for the distillation loss.
        names: K class names.
        top: the classes with the longest arrows are shown.
        title: the finding.
        axes: None for a new figure.

    Returns:
        Axes
    """
    steps = -np.stack([label_gradient, teacher_gradient]).astype(np.float64)
    chosen = np.argsort(-np.abs(steps).max(axis=0), kind="stable")[:top]
    chosen = chosen[np.argsort(-steps[1, chosen], kind="stable")]
    reach = 1.12 * np.abs(steps[:, chosen]).max()
    axes = new_axes(axes, 8, 1.5 + 0.5 * len(chosen))
    for step, color, shift, name in zip(
        steps, (PALETTE["plain"], PALETTE["teacher"]), (-0.17, 0.17), ("label", "teacher"), strict=True
    ):
        for place, value in enumerate(step[chosen]):
            shape = "-|>" if abs(value) > 0.04 * reach else "-"  # a head longer than its arrow would point backwards
            arrow = {"arrowstyle": shape, "color": color, "lw": 2.4, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 13}
            axes.annotate("", (value, place + shift), (0, place + shift), arrowprops=arrow)
        axes.plot([], [], color=color, lw=2.4, label=f"the {name} asks")
    axes.set(xlim=(-reach, reach), ylim=(len(chosen) - 0.4, -0.6))
    axes.axvline(0, color=PALETTE["ink"], lw=1)
    axes.set_yticks(range(len(chosen)), [names[place] for place in chosen])
    axes.legend(loc="lower right")
    return finish(axes, title, "change asked of the logit (minus the gradient)", "", grid="x")
