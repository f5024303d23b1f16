"""The course's figures: functions that draw on matplotlib Axes and return them, in one style.

Each teacher, plain and distilled network keeps one colour everywhere (`PALETTE`, Okabe and Ito's colours, told apart
with colour-blindness too). Every `title=` is the finding, in words; it is wrapped to the figure. Functions with
`axes=` draw into given Axes, or into a new figure. Reports and rows are read, never computed: no TensorFlow here.
"""

import io
import os
import sys
import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.transforms import Bbox
from PIL import Image

from kd_lib.results import PUBLISHED, summarise

PALETTE = {
    "teacher": "#0072B2", "plain": "#D55E00", "distilled": "#009E73", "reader": "#CC79A7", "wrong": "#E69F00",
    "light": "#56B4E9", "grey": "#8C8C8C", "ink": "#222222",
}  # fmt: skip
_SPARE = [PALETTE[name] for name in ("light", "reader", "wrong", "grey")]


def use_style():
    """Set matplotlib's defaults for every figure that follows; a notebook then also stores them in fewer bytes."""
    mpl.rcParams.update(
        {
            "figure.dpi": 100, "savefig.dpi": 110, "figure.constrained_layout.use": True, "font.size": 11,
            "font.family": "DejaVu Sans", "axes.titlesize": 12.5, "axes.titleweight": "bold",
            "axes.titlelocation": "left", "axes.titlepad": 10, "axes.labelsize": 11, "axes.spines.top": False,
            "axes.spines.right": False, "axes.edgecolor": PALETTE["grey"], "axes.labelcolor": PALETTE["ink"],
            "xtick.color": PALETTE["ink"], "ytick.color": PALETTE["ink"], "text.color": PALETTE["ink"],
            "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.8,
            "legend.frameon": False, "lines.linewidth": 2, "image.interpolation": "nearest",
            "axes.prop_cycle": mpl.cycler(color=[PALETTE["teacher"], PALETTE["plain"], PALETTE["distilled"], *_SPARE]),
        }
    )  # fmt: skip
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        plt.switch_backend(mpl.get_backend())  # loads the notebook's backend, which would replace our way of showing
        shell.display_formatter.formatters["image/png"].for_type(mpl.figure.Figure, _light_png)


def _light_png(figure):
    """PNG of 256 colours, chosen for the figure: the difference is hardly seen, and notebooks stay small."""
    full, light = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi="figure", bbox_inches="tight", facecolor="white")
    colours = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    colours.save(light, "png", optimize=True)
    return light.getvalue()


def colors_for(names):
    """The colour of each name: its own if it contains "teacher", "plain", "distilled" or "reader", else a spare one.

    Args:
        names: texts, in the order of drawing.

    Returns:
        list of colours, as many as names.
    """
    spare = iter(_SPARE * len(list(names)))
    fixed = ("teacher", "plain", "distilled", "reader")
    return [next((PALETTE[key] for key in fixed if key in name.lower()), None) or next(spare) for name in names]


def save(axes, path):
    """Write the figure of the Axes as PNG; the same figure gives the same bytes.

    Args:
        axes: Axes or an array of Axes.
        path: ends in .png; its folder is created.

    Returns:
        Path
    """
    path, buffer = Path(path), io.BytesIO()
    path.parent.mkdir(parents=True, exist_ok=True)
    _figure(axes).savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)
    return path


def _figure(axes):
    return np.ravel(axes)[0].figure


def _new(axes, width, height):
    return plt.subplots(figsize=(width, height))[1] if axes is None else axes


def _wrap(text, inches):
    """Wrap a title to a width; bold 12.5 points run to about 10.5 characters an inch."""
    return textwrap.fill(text or "", max(20, int(10.5 * inches)), break_on_hyphens=False)


def _suptitle(figure, title):
    if title:
        figure.suptitle(_wrap(title, figure.get_figwidth()), x=0.01, ha="left", weight="bold", fontsize=12.5)


def _finish(axes, title, x, y, grid="both"):
    """Label the Axes and set the grid."""
    place = axes.get_subplotspec()
    share = place.get_position(axes.figure).width / 0.775 if place else 1  # 0.775: a lone plot's share of its figure
    axes.set_title(_wrap(title, share * axes.figure.get_figwidth()))
    axes.set(xlabel=x, ylabel=y)
    axes.grid(False)
    if grid:
        axes.grid(True, axis=grid)
    return axes


