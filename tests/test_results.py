"""Tests of kd_lib.results: what is written is checked, complete and rendered the same every time."""

import json
import multiprocessing
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kd_lib import results
from kd_lib.results.rows import side_of


def make_row(model="student-0.25", method="plain", seed=0, errors=2, size=100, **fields):
    values = {
        "model": model, "method": method, "dataset": "gtsrb", "image_size": 32, "scale": "full", "seed": seed,
        "epochs": 16, "params": 79_547, "macs": 7_500_000, "bytes": 318_188, "validation_accuracy": 0.99,
        "test_accuracy": 1 - errors / size, "test_errors": errors, "test_size": size, "wrong": list(range(errors)),
        "config": {"alpha": 0.1}, "seconds": 12.5, "command": "python -m kd_lib run",
    }  # fmt: skip
    return results.make_row(**(values | fields))


DIFFERENCE = {"difference": 0.17, "low": 0.05, "high": 0.29, "errors": -21.0, "excludes_zero": True}


def test_a_row_has_exactly_the_documented_fields_and_survives_json(tmp_path):
    row = make_row(params=np.int64(5), seconds=np.float32(2), agreement=np.float64(0.9), wrong=list(np.array([3, 4])))
    results.append(row, tmp_path / "results.json")
    (loaded,) = results.load(tmp_path / "results.json")["rows"]
    assert loaded == row and list(loaded) == list(results.FIELDS)
    assert loaded["params"] == 5 and loaded["agreement"] == 0.9 and loaded["wrong"] == [3, 4]
    assert loaded["versions"]["python"].startswith("3.") and "numpy" in loaded["versions"]
    assert loaded["device"].endswith("cores") or "GPU" in loaded["device"] or "+" in loaded["device"]


