"""Figures that show a data set: its images and how many there are."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from kd_lib.plots.style import PALETTE, finish, headline, new_axes


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
    headline(figure, title)
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
    axes = new_axes(axes, 0.95 * len(chosen), 1.75)
    side, gap = images.shape[2], max(1, images.shape[2] // 16)
    strip = np.full((images.shape[1], len(chosen) * (side + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(chosen):
        strip[:, place * (side + gap) : place * (side + gap) + side] = images[frame]
    axes.imshow(strip, interpolation="nearest")
    axes.set_xticks([place * (side + gap) + side / 2 - 0.5 for place in range(len(chosen))], chosen)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return finish(axes, title, "frame of the track", "", grid=None)


def class_counts(labels, names, *, title=None, axes=None):
    """Images per class, sorted; where they differ, the three largest and three smallest classes are named.

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
    axes = new_axes(axes, 9.5, 4)
    level = counts.max() == counts.min()
    ends = {} if level else {"Most images": order[:3], "Fewest": order[3:][-3:]}
    named = np.isin(order, [place for places in ends.values() for place in places])
    axes.bar(range(len(names)), counts[order], color=np.where(named, PALETTE["ink"], "#BFC9D1"), width=0.8)
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
    return finish(axes, title, "class number", "images", grid="y")
