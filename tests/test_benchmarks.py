"""The benchmarks run and write their rows; how fast anything is, is not tested."""

import json
import math
import os

import keras
import pytest
from benchmarks import bench_latency, bench_memory, bench_notebooks, bench_training
from benchmarks.__main__ import main
from benchmarks.timing import interleaved, ratio
from keras import layers

from kd_lib import results, walk

TINY = ["--images", "16", "--rounds", "1", "--batch-size", "8", "--image-size", "16"]


def test_every_row_is_a_positive_number_with_a_unit_and_a_device(tmp_path, monkeypatch, capsys):
    def small(classes, size, **options):  # the real networks take their time to be traced
        inputs = layers.Input((size, size, 3))
        return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(inputs)))

    for name in ("teacher", "student"):
        monkeypatch.setattr(bench_training.models, name, small)
    path = tmp_path / "bench.json"
    main(["pictures", "training", *TINY, "--path", str(path)])
    rows = json.loads(path.read_text())["rows"]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(rows) == len({row["name"] for row in rows}) == 9
    for row, line in zip(rows, printed, strict=True):
        value = row.get("ratio", row.get("value"))
        assert math.isfinite(value) and value > 0 and row["unit"] and row["device"]
        assert line.startswith(row["name"]) and line.endswith(row["unit"])
    compared = {row["unit"] for row in rows if "ratio" in row}
    assert compared == {
        f"x {what}" for what in ("plain student", "cached answers", "online", "bare loop", "student forward")
    }


def test_latency_is_measured_for_keras_and_litert_at_both_batch_sizes(monkeypatch, capsys):
    def small(name):
        inputs = layers.Input((32, 32, 3))
        return keras.Model(inputs, layers.Dense(43)(layers.Flatten()(layers.AveragePooling2D(8)(inputs))), name=name)

    monkeypatch.setattr(bench_latency, "_network", small)
    bench_latency.run_alone(1, 2, "small")
    rows = json.loads(capsys.readouterr().out.rpartition("rows ")[2])
    names = {name for name, _, _ in rows}
    kinds = ("compiled Keras call", "Keras predict", "LiteRT float32", "LiteRT int8")
    assert names >= {f"small, {kind}, batch {batch}" for kind in kinds for batch in (1, 32)}
    assert len(names) == len(rows) == 11  # and two files, and a ratio
    assert all(value > 0 for _, _, number in rows for value in number.values())


def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    little = bench_memory._peak("", tmp_path)
    assert 5 < little < bench_memory._peak("held = bytearray(200_000_000)", tmp_path) - 100


def test_without_the_archives_reading_them_is_skipped_with_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    main(["data", "--path", str(tmp_path / "bench.json")])
    assert capsys.readouterr().out.startswith("skipped: gtsrb, archives to arrays (GTSRB_Final_Training_Images.zip")
    assert not (tmp_path / "bench.json").exists()


def test_each_notebook_is_timed_at_each_scale_and_one_that_fails_has_no_row(tmp_path, monkeypatch):
    steps = [walk.Step("00_first", 12.5, None), walk.Step("05_teacher", 3.0, "OSError: no download")]
    homes = []

    def walked(scale, **options):
        homes.append((scale.name, scale.data, scale.home))
        scale.export()
        return steps

    monkeypatch.setenv("KD_HOME", str(tmp_path))
    monkeypatch.setenv("KD_SCALE", "laptop")
    monkeypatch.setattr(bench_notebooks, "walk", walked)
    path = tmp_path / "bench.json"
    main(["notebooks", "--scales", "smoke", "full", "--path", str(path)])
    assert results.notebook_seconds(path) == {("00", "smoke"): 12.5, ("00", "full"): 12.5}
    assert [place[:2] for place in homes] == [("smoke", "signs"), ("full", "gtsrb")]
    assert homes[0][2] != tmp_path.resolve() == homes[1][2], "nothing was trained before, but at full scale"
    assert os.environ["KD_SCALE"] == "laptop" and os.environ["KD_HOME"] == str(tmp_path)


def test_an_unknown_benchmark_is_refused_with_the_valid_ones(capsys):
    with pytest.raises(SystemExit):
        main(["sings"])
    assert (
        "unknown benchmark sings; choose from pictures, data, training, memory, latency, notebooks"
        in capsys.readouterr().err
    )


def test_runs_take_turns_after_one_that_warms_up():
    order = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == list("abababab")
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio([2.0, 30.0, 6.0], [1.0, 3.0, 2.0]) == 3.0
