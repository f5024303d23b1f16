"""Tests of kd_lib.scale: one reader of the environment, amounts by scale, and no code path that depends on its name."""

import ast
import dataclasses
from pathlib import Path

import pytest

import kd_lib
from kd_lib import builders
from kd_lib import scale as scale_module
from kd_lib.scale import Scale

LIBRARY = Path(kd_lib.__file__).parent
NAMES = ("smoke", "laptop", "full")


def sources():
    return sorted(LIBRARY.rglob("*.py"))


def readers_of_the_environment(source):
    """Names of what a module's source uses to read environment variables."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found |= {node.attr} & {"environ", "environb", "getenv"}
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found |= {name.name for name in node.names} & {"environ", "environb", "getenv"}
    return found


def comparisons_with_a_scale_name(source):
    """Lines that compare anything with "smoke", "laptop" or "full". `row["scale"] == scale.name` looks a row up."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            lines += [node.lineno for value in constants if value in NAMES]
    return lines


def test_without_variables_it_is_laptop_on_drawn_signs_under_the_home_folder():
    scale = Scale.from_env({})
    assert (scale.name, scale.data) == ("laptop", "signs")
    assert scale.home == Path.home() / ".cache" / "kd_lib"


def test_every_variable_is_read(tmp_path):
    environ = {"KD_SCALE": "smoke", "KD_DATA": "gtsrb", "KD_HOME": str(tmp_path), "KD_MOBILENET": "imagenet"}
    assert set(environ) == set(scale_module.VARIABLES)
    scale = Scale.from_env(environ)
    assert (scale.name, scale.data, scale.home, scale.mobilenet) == ("smoke", "gtsrb", tmp_path, "imagenet")
    assert Scale.from_env(environ | {"KD_MOBILENET": ""}).mobilenet == "signs"
    for folder in (scale.archives, scale.datasets, scale.artifacts, scale.results):
        assert tmp_path in folder.parents


def test_the_environment_itself_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_SCALE", "full")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    assert Scale.from_env().name == "full"
    assert Scale.from_env().home == scale_module.home() == tmp_path


def test_what_a_command_line_says_counts_before_the_environment():
    environ = {"KD_SCALE": "smoke", "KD_DATA": "gtsrb", "KD_MOBILENET": "signs"}
    scale = Scale.from_env(environ, name="full", data="signs")
    assert (scale.name, scale.data, scale.mobilenet) == ("full", "signs", "signs")
    assert Scale.named("full").mobilenet == "imagenet"


