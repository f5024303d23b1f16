"""Datasets: what is split, cached, downloaded and refused, shown on tiny official-layout archives of drawn signs."""

import dataclasses
import errno
import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from kd_lib import datasets, signs
from kd_lib.builders import Table, archives, cache, layouts, photos, pixels, selection
from kd_lib.builders.folder import FolderSource

CLASSES, TRACKS, FRAMES, TESTS = 43, 3, 3, 2  # of the tiny GTSRB
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
ARCHIVES = Path(os.environ.get("KD_HOME") or Path.home() / ".cache" / "kd_lib").expanduser() / "archives"


@functools.cache
def drawn(size=24):
    """Training signs [43, 3, 3, size, size, 3] and test signs [86, size, size, 3]."""
    grid = np.mgrid[:CLASSES, : TRACKS + TESTS, :FRAMES].reshape(3, -1)
    images = signs.render(*grid, image_size=size).reshape(CLASSES, TRACKS + TESTS, FRAMES, size, size, 3)
    return images[:, :TRACKS], images[:, TRACKS:, 0].reshape(-1, size, size, 3)


def ppm(image):
    return f"P6\n{image.shape[1]} {image.shape[0]}\n255\n".encode() + image.tobytes()


def row(name, image, label, roi=(3, 4, 19, 18)):
    return ";".join(str(value) for value in (name, image.shape[1], image.shape[0], *roi, label)) + "\n"


