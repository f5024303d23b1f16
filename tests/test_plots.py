"""Tests of kd_lib.plots: every function returns labelled Axes that show the numbers they were given."""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from kd_lib import plots, results  # noqa: E402
from kd_lib.evaluation import Report  # noqa: E402
from kd_lib.plots.style import _light_png  # noqa: E402

CLASSES = 43
NAMES = [f"class number {place}" for place in range(CLASSES)]


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def make_report(seed=0, strength=3.0, teacher=True):
    generator = np.random.default_rng(seed)
    labels = np.arange(600) % CLASSES
    logits = generator.normal(size=(600, CLASSES)).astype(np.float32)
    logits[np.arange(600), labels] += strength
    return Report(logits, labels, np.arange(600), labels if teacher else None)


def make_rows():
    def row(model, method, seed, errors, params):
        return results.make_row(
            model=model, method=method, dataset="gtsrb", image_size=32, scale="full", seed=seed, epochs=1,
            params=params, bytes=4 * params, validation_accuracy=0.9, test_accuracy=1 - errors / 12_630,
            test_errors=errors, test_size=12_630, wrong=list(range(errors)), config={}, seconds=1.0, command="run",
        )  # fmt: skip

    rows = [row("teacher-16", "plain", 0, 55, 400_000)]
    for seed in range(3):
        rows += [row("student-0.25", "plain", seed, 120 + 10 * seed, 79_547)]
        rows += [row("student-0.25", "kd", seed, 80 + 5 * seed, 79_547)]
    return rows


def images(count=30):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


HISTORY = {"accuracy": [0.1, 0.6], "val_accuracy": [0.2, 0.5], "loss": [2.0, 1.0]}
DRAW = {
    "film_strip": lambda **k: plots.film_strip(images(), **k),
    "class_counts": lambda **k: plots.class_counts(make_report().labels, NAMES, **k),
    "learning_curves": lambda **k: plots.learning_curves({"plain": HISTORY, "distilled": HISTORY}, **k),
    "confusion": lambda **k: plots.confusion(make_report(), NAMES, **k),
    "confidence_histogram": lambda **k: plots.confidence_histogram(make_report(), **k),
    "reliability": lambda **k: plots.reliability(make_report(), **k),
    "sweep": lambda **k: plots.sweep([0, 0.5], [1, 4], [[2, 1], [3, np.nan]], **k),
    "errors_vs_params": lambda **k: plots.errors_vs_params(make_rows(), **k),
    "compare_bars": lambda **k: plots.compare_bars({"reader": (50, 30, 70), "teacher": 90}, **k),
    "agreement_bars": lambda **k: plots.agreement_bars({"plain": [make_report(0), make_report(1)]}, **k),
    "per_class_difference": lambda **k: plots.per_class_difference(make_report(0), [make_report(1)], NAMES, **k),
    "gradient_arrows": lambda **k: plots.gradient_arrows(np.linspace(-1, 1, 43), np.linspace(1, -1, 43), NAMES, **k),
}


@pytest.mark.parametrize("name", DRAW)
def test_plot_returns_axes_with_labels_and_the_given_title(name):
    axes = DRAW[name](title="The finding")
    assert isinstance(axes, plt.Axes) and axes.get_title(loc="left") == "The finding"
    assert axes.get_xlabel() and (axes.get_ylabel() or axes.get_yticks().size == len(axes.get_yticklabels()))


@pytest.mark.parametrize("name", DRAW)
def test_plot_draws_into_given_axes(name):
    figure, axes = plt.subplots(figsize=(3, 2), dpi=50)
    assert DRAW[name](axes=axes) is axes and plt.get_fignums() == [figure.number]


def test_gallery_shows_every_image_with_its_title_and_hides_empty_places():
    axes = plots.gallery(list(images(5)), NAMES[:5], columns=3, title="Five", colors=[plots.PALETTE["wrong"]] * 5)
    assert axes.shape == (2, 3)
    shown = [panel for panel in axes.flat if panel.images]
    assert len(shown) == 5 and all(panel.images[0].get_interpolation() == "nearest" for panel in shown)
    assert shown[4].get_xlabel().replace("\n", " ") == NAMES[4]
    assert plots.gallery(images(1)[..., 0]).shape == (1, 1)


def test_film_strip_takes_first_and_last_frame():
    axes = plots.film_strip(images(30), frames=4)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "19", "29"]


def test_soft_targets_show_probabilities_that_flatten_with_temperature():
    logits = np.array([4.0, 2.0, 0.0])
    axes = plots.soft_targets(logits, NAMES, temperatures=(1, 4), top=3, label=0, title="Softer")
    widths = [[bar.get_width() for bar in panel.patches] for panel in axes]
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum()
    np.testing.assert_allclose(widths[1], 100 * expected)
    assert widths[0][0] > widths[1][0] and sum(widths[0]) == pytest.approx(100)


