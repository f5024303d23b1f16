"""Tests of kd_lib.holdout: few physical signs to learn from, all others to choose on."""

import numpy as np
import pytest

from kd_lib.datasets import load_dataset
from kd_lib.holdout import keep_groups


@pytest.fixture(scope="module")
def signs():
    return load_dataset("signs", limit=2580)


def test_no_physical_sign_is_on_both_sides_and_every_class_is(signs):
    few = keep_groups(signs, 0.5, every=1)
    whole = signs.refit_split()
    assert not set(few.train.groups) & set(few.validation.groups)
    assert set(few.train.groups) | set(few.validation.groups) == set(whole.groups)
    assert len(np.unique(few.train.labels)) == 43
    for label in range(43):
        groups = len(np.unique(whole.groups[whole.labels == label]))
        kept = len(np.unique(few.train.groups[few.train.labels == label]))
        assert kept == max(2, round(groups / 2))


def test_the_official_test_images_are_out_of_reach(signs):
    few = keep_groups(signs, 0.5)
    assert few.test is few.validation and not set(few.test.ids) & set(signs.test.ids)


def test_every_third_image_is_enough_and_the_key_is_another(signs):
    few, all_of_them = keep_groups(signs, 0.5), keep_groups(signs, 0.5, every=1)
    assert len(few.validation) == -(-len(all_of_them.validation) // 3)
    assert len({str(one.fingerprint) for one in (signs, few, all_of_them, keep_groups(signs, 0.5, seed=1))}) == 4
    assert few.fingerprint == keep_groups(signs, 0.5).fingerprint


def test_a_share_of_1_keeps_the_data_as_they_are(signs):
    assert keep_groups(signs, 1.0) is signs
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share must lie in"):
            keep_groups(signs, share)


def test_too_few_signs_to_hold_any_out_are_refused(signs):
    with pytest.raises(ValueError, match="empty"):
        keep_groups(signs, 0.9999)