def write_gtsrb(folder):
    """Write tiny archives with the official names and layout."""
    train, test = drawn()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "GTSRB_Final_Training_Images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for label in range(CLASSES):
            place, table = f"GTSRB/Final_Training/Images/{label:05d}/", HEADER
            for track, frame in np.ndindex(TRACKS, FRAMES):
                name = f"{track:05d}_{frame:05d}.ppm"
                archive.writestr(place + name, ppm(train[label, track, frame]))
                table += row(name, train[label, track, frame], label)
            archive.writestr(f"{place}GT-{label:05d}.csv", table)
    with zipfile.ZipFile(folder / "GTSRB_Final_Test_Images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        table = HEADER
        for index, image in enumerate(test):
            archive.writestr(f"GTSRB/Final_Test/Images/{index:05d}.ppm", ppm(image))
            table += row(f"{index:05d}.ppm", image, index // TESTS)
        archive.writestr("GTSRB/Final_Test/Images/GT-final_test.test.csv", table.replace(";ClassId", ""))
    with zipfile.ZipFile(folder / "GTSRB_Final_Test_GT.zip", "w") as archive:
        archive.writestr("GT-final_test.csv", table)
    return folder


def layout_of(folder, url="http://127.0.0.1:9/"):
    """GTSRB's layout with the sizes, sums and counts of the tiny archives, at another address."""
    own = tuple(
        archives.Archive(
            official.name, url + official.name, archives.sha256_of(path := folder / official.name), path.stat().st_size
        )
        for official in layouts.GTSRB.archives
    )
    return replace(layouts.GTSRB, archives=own, train=CLASSES * TRACKS * FRAMES, test=CLASSES * TESTS)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_gtsrb(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, official):
    """A KD_HOME with the tiny GTSRB, its records written once for all tests."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(official, home / "archives")
    patch = pytest.MonkeyPatch()
    patch.setenv("KD_HOME", str(home))
    patch.setitem(photos.BUILDERS, "gtsrb", ("gtsrb", "Gtsrb", layout_of(official)))
    yield home
    patch.undo()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on localhost with byte ranges; `requests` lists what was asked, `broken` names answer 404."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.broken, self.cut = folder, [], set(), {}
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.requests.append((name, self.headers.get("Range")))
        if name in self.server.broken:
            return self.send_error(404)
        data = (self.server.folder / name).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : self.server.cut.pop(name, None)])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(official):
    server = Server(official)
    yield server
    server.shutdown()
    server.server_close()


# GTSRB through its builder


def test_gtsrb_holds_every_image_with_its_label_and_official_name(prepared):
    data = datasets.load_dataset("gtsrb", image_size=24)
    assert [len(split) for split in data.splits.values()] == [43 * 6, 43 * 3, 86]
    assert data.class_names == tuple(signs.CLASS_NAMES)
    train, test = drawn()
    for split in (data.train, data.validation):
        for image, label, group, name in zip(split.images, split.labels, split.groups, split.ids, strict=True):
            track, frame = int(name[6:11]), int(name[12:17])
            assert name == f"{label:05d}/{track:05d}_{frame:05d}.ppm" and group == label * 100_000 + track
            np.testing.assert_array_equal(image, train[label, track, frame])
    np.testing.assert_array_equal(data.test.images, test)
    np.testing.assert_array_equal(data.test.labels, np.arange(86) // TESTS)
    assert data.test.ids[7] == "00007.ppm"
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == data.train.groups.dtype == np.int32


def test_no_track_lies_on_both_sides_and_every_class_is_in_validation(prepared):
    data = datasets.load_dataset("gtsrb", image_size=24)
    assert not set(data.train.groups) & set(data.validation.groups)
    assert not (set(data.train.groups) | set(data.validation.groups)) & set(data.test.groups)
    assert set(data.validation.labels) == set(data.train.labels) == set(range(43))


def test_same_seed_same_split_and_another_seed_another(prepared):
    first, again, other = (datasets.load_dataset("gtsrb", image_size=24, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert set(first.validation.ids) != set(other.validation.ids)
    np.testing.assert_array_equal(first.test.images, other.test.images)


def test_without_its_archives_what_was_made_of_them_is_enough(prepared):
    expected = datasets.load_dataset("gtsrb", image_size=24)
    away = (prepared / "archives").rename(prepared / "away")
    try:
        other = datasets.load_dataset("gtsrb", image_size=24, seed=7)
    finally:
        away.rename(prepared / "archives")
    np.testing.assert_array_equal(other.test.images, expected.test.images)


def test_crop_takes_the_annotated_box(prepared):
    data = datasets.load_dataset("gtsrb", image_size=16, crop=True)
    _, test = drawn()
    expected = Image.fromarray(test[5][4:19, 3:20]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.test.images[5], np.asarray(expected))


def test_limit_bounds_each_split_and_keeps_classes_balanced(prepared):
    data = datasets.load_dataset("gtsrb", image_size=24, limit=100)
    for split in data.splits.values():
        counts = np.bincount(split.labels, minlength=43)
        assert len(split) <= 100 and counts.min() >= 1 and counts.max() - counts.min() <= 1
    assert len(np.unique(data.train.groups)) == 43  # 2 or 3 frames, of one track in each class


def test_refit_split_is_train_and_validation_without_a_copy(prepared):
    data = datasets.load_dataset("gtsrb", image_size=24)
    both = data.refit_split()
    np.testing.assert_array_equal(both.images, np.concatenate([data.train.images, data.validation.images]))
    np.testing.assert_array_equal(both.ids, np.concatenate([data.train.ids, data.validation.ids]))
    assert np.shares_memory(both.images, data.train.images)
    assert isinstance(data.train.images, np.memmap)


def test_refit_split_of_a_changed_dataset_pairs_images_with_their_labels(prepared):
    data = datasets.load_dataset("gtsrb", image_size=24)
    part = dataclasses.replace(data, train=data.train.subset(slice(1, len(data.train))))
    both = part.refit_split()
    assert len(both) == len(data.train) - 1 + len(data.validation)
    np.testing.assert_array_equal(both.images[0], data.train.images[1])


def test_cached_dataset_loads_without_tensorflow_and_without_archives(prepared):
    expected = datasets.load_dataset("gtsrb", image_size=24).fingerprint
    code = (
        "import json, sys, kd_lib\n"
        "data = kd_lib.load_dataset('gtsrb', image_size=24, data_dir='nowhere')\n"
        "heavy = [m for m in ('tensorflow', 'tensorflow_datasets', 'keras') if m in sys.modules]\n"
        "print(json.dumps([heavy, data.fingerprint]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, fingerprint = json.loads(done.stdout.splitlines()[-1])
    assert heavy == [] and fingerprint == expected


@pytest.mark.parametrize("damage", ["truncated", "meta", "missing", "pickled"])
def test_damaged_cache_is_built_again_with_a_warning(prepared, damage):
    intact = datasets.load_dataset("gtsrb", image_size=12)
    pixels_before = np.array(intact.test.images)
    folder = prepared / "datasets" / "gtsrb-12px-seed0"
    if damage == "truncated":
        with open(folder / "images.npy", "r+b") as file:
            file.truncate(5000)
    elif damage == "meta":
        (folder / "meta.json").write_text('{"format": 1')
    elif damage == "missing":
        (folder / "ids.npy").unlink()
    else:
        np.save(folder / "ids.npy", np.array([print] * 10, object), allow_pickle=True)
    with pytest.warns(UserWarning, match="is damaged and is built again"):
        data = datasets.load_dataset("gtsrb", image_size=12)
    np.testing.assert_array_equal(data.test.images, pixels_before)
    assert not list(folder.parent.glob(".new-*"))


def test_a_cache_that_cannot_be_read_now_is_not_built_again(home, monkeypatch):
    load = functools.partial(datasets.load_dataset, "signs", image_size=8, limit=43)
    before = load().fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        patch.setattr(signs, "render", None)
        with pytest.raises(OSError, match="Too many open files"):
            load()
    assert load().fingerprint == before


def test_damaged_records_are_built_again_with_a_warning(prepared):
    datasets.load_dataset("gtsrb", image_size=24)
    (record,) = (prepared / "datasets" / "tfds").rglob("*train.tfrecord*")
    data = bytearray(record.read_bytes())
    data[5000] ^= 255
    record.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged and is built again"):
        again = datasets.load_dataset("gtsrb", image_size=13)
    assert len(again.train) == 43 * 6


@pytest.fixture
def source(official, home):
    """The tiny GTSRB in a KD_HOME of the test's own."""
    shutil.copytree(official, home / "archives")
    return photos.ArchiveSource("gtsrb", home / "archives", home / "datasets" / "tfds", layout_of(official))


def files_of(home):
    return sorted(path for path in home.rglob("*") if path.is_file())


def test_damaged_records_are_kept_when_the_archives_are_gone(source, home):
    source.table()
    shutil.rmtree(home / "archives")
    (record,) = home.rglob("*train.tfrecord*")
    data = bytearray(record.read_bytes())
    data[5000] ^= 255
    record.write_bytes(data)
    before = files_of(home)
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(FileNotFoundError, match="GTSRB_Final_Training"):
        source.table()
    assert files_of(home) == before and record.read_bytes() == data


@pytest.mark.filterwarnings("error:.*is damaged:UserWarning")
def test_records_that_cannot_be_read_now_are_kept(source, home, monkeypatch):
    import tensorflow as tf

    source.table()
    shutil.rmtree(home / "archives")
    before = files_of(home)
    refusal = tf.errors.ResourceExhaustedError(None, None, "train.tfrecord; Too many open files")
    with monkeypatch.context() as patch:
        patch.setattr(tf.data, "TFRecordDataset", Mock(side_effect=refusal))
        with pytest.raises(OSError, match="Could not read .*gtsrb.*: Too many open files. .*same command again"):
            source.table()
    assert files_of(home) == before and len(source.table().labels) == CLASSES * (TRACKS * FRAMES + TESTS)


def test_a_disk_that_fills_while_records_are_written_is_said_and_the_archives_are_kept(source, home):
    resource = pytest.importorskip("resource")  # Windows has none
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # stands for the full disk
    try:
        with pytest.raises(OSError, match="Could not write .*gtsrb.*: File too large. Free some space.*same command"):
            source.table()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in files_of(home)] == sorted((TRAIN, TEST, TRUTH))
    assert len(source.table().labels) == CLASSES * (TRACKS * FRAMES + TESTS)


def test_too_little_room_for_records_is_said_before_any_is_written(source, home, monkeypatch):
    needed = archives.unpacked_size(source.layout.archives, home / "archives")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 10_000_000 + needed - 1))
    with pytest.raises(OSError, match="MB are free. Free some space, or set KD_HOME"):
        source.table()
    assert [path.name for path in files_of(home)] == sorted((TRAIN, TEST, TRUTH))


