"""Tests of kd_lib.litert: files that answer as the network did, and run without TensorFlow."""

import contextlib
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib import evaluation, litert, models
from kd_lib.quantization import quantize_aware


@pytest.fixture(scope="module")
def aware(student, patches):
    return quantize_aware(student, patches.images[:100])


@pytest.fixture(scope="module")
def files(student, aware, patches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        "float": litert.export(student, folder / "float.tflite", quantize=None),
        "float16": litert.export(student, folder / "float16.tflite", quantize="float16"),
        "int8": litert.export(student, folder / "int8.tflite", representative=patches.images[:100]),
        "aware": litert.export(aware, folder / "aware.tflite", facts={"temperature": 1.5, "names": ["é", "b"]}),
    }


def interpreter(path):
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(str(path), num_threads=1)
    found.allocate_tensors()
    return found


@pytest.mark.parametrize(("kind", "agreement"), [("float", 1.0), ("float16", 1.0), ("int8", 0.98), ("aware", 0.995)])
def test_a_file_answers_as_its_network(files, student, aware, patches, kind, agreement):
    expected = (aware if kind == "aware" else student).predict(patches.images, verbose=0)
    found = litert.Classifier(files[kind]).predict(patches.images)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert (found.argmax(1) == expected.argmax(1)).mean() >= agreement
    tolerance = {"float": 1e-4, "float16": 0.02, "int8": 0.15, "aware": 0.03}[kind] * expected.std()
    assert np.abs(found - expected).mean() <= tolerance


def test_fewer_bits_make_smaller_files(files, student):
    size = {kind: path.stat().st_size for kind, path in files.items()}
    weights = student.count_params()  # all else takes some kB, in any file
    for kind, bytes_a_weight in (("float", 4), ("float16", 2), ("int8", 1), ("aware", 1)):
        assert bytes_a_weight * weights < size[kind] < bytes_a_weight * weights + 13_000, kind


@pytest.mark.parametrize("kind", ["int8", "aware"])
def test_between_uint8_image_and_logits_all_operators_are_int8(files, kind):
    found = interpreter(files[kind])
    ends = {found.get_input_details()[0]["index"], found.get_output_details()[0]["index"]}
    types = {detail["index"]: detail["dtype"] for detail in found.get_tensor_details()}
    assert found.get_input_details()[0]["dtype"] == np.uint8
    operators = [each for each in found._get_ops_details() if each["op_name"] != "DELEGATE"]
    assert [each["op_name"] for each in operators][:: len(operators) - 1] == ["QUANTIZE", "DEQUANTIZE"]
    for operator in operators:
        used = {int(index) for index in (*operator["inputs"], *operator["outputs"]) if index >= 0} - ends
        assert {types[index] for index in used} <= {np.int8, np.int32}, operator["op_name"]
        if operator["op_name"] not in ("QUANTIZE", "DEQUANTIZE"):
            assert all(types[int(index)] == np.int8 for index in operator["outputs"])


@pytest.mark.parametrize("kind", ["int8", "aware"])
def test_convolutions_have_a_scale_for_each_channel(files, kind):
    found = interpreter(files[kind])
    scales = {
        tuple(each["shape"]): len(each["quantization_parameters"]["scales"]) for each in found.get_tensor_details()
    }
    assert scales[32, 3, 3, 16] == 32


def test_exporting_a_quantisation_aware_network_looks_at_no_image(aware, tmp_path):
    litert.export(aware, tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="int8 needs representative"):
        litert.export(models.student(5, 16, width=0.125), tmp_path / "b.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]


def test_facts_travel_inside_the_file(files, tmp_path):
    classifier = litert.Classifier(files["aware"])
    assert classifier.facts == {"temperature": 1.5, "names": ["é", "b"]}
    assert (classifier.image_size, classifier.num_classes) == ((16, 16), 5)
    assert litert.Classifier(files["float"]).facts == {}
    bare = tmp_path / "bare.tflite"
    content = files["aware"].read_bytes()
    bare.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert litert.Classifier(bare).facts == {}
    assert zipfile.ZipFile(files["aware"]).namelist() == [litert.FACTS]


def test_evaluate_takes_a_file(files, student, patches):
    report = evaluation.evaluate(files["float"], patches, teacher=student)
    assert report.agreement == 1.0 and report.accuracy == evaluation.evaluate(student, patches).accuracy


def test_one_classifier_serves_many_threads(files, patches):
    classifier = litert.Classifier(files["aware"])
    expected = classifier.predict(patches.images)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda start: classifier.predict(patches.images[start : start + 10]), range(0, 300, 10))
        )
    np.testing.assert_array_equal(np.concatenate(answers), expected)


def test_images_are_checked(files, patches):
    classifier = litert.Classifier(files["int8"])
    assert classifier.predict(patches.images[:0]).shape == (0, 5)
    whole = patches.images[:3].astype(np.float64)
    np.testing.assert_array_equal(classifier.predict(whole), classifier.predict(patches.images[:3]))
    for wrong in (patches.images[0], np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 16, 16, 1), np.uint8)):
        with pytest.raises(ValueError, match=r"images must be \[n, 16, 16, 3\]"):
            classifier.predict(wrong)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.255, got -5"):
        classifier.predict(whole - whole.min() - 5)


