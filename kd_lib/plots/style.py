"""One look for all figures: colours, titles, sizes, and how a figure is written."""

import io
import sys
import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from kd_lib.files import writing

PALETTE = {
    "teacher": "#0072B2", "plain": "#D55E00", "distilled": "#009E73", "reader": "#CC79A7", "wrong": "#882255",
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
    figure_of(axes).savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path


def figure_of(axes):
    return np.ravel(axes)[0].figure


def new_axes(axes, width, height):
    return plt.subplots(figsize=(width, height))[1] if axes is None else axes


def wrap(text, inches):
    """Wrap a title to a width; bold 12.5 points run to about 10.5 characters an inch."""
    return textwrap.fill(text or "", max(20, int(10.5 * inches)), break_on_hyphens=False)


def headline(figure, title):
    """Put the finding above all panels of a figure, as a single plot's title looks; None or "" does nothing."""
    if title:
        figure.suptitle(wrap(title, figure.get_figwidth()), x=0.01, ha="left", weight="bold", fontsize=12.5)


def finish(axes, title, x, y, grid="both"):
    """Label the Axes and set the grid."""
    place = axes.get_subplotspec()
    share = place.get_position(axes.figure).width / 0.775 if place else 1  # 0.775: a lone plot's share of its figure
    axes.set_title(wrap(title, share * axes.figure.get_figwidth()))
    axes.set(xlabel=x, ylabel=y)
    axes.grid(False)
    if grid:
        axes.grid(True, axis=grid)
    return axes


def page(title, width, height):
    """Return empty Axes of width x height units, ten to the inch, with a title: a page to draw on."""
    figure, axes = plt.subplots(figsize=(width / 10, height / 10))
    figure.set_layout_engine("none")
    axes.set_position((0.01, 0.01, 0.98, 0.98))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.text(1, height - 3, title, fontsize=16, weight="bold", va="center")
    return axes


def box(axes, x, y, width, height, text, color, size=11):
    """A rounded box with text in its middle; `size` in points."""
    style = {"boxstyle": "round,pad=0.3,rounding_size=1", "facecolor": color + "22", "edgecolor": color, "lw": 1.6}
    axes.add_patch(mpl.patches.FancyBboxPatch((x, y), width, height, **style))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, linespacing=1.35)


def arrow(axes, start, end, color=PALETTE["ink"]):
    """An arrow between two places of the Axes."""
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    )
