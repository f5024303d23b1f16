"""Tests of kd_lib.clinic: each patient has its mistake, and loses it when the mistake is taken out."""

import keras
import numpy as np
import pytest

from kd_lib import clinic, losses


def test_the_ward_holds_as_many_signs_of_each_class_and_other_ones_for_the_check():
    (images, labels), (others, _) = clinic.ward(9), clinic.check_of(9)
    assert images.shape == (72, 32, 32, 3) and images.dtype == np.uint8 and labels.dtype == np.int32
    assert np.bincount(labels).tolist() == [9] * 8
    assert not (images[:, None] == others).all(axis=(2, 3, 4)).any()


@pytest.mark.parametrize("mistake", [True, False])
def test_the_first_patient_learns_from_its_teacher_only_without_the_mistake(mistake):
    history = clinic.case_1(4, 200, mistake)
    assert (history["val_accuracy"][-1] > 0.8) is not mistake, history


def test_the_fourth_patient_never_updates_its_batch_norm_statistics():
    def moved(mistake):
        network = clinic.case_4(1, 9, mistake)["network"]
        norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return [bool(np.any(np.asarray(layer.moving_mean) != 0)) for layer in norms]

    sick, sound = moved(True), moved(False)
    assert sound and not any(sick) and all(sound)


def test_a_constant_added_to_the_teachers_logits_changes_a_wrong_loss_only():
    def on_logits(student, teacher):
        return keras.losses.mean_squared_error(teacher, student)

    assert clinic.gap_of_shift(lambda student, teacher: losses.kd(student, teacher, 4.0)) < 1e-3
    assert clinic.gap_of_shift(on_logits) > 0.1
