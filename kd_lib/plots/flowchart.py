"""What to do when distillation does not help: seven questions on one page."""

from kd_lib.plots.style import PALETTE, arrow, box, page

_QUESTIONS = (
    (
        "Did the plain student have the same start,\nviews, epochs and tuning?",
        "Make the control fair.\nNever start from trained weights.",
    ),
    (
        "Is the difference larger than the luck of a seed?",
        "Three seeds or more, compared in pairs\non the same images.",
    ),
    (
        "Does the loss stay the same when a constant\nis added to the teacher's logits?",
        "Softmax in both, T² before it,\na sum over classes.",
    ),
    ("Is the teacher the same after training?", "Outside the tape, training=False,\nits variables not in the update."),
    ("Is the teacher better than the student,\non validation?", "Train the teacher first,\nor take several."),
    (
        "Does the student see the very views\nthat the teacher answered?",
        "Answers belong to a view:\ncache them by view, or ask each time.",
    ),
    (
        "Were T and α tried on validation,\nand with enough epochs?",
        "T from 2 to 10, α from 0 to 0.5;\nthen more epochs and more views.",
    ),
)
_END = (
    "Then stop, and say so. The student may be too weak to follow,\n"
    "the teacher too similar, or there are so many labels that they say it all."
)


def flowchart():
    """Draw the questions to ask when distillation does not help, with a remedy for each.

    Returns:
        Axes
    """
    axes = page("It does not help: what now?", 95, 102)
    for line, (question, remedy) in enumerate(_QUESTIONS):
        bottom = 85 - 12 * line
        box(axes, 3, bottom, 42, 8, question, PALETTE["teacher"], 10.5)
        box(axes, 57, bottom, 35, 8, remedy, PALETTE["grey"], 10)
        arrow(axes, (46, bottom + 4), (56, bottom + 4))
        axes.text(51, bottom + 5.2, "no", ha="center", fontsize=10)
        arrow(axes, (24, bottom - 0.7), (24, bottom - 3.2))
        axes.text(25.5, bottom - 2, "yes", va="center", fontsize=10)
    box(axes, 3, 1.5, 60, 7, _END, PALETTE["distilled"], 10.5)
    return axes
