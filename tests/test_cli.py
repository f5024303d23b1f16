"""Tests of `python -m kd_lib`: what it prints, what it returns, and that a mistake ends in one clear line."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kd_lib import Distiller, models, replay, results, signs, walk
from kd_lib.__main__ import main
from kd_lib.datasets import load_dataset
from kd_lib.training import Config, fit_or_load, seeded

COMMANDS = "run data train distill evaluate pretrain prune export predict serve results".split()


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("KD_SCALE", "KD_DATA", "KD_MOBILENET"):
        monkeypatch.setenv(name, "")  # the default; and what `run` sets is taken back
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    """Three classes of twenty drawn signs each, as PNG files in folders."""
    for label in (1, 14, 38):
        place = tmp_path / "my signs" / signs.CLASS_NAMES[label]
        place.mkdir(parents=True)
        for track, image in enumerate(signs.render(np.full(20, label), np.arange(20), np.full(20, 29))):
            Image.fromarray(image).save(place / f"{track:02}.png")
    return tmp_path / "my signs"


def test_help_names_every_command_and_loads_no_tensorflow():
    code = (
        "import sys\nfrom kd_lib.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and ("--scale" in out or "--model" in out)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["results", "--scale", "huge"], ["huge", "smoke, laptop, full"]),
        (["data", "imagenet"], ["imagenet", "signs", "gtsrb"]),
        (["train"], ["teacher", "student", "--replay"]),
        (["train", "teacher", "--replay", "there"], ["--replay"]),
        (["train", "--replay", "nowhere"], ["nowhere"]),
        (["run", "--scale", "smoke", "--only", "77"], ["77", "00"]),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(arguments, words, home, capsys):
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("kd_lib: ") and "\n" not in message and all(word in message for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "student", "--width", "nan"], ["--width", "1/64", "nan"]),
        (["distill", "--width", "-1"], ["--width", "positive", "-1"]),
        (["evaluate", "student", "--width", "inf"], ["--width", "inf"]),
        (["prune", "--width", "0.001"], ["--width", "1/64", "0.001"]),
        (["export", "--width", "wide"], ["--width", "wide"]),
        (["distill", "--seed", "-1"], ["--seed", "at least 0", "-1"]),
        (["run", "--data", "gtrsb"], ["gtrsb", "signs, gtsrb, btsc, cifar10, cifar100", "folder"]),
        (["run", "--data", "btsc"], ["43 German signs", "signs or gtsrb", "btsc", "evaluate distilled --data btsc"]),
        (["results", "--data", "nosuch"], ["nosuch", "signs, gtsrb"]),
        (["evaluate", "student", "--on", "nosuch"], ["nosuch", "signs, gtsrb"]),
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_starts(arguments, words, home, monkeypatch, capsys):
    def started(*arguments, **options):
        raise AssertionError("started")

    monkeypatch.setattr("kd_lib.datasets.load_dataset", started)
    monkeypatch.setattr("kd_lib.walk.walk", started)
    try:
        code = main([*arguments, "--scale", "smoke"])
    except SystemExit as stopped:
        code = stopped.code
    message = capsys.readouterr().err
    assert code == 2 and all(word in message for word in words), message


@pytest.mark.parametrize("option", [["--seed", "3"], ["--width", "0.5"]], ids=" ".join)
def test_what_only_a_student_has_is_refused_for_the_teacher(option, home, capsys):
    assert main(["train", "teacher", "--scale", "smoke", *option]) == 2
    assert "are a student's" in capsys.readouterr().err


def test_weights_that_are_not_there_are_refused_before_anything_starts(home, monkeypatch, capsys):
    monkeypatch.setenv("KD_MOBILENET", "imagenett")
    assert main(["results"]) == 2
    assert "'imagenett'. Choose one of: imagenet, signs" in capsys.readouterr().err


def test_a_mistake_is_told_before_tensorflow_says_anything(home):
    for arguments in (["train"], ["evaluate", "distilled", "--data", "nosuch"]):
        command = [sys.executable, "-m", "kd_lib", *arguments]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 2 and found.stderr.startswith("kd_lib: ") and found.stderr.count("\n") == 1


def test_results_of_nothing_say_so(home, capsys):
    assert main(["results"]) == 0
    assert "No results yet at scale laptop on signs" in capsys.readouterr().out


def test_interrupted_by_the_keyboard_it_says_how_to_go_on(home, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kd_lib.datasets.load_dataset", interrupted)
    assert main(["train", "student", "--scale", "smoke"]) == 130
    assert "goes on after the last finished epoch" in capsys.readouterr().err


def test_a_folder_of_ones_own_goes_all_the_way_to_the_table(home, folder, capsys):
    choice = ["--scale", "smoke", "--data", str(folder)]
    assert main(["data", str(folder)]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["distill", "--committee", *choice]) == 0
    assert "student-0.25-kd-from-committee-seed0" in capsys.readouterr().out
    for model in ("teacher", "distilled", "student", "committee"):
        assert main(["evaluate", model, *choice]) == 0
        assert not results.load(home / "results.json")["comparisons"], "none without plain students"
    for options in ([], ["--committee"]):
        assert main(["evaluate", "distilled", *options, *choice]) == 0
    rows, comparisons = results.load(home / "results.json").values()
    assert [comparison["a"]["teacher"] for comparison in comparisons] == ["teacher", "committee"]
    (together,) = (row for row in rows if row["model"] == "committee")
    assert "evaluate committee" in together["command"], "no notebook makes this row"
    assert {row["teacher"] for row in rows if row["method"] == "kd"} == {"teacher", "committee"}
    table = capsys.readouterr().out.rpartition("scale smoke")[2]
    assert all(word in table for word in ("teacher", "plain", "kd", "95 % interval", "Agrees with teacher %"))
    assert "student-0.25 kd from committee against student-0.25 plain" in table


def test_a_student_is_tested_on_other_images_than_it_learned_from(home, capsys):
    choice = ["--scale", "smoke", "--seed", "0", "--on", "signs", "--refit", "--crop", "--width", "0.125"]
    assert main(["evaluate", "student", *choice]) == 0
    shown = capsys.readouterr().out
    assert "signs to signs" in shown and "teacher:" not in shown, "a plain student alone needs no teacher"
    assert "plain (train + validation)" in shown and "cropped to the sign" in shown
    (row,) = results.load(home / "results.json")["rows"]
    assert row["refit"] and row["crop"] and "--on signs --width 0.125 --crop --refit --scale smoke" in row["command"]


def test_a_student_is_pruned_exported_and_asked(home, tmp_path, capsys):
    assert main(["prune", "--scale", "smoke", "--fraction", "0.5"]) == 0
    before, after = (line for line in capsys.readouterr().out.splitlines() if "multiply-adds" in line)
    assert "79,547 parameters" in before and "pruned-50-kd" in after and "79,547" not in after
    assert main(["export", "--refit", "--scale", "smoke"]) == 2
    assert "--refit cannot be exported" in capsys.readouterr().err
    assert main(["export", "--scale", "smoke", "--output", str(tmp_path / "student.tflite")]) == 0
    assert "of the test images are right" in capsys.readouterr().out
    assert "python -m kd_lib export" in (tmp_path / "student.md").read_text(encoding="utf-8")
    picture = tmp_path / "stop.png"
    Image.fromarray(signs.render([14], [0], [29])[0]).save(picture)
    assert main(["predict", str(picture), "--model", str(tmp_path / "student.tflite"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] in signs.CLASS_NAMES
    assert main(["results", "--scale", "smoke"]) == 0
    assert "student-0.25-int8" in capsys.readouterr().out


def test_every_public_module_and_name_is_reached_from_one_import():
    code = "import kd_lib; [getattr(kd_lib, name) for name in kd_lib.__all__]; kd_lib.serving.create_app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_walk_is_00_to_05_unless_others_are_named():
    assert [path.name[:2] for path in walk.notebooks()] == ["00", "01", "02", "03", "04", "05"]
    assert [path.name[:2] for path in walk.notebooks(["10", "02"])] == ["02", "10"]


def test_a_saved_network_is_found_by_a_process_that_imports_the_distiller_alone(tmp_path):
    teacher = models.student(3, 8, width=1 / 16)
    teacher.save(tmp_path / "teacher.keras")
    Distiller(models.student(3, 8, width=1 / 32), teacher).save(tmp_path / "distiller.keras")
    code = (
        "import keras; from keras import layers; from kd_lib import Distiller\n"
        "own = keras.Sequential([layers.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)])\n"
        f"Distiller(own, {str(tmp_path / 'teacher.keras')!r})\n"
        f"keras.models.load_model({str(tmp_path / 'distiller.keras')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_training_is_repeated_from_its_folder(home):
    dataset = load_dataset("signs", image_size=16, limit=43)
    config = Config(epochs=1, batch_size=43, views=1)
    teacher = fit_or_load("teacher", seeded(0, models.student, 43, 16, width=1 / 16), dataset, config, progress=False)

    def learn(teachers, **options):
        student = seeded(0, models.student, 43, 16, width=1 / 32)
        return fit_or_load("student", Distiller(student, teachers, **options), dataset, config, progress=False)

    several = {"loss": {"kd": 1.0, "dist": 0.5}, "teacher_weights": [1, 2]}
    run = learn([teacher.model, teacher.model], **several)
    folder = home / "artifacts" / f"student-{run.key}"
    again = replay.replay(folder)
    assert again.loaded and again.key == run.key
    part = dataclasses.replace(dataset, train=dataset.train.subset(slice(0, 40)))
    student = seeded(0, models.student, 43, 16, width=1 / 32)
    held_out = fit_or_load("student-held-out", student, part, config, progress=False)
    with pytest.raises(ValueError, match="learned from other images of signs"):
        replay.replay(home / "artifacts" / f"student-held-out-{held_out.key}")
    own = learn(teacher.model, loss=lambda student_logits, teacher_logits, temperature: 0.0 * student_logits[:, 0])
    with pytest.raises(ValueError, match="a class or a loss that is not kd_lib's"):
        replay.replay(home / "artifacts" / f"student-{own.key}")


def test_the_servers_limits_are_options_whose_defaults_its_help_states(monkeypatch, capsys):
    from kd_lib import serving
    from kd_lib.uploads import Limits

    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    given, names = {}, vars(Limits())
    for place, (name, value) in enumerate(names.items(), start=1):
        option = f"--max-{name.replace('_', '-')}"
        stated = f"{value // 10**6} million" if value >= 10**6 else str(value)
        assert stated in told.split(f"{option} ", 2)[2].split(" --max-")[0], option
        given |= {option: str(place)}
    monkeypatch.setattr(serving, "serve", lambda **options: given.update(options))
    assert main(["serve", "--port", "0", *(text for pair in given.copy().items() for text in pair)]) == 0
    assert vars(given["limits"]) == dict(zip(names, range(1, len(names) + 1), strict=True))