def test_other_archives_replace_the_cache(prepared, official, monkeypatch, tmp_path, capsys):
    before = datasets.load_dataset("gtsrb", image_size=14)
    other = shutil.copytree(official, tmp_path / "other")
    repack = other / "GTSRB_Final_Test_GT.zip"
    with zipfile.ZipFile(repack) as archive:
        text = archive.read("GT-final_test.csv").decode()
    with zipfile.ZipFile(repack, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "GT-final_test.csv", text.replace("00000.ppm;24;24;3;4;19;18;0", "00000.ppm;24;24;3;4;19;18;9")
        )
    data = datasets.load_dataset("gtsrb", image_size=14, data_dir=other)
    assert (before.test.labels[0], data.test.labels[0]) == (0, 9)
    assert "GTSRB_Final_Test_GT.zip is not the official file byte for byte" in capsys.readouterr().out


def test_builder_works_as_a_tensorflow_dataset(prepared, tmp_path):
    from kd_lib.builders.gtsrb import Gtsrb

    builder = Gtsrb(layout=photos.BUILDERS["gtsrb"][2], archives_dir=prepared / "archives", data_dir=tmp_path)
    builder.download_and_prepare()
    train, _ = drawn()
    example = next(iter(builder.as_dataset(split="train").as_numpy_iterator()))
    np.testing.assert_array_equal(example["image"], train[0, 0, 0])
    assert example["roi"].tolist() == [3, 4, 19, 18] and example["id"] == b"00000/00000_00000.ppm"