def test_a_report_fills_the_test_fields():
    report = SimpleNamespace(accuracy=0.75, errors=1, labels=np.zeros(4), wrong=["b"], agreement=0.5)
    empty = dict.fromkeys(("test_accuracy", "test_errors", "test_size", "wrong", "agreement"))
    fields = {key: value for key, value in make_row().items() if key not in empty}
    row = results.make_row(report=report, **fields)
    assert [row[key] for key in empty] == [0.75, 1, 4, ["b"], 0.5]
    assert results.make_row(**fields)["test_errors"] is None  # only validation saw it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, "unknown: .'learning_rat'"),
        ({"seed": "0"}, "'seed'"),
        ({"crop": 0}, "'crop'"),
        ({"epochs": True}, "'epochs'"),
        ({"seconds": float("nan")}, "finite"),
        ({"config": {"layer": object()}}, "plain JSON"),
        ({"test_errors": None}, "all null"),
        ({"test_errors": 3}, "contradict"),
        ({"test_accuracy": 98.0}, "contradict"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name(change, message):
    with pytest.raises(ValueError, match=message):
        make_row(**change)


def test_a_missing_field_is_refused_and_the_file_is_left_alone(tmp_path):
    path = tmp_path / "results.json"
    results.append(make_row(), path)
    before = path.read_bytes()
    row = make_row(seed=1)
    del row["epochs"]
    with pytest.raises(ValueError, match="missing: .'epochs'"):
        results.append(row, path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_row_of_the_same_identity_replaces_the_older_one_and_others_stay(tmp_path):
    path = tmp_path / "new" / "results.json"
    for row in (make_row(), make_row(seed=1), make_row(method="kd"), make_row(refit=True), make_row(errors=7)):
        results.append(row, path)
    rows = results.load(path)["rows"]
    assert [(row["method"], row["seed"], row["refit"], row["test_errors"]) for row in rows] == [
        ("plain", 0, False, 7), ("plain", 1, False, 2), ("kd", 0, False, 2), ("plain", 0, True, 2),
    ]  # fmt: skip


def append_many(path, start):
    for seed in range(start, start + 20):
        results.append(make_row(seed=seed), path)


def test_processes_that_append_at_once_lose_no_row(tmp_path):
    path = tmp_path / "results.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, start)) for start in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    seeds = {row["seed"] for row in results.load(path)["rows"]}
    assert seeds == {start + step for start in (0, 100, 200) for step in range(20)}


def test_a_file_that_is_no_results_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "results.json"
    for text in ("not json", "[]", '{"lines": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"results\.json is not a results file"):
            results.append(make_row(), path)
        assert path.read_text() == text


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    results.append(make_row(), path)
    before = path.read_bytes()

    def full(self, text, encoding):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space"):
        results.append(make_row(seed=1), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_merge_publishes_rows_and_comparisons_and_keeps_the_rest(tmp_path):
    run, published = tmp_path / "run.json", tmp_path / "figures" / "results.json"
    results.append(make_row(model="teacher-16"), published)
    results.append(make_row(errors=9), published)
    results.append(make_row(errors=4), run)
    results.append(make_row(errors=3, dataset="gtsrb to btsc"), run)
    for other in ({"scale": "smoke"}, {"dataset": "signs"}):
        results.append(make_row(**other), run)
        results.add_comparison(make_row(method="kd", **other), make_row(**other), DIFFERENCE, run)
    results.append(make_row(method="kd"), run)
    results.add_comparison(make_row(method="kd"), make_row(), DIFFERENCE, run)
    for _ in range(2):
        results.merge(run, published, scale="full", dataset="gtsrb")
    document = results.load(published)
    found = [(row["model"], row["dataset"], row["test_errors"]) for row in document["rows"]]
    assert found == [
        ("teacher-16", "gtsrb", 2), ("student-0.25", "gtsrb", 4), ("student-0.25", "gtsrb to btsc", 3),
        ("student-0.25", "gtsrb", 2),
    ]  # fmt: skip
    assert len(document["comparisons"]) == 1, "what other scales and data sets left in the file is not published"
    with pytest.raises(FileNotFoundError, match="absent"):
        results.merge(tmp_path / "absent.json", published, scale="full", dataset="gtsrb")


def test_a_network_measured_again_without_its_teacher_keeps_its_agreement(tmp_path):
    path = tmp_path / "results.json"
    results.append(make_row(agreement=0.9), path)
    results.append(make_row(), path)
    assert results.load(path)["rows"][0]["agreement"] == 0.9
    results.append(make_row(errors=3), path)
    assert results.load(path)["rows"][0]["agreement"] is None, "another network"


def test_a_comparison_replaces_the_older_one_of_the_same_groups(tmp_path):
    path = tmp_path / "results.json"
    results.add_comparison(make_row(method="kd"), make_row(), DIFFERENCE, path)
    results.add_comparison(make_row(method="kd", seed=3), make_row(), DIFFERENCE | {"difference": 0.5}, path)
    (comparison,) = results.load(path)["comparisons"]
    assert comparison["difference"] == 0.5 and comparison["a"]["method"] == "kd" and "seed" not in comparison["a"]
    with pytest.raises(ValueError, match="missing .'low'"):
        results.add_comparison(make_row(), make_row(), {k: v for k, v in DIFFERENCE.items() if k != "low"}, path)


def compared(path, **recipes):
    """Put rows of three seeds of each method, of a recipe, and the comparison of both into a results file."""
    for method, epochs in recipes.items():
        for seed in range(3):
            results.append(make_row(method=method, seed=seed, config={"epochs": epochs, "seed": seed}), path)
    rows = [make_row(method=method, config={"epochs": epochs}) for method, epochs in recipes.items()]
    results.add_comparison(*rows, DIFFERENCE, path)


def sentences_shown(path):
    document = results.load(path)
    return results.table(document["rows"], document["comparisons"]).count("points of accuracy")


@pytest.mark.parametrize("method", ["kd", "plain"])
def test_a_row_of_another_recipe_drops_the_comparisons_of_its_group(tmp_path, method):
    path = tmp_path / "results.json"
    compared(path, kd=16, plain=16)
    results.append(make_row(method=method, seed=1, config={"epochs": 16}), path)
    results.append(make_row(method="dkd", config={"epochs": 32}), path)
    untested = dict.fromkeys(("test_accuracy", "test_errors", "test_size", "wrong"))
    results.append(make_row(method=method, seed=9, config={"epochs": 32}, **untested), path)
    assert sentences_shown(path) == 1, "the same recipe, another method, no test"
    results.append(make_row(method=method, config={"epochs": 32}), path)
    assert results.load(path)["comparisons"] == []


@pytest.mark.parametrize("method", ["kd", "plain"])
def test_publishing_drops_comparisons_whose_rows_were_given_up(tmp_path, method):
    run, published = tmp_path / "run.json", tmp_path / "results.json"
    compared(published, kd=16, plain=16)
    results.append(make_row(method=method, config={"epochs": 32}), run)
    results.merge(run, published, scale="full", dataset="gtsrb")
    assert results.load(published)["comparisons"] == []
    compared(run, kd=32, plain=32)
    results.merge(run, published, scale="full", dataset="gtsrb")
    assert len(results.load(published)["comparisons"]) == sentences_shown(published) == 1


def test_a_comparison_is_not_published_without_its_rows(tmp_path):
    run, published = tmp_path / "run.json", tmp_path / "results.json"
    compared(run, kd=16, plain=16)
    document = results.load(run)
    document["rows"] = [row for row in document["rows"] if row["method"] == "kd"]
    run.write_text(json.dumps(document))
    results.merge(run, published, scale="full", dataset="gtsrb")
    assert len(results.load(published)["rows"]) == 3 and results.load(published)["comparisons"] == []


def test_a_comparison_is_shown_beside_its_own_rows_alone(tmp_path):
    path = tmp_path / "results.json"
    compared(path, kd=16, plain=16)
    document = results.load(path)
    rows, comparisons = document["rows"], document["comparisons"]
    assert sentences_shown(path) == 1
    for others in (
        rows[:3],
        [row | {"config": {"epochs": 32}} for row in rows],
        [*rows, make_row(seed=7, config={"epochs": 32})],
        [*rows, make_row(seed=7, config={"epochs": 16}, size=200)],
    ):
        assert "points of accuracy" not in results.table(others, comparisons)


def test_a_file_whose_comparisons_note_no_recipe_is_read_and_they_are_not_shown(tmp_path):
    path = tmp_path / "results.json"
    compared(path, kd=16, plain=16)
    document = results.load(path)
    for side in (document["comparisons"][0]["a"], document["comparisons"][0]["b"]):
        del side["recipe"], side["test_size"]
    path.write_text(json.dumps(document))
    assert len(results.load(path)["comparisons"]) == 1 and sentences_shown(path) == 0
    results.merge(path, tmp_path / "published.json", scale="full", dataset="gtsrb")
    assert results.load(tmp_path / "published.json")["comparisons"] == []
    compared(path, kd=16, plain=16)
    assert len(results.load(path)["comparisons"]) == sentences_shown(path) == 1


def test_summary_means_over_seeds_are_right():
    rows = [make_row(seed=seed, errors=errors) for seed, errors in ((2, 6), (0, 2), (1, 4))]
    (group,) = results.summarise(rows)
    assert (group["seeds"], group["errors"], group["errors_sd"], group["errors_by_seed"]) == (3, 4, 2.0, [2, 4, 6])
    assert group["accuracy"] == pytest.approx(0.96) and group["accuracy_sd"] == pytest.approx(0.02)
    assert group["interval"] == results.wilson_interval(96, 100) and group["agreement"] is None


def test_table_orders_teacher_plain_distilled_and_says_what_was_compared():
    rows = [make_row(method="kd", seed=seed, teacher="teacher-16", agreement=0.993) for seed in range(3)]
    rows += [make_row(), make_row(model="mobilenet_v2", params=2_300_000), make_row(model="teacher-16", params=400_000)]
    rows += [make_row(model="committee", params=240_000), make_row(model="student-0.25-int8", params=79_000)]
    rows += [make_row(model="student-0.25-pruned", params=40_000), make_row(model="student-1.0", params=732_779)]
    comparison = {"a": side_of(rows[0]), "b": side_of(rows[3]), **DIFFERENCE}
    text = results.table(rows, [comparison])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [(line[0], line[1]) for line in cells[2:]] == [
        ("teacher-16", "plain"), ("committee", "plain"), ("mobilenet_v2", "plain"), ("student-1.0", "plain"),
        ("student-0.25", "plain"), ("student-0.25", "kd"), ("student-0.25-pruned", "plain"),
        ("student-0.25-int8", "plain"),
    ]  # fmt: skip
    assert {len(line) for line in cells} == {12} and cells[0][-2] == "kB" and cells[2][-2] == "318"
    assert cells[7][4:9] == ["3", "98.00 ± 0.00", "93.00 to 99.45", "2.0 ± 0.0", "99.30"]
    assert "**gtsrb, whole image, scale full, 100 test images**" in text
    assert "+0.17 points of accuracy (+0.05 to +0.29), -21.0 errors; the interval excludes zero" in text
    plain = results.table(rows, [comparison], markdown=False)
    assert "|" not in plain and "99.30" in plain and max(map(len, plain.splitlines()[1:8])) <= 130


def test_rows_of_different_recipes_are_never_averaged():
    rows = [make_row(seed=0, config={"epochs": 16, "seed": 0}), make_row(seed=1, config={"epochs": 16, "seed": 1})]
    rows += [make_row(seed=2, config={"epochs": 32, "seed": 2})]
    assert [group["seeds"] for group in results.summarise(rows)] == [2, 1]
    starts = [make_row(seed=seed, config={"start": f"weights of seed {seed}"}) for seed in (0, 1)]
    assert [group["seeds"] for group in results.summarise(starts)] == [2]


def test_the_table_says_what_pretrained_weights_and_which_drawn_signs_there_were():
    rows = [make_row(model="mobilenet_v2", method="fine-tuned", weights=weights) for weights in ("signs", "imagenet")]
    rows += [make_row(method="kd", teacher="mobilenet_v2", weights="signs", config={"drawn": 20_000})]
    text = results.table(rows)
    assert "fine-tuned, weights signs |" in text and "fine-tuned, weights imagenet |" in text
    assert "| kd | mobilenet_v2, weights signs |" in text
    assert text.endswith("- among the training images were 20,000 drawn signs: student-0.25 kd")


def test_two_runs_stand_side_by_side(tmp_path):
    path = tmp_path / "results.json"
    for row in (make_row(seed=0, errors=2), make_row(seed=1, errors=4), make_row(crop=True, errors=50)):
        results.append(row, path)
    wanted = [("student-0.25", "plain", None), ("student-0.25", "kd", "teacher")]
    head, plain, distilled = results.side_by_side(wanted, path, dataset="gtsrb", scale="full").splitlines()
    assert "yours" in head and head.index("yours") == plain.index("97.00% (91.55 to 98.97), 3.0 ± 1.4")
    assert distilled.split() == ["student-0.25", "kd", "from", "teacher", "-", "-"] or "ours" in head


def test_side_by_side_shows_rows_of_this_run_s_pretrained_weights(tmp_path):
    path = tmp_path / "results.json"
    for weights, errors in (("signs", 2), ("imagenet", 9)):
        results.append(make_row(model="mobilenet_v2", method="fine-tuned", weights=weights, errors=errors), path)
    wanted, run = [("mobilenet_v2", "fine-tuned", None)], {"dataset": "gtsrb", "scale": "full"}
    for weights, accuracy in (("signs", "98.00%"), ("imagenet", "91.00%")):
        shown = results.side_by_side(wanted, path, **run, weights=weights).splitlines()[1]
        assert shown[40:46] == accuracy


def test_a_setting_that_came_later_is_the_same_recipe_whether_it_is_named_or_not():
    old, new = ({"epochs": 3} | later for later in ({}, {"decay": "cosine", "drawn": 0}))
    (group,) = results.summarise([make_row(seed=seed, config=config) for seed, config in enumerate((old, new))])
    assert group["seeds"] == 2
    assert len(results.summarise([make_row(config=old), make_row(seed=1, config=new | {"decay": "none"})])) == 2


def test_publishing_replaces_rows_of_a_recipe_that_was_given_up(tmp_path):
    run, published = tmp_path / "run.json", tmp_path / "results.json"
    for seed in range(3):
        results.append(make_row(seed=seed, config={"epochs": 16}), published)
    results.append(make_row(method="kd", config={"epochs": 16}), published)
    results.append(make_row(seed=0, config={"epochs": 32}), run)
    results.merge(run, published, scale="full", dataset="gtsrb")
    rows = [(row["method"], row["seed"], row["config"]["epochs"]) for row in results.load(published)["rows"]]
    assert sorted(rows) == [("kd", 0, 16), ("plain", 0, 32)]


def test_table_keeps_datasets_apart_and_leaves_out_rows_without_a_test():
    rows = [make_row(), make_row(dataset="signs"), make_row(crop=True)]
    assert results.table(rows).count("test images") == 3
    untested = make_row(test_accuracy=None, test_errors=None, test_size=None, wrong=None)
    assert results.table([untested]) == "No test results yet."


def test_rendering_the_readme_twice_changes_nothing_and_keeps_the_rest(tmp_path):
    readme, path = tmp_path / "README.md", tmp_path / "results.json"
    results.append(make_row(), path)
    readme.write_text(f"# Title\n\n{results.BEGIN}\nold\n{results.END}\n\nThe end.\n")
    results.render(readme, path)
    once = readme.read_text()
    results.render(readme, path)
    assert readme.read_text() == once
    assert once.startswith("# Title\n\n<!-- results:begin -->\n\n**gtsrb") and once.endswith("-->\n\nThe end.\n")
    assert "old" not in once and "student-0.25" in once


def test_the_readme_shows_the_benchmarks_that_compare_or_sum_up(tmp_path):
    readme, bench = tmp_path / "README.md", tmp_path / "bench.json"
    notebooks = "| | notebook | its question | smoke | laptop | full |\n| 02 | [two](two) | Why? | | 9 s | |\n"
    readme.write_text(f"# Title\n\n{results.BENCH_BEGIN}\nold\n{results.BENCH_END}\n\n{notebooks}\nThe end.\n")
    for name, unit, number in (
        ("drawing", "images/s", {"value": 5123.4}),
        ("an epoch", "x plain", {"ratio": 1.034}),
        ("student, batch 1", "ms", {"value": 0.3}),
        ("student, file", "kB", {"value": 90.0}),
        ("notebook 02, smoke", "s", {"value": 31.4}),
        ("notebook 02, full", "s", {"value": 200.0}),
    ):
        results.append_bench(name, unit, **number, path=bench)
    results.render_bench(readme, bench)
    text = readme.read_text()
    assert "| drawing | 5,123 | images/s |\n| an epoch | 1.03 | x plain |" in text and "batch 1" not in text
    assert text.startswith("# Title") and text.endswith("The end.\n") and "kB" not in text
    assert (
        "| | notebook | its question | smoke | laptop | full |\n| 02 | [two](two) | Why? | 31 s |  | 3 min |\n" in text
    )
    assert "notebook 02" not in text
    assert results.notebook_seconds(bench) == {("02", "smoke"): 31.4, ("02", "full"): 200.0}
    assert results.notebook_seconds(tmp_path / "absent.json") == {}


@pytest.mark.parametrize("text", ["nothing", "{0}", "{1}\n{0}", "{0}{0}{1}"])
def test_rendering_fails_clearly_without_both_markers(tmp_path, text):
    readme, path = tmp_path / "README.md", tmp_path / "results.json"
    results.append(make_row(), path)
    readme.write_text(text.format(results.BEGIN, results.END))
    before = readme.read_text()
    with pytest.raises(ValueError, match="must hold the line"):
        results.render(readme, path)
    assert readme.read_text() == before
    with pytest.raises(FileNotFoundError, match="absent"):
        results.render(readme, tmp_path / "absent.json")


def test_bench_rows_hold_one_number_and_are_replaced_by_name(tmp_path):
    path = tmp_path / "bench.json"
    results.append_bench("signs 32 px", "images/s", value=4000, path=path)
    results.append_bench("epoch", "of keras.distillation", ratio=0.8, path=path)
    results.append_bench("signs 32 px", "images/s", value=np.float32(4500), path=path)
    document = json.loads(path.read_text())
    assert list(document) == ["rows"]
    assert [(row["name"], row.get("value"), row.get("ratio")) for row in document["rows"]] == [
        ("signs 32 px", 4500.0, None), ("epoch", None, 0.8),
    ]  # fmt: skip
    for numbers in ({}, {"value": 1, "ratio": 1}, {"value": float("inf")}):
        with pytest.raises(ValueError, match="exactly one finite number"):
            results.append_bench("x", "s", path=path, **numbers)


def test_environment_works_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = results.environment()
    assert found["commit"] is None and set(found) == {"device", "backend", "commit", "versions"}


def test_published_marks_have_sizes_and_percentages():
    assert {mark.name for mark in results.PUBLISHED if mark.params is None} == {"person"}
    assert all(90 < mark.accuracy < 100 for mark in results.PUBLISHED)


def test_importing_results_loads_no_tensorflow():
    code = "import sys, kd_lib.results; assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_card_tells_what_a_row_knows_and_needs_a_test():
    text = results.card(make_row(errors=2), title="Small", purpose="To learn.", limits="cars.")
    assert all(word in text for word in ("# Small", "79,547 parameters", "98.00%", "2 errors of 100", "Not for"))
    refitted = results.card(make_row(refit=True), title="", purpose="", limits="")
    assert "training and validation parts" in refitted and "seen in training" in refitted and "seen" not in text
    untested = dict.fromkeys(("test_accuracy", "test_errors", "test_size", "wrong"))
    with pytest.raises(ValueError, match="no test image"):
        results.card(make_row(**untested), title="", purpose="", limits="")
