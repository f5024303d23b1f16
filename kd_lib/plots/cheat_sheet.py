"""The course on one page: who sees what, what is compared, the settings to start from, and what goes wrong."""

import matplotlib.pyplot as plt
import numpy as np

from kd_lib.plots.style import PALETTE, arrow, box, page

_START = (
    ("temperature T", "4 to 10", "it lifts the small shares"),
    ("weight of labels α", "0 to 0.1", "0 needs no labels, 1 is plain training"),
    ("views of an image", "4", "the same view to teacher and student"),
    ("seeds", "3", "or more; report all, with an interval"),
)
_CHECKS = (
    "logits out of both networks: no softmax layer",
    "T² before the divergence; a sum over classes, a mean over images",
    "the teacher outside the tape, in inference mode",
    "the same budget and tuning for the student alone",
    "choose on validation, split by physical sign",
)


def cheat_sheet():
    """Draw knowledge distillation on one page.

    Returns:
        Axes
    """
    axes = page("Knowledge distillation on one page", 110, 64)
    _networks(axes)
    _formulas(axes)
    _columns(axes)
    return axes


def _bars(axes, x, y, logits, temperature, color):
    shares = np.exp(np.array(logits) / temperature)
    for place, share in enumerate(8 * shares / shares.sum()):
        axes.add_patch(plt.Rectangle((x + 2.1 * place, y), 1.7, share, color=color, lw=0))
    axes.plot([x - 0.5, x + 10.5], [y, y], color=PALETTE["ink"], lw=1)


def _networks(axes):
    teacher, student, grey = PALETTE["teacher"], PALETTE["distilled"], PALETTE["grey"]
    box(axes, 2, 42, 12, 8, "one view\nof an image", grey)
    box(axes, 22, 48.5, 17, 7, "teacher\nbig, trained, fixed", teacher)
    box(axes, 22, 36.5, 17, 7, "student\nsmall, learns", student)
    for height in (52, 40):
        arrow(axes, (14.8, 46), (21.2, height))
    for height, color, logits, name in (
        (48.5, teacher, (5, 3, 1, 0, -1), "p"),
        (36.5, student, (3, 3.4, 1, 1, 0), "q"),
    ):
        arrow(axes, (39.8, height + 3.5), (45, height + 3.5))
        axes.text(47, height + 3.5, "z / T", fontsize=12, va="center")
        arrow(axes, (52, height + 3.5), (56, height + 3.5))
        _bars(axes, 57.5, height, logits, 3, color)
        axes.text(70, height + 3.5, f"{name} = softmax", fontsize=12, va="center")
    box(axes, 87, 42, 20, 8, "T² · KL(p ‖ q)\nmean over images", teacher, 12)
    box(axes, 87, 33, 20, 6.5, "cross-entropy with\nthe label, at T = 1", PALETTE["plain"], 11)
    for height in (52, 40):
        arrow(axes, (82.5, height), (86.2, 46 + (height - 46) / 4))
    axes.plot([30.5, 30.5], [35.7, 34.5], color=PALETTE["ink"], lw=1.6)
    arrow(axes, (30.5, 34.5), (86.2, 34.5))
    axes.text(70, 35.5, "the same logits z", fontsize=9.5, color="#5A5A5A", va="center")


def _formulas(axes):
    loss = "loss  =  α · cross-entropy(label, softmax z)  +  (1 − α) · T² · Σ p (log p − log q)"
    axes.text(55, 30.5, loss, fontsize=13.5, ha="center", va="center", weight="bold")
    gradient = "gradient at the student's logits:  α (softmax z − y)  +  (1 − α) T (q − p)      only the student moves"
    axes.text(55, 26.7, gradient, fontsize=11, ha="center", va="center")


def _columns(axes):
    axes.text(2, 22, "Start from", fontsize=12.5, weight="bold", va="center")
    for line, (name, value, note) in enumerate(_START):
        height = 18 - 4.2 * line
        axes.text(2, height, name, va="center")
        axes.text(21, height, value, va="center", weight="bold")
        axes.text(30.5, height, note, va="center", color="#5A5A5A", fontsize=9.5)
    axes.text(60, 22, "Check", fontsize=12.5, weight="bold", va="center")
    for line, text in enumerate(_CHECKS):
        axes.text(60, 18 - 3.7 * line, "☐  " + text, va="center", fontsize=10)