def test_damaged_and_foreign_files_are_refused(files, tmp_path):
    content = files["int8"].read_bytes()
    for name, data, message in (
        ("empty", b"", "not a .tflite file"),
        ("text", b"this is no network at all", "not a .tflite file"),
        ("short", content[:100], "damaged or truncated"),
        ("half", content[: len(content) // 2], "damaged or truncated"),
    ):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}.tflite is {message}"):
            litert.Classifier(path)
    with pytest.raises(FileNotFoundError, match="no .tflite file at"):
        litert.Classifier(tmp_path / "absent.tflite")


@pytest.mark.parametrize("missing", [1, 40, -4, -30])  # below 0: so many bytes behind the network are left
def test_a_file_whose_end_is_missing_is_refused(files, tmp_path, missing):
    whole = litert.attach(shutil.copy(files["int8"], tmp_path / "whole.tflite"), {"class_names": ["a"] * 40})
    cut = tmp_path / "cut.tflite"
    end = -missing if missing > 0 else litert._end_of_network(whole.read_bytes()) - missing
    cut.write_bytes(whole.read_bytes()[:end])
    with pytest.raises(ValueError, match="cut.tflite is damaged or truncated"):
        litert.Classifier(cut)


def test_damaged_facts_are_refused_not_raised_as_they_come(files, tmp_path):
    whole = litert.attach(shutil.copy(files["int8"], tmp_path / "whole.tflite"), {"class_names": ["a"] * 40})
    content = whole.read_bytes()
    begin, random = litert._end_of_network(content), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for place in random.integers(begin, len(content), 4):
            damaged[place] = random.integers(256)
        with contextlib.suppress(ValueError):
            litert._read_facts(bytes(damaged), whole)


def test_a_damaged_network_never_reaches_litert(files, tmp_path):
    content, random = files["int8"].read_bytes(), np.random.default_rng(0)
    end, path = litert._end_of_network(content), tmp_path / "damaged.tflite"
    for place in random.integers(8, end, 50):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="damaged.tflite is damaged: its network is not the one"):
            litert.Classifier(path)


def test_files_of_other_tools_are_read_whatever_they_bring(files, tmp_path, patches):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(files["int8"].read_bytes().split(b"PK\x03\x04")[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "one\ntwo\n")
    found = litert.Classifier(path)
    assert found.facts == {}
    np.testing.assert_array_equal(
        found.predict(patches.images[:3]), litert.Classifier(files["int8"]).predict(patches.images[:3])
    )


def test_an_int8_file_takes_pixels_as_they_are_even_if_dark_images_stood_for_all(tmp_path):
    from kd_lib import models

    student = models.student(5, 16, width=1 / 16, contrast=False)
    dark = np.random.default_rng(0).integers(0, 120, (60, 16, 16, 3)).astype(np.uint8)
    path = litert.export(student, tmp_path / "dark.tflite", representative=dark)
    expected = student.predict(dark, verbose=0)
    assert np.abs(litert.Classifier(path).predict(dark) - expected).mean() < 0.1 * expected.std(axis=0).mean()
    assert dark.max() < 120, "the images themselves are left as they were"


def test_a_network_of_another_kind_is_refused(tmp_path):
    inputs = layers.Input((4,))
    vector = keras.Model(inputs, layers.Dense(3)(inputs))
    vector.export(str(tmp_path / "vector.tflite"), format="litert", verbose=False)
    with pytest.raises(ValueError, match=r"must take one image \[1, height, width, 3\].*\(1, 4\)"):
        litert.Classifier(tmp_path / "vector.tflite")
    for model, message in (
        (vector, "must take images and give logits"),
        (models.mobilenet_v2(3, 32, None), "any size"),
    ):
        with pytest.raises(ValueError, match=message):
            litert.export(model, tmp_path / "other.tflite", quantize=None)


def test_export_says_what_is_wrong(student, tmp_path):
    with pytest.raises(ValueError, match="quantize must be one of None, 'float16', 'int8'. Received: 'int4'"):
        litert.export(student, tmp_path / "a.tflite", quantize="int4")
    with pytest.raises(ValueError, match="must end in .tflite"):
        litert.export(student, tmp_path / "a.bin", quantize=None)
    with pytest.raises(ValueError, match="representative images must be"):
        litert.export(student, tmp_path / "a.tflite", representative=np.zeros((3, 8, 8, 3)))


def test_running_a_file_loads_no_tensorflow(files):
    code = (
        "import sys, numpy as np; from kd_lib import litert; "
        f"print(litert.Classifier({str(files['int8'])!r}).predict(np.zeros((2, 16, 16, 3), np.uint8)).shape); "
        "assert not {'tensorflow', 'keras', 'jax', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "(2, 5)", done.stderr
