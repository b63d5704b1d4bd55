"""MNIST's file format: every way in which a file can be missing or wrong gets one line that names it."""

import gzip
import hashlib

import numpy as np
import pytest

from byzax.simulator import data
from byzax.simulator.data import DataError, _files, _idx
from tests.data.conftest import file_of, idx

FILES = _idx.FILES
fashion_mnist, mnist = file_of("fashion_mnist"), file_of("mnist")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def small(seed=0):
    rng = np.random.default_rng(seed)
    return {
        TRAIN_IMAGES: rng.integers(0, 256, (12, 4, 3), np.uint8),
        TRAIN_LABELS: rng.integers(0, 10, 12).astype(np.uint8),
        TEST_IMAGES: rng.integers(0, 256, (5, 4, 3), np.uint8),
        TEST_LABELS: rng.integers(0, 10, 5).astype(np.uint8),
    }


def write(folder, arrays, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = array if isinstance(array, bytes) else idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return str(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_labels_are_read_in_order_with_the_official_test_samples_last(tmp_path, packed):
    arrays = small()
    loaded = data.build("mnist", root=write(tmp_path, arrays, packed))
    assert (loaded.x.dtype, loaded.dtype) == (np.uint8, np.float32)
    assert loaded.y.dtype == np.int32
    np.testing.assert_allclose(
        loaded.values(), np.concatenate([arrays[TRAIN_IMAGES], arrays[TEST_IMAGES]]) / 255, rtol=1e-6
    )
    np.testing.assert_array_equal(loaded.y, np.concatenate([arrays[TRAIN_LABELS], arrays[TEST_LABELS]]))
    assert loaded.test is not None
    assert loaded.test.tolist() == [12, 13, 14, 15, 16]
    assert loaded.classes == 10


def test_a_file_may_be_plain_under_a_gz_name_and_packed_under_a_plain_one(tmp_path):
    folder = write(tmp_path, small())
    (tmp_path / TRAIN_IMAGES).rename(tmp_path / f"{TRAIN_IMAGES}.gz")
    (tmp_path / TEST_LABELS).write_bytes(gzip.compress((tmp_path / TEST_LABELS).read_bytes()))
    assert len(data.build("mnist", root=folder).y) == 17


@pytest.mark.parametrize("below", ["", "fashion_mnist"])
def test_the_environment_names_the_folder_or_the_one_above(tmp_path, monkeypatch, below):
    arrays = small(seed=1)
    write(tmp_path / below, arrays)
    monkeypatch.setenv("BYZAX_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.build("fashion_mnist").y[:12], arrays[TRAIN_LABELS])


def test_root_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    folders = {name: write(tmp_path / name, small(seed)) for seed, name in enumerate(("root", "shared"), start=2)}
    write(tmp_path / "cache" / "data" / "mnist", small(4))
    assert (data.build("mnist").y[:12] == small(4)[TRAIN_LABELS]).all()
    monkeypatch.setenv("BYZAX_DATA", folders["shared"])
    assert (data.build("mnist").y[:12] == small(3)[TRAIN_LABELS]).all()
    assert (data.build("mnist", root=folders["root"]).y[:12] == small(2)[TRAIN_LABELS]).all()


def test_the_same_folder_is_read_once_and_its_arrays_cannot_be_written(tmp_path):
    folder = write(tmp_path, small())
    loaded = data.build("mnist", root=folder)
    assert data.build("mnist", root=folder).x is loaded.x
    with pytest.raises(ValueError, match="read-only"):
        loaded.x[0] = 0


# -- missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_offline_without_files_says_which_files_to_put_where(name, tmp_path):
    with pytest.raises(DataError) as caught:
        data.build(name)
    message = str(caught.value)
    assert all(file in message for file in FILES)
    assert str(tmp_path / "cache" / "data" / name) in message
    assert "data.root" in message
    assert "$BYZAX_DATA" in message
    assert "could not be downloaded" in message
    assert "\n" not in message


def test_a_root_that_lacks_files_names_them_and_where_it_looked_and_nothing_is_downloaded_instead(tmp_path):
    folder = write(tmp_path, small())
    (tmp_path / TEST_LABELS).unlink()
    with pytest.raises(DataError) as caught:
        data.build("mnist", root=folder)
    looked = str(caught.value).partition(". Put ")[0]
    assert looked == f"mnist: files are missing: {folder} lacks {TEST_LABELS}; {folder}/mnist is no folder"
    (tmp_path / TRAIN_LABELS).unlink()
    with pytest.raises(DataError, match=f"{folder} lacks {TRAIN_LABELS} and {TEST_LABELS}; "):
        data.build("mnist", root=folder)
    with pytest.raises(DataError, match=f"{folder}/nowhere is no folder; {folder}/nowhere/mnist is no folder"):
        data.build("mnist", root=str(tmp_path / "nowhere"))


def test_every_place_is_named_with_what_it_lacks(tmp_path, monkeypatch):
    shared, cache = tmp_path / "shared", tmp_path / "cache" / "data" / "mnist"
    write(shared, {TRAIN_IMAGES: small()[TRAIN_IMAGES]})
    write(cache, {name: array for name, array in small().items() if name != TEST_LABELS})
    monkeypatch.setenv("BYZAX_DATA", str(shared))
    with pytest.raises(DataError) as caught:
        data.build("mnist")
    assert f"{shared} lacks {TRAIN_LABELS}, {TEST_IMAGES} and {TEST_LABELS}; {shared}/mnist is no folder; " in str(
        caught.value
    )
    assert f"{cache} lacks {TEST_LABELS}, and {TEST_LABELS}.gz could not be downloaded" in str(caught.value)


def test_a_home_of_nobody_is_refused():
    with pytest.raises(DataError, match=r"data.root '~nobody-of-this-name/x': there is no such user"):
        data.build("mnist", root="~nobody-of-this-name/x")


def fetched(mirrors, sha256):
    return _idx.load("mnist", _files.find_folder("mnist", FILES, None, _idx.build_fetches(mirrors, sha256)))


def checksums(folder):
    return {file: hashlib.sha256((folder / f"{file}.gz").read_bytes()).hexdigest() for file in FILES}


def test_a_download_fetches_what_is_missing_once_from_the_first_mirror_that_has_it(tmp_path, mirror):
    folder, address, asked = mirror
    arrays = small(5)
    write(folder / "good", arrays, packed=True)
    write(folder / "changed", arrays | {TEST_LABELS: small(6)[TEST_LABELS]}, packed=True)
    cache = tmp_path / "cache" / "data" / "mnist"
    write(cache, {TRAIN_IMAGES: arrays[TRAIN_IMAGES]})
    mirrors = tuple(f"{address}/{name}" for name in ("nowhere", "changed", "good"))
    for _ in range(2):
        loaded = fetched(mirrors, checksums(folder / "good"))
        assert (loaded.y == np.concatenate([arrays[TRAIN_LABELS], arrays[TEST_LABELS]])).all()
    tried = {file: [path.split("/")[1] for path in asked if file in path] for file in FILES}
    # "nowhere" has nothing, "changed" another last file; what log_message is told twice is a 404
    assert {file: list(dict.fromkeys(names)) for file, names in tried.items()} == {
        TRAIN_IMAGES: [],
        TRAIN_LABELS: ["nowhere", "changed"],
        TEST_IMAGES: ["nowhere", "changed"],
        TEST_LABELS: ["nowhere", "changed", "good"],
    }
    assert sorted(path.name for path in cache.iterdir()) == sorted([TRAIN_IMAGES, *(f"{f}.gz" for f in FILES[1:])])


def test_a_download_that_fails_everywhere_says_why_at_each_mirror_and_leaves_nothing(tmp_path, mirror):
    folder, address, _ = mirror
    write(folder / "good", small(5), packed=True)
    write(folder / "changed", small(6), packed=True)
    mirrors = (f"{address}/nowhere", f"{address}/changed", "http://127.0.0.1:1")
    with pytest.raises(DataError) as caught:
        fetched(mirrors, checksums(folder / "good"))
    why = (
        f"{TRAIN_IMAGES}.gz could not be downloaded ({address}/nowhere: 404 File not found; "
        f"{address}/changed: its checksum is not the published one; http://127.0.0.1:1: ConnectionError)"
    )
    assert why in str(caught.value)
    assert not list((tmp_path / "cache" / "data" / "mnist").iterdir())


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_every_file_has_a_checksum_and_more_than_one_mirror(module):
    assert set(module.SHA256) == set(FILES)
    assert all(len(checksum) == 64 for checksum in module.SHA256.values())
    assert len(module.MIRRORS) > 1


# -- damaged ------------------------------------------------------------------------------

IMAGES = idx(small()[TRAIN_IMAGES])
DAMAGED = {
    "empty": (b"", "wrong magic number nothing"),
    "a web page": (b"<html>not found</html>", "wrong magic number 3c68746d"),
    "labels for images": (idx(small()[TRAIN_LABELS]), "wrong magic number 00000801"),
    "another type of number": (b"\x00\x00\x0d\x03" + IMAGES[4:], "wrong magic number 00000d03"),
    "cut off in the header": (IMAGES[:9], "truncated in its header, 9 of 16"),
    "cut off": (IMAGES[:-1], "is truncated: 12x4x3 is 144 bytes, it has 143"),
    "too long": (IMAGES + b"\x00", "longer than its header says: 12x4x3 is 144 bytes, it has 145"),
    "no samples": (idx(np.zeros((0, 4, 3), np.uint8)), "holds no samples"),
    "cut-off gzip": (gzip.compress(IMAGES)[:-12], "damaged or truncated gzip"),
    "changed gzip": (gzip.compress(IMAGES)[:-8] + b"\x00" * 8, "damaged or truncated gzip"),
    "scrambled gzip": (gzip.compress(IMAGES)[:10] + b"\xff" * 30, "damaged or truncated gzip"),
    "gzip's first bytes": (b"\x1f\x8bnothing more", "damaged or truncated gzip"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, what):
    content, message = DAMAGED[what]
    folder = write(tmp_path, small() | {TRAIN_IMAGES: content})
    with pytest.raises(DataError, match=message) as caught:
        data.build("mnist", root=folder)
    assert str(tmp_path / TRAIN_IMAGES) in str(caught.value)
    assert "replace it" in str(caught.value)


MISFITS = {
    "labels of other images": ({TRAIN_LABELS: np.zeros(11, np.uint8)}, "11 labels but .* has 12 images"),
    "labels of other test images": ({TEST_LABELS: np.zeros(6, np.uint8)}, "6 labels but .* has 5 images"),
    "a label too large": ({TEST_LABELS: np.array([0, 1, 2, 10, 4], np.uint8)}, "the label 10, mnist has 0..9"),
    "test images of another size": ({TEST_IMAGES: np.zeros((5, 3, 4), np.uint8)}, "images of 4x3 pixels but .* of 3x4"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_files_that_do_not_fit_each_other_are_refused(tmp_path, what):
    change, message = MISFITS[what]
    with pytest.raises(DataError, match=message):
        data.build("mnist", root=write(tmp_path, small() | change))


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    folder = write(tmp_path, small())

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES} cannot be read: Permission denied"):
        data.build("mnist", root=folder)