def test_confusion_shows_the_most_frequent_pair_first_and_stays_small():
    labels = np.zeros(100, int)
    answers = np.array([1] * 7 + [2] * 3 + [0] * 90)
    report = Report(10 * np.eye(CLASSES, dtype=np.float32)[answers], labels, np.arange(100))
    axes = plots.confusion(report, NAMES)
    assert [bar.get_width() for bar in axes.patches] == [7, 3]
    assert axes.get_yticklabels()[0].get_text() == "class number 0 → class number 1"
    assert axes.get_title(loc="left") == "2 kinds of confusion hold 10 of the 10 errors"
    assert len(plots.confusion(make_report(strength=0.0), NAMES).patches) == 12


def test_sweep_frames_the_best_cell_and_names_it():
    axes = DRAW["sweep"]()
    assert axes.get_title(loc="left") == "Best: α = 0, T = 4 (1.00)"
    highest = plots.sweep([0, 0.5], [1, 4], [[2, 1], [3, 2]], best="highest", label="accuracy (%)")
    assert highest.get_title(loc="left") == "Best: α = 0.5, T = 1 (3.00)"


def test_title_of_the_hero_figure_is_computed_from_the_rows():
    axes = plots.errors_vs_params(make_rows())
    title = axes.get_title(loc="left").replace("\n", " ")
    assert title == "80 k parameters: 130 errors alone, 85 distilled; a person 147"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    texts = {text.get_text() for text in axes.texts}
    assert {mark.name for mark in results.PUBLISHED} <= texts and {"teacher-16", "student-0.25"} <= texts


def test_the_hero_figure_speaks_of_the_course_s_teacher_where_there_are_several():
    rows = [row | ({"teacher": "teacher"} if row["method"] == "kd" else {}) for row in make_rows()]
    others = [row | {"teacher": "committee", "test_errors": 1} for row in rows if row["method"] == "kd"]
    titles = [plots.errors_vs_params(some).get_title(loc="left") for some in (others + rows, rows + others, rows)]
    assert "85 distilled" in titles[0] and len(set(titles)) == 1


def test_labels_of_the_hero_figure_do_not_cover_each_other():
    axes = plots.errors_vs_params(make_rows())
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_hero_figure_refuses_rows_of_several_test_sets():
    rows = make_rows()
    with pytest.raises(ValueError, match="exactly one dataset"):
        plots.errors_vs_params(rows + [rows[0] | {"dataset": "btsc"}])
    with pytest.raises(ValueError, match="exactly one dataset"):
        plots.errors_vs_params([])


def test_agreement_needs_reports_with_a_teacher():
    with pytest.raises(ValueError, match="'plain' has no agreement"):
        plots.agreement_bars({"plain": make_report(teacher=False)})


def test_per_class_difference_has_the_sign_of_the_first_report():
    labels = np.repeat([0, 1], 10)
    better = Report(10 * np.eye(3, dtype=np.float32)[labels], labels, np.arange(20))
    worse = Report(10 * np.eye(3, dtype=np.float32)[np.repeat([0, 2], 10)], labels, np.arange(20))
    axes = plots.per_class_difference(better, worse, NAMES)
    assert [bar.get_width() for bar in axes.patches] == [100]
    assert axes.get_title(loc="left") == "Distilled beats plain in 1 classes and loses in 0"


def test_a_network_keeps_its_colour_whatever_the_order():
    first, second = plots.colors_for(["plain", "other", "distilled (KD)"]), plots.colors_for(["Teacher", "plain"])
    assert first[0] == second[1] == plots.PALETTE["plain"] and first[2] == plots.PALETTE["distilled"]
    assert second[0] == plots.PALETTE["teacher"] and first[1] not in (first[0], first[2], second[0])


def test_saving_twice_gives_the_same_bytes(tmp_path):
    files = [plots.save(DRAW["compare_bars"](), tmp_path / "a" / f"{name}.png") for name in "xy"]
    assert files[0].read_bytes() == files[1].read_bytes() and b"Software" not in files[0].read_bytes()


def test_notebooks_store_figures_small_and_in_nearly_the_same_colours():
    generator = np.random.default_rng(0)
    axes = plots.gallery(generator.integers(0, 255, (24, 32, 32, 3)).astype(np.uint8), title="Noise")
    full, light = io.BytesIO(), io.BytesIO(_light_png(axes[0, 0].figure))
    axes[0, 0].figure.savefig(full, format="png", dpi="figure", bbox_inches="tight", facecolor="white")
    assert len(light.getvalue()) < 0.6 * len(full.getvalue())
    before, after = (np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (full, light))
    assert before.shape == after.shape and np.abs(before - after).mean() < 16


def test_nothing_on_the_cheat_sheet_covers_anything_else():
    axes = plots.cheat_sheet()
    axes.figure.draw_without_rendering()
    page = axes.figure.bbox
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    for text, box in boxes.items():
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
        assert [other for other in boxes if other != text and box.overlaps(boxes[other])] == []
