"""The course's figures: functions that draw on matplotlib Axes and return them, in one style.

Each teacher, plain and distilled network keeps one colour everywhere (`PALETTE`, Okabe and Ito's colours, told apart
with colour-blindness too). Every `title=` is the finding, in words; it is wrapped to the figure. Functions with
`axes=` draw into given Axes, or into a new figure. Reports and rows are read, never computed: no TensorFlow here.
"""

from kd_lib.plots.answers import confidence_histogram, confusion, gradient_arrows, reliability, soft_targets
from kd_lib.plots.cheat_sheet import cheat_sheet
from kd_lib.plots.contrasts import agreement_bars, compare_bars, learning_curves, per_class_difference, sweep
from kd_lib.plots.flowchart import flowchart
from kd_lib.plots.hero import errors_vs_params
from kd_lib.plots.pictures import class_counts, film_strip, gallery
from kd_lib.plots.style import PALETTE, colors_for, headline, save, use_style

__all__ = [
    "PALETTE",
    "agreement_bars",
    "cheat_sheet",
    "class_counts",
    "colors_for",
    "compare_bars",
    "confidence_histogram",
    "confusion",
    "errors_vs_params",
    "film_strip",
    "flowchart",
    "gallery",
    "gradient_arrows",
    "headline",
    "learning_curves",
    "per_class_difference",
    "reliability",
    "save",
    "soft_targets",
    "sweep",
    "use_style",
]