def test_a_folder_is_found_from_everywhere_and_a_name_stays_a_name(tmp_path, monkeypatch):
    (tmp_path / "my signs").mkdir()
    (tmp_path / "signs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Scale.named("smoke", data="./my signs").data == str(tmp_path / "my signs")
    assert Scale.named("smoke", data="signs").data == "signs"


def test_the_names_of_data_sets_are_those_that_can_be_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(builders, "NAMES", (*builders.NAMES, "mnist"))
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [Scale.named("smoke", data=name).data for name in builders.NAMES] == list(builders.NAMES)


@pytest.mark.parametrize(
    ("variable", "values", "valid"),
    [
        ("KD_DATA", ("gtrsb", "imagenet", "./nowhere", "a_file"), "signs, gtsrb, btsc, cifar10, cifar100, or the path"),
        ("KD_MOBILENET", ("imagenett", "gtsrb", "./nowhere.h5", "."), "imagenet, signs, or an existing weights file"),
    ],
)
def test_an_unknown_choice_is_refused_at_once_with_the_valid_ones(variable, values, valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    for value in values:
        with pytest.raises(ValueError, match=f"Unknown .*'{value}'. Choose one of: {valid}.*{variable}"):
            Scale.from_env({"KD_SCALE": "smoke", variable: value})
    assert Scale.named("smoke", mobilenet="a_file").mobilenet == str(tmp_path / "a_file")


def test_a_tilde_in_kd_home_is_expanded():
    assert scale_module.home({"KD_HOME": "~/signs"}) == (Path.home() / "signs").resolve()


def test_an_unknown_scale_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="'huge'.*smoke, laptop, full") as caught:
        Scale.from_env({"KD_SCALE": "huge"})
    assert "KD_SCALE" in str(caught.value)


def test_a_scale_changes_amounts_and_nothing_else():
    smoke, laptop, full = (Scale.named(name) for name in NAMES)
    assert {type(scale) for scale in (smoke, laptop, full)} == {Scale}
    assert smoke.limit < laptop.limit and full.limit is None
    for field in ("epochs", "teacher_epochs", "teacher_width", "views"):
        assert getattr(smoke, field) <= getattr(laptop, field) <= getattr(full, field)
    assert len(laptop.seeds) >= 3 and len(full.seeds) >= 3
    assert smoke.limit >= 43, "every class needs an image at every scale"


def test_a_scale_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scale.named("smoke").epochs = 100


def test_photographs_at_laptop_scale_use_the_teacher_that_ships():
    laptop, full = Scale.named("laptop", data="gtsrb"), Scale.named("full", data="gtsrb")
    for field in ("teacher_epochs", "teacher_width", "teacher_batch_size", "teacher_limit", "teacher_strength"):
        assert getattr(laptop, field) == getattr(full, field)
    assert laptop.epochs == Scale.named("laptop").epochs and laptop.limit == Scale.named("laptop").limit
    assert Scale.named("laptop", data="btsc").teacher_epochs == Scale.named("laptop").teacher_epochs


def test_networks_of_the_quiz_are_trained_on_drawn_signs():
    assert Scale.named("full", data="gtsrb").quiz.data == "signs"


def test_no_run_writes_figures_into_the_repository(tmp_path):
    for name, data in (("full", "gtsrb"), ("full", "signs"), ("laptop", "gtsrb"), ("smoke", "signs")):
        assert tmp_path in Scale.named(name, data=data, home_folder=tmp_path).figures.parents


def test_a_folder_has_a_name_of_its_own(tmp_path):
    for name, expected in (("cats", "cats"), ("gtsrb", "gtsrb-folder")):
        (tmp_path / name).mkdir()
        assert Scale.named("full", data=str(tmp_path / name), home_folder=tmp_path).data_name == expected
    assert Scale.named("full", data="gtsrb", home_folder=tmp_path).data_name == "gtsrb"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_home_that_is_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="KD_HOME must be a folder"):
        Scale.from_env({"KD_HOME": str(tmp_path / "file" / below)})


def test_the_printed_line_names_scale_data_and_amounts():
    scale = Scale.named("laptop")
    line = str(scale)
    assert "\n" not in line
    for part in ("laptop", "signs", f"{scale.limit:,} images", f"{scale.epochs} epochs", "seeds 0, 1, 2"):
        assert part in line
    assert "all images" in str(Scale.named("full"))


def test_only_scale_reads_environment_variables():
    readers = [path.name for path in sources() if readers_of_the_environment(path.read_text(encoding="utf-8"))]
    assert readers == ["scale.py"]


def test_no_code_path_depends_on_the_name_of_a_scale():
    asking = {path.name: comparisons_with_a_scale_name(path.read_text(encoding="utf-8")) for path in sources()}
    del asking["scale.py"]
    assert not any(asking.values()), asking


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ.get('A')",
        "import os\nos.getenv('A')",
        "from os import environ",
        "from os import getenv as g",
    ],
)
def test_the_search_for_readers_of_the_environment_finds(source):
    assert readers_of_the_environment(source)


@pytest.mark.parametrize(
    "source", ["if scale.name == 'smoke': pass", "x = name in ('laptop', 'full')", "a = s != 'full'"]
)
def test_the_search_for_code_paths_by_scale_finds(source):
    assert comparisons_with_a_scale_name(source)


def test_the_trainings_by_which_is_chosen_see_drawn_signs_in_proportion():
    full, laptop = Scale.named("full", data="gtsrb"), Scale.named("laptop")
    assert full.sweep.drawn == round(full.sweep_share * full.drawn) and full.sweep.epochs == full.sweep_epochs
    assert full.sweep.teacher_drawn == round(full.sweep_share * full.teacher_drawn)
    assert laptop.sweep_share == 1 and laptop.sweep.teacher_epochs == laptop.teacher_epochs