def gallery(images, titles=None, *, columns=None, title=None, colors=None, size=1.15):
    """Images in a grid, each pixel a sharp square.

    Args:
        images: uint8 [n, h, w, 3 or 4] or a list of such images of any sizes, n >= 1.
        titles: None, or one text per image; wrapped below it.
        columns: images per row; None chooses a wide grid.
        title: the finding, above all.
        colors: None, or a colour per image for its title, e.g. PALETTE["wrong"].
        size: inches per image.

    Returns:
        array [rows, columns] of Axes.
    """
    count = len(images)
    columns = min(count, columns or max(4, int(np.ceil(np.sqrt(count * 2)))))
    rows = int(np.ceil(count / columns))
    captions = [textwrap.fill(str(text), max(8, int(size * 14))) for text in (titles if titles is not None else [])]
    tall = size + 0.05 + 0.15 * max([text.count("\n") + 1 for text in captions], default=0)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * (size + 0.05), rows * tall), squeeze=False)
    for place, panel in enumerate(axes.flat):
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
        if place < count:
            panel.imshow(np.asarray(images[place]).squeeze(), cmap="gray", interpolation="nearest")
        else:
            panel.axis("off")
        if place < len(captions):
            color = PALETTE["ink"] if colors is None else colors[place]
            panel.set_xlabel(captions[place], fontsize=8, color=color, linespacing=1.05, labelpad=2)
    _suptitle(figure, title)
    return axes