# Archives: downloading and checking


def test_finished_downloads_are_kept_when_one_fails_and_not_fetched_again(server, official, tmp_path):
    layout = layout_of(official, server.url)
    server.broken.add("GTSRB_Final_Test_Images.zip")
    with pytest.raises(FileNotFoundError) as error:
        archives.fetch(layout.archives, tmp_path)
    for part in (server.url + "GTSRB_Final_Test_Images.zip", str(tmp_path / "GTSRB_Final_Test_Images.zip"), "404"):
        assert part in str(error.value)
    kept = ["GTSRB_Final_Test_GT.zip", "GTSRB_Final_Training_Images.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    server.broken.clear()
    server.requests.clear()
    archives.fetch(layout.archives, tmp_path)
    assert server.requests == [("GTSRB_Final_Test_Images.zip", None)]
    assert not archives.note_differences(layout.archives, tmp_path)


def test_broken_download_continues_where_it_ended(server, official, tmp_path):
    archive = layout_of(official, server.url).archives[0]
    server.cut[archive.name] = 1000
    with pytest.raises(FileNotFoundError, match="ended after"):
        archives.fetch([archive], tmp_path)
    assert not (tmp_path / archive.name).exists()
    archives.fetch([archive], tmp_path)
    assert server.requests == [(archive.name, None), (archive.name, "bytes=1000-")]
    assert archives.sha256_of(tmp_path / archive.name) == archive.sha256


def test_download_with_another_checksum_is_refused(server, official, tmp_path):
    archive = replace(layout_of(official, server.url).archives[2], sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(FileNotFoundError, match="not the official file"):
        archives.fetch([archive], tmp_path)
    assert not list(tmp_path.iterdir())


def test_archives_at_hand_need_no_network(server, official, tmp_path):
    shutil.copytree(official, tmp_path, dirs_exist_ok=True)
    archives.fetch(layout_of(official, server.url).archives, tmp_path)
    assert server.requests == []


def rewrite(path, change):
    """Rewrite a zip entry by entry; change(name, data) -> (name, data) or None."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in filter(None, (change(*entry) for entry in entries)):
            archive.writestr(name, data)


TRAIN, TEST, TRUTH = (archive.name for archive in layouts.GTSRB.archives)
DAMAGES = {
    "truncated": (TRAIN, lambda path: path.write_bytes(path.read_bytes()[:20_000]), "cannot be opened as a zip file"),
    "no zip": (TRUTH, lambda path: path.write_text("<html>Not found</html>"), "cannot be opened as a zip file"),
    "class missing": (
        TRAIN,
        lambda path: rewrite(path, lambda name, data: None if "/00042/" in name else (name, data)),
        "42 class folders",
    ),
    "image missing": (
        TRAIN,
        lambda path: rewrite(path, lambda name, data: None if name.endswith("00007/00001_00001.ppm") else (name, data)),
        "00007/00001_00001.ppm is not there",
    ),
    "row missing": (
        TRAIN,
        lambda path: rewrite(
            path, lambda name, data: (name, data[: data.rindex(b"\n", 0, -1) + 1] if "07.csv" in name else data)
        ),
        "images in its CSVs",
    ),
    "test image missing": (
        TEST,
        lambda path: rewrite(path, lambda name, data: None if name.endswith("00003.ppm") else (name, data)),
        "00003.ppm",
    ),
    "label out of range": (
        TRUTH,
        lambda path: rewrite(path, lambda name, data: (name, data.replace(b";18;42\n", b";18;43\n"))),
        "class 43, outside 0..42",
    ),
    "row doubled": (
        TRUTH,
        lambda path: rewrite(path, lambda name, data: (name, data.replace(b"00051.ppm;", b"00050.ppm;"))),
        "GT-final_test.csv lists 00050.ppm twice",
    ),
    "too few": (
        TRUTH,
        lambda path: rewrite(path, lambda name, data: (name, data[: data.index(b"00050.ppm")])),
        "50 labels, not 86",
    ),
    "points outside": (
        TRAIN,
        lambda path: rewrite(path, lambda name, data: ("../../evil.ppm" if "0_00000.ppm" in name else name, data)),
        "points outside",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bad_archive_is_named_and_the_good_ones_are_kept(official, tmp_path, damage):
    name, spoil, message = DAMAGES[damage]
    shutil.copytree(official, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        layout_of(official).index(tmp_path)
    assert name in str(error.value) and "run again" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((TRAIN, TEST, TRUTH))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "..\\evil", "C:\\evil"])
def test_entry_outside_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ValueError, match="points outside"):
        archives.open_archive(tmp_path / "bad.zip")


def test_damaged_pixels_are_found_while_reading(source, home):
    path = home / "archives" / TEST
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("GTSRB/Final_Test/Images/00040.ppm")
    data = bytearray(path.read_bytes())
    middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="00040.ppm is damaged") as error:
        source.table()
    assert TEST in str(error.value)
    assert sorted(path.name for path in (home / "archives").iterdir()) == sorted((TRAIN, TEST, TRUTH))


# Pixels


def test_png_of_a_photograph_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(pixels.decode_png(pixels.encode_png(image))), image)
    np.testing.assert_array_equal(np.asarray(pixels.decode(pixels.encode_png(image))), image)


def test_ppm_with_a_comment_is_read_and_a_short_one_refused():
    image = np.arange(36, dtype=np.uint8).reshape(4, 3, 3)
    np.testing.assert_array_equal(pixels.read_ppm(b"P6\n# made by hand\n3 4\n255\n" + image.tobytes()), image)
    with pytest.raises(ValueError, match="12 pixels|3 x 4"):
        pixels.read_ppm(b"P6 3 4 255\n" + image.tobytes()[:-1])


def test_shrinking_averages_evenly_and_enlarging_is_smooth():
    checks = Image.fromarray(np.indices((32, 32)).sum(0).astype(np.uint8) % 2 * 200).convert("RGB")
    assert np.unique(pixels.to_square(checks, 16)[1:-1, 1:-1]).tolist() == [100]
    # A thin line keeps its weight wherever it stands; a box filter takes one pixel here, two there.
    for place in (20, 21, 22):
        line = np.full((48, 48, 3), 200, np.uint8)
        line[:, place] = 0
        shrunk = pixels.to_square(Image.fromarray(line), 32)
        assert (200.0 - shrunk).sum() / 32 / 3 == pytest.approx(200 * 32 / 48, rel=0.03)
    ramp = Image.fromarray(np.array([[0, 200]] * 2, np.uint8)).convert("RGB")
    assert len(np.unique(pixels.to_square(ramp, 16))) > 8


def test_any_kind_of_image_becomes_rgb():
    def encoded(image, kind):
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    grey = Image.fromarray(np.full((4, 4), 90, np.uint8))
    assert np.asarray(pixels.decode(encoded(grey, "PNG"))).tolist() == np.full((4, 4, 3), 90).tolist()
    deep = Image.fromarray(np.full((4, 4), 90 * 257, np.uint16))
    assert np.asarray(pixels.decode(encoded(deep, "PNG")))[0, 0].tolist() == [90, 90, 90]
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert np.asarray(pixels.decode(encoded(clear, "PNG")))[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(pixels.decode(encoded(grey.convert("P"), "GIF")))[0, 0].tolist() == [90, 90, 90]


# Splits and limits


def table_of(tracks, frames):
    """A Table with tracks[label] tracks of `frames` images."""
    labels = np.repeat(np.arange(len(tracks)), np.array(tracks) * frames)
    groups = np.concatenate([label * 1000 + np.repeat(np.arange(n), frames) for label, n in enumerate(tracks)])
    return Table(labels, groups, labels.astype(str), np.zeros(len(labels), bool), tuple("abc"))


def test_fifteen_percent_of_each_class_s_groups_are_held_out():
    table = table_of((100, 20, 2), 4)
    held = selection.pick_groups(table.labels, table.groups, 0.15, seed=3)
    assert [len(np.unique(table.groups[held & (table.labels == label)])) for label in range(3)] == [15, 3, 1]
    assert not set(table.groups[held]) & set(table.groups[~held])


def test_limit_takes_a_few_frames_a_track_for_training_and_fewer_of_more_tracks_for_evaluation():
    table = table_of((10, 10, 10), 30)
    few = selection.limited(table.labels, table.groups, 90, seed=0, spread=False)
    assert np.unique(table.groups[few], return_counts=True)[1].tolist() == [6] * 15
    spread = selection.limited(table.labels, table.groups, 90, seed=0, spread=True)
    assert np.unique(table.groups[spread], return_counts=True)[1].tolist() == [3] * 30
    more = selection.limited(table.labels, table.groups, 360, seed=0, spread=False)
    assert np.unique(table.groups[more], return_counts=True)[1].tolist() == [12] * 30
    spread = selection.limited(table.labels, table.groups, 180, seed=0, spread=True)
    assert np.unique(table.groups[spread], return_counts=True)[1].tolist() == [6] * 30
    one = selection.limited(table.labels, table.groups, 3, seed=0, spread=False)
    assert table.labels[one].tolist() == [0, 1, 2]


def test_limited_test_images_are_the_same_for_every_seed():
    data = [datasets.load_dataset("signs", image_size=8, seed=seed, limit=86) for seed in (0, 1)]
    assert data[0].test.ids.tolist() == data[1].test.ids.tolist()
    assert data[0].validation.ids.tolist() != data[1].validation.ids.tolist()


def test_limit_gives_what_a_small_class_lacks_to_the_others():
    table = table_of((1, 10, 10), 2)
    chosen = selection.limited(table.labels, table.groups, 14, seed=0, spread=False)
    assert np.bincount(table.labels[chosen]).tolist() == [2, 6, 6]


# The drawn signs


def test_signs_are_cached_as_they_are_drawn_and_limited_before_drawing(home, monkeypatch):
    data = datasets.load_dataset("signs", image_size=16, limit=86)
    assert [len(split) for split in data.splits.values()] == [86, 86, 86]
    label, track, frame = int(data.train.ids[5][:5]), int(data.train.ids[5][6:11]), int(data.train.ids[5][12:17])
    np.testing.assert_array_equal(data.train.images[5], signs.render([label], [track], [frame], image_size=16)[0])
    assert data.train.labels[5] == label and data.train.groups[5] == label * 100_000 + track
    assert not set(data.train.groups) & (set(data.validation.groups) | set(data.test.groups))
    monkeypatch.setattr(signs, "render", None)
    assert datasets.load_dataset("signs", image_size=16, limit=86).fingerprint == data.fingerprint
    assert data.describe()["train"] == {"images": 86, "classes": 43, "groups": 43}


# The user's own folder


def make_folder(folder, per_class=10):
    for kind, colour in (("circle", "red"), ("square", "blue")):
        (folder / kind).mkdir(parents=True)
        for index in range(per_class):
            Image.new("RGB", (20 + index, 30), colour).save(folder / kind / f"{index}.png")
    return folder


def test_folder_of_classes_is_split_and_unreadable_files_are_reported(home, tmp_path, capsys):
    folder = make_folder(tmp_path / "own")
    (folder / "square" / "broken.png").write_bytes(b"no image at all")
    (folder / "circle" / "cut.png").write_bytes((folder / "circle" / "3.png").read_bytes()[:60])
    (folder / "circle" / "3.png").rename(folder / "circle" / "3.jpg")  # the content decides
    data = datasets.load_dataset(folder, image_size=16)
    out = capsys.readouterr().out
    assert "left out 2 files" in out and "square/broken.png" in out and "circle/cut.png" in out
    assert data.class_names == ("circle", "square") and data.name == "own"
    assert sum(len(split) for split in data.splits.values()) == 20
    names = np.concatenate([split.ids for split in data.splits.values()])
    assert "circle/3.jpg" in names and len(set(names)) == 20
    for split in data.splits.values():
        assert set(split.labels) == {0, 1}
        assert all(
            (image[0, 0, 0] > 200) == (label == 0) for image, label in zip(split.images, split.labels, strict=True)
        )
    seven = datasets.load_dataset(folder, image_size=16, seed=7)
    assert set(seven.test.ids) == set(data.test.ids) and set(seven.validation.ids) != set(data.validation.ids)


def test_changed_folder_is_read_again(home, tmp_path):
    folder = make_folder(tmp_path / "own")
    before = datasets.load_dataset(folder, image_size=16)
    Image.new("RGB", (9, 9), "red").save(folder / "circle" / "new.png")
    after = datasets.load_dataset(folder, image_size=16)
    assert sum(map(len, after.splits.values())) == sum(map(len, before.splits.values())) + 1


def test_folder_that_changes_while_it_is_read_is_loaded_and_read_again_the_next_time(home, tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "own")
    read = FolderSource.pixels

    def pixels_of_a_folder_that_grows(self, *arguments):
        Image.new("RGB", (9, 9), "red").save(folder / "circle" / "new.png")
        return read(self, *arguments)

    monkeypatch.setattr(FolderSource, "pixels", pixels_of_a_folder_that_grows)
    assert sum(map(len, datasets.load_dataset(folder, image_size=16).splits.values())) == 20
    assert sum(map(len, datasets.load_dataset(folder, image_size=16).splits.values())) == 21


def test_what_is_kept_below_a_folder_of_images_is_none_of_them(tmp_path, monkeypatch, capsys):
    folder = make_folder(tmp_path / "own")
    monkeypatch.setenv("KD_HOME", str(folder / "kept"))
    first = datasets.load_dataset(folder, image_size=16)
    assert first.class_names == ("circle", "square") and "preparing" in capsys.readouterr().out
    assert datasets.load_dataset(folder, image_size=16).fingerprint == first.fingerprint
    assert "preparing" not in capsys.readouterr().out


def test_a_folder_of_images_may_lie_where_things_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    assert datasets.load_dataset(make_folder(tmp_path / "own"), image_size=16).class_names == ("circle", "square")


def test_images_with_a_csv_are_read_and_missing_ones_reported(home, tmp_path, capsys):
    folder = make_folder(tmp_path / "own", per_class=8)
    for path in folder.rglob("*.png"):
        path.rename(folder / f"{path.parent.name}_{path.name}")
    lines = [f"{kind}_{index}.png,{label}" for kind, label in (("circle", 10), ("square", 2)) for index in range(8)]
    lines += ["gone.png,2", "../outside.png,2"]
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.png")
    (folder / "metadata.csv").write_text("filename,label\n" + "\n".join(lines) + "\n")
    data = datasets.load_dataset(str(folder), image_size=16)
    assert data.class_names == ("2", "10")  # ordered as numbers
    assert sum(map(len, data.splits.values())) == 16
    assert "2 files that are not in the folder: gone.png, ../outside.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "at least 2 classes"),
        ({"only/a.png": b""}, "at least 2 classes"),
        ({"a.csv": b"name,class\n"}, "columns filename and label"),
        ({"a.csv": b"filename,label\nx.png,1\n", "b.csv": b""}, "2 CSV files"),
        ({"a.csv": b"filename,label\nx.png,1\nx.png,2\n", "x.png": b""}, "two labels"),
        ({"a.csv": "filename,label\ncafé.png,1\n".encode("latin-1")}, "own.a.csv cannot be read.*save it as UTF-8"),
        ({"a/1.png": b"", "b/1.png": b""}, "split is empty"),
    ],
)
def test_folder_that_cannot_be_a_dataset_says_why(home, tmp_path, files, message):
    for name, data in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "own").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
        datasets.load_dataset(tmp_path / "own")


# Bad input


def test_unknown_name_lists_the_valid_ones(home):
    with pytest.raises(ValueError, match="unknown dataset 'mnist'.*signs, gtsrb, btsc, cifar10, cifar100"):
        datasets.load_dataset("mnist")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "image_size must be .* at least 8; received 4"),
        ({"image_size": 32.0}, "image_size must be a whole number"),
        ({"image_size": "32"}, "image_size must be a whole number"),
        ({"limit": 0}, "limit must be"),
        ({"limit": 1.5}, "limit must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": None}, "seed must be"),
    ],
)
def test_bad_argument_is_named_with_its_value(home, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load_dataset("signs", **options)


def split_of(labels):
    labels = np.asarray(labels, np.int32)
    return datasets.Split(np.zeros((len(labels), 8, 8, 3), np.uint8), labels, labels, labels.astype(str))


def test_labels_out_of_range_and_empty_splits_are_refused():
    good = split_of([0, 1])
    with pytest.raises(ValueError, match="train split of own has labels from 0 to 2; with 2 classes"):
        datasets.Dataset("own", ("a", "b"), 8, split_of([0, 2]), good, good)
    with pytest.raises(ValueError, match="validation split of own has labels from -1"):
        datasets.Dataset("own", ("a", "b"), 8, good, split_of([-1, 0]), good)
    with pytest.raises(ValueError, match="test split of own is empty"):
        datasets.Dataset("own", ("a", "b"), 8, good, good, split_of([]))


def test_images_that_were_divided_by_255_are_refused():
    with pytest.raises(ValueError, match="must be uint8"):
        datasets.Split(np.zeros((1, 8, 8, 3), np.float32), np.zeros(1, int), np.zeros(1, int), np.array(["a"]))
    with pytest.raises(ValueError, match="1 images and 2 labels"):
        datasets.Split(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(2, int), np.zeros(1, int), np.array(["a"]))


def test_too_little_disk_space_is_said_before_anything_is_written(home, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(OSError, match="MB are free.*KD_HOME"):
        datasets.load_dataset("signs", image_size=16, limit=43)
    assert not list((home / "datasets").glob("signs-*"))


def test_prepare_prints_counts_per_split(prepared, capsys):
    data = datasets.prepare("gtsrb", image_size=24)
    out = capsys.readouterr().out
    assert "43 classes" in out and "train          258 images" in out and "validation     129 images" in out
    assert data.describe()["test"] == {"images": 86, "classes": 43, "groups": 86}


def test_two_at_once_build_one_cache(home, monkeypatch):
    drawings, render = [], signs.render
    monkeypatch.setattr(signs, "render", lambda *a, **options: drawings.append(len(a[0])) or render(*a, **options))
    found = []
    load = functools.partial(datasets.load_dataset, "signs", image_size=8, limit=43)
    threads = [threading.Thread(target=lambda: found.append(load().fingerprint)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert sum(drawings) == 3 * 43 or sys.platform == "win32"


# CIFAR


def test_cifar_comes_from_its_own_builder(home, monkeypatch):
    import tensorflow_datasets as tfds

    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8) for name in "12345t"}
    files = {"batches.meta.txt": "\n".join(f"kind {label}" for label in range(10)).encode()}
    for name, batch in images.items():
        records = b"".join(bytes([index % 10]) + image.tobytes() for index, image in enumerate(batch))
        files["test_batch.bin" if name == "t" else f"data_batch_{name}.bin"] = records
    path = home / "archives" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    kind = type(tfds.builder("cifar10", data_dir=home, try_gcs=False))
    sums = tfds.download.checksums.compute_url_info(path)
    monkeypatch.setattr(kind, "url_infos", {"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": sums})
    data = datasets.load_dataset("cifar10")
    assert [len(split) for split in data.splits.values()] == [80, 20, 20] and data.class_names[3] == "kind 3"
    for image, label, name in zip(data.test.images, data.test.labels, data.test.ids, strict=True):
        index = int(name.removeprefix("test_"))
        np.testing.assert_array_equal(image, images["t"][index].transpose(1, 2, 0))
        assert label == index % 10


def test_cifar_archive_that_cannot_be_downloaded_says_where_to_put_it(home, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(archives.urllib.request, "urlopen", refuse)
    with pytest.raises(FileNotFoundError, match="cifar-10-binary.tar.gz") as error:
        datasets.load_dataset("cifar10")
    assert str(home / "archives" / "cifar-10-binary.tar.gz") in str(error.value)


# The real archives, where they are


@pytest.mark.skipif(not all((ARCHIVES / a.name).exists() for a in layouts.GTSRB.archives), reason="no GTSRB archives")
def test_real_gtsrb_archives_hold_the_published_counts():
    found = layouts.GTSRB.index(ARCHIVES)
    assert len(found["train"]) == 39_209 and len(found["test"]) == 12_630
    assert {photo.label for photo in found["train"]} == set(range(43))
    assert len({photo.group for photo in found["train"]}) == 1_307


@pytest.mark.skipif(not all((ARCHIVES / a.name).exists() for a in layouts.BTSC.archives), reason="no BTSC archives")
def test_real_btsc_archives_hold_the_published_counts():
    found = layouts.BTSC.index(ARCHIVES)
    assert len(found["train"]) == 4_575 and len(found["test"]) == 2_520
    assert len({photo.label for photo in found["train"]}) == 62 and len({photo.label for photo in found["test"]}) == 53