def film_strip(images, *, frames=10, title=None, axes=None):
    """Views of one sign side by side, evenly taken from a track.

    Args:
        images: uint8 [n, h, w, 3], the track in order.
        frames: at most this many are shown.
        title: the finding.
        axes: None for a new figure.

    Returns:
        Axes
    """
    images = np.asarray(images)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(frames, len(images))).round().astype(int))
    axes = _new(axes, 0.95 * len(chosen), 1.75)
    side, gap = images.shape[2], max(1, images.shape[2] // 16)
    strip = np.full((images.shape[1], len(chosen) * (side + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(chosen):
        strip[:, place * (side + gap) : place * (side + gap) + side] = images[frame]
    axes.imshow(strip, interpolation="nearest")
    axes.set_xticks([place * (side + gap) + side / 2 - 0.5 for place in range(len(chosen))], chosen)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _finish(axes, title, "frame of the track", "", grid=None)


def class_counts(labels, names, *, title=None, axes=None):
    """Images per class, sorted; the three largest and three smallest classes are named.

    Args:
        labels: int [n].
        names: K class names.
        title: the finding; None says how unequal the classes are.
        axes: None for a new figure.

    Returns:
        Axes
    """
    counts = np.bincount(labels, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    axes = _new(axes, 9.5, 4)
    ends = {"Most images": order[:3], "Fewest": order[3:][-3:]}
    named = np.isin(order, np.concatenate(list(ends.values())))
    axes.bar(range(len(names)), counts[order], color=np.where(named, PALETTE["teacher"], "#BFC9D1"), width=0.8)
    axes.set_xticks(range(len(names)), order, rotation=90 if len(names) > 15 else 0, fontsize=8)
    axes.set_xlim(-0.7, len(names) - 0.3)
    lines = [
        "\n".join([title, *(f"{counts[place]:,}  {names[place]} ({place})" for place in places)])
        for title, places in ends.items()
        if len(places)
    ]
    axes.text(0.99, 0.99, "\n\n".join(lines), transform=axes.transAxes, ha="right", va="top", fontsize=9.5,
              linespacing=1.3)  # fmt: skip
    if title is None:
        title = f"The largest class has {counts.max() / max(counts.min(), 1):.0f} times the images of the smallest"
    return _finish(axes, title, "class number", "images", grid="y")


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
    axes = _new(axes, 7, 4)
    percent = "accuracy" in metric
    for (name, history), color in zip(histories.items(), colors_for(histories), strict=True):
        for key, style in ((f"val_{metric}", {"lw": 2.2}), (metric, {"ls": ":", "lw": 1.4})):
            values = np.asarray(history.get(key, [])) * (100 if percent else 1)
            label = name if key.startswith("val_") or f"val_{metric}" not in history else None
            if len(values):
                axes.plot(np.arange(1, len(values) + 1), values, color=color, label=label, **style)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(title="solid: validation, dotted: training", title_fontsize=9, alignment="left")
    return _finish(axes, title, "epoch", f"{metric.replace('_', ' ')}{' (%)' if percent else ''}")


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
    axes = _new(axes, 8.5, 1.3 + 0.33 * max(len(places), 3))
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
    return _finish(axes, title, "images (and share of the true class)", "true class → answer", grid="x")


def confidence_histogram(report, *, title=None, axes=None):
    """How sure the network was, where it was right and where it was wrong, on a logarithmic scale.

    Args:
        report: a `Report`.
        title: the finding; None gives the median confidence of both.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = _new(axes, 7, 4)
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
    return _finish(axes, title, "confidence in the answer (%)", "images, log scale", grid="y")


def reliability(report, *, title=None, axes=None):
    """Accuracy against confidence; on the diagonal the network is as often right as it says. Area: number of images.

    Args:
        report: a `Report`.
        title: the finding; None gives the expected calibration error and its direction.
        axes: None for a new figure.

    Returns:
        Axes
    """
    axes = _new(axes, 5.4, 5)
    bins = report.calibration()
    axes.plot([0, 100], [0, 100], color=PALETTE["grey"], ls="--", lw=1.2)
    axes.text(52, 54, "as often right as it says", rotation=45, rotation_mode="anchor", ha="center", fontsize=9,
              transform_rotates_text=True, color=PALETTE["grey"])  # fmt: skip
    area = 25 + 500 * bins["count"] / bins["count"].max()
    axes.plot(100 * bins["confidence"], 100 * bins["accuracy"], color=PALETTE["teacher"], lw=1.2)
    axes.scatter(100 * bins["confidence"], 100 * bins["accuracy"], s=area, color=PALETTE["teacher"], alpha=0.75)
    axes.set(xlim=(-2, 104), ylim=(-2, 104))
    if title is None:
        word = "Too sure" if report.confidence.mean() > report.accuracy else "Too modest"
        title = f"{word}: calibration error {100 * report.ece:.1f} points"
    return _finish(axes, title, "confidence (%)", "right answers (%)")


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
        _finish(panel, f"T = {temperature:g}", "probability (%)", "", grid="x")
    axes[0, 0].invert_yaxis()
    _suptitle(figure, title)
    return axes[0]


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
    axes = _new(axes, 2.6 + 0.95 * len(temperatures), 1.7 + 0.52 * len(alphas))
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
    return _finish(axes, title, "temperature T", "weight of the labels, α", grid=None)


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
    # Chosen by size and method, never by its test errors.
    smallest = min(distilled, key=lambda group: (group["params"], group["method"] != "kd", not group["refit"]))
    text = f"With {_count(smallest['params'])} parameters the distilled student errs {smallest['errors']:.0f} times"
    twin = _plain_twin(smallest, groups)
    text += f", {twin['errors']:.0f} alone" if twin else ""
    return text + (f"; a person {person * smallest['test_size']:.0f}" if person else "")


def _place_labels(axes, labels, taken):
    """Write labels beside their points where they cover least: of each other, of `taken` (data points), of the rim."""
    axes.figure.draw_without_rendering()
    inside = axes.get_window_extent()
    boxes = [Bbox.from_extents(*(axes.transData.transform(point) - 8), *(axes.transData.transform(point) + 8))
             for point in taken]  # fmt: skip
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

    A large dot is the mean over seeds, its whisker runs from the best seed to the worst; a band joins a plain network
    to its distilled self.

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
    axes = _new(axes, 8.6, 5.4)
    axes.set(xscale="log", yscale="log")
    person, labels, taken, kinds = None, [], [], set()
    for group in groups:
        kind, errors = _kind(group), 100 * np.array(group["errors_by_seed"]) / size
        mean = errors.mean()
        axes.errorbar(
            group["params"], mean, [[mean - errors.min()], [errors.max() - mean]], fmt="o", ms=10, capsize=4, lw=1.4,
            color=PALETTE[kind], mec="white", label=None if kind in kinds else kind, zorder=3,
        )  # fmt: skip
        kinds.add(kind)
        taken += [(group["params"], value) for value in (mean, errors.min(), errors.max())]
        twin = _plain_twin(group, groups)
        if twin:
            ends = [100 * twin["errors"] / size, mean]
            axes.plot([group["params"]] * 2, ends, color=PALETTE["distilled"], lw=9, alpha=0.22, zorder=1)
        if kind != "distilled":
            style = {"color": PALETTE["ink"], "fontsize": 9.5, "weight": "bold"}
            labels.append((group["model"], (group["params"], mean), style))
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
    _finish(axes, title or _hero_title(groups, person), "parameters, log scale", "test errors (%), log scale")
    _place_labels(axes, labels, taken)
    return axes


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
    axes = _new(axes, 7, 1.3 + 0.5 * len(values))
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
    return _finish(axes, title, label, "", grid="x")


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
    axes = _new(axes, 8, 1.4 + 0.29 * max(len(chosen), 3))
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
    return _finish(axes, title, f"recall: {labels[0]} minus {labels[1]} (points)", "", grid="x")


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
    axes = _new(axes, 8, 1.5 + 0.5 * len(chosen))
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
    return _finish(axes, title, "change asked of the logit (minus the gradient)", "", grid="x")
