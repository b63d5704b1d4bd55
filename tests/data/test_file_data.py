"""Data sets from files, in their real formats: what is read, what is missing, what is damaged."""

import csv as comma
import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pooch
import pytest
from scipy.io import savemat
from sklearn.datasets import dump_svmlight_file

from byzax.simulator import data
from byzax.simulator.data import DataError, _files, _mat
from tests.data.conftest import file_of, idx

RNG = np.random.default_rng
cifar10, cifar100, emnist, svhn = map(file_of, ("cifar10", "cifar100", "emnist", "svhn"))
california, shakespeare = file_of("california"), file_of("shakespeare")


def refusal(name, **options):
    with pytest.raises(DataError) as caught:
        data.build(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- finding -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["emnist", "femnist", "cifar10", "cifar100", "svhn", "shakespeare", "california"])
def test_without_files_and_offline_one_line_says_which_files_to_put_where(name, tmp_path):
    said = refusal(name)
    assert f"{name}: files are missing: {tmp_path}/cache/data/{name} is no folder" in said
    assert f"Put {'all_data_*.json' if name == 'femnist' else ''}" in said
    assert "data.root" in said
    assert "$BYZAX_DATA" in said
    if name in ("femnist", "shakespeare"):
        # there is nothing to download: it says where the files come from
        assert "https://" in said.partition("). ")[2]
    else:
        assert "could not be downloaded" in said


def test_one_of_two_files_will_do_and_both_are_named():
    assert "Put cal_housing.data or housing.csv (each as it is" in refusal("california")


@pytest.mark.parametrize("module", [cifar10, cifar100, emnist])
def test_an_archive_has_a_checksum_and_an_address_of_its_own_name(module):
    ((kept, fetch),) = module.FETCH.items()
    assert len(fetch.sha256) == 64
    assert all(url.endswith(f"/{kept}") for url in fetch.urls)
    assert kept.endswith(_files.ARCHIVES)
    assert all(len(checksum) == 64 for checksum in svhn.SHA256.values())


def packed(kind, members):
    held = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(held, "w") as archive:
            archive.mkdir("folder")
            for name, content in members.items():
                archive.writestr(f"folder/{name}", content)
    else:
        with tarfile.open(fileobj=held, mode="w:gz") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(f"../folder/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_archive_is_fetched_once_checked_and_unpacked_into_the_cache_folder_alone(tmp_path, mirror, kind):
    folder, address, asked = mirror
    folder.mkdir()
    content = packed(kind, {"a.bin": b"abc", "b.bin": b"defg"})
    (folder / f"all.{kind}").write_bytes(content)
    checksum = pooch.file_hash(str(folder / f"all.{kind}"))
    fetch = {f"all.{kind}": _files.Fetch((f"{address}/nowhere/all.{kind}", f"{address}/all.{kind}"), checksum)}
    for _ in range(2):
        found = _files.find_folder("mine", ("a.bin", "b.bin"), None, fetch)
        assert found == tmp_path / "cache" / "data" / "mine"
        assert sorted(path.name for path in found.iterdir()) == ["a.bin", "b.bin"]
        assert (found / "b.bin").read_bytes() == b"defg"
    assert len([each for each in asked if each == f"/all.{kind}"]) == 1
    # nothing was written outside, whatever the archive's names say
    assert not (tmp_path / "cache" / "data" / "folder").exists()


def test_a_changed_archive_is_refused_and_leaves_nothing(tmp_path, mirror):
    folder, address, _ = mirror
    folder.mkdir()
    (folder / "all.zip").write_bytes(packed("zip", {"a.bin": b"abc"}))
    fetch = {"all.zip": _files.Fetch((f"{address}/all.zip",), "0" * 64)}
    with pytest.raises(DataError, match=rf"all.zip could not be downloaded \({address}: its checksum is not"):
        _files.find_folder("mine", ("a.bin",), None, fetch)
    assert not list((tmp_path / "cache" / "data" / "mine").iterdir())


def test_what_a_scenario_names_is_looked_for_here_and_in_the_shared_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n3,1\n")
    said = refusal("csv", path="mine.csv", target="b")
    assert said.startswith("csv: data.path 'mine.csv' is not there: looked for ")
    monkeypatch.setenv("BYZAX_DATA", str(tmp_path))
    assert data.build("csv", path="mine.csv", target="b").x.ravel().tolist() == [1, 3]
    assert refusal("csv", path="no.csv", target="b").endswith(f"and {tmp_path}/no.csv")
    assert "there is no such user" in refusal("libsvm", path="~nobody-of-this-name/x")


# -- images --------------------------------------------------------------------------------


def write_emnist(folder, split, labels, rows=5):
    folder.mkdir(parents=True, exist_ok=True)
    images = {part: RNG(len(part)).integers(0, 256, (rows, 6, 4), np.uint8) for part in ("train", "test")}
    for part, held in images.items():
        (folder / f"emnist-{split}-{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(held)))
        (folder / f"emnist-{split}-{part}-labels-idx1-ubyte").write_bytes(idx(np.array(labels, np.uint8)))
    return images


@pytest.mark.parametrize("below", ["", "gzip"])
def test_emnist_is_turned_upright_and_its_letters_begin_with_0(tmp_path, below):
    images = write_emnist(tmp_path / below, "letters", [1, 26, 3, 1, 2])
    found = data.build("emnist", split="letters", root=str(tmp_path))
    assert found.x.shape == (10, 4, 6)
    np.testing.assert_allclose(found.values()[1], images["train"][1].T / 255, rtol=1e-6)
    assert found.y.tolist() == [0, 25, 2, 0, 1] * 2
    assert (found.classes, found.test.tolist()) == (26, [5, 6, 7, 8, 9])


def test_emnist_refuses_labels_of_another_split(tmp_path):
    write_emnist(tmp_path / "a", "letters", [1, 0, 3, 1, 2])
    assert "has the label 0, emnist has 1..26 only" in refusal("emnist", split="letters", root=str(tmp_path / "a"))
    write_emnist(tmp_path / "b", "balanced", [1, 47, 3, 1, 2])
    assert "has the label 47, emnist has 0..46 only" in refusal("emnist", root=str(tmp_path / "b"))
    with pytest.raises(ValueError, match=r"^emnist: split must be 'balanced', 'byclass',"):
        data.build("emnist", split="all")


def cifar_rows(count, labels, seed=0):
    rng = RNG(seed)
    pixels = rng.integers(0, 256, (count, 3, 32, 32), np.uint8)
    before = rng.integers(0, 10, (count, labels), np.uint8)
    return pixels, before, np.hstack([before, pixels.reshape(count, -1)]).tobytes()


def write_cifar(folder, names, labels):
    folder.mkdir(parents=True, exist_ok=True)
    made = [cifar_rows(3 + seed, labels, seed) for seed in range(len(names))]
    for name, (*_, content) in zip(names, made, strict=True):
        (folder / name).write_bytes(content)
    return np.concatenate([pixels for pixels, *_ in made]), np.concatenate([before for _, before, _ in made])


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar_10_has_its_colours_last_and_its_test_file_last(tmp_path, monkeypatch, below):
    pixels, labels = write_cifar(tmp_path / below, [*cifar10.TRAIN, cifar10.TEST], 1)
    monkeypatch.setenv("BYZAX_DATA", str(tmp_path))
    found = data.build("cifar10")
    assert (found.x.shape, found.x.dtype, found.classes) == ((33, 32, 32, 3), np.uint8, 10)
    np.testing.assert_allclose(found.values(), np.moveaxis(pixels, 1, -1) / 255, rtol=1e-6)
    assert found.y.tolist() == labels.ravel().tolist()
    assert found.test.tolist() == list(range(25, 33))
    assert not found.x.flags.writeable


def test_cifar_100_has_fine_labels_or_coarse_ones(tmp_path):
    _, labels = write_cifar(tmp_path / "cifar-100-binary", ["train.bin", "test.bin"], 2)
    fine, coarse = (data.build("cifar100", labels=kind, root=str(tmp_path)) for kind in ("fine", "coarse"))
    assert coarse.y.tolist() == labels[:, 0].tolist()
    assert fine.y.tolist() == labels[:, 1].tolist()
    assert (fine.classes, coarse.classes) == (100, 20)
    with pytest.raises(ValueError, match=r"^cifar100: labels must be 'fine' or 'coarse', got 'super'"):
        data.build("cifar100", labels="super")


def test_damaged_cifar_files_are_named(tmp_path):
    write_cifar(tmp_path, [*cifar10.TRAIN, cifar10.TEST], 1)
    broken = tmp_path / cifar10.TRAIN[2]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-1])
    said = refusal("cifar10", root=str(tmp_path))
    assert f"{broken} is no whole number of images: {5 * 3073 - 1} bytes, and an image of cifar10 has 3073" in said
    broken.write_bytes(b"\x0a" + whole[1:])
    assert f"{broken} has the label 10, cifar10 has 0..9 only" in refusal("cifar10", root=str(tmp_path))
    broken.write_bytes(b"")
    assert "is no whole number of images: 0 bytes" in refusal("cifar10", root=str(tmp_path))
    broken.unlink()
    assert f"{tmp_path} lacks {broken.name}; " in refusal("cifar10", root=str(tmp_path))


def write_svhn(folder, sizes=(4, 3), **changes):
    folder.mkdir(parents=True, exist_ok=True)
    held = {}
    for name, count in zip(("train", "test", "extra"), sizes, strict=False):
        images = RNG(count).integers(0, 256, (32, 32, 3, count), np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        held[name] = images
        savemat(folder / f"{name}_32x32.mat", {"X": images, "y": labels[::-1], **changes})
    return held


@pytest.mark.parametrize("extra", [False, True])
def test_svhn_is_read_from_matlab_files_and_its_label_10_is_0(tmp_path, extra):
    held = write_svhn(tmp_path, (10, 3, 2))
    found = data.build("svhn", root=str(tmp_path), extra=extra)
    assert found.y[:10].tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    np.testing.assert_allclose(found.values()[7], held["train"][..., 7] / 255, rtol=1e-6)
    np.testing.assert_allclose(found.values()[-1], held["test"][..., -1] / 255, rtol=1e-6)
    assert found.test.tolist() == ([12, 13, 14] if extra else [10, 11, 12])


SVHN = {
    "labels of others": ({"y": np.ones((3, 1), np.uint8)}, "has 3 labels for 4 images"),
    "a label of 0": ({"y": np.zeros((4, 1), np.uint8)}, r"y must be 1..10 \(10 stands for 0\), got 0:"),
    "a label between": ({"y": np.array([[1.0], [1.5], [2], [3]])}, r"y must be 1..10 \(10 stands for 0\), got 1.5:"),
    "NaN for a label": ({"y": np.array([[1.0], [np.nan], [2], [3]])}, r"y must be 1..10 .* got nan:"),
    "a label of 2^62": ({"y": np.array([[1], [2**62], [2], [3]])}, r"y must be 1..10 .* got 4611686018427387904:"),
    "words for labels": ({"y": "abcd"}, "lacks the variable 'y'"),
    "images in a row": ({"X": np.zeros((4, 32, 32, 3), np.uint8)}, r"X must be bytes \[32, 32, 3, N\], got uint8\[4,"),
    "numbers with a point": ({"X": np.zeros((32, 32, 3, 4))}, r"X must be bytes .* got float64"),
}


@pytest.mark.parametrize("what", SVHN)
def test_matlab_files_that_are_not_svhn_are_named(tmp_path, what):
    changes, expected = SVHN[what]
    write_svhn(tmp_path, **changes)
    with pytest.raises(DataError, match=expected) as caught:
        data.build("svhn", root=str(tmp_path))
    assert "train_32x32.mat" in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "f4", "f8", "u8"])
def test_matlab_files_are_read_as_scipy_writes_them(tmp_path, packed, kind):
    held = {"X": RNG(0).integers(0, 100, (2, 3, 4)).astype(kind), "y": np.ones((1, 1), kind), "said": "words", "z": {}}
    savemat(tmp_path / "a.mat", held, do_compression=packed)
    found = _mat.read_arrays((tmp_path / "a.mat").read_bytes())
    assert set(found) == {"X", "y"}
    for name in found:
        np.testing.assert_array_equal(found[name], held[name])
        assert found[name].dtype == kind


def test_damaged_matlab_files_are_named(tmp_path):
    write_svhn(tmp_path)
    place = tmp_path / "train_32x32.mat"
    whole = place.read_bytes()
    for content in (b"", b"<html>not found</html>" * 20, whole[: len(whole) // 2]):
        place.write_bytes(content)
        assert f"{place} is no MATLAB file, or damaged" in refusal("svhn", root=str(tmp_path))
    savemat(place, {"images": np.zeros(3)})
    assert f"{place} lacks the variable 'X'" in refusal("svhn", root=str(tmp_path))


def leaf(users):
    return json.dumps(
        {
            "users": list(users),
            "num_samples": [len(y) for _, y in users.values()],
            "user_data": {user: {"x": x.tolist(), "y": y} for user, (x, y) in users.items()},
        }
    )


def test_femnist_keeps_whose_each_sample_is_in_the_order_of_the_files(tmp_path):
    held = {f"f{i:04}_{i}": (RNG(i).random((i + 1, 784)), list(range(i + 1))) for i in range(5)}
    names = list(held)
    # all_data_10 comes after all_data_9
    for file, users in (("all_data_9.json", names[:2]), ("all_data_10.json", names[2:])):
        (tmp_path / file).write_text(leaf({user: held[user] for user in users}))
    found = data.build("femnist", root=str(tmp_path))
    assert found.x.shape == (15, 28, 28)
    np.testing.assert_allclose(found.x[1:3].reshape(2, -1), held[names[1]][0], rtol=1e-6)
    assert found.owners.tolist() == np.repeat(range(5), range(1, 6)).tolist()
    assert (found.classes, found.test, found.owners.dtype) == (62, None, np.int32)
    some = data.build("femnist", root=str(tmp_path), writers=3)
    np.testing.assert_array_equal(some.x, found.x[:6])
    assert "hold 5 writers, and data.writers is 6" in refusal("femnist", root=str(tmp_path), writers=6)
    with pytest.raises(ValueError, match=r"^femnist: writers must be at least 1, got 0"):
        data.build("femnist", writers=0)


LEAF = {f"f{i}": (RNG(i).random((i + 2, 784)), [i] * (i + 2)) for i in range(4)}


def write_leaf_split(folder, train, test):
    for part, users in (("train", train), ("test", test)):
        (folder / part).mkdir(parents=True)
        for number, user in enumerate(users):
            (folder / part / f"all_data_0_niid_0_keep_0_{part}_{number}.json").write_text(leaf({user: LEAF[user]}))


@pytest.mark.parametrize("by", ["samples", "users"])
def test_leafs_own_split_is_its_folders_train_and_test_with_owners_of_both(tmp_path, by):
    test = ["f1", "f0", "f2"] if by == "samples" else ["f3"]
    write_leaf_split(tmp_path, ["f0", "f1", "f2"], test)
    found = data.build("femnist", root=str(tmp_path), leaf_split=True)
    assert found.test.tolist() == list(range(9, len(found.y)))
    names = ["f0", "f1", "f2", *test]
    assert found.y.tolist() == [int(name[1]) for name in names for _ in LEAF[name][1]]
    assert found.owners.tolist() == found.y.tolist()
    np.testing.assert_allclose(found.x[9].ravel(), LEAF[test[0]][0][0], rtol=1e-6)
    # of a few writers their own test samples, where they have some
    few = data.build("femnist", root=str(tmp_path), leaf_split=True, writers=2)
    assert few.y[few.test].tolist() == ([1, 1, 1, 0, 0] if by == "samples" else [3] * 5)
    (tmp_path / "all_data").mkdir()
    (tmp_path / "all_data" / "all_data_0.json").write_text(leaf({"f0": LEAF["f0"]}))
    assert data.build("femnist", root=str(tmp_path)).test is None
    (tmp_path / "all_data" / "all_data_0.json").unlink()
    assert "read with data.leaf_split: true, all_data_*.json without" in refusal("femnist", root=str(tmp_path))


def test_leafs_shakespeare_has_its_samples_as_strings(tmp_path):
    for part, users in (("train", ("Romeo", "Juliet")), ("test", ("Juliet",))):
        (tmp_path / part).mkdir()
        held = {user: {"x": ["abc", "bcd"], "y": ["d", "\u20ac"]} for user in users}
        (tmp_path / part / "a.json").write_text(json.dumps({"users": [*users], "user_data": held}))
    found = data.build("shakespeare", root=str(tmp_path), leaf_split=True, length=3)
    numbers = {character: number for number, character in enumerate(shakespeare.VOCABULARY)}
    assert found.x.tolist() == [[numbers[c] for c in text] for text in ("abc", "bcd") * 3]
    assert found.y.tolist() == [numbers["d"], shakespeare.OTHER] * 3
    assert (found.owners.tolist(), found.test.tolist()) == ([0, 0, 1, 1, 1, 1], [4, 5])
    assert "writer Romeo: samples of data.length 80 characters" in refusal(
        "shakespeare", root=str(tmp_path), leaf_split=True
    )
    with pytest.raises(ValueError, match=r"^shakespeare: stride must be left out with leaf_split"):
        data.build("shakespeare", root=str(tmp_path), leaf_split=True, stride=10)


FEMNIST = {
    "NaN": (leaf({"a": (np.full((1, 784), np.nan), [0])}), "writer a: a pixel is not finite"),
    "infinity": (leaf({"a": (np.full((1, 784), -np.inf), [0])}), "writer a: a pixel is not finite"),
    "more than float32 holds": (leaf({"a": (np.full((1, 784), 1e300), [0])}), "writer a: a pixel is not finite"),
    "a label between": (leaf({"a": (np.zeros((1, 784)), [0.5])}), "writer a: a label in 0..61 is needed for each"),
    "a label of 2^62": (leaf({"a": (np.zeros((1, 784)), [2**62])}), "writer a: a label in 0..61 is needed for each"),
    "brackets without end": ("[" * 100_000, "recursion depth"),
    "no JSON": ("{", "Expecting property name"),
    "another JSON": ('{"rows": []}', "lacks 'users'"),
    "a list": ("[1]", "list indices"),
    "nobody": (leaf({}), "holds no writer"),
    "pixels too few": (leaf({"a": (np.zeros((2, 783)), [0, 1])}), "cannot reshape"),
    "labels too few": (leaf({"a": (np.zeros((2, 784)), [0])}), "writer a: 2 samples with 1 labels"),
    "a label too large": (leaf({"a": (np.zeros((1, 784)), [62])}), "writer a: a label in 0..61 is needed for each"),
    "no text": (b"\xff\xfe{", "is no text in UTF-8"),
}


@pytest.mark.parametrize("what", FEMNIST)
def test_files_that_leaf_did_not_make_are_named(tmp_path, what):
    content, expected = FEMNIST[what]
    place = tmp_path / "all_data_0.json"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refusal("femnist", root=str(tmp_path))
    assert str(place) in said
    assert expected in said


# -- text ----------------------------------------------------------------------------------

TINY = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n" * 3
GUTENBERG = (
    "ACT I.\n\nSCENE I. Elsinore.\n\nHAMLET.\nTo be, or not to be:\nthat is \u2018all\u2019\u20ac.\n\n"
    "GHOST.\nMark me, Hamlet.\n"
)


@pytest.mark.parametrize("packing", ["plain", "gzip", "windows"])
def test_a_sample_is_what_one_speaker_says_and_the_next_character(tmp_path, packing):
    content = TINY.replace("\n", "\r\n") if packing == "windows" else TINY
    file = tmp_path / ("shakespeare.txt.gz" if packing == "gzip" else "shakespeare.txt")
    file.write_bytes(gzip.compress(content.encode()) if packing == "gzip" else content.encode())
    found = data.build("shakespeare", root=str(tmp_path), length=10, stride=7, held_out=0.25)
    assert (found.x.dtype, found.y.dtype, found.classes) == (np.int32, np.int32, 81)
    vocabulary = shakespeare.VOCABULARY
    said = {
        0: "\n".join(["Before we proceed any further, hear me speak."] * 3),
        1: "\n".join(["Speak, speak."] * 3),
    }
    texts = ["".join(vocabulary[c] for c in row) for row in np.column_stack([found.x, found.y])]
    expected = {"train": [], "test": []}
    for owner, text in said.items():
        border = len(text) - round(0.25 * len(text))
        for part, held in (("train", text[:border]), ("test", text[border:])):
            expected[part] += [(owner, held[i : i + 11]) for i in range(0, len(held) - 10, 7)]
    train = len(texts) - len(found.test)
    assert list(zip(found.owners[:train].tolist(), texts[:train], strict=True)) == expected["train"]
    assert texts[train:] == [text for _, text in expected["test"]]
    # no sample of the training reaches into what is tested
    assert found.test.tolist() == list(range(train, len(texts)))


def test_gutenbergs_speakers_are_known_and_what_is_no_speech_is_none(tmp_path):
    (tmp_path / "shakespeare.txt").write_text(GUTENBERG, encoding="utf-8-sig")
    speeches = shakespeare._speeches(tmp_path / "shakespeare.txt")
    assert list(speeches) == ["HAMLET", "GHOST"]
    # typographic quotation marks become plain ones, what is not in the vocabulary one number of its own
    letters = [*shakespeare.VOCABULARY, "?"]
    assert "".join(letters[c] for c in speeches["HAMLET"]) == "To be, or not to be:\nthat is 'all'?."
    assert speeches["HAMLET"][-2] == 80


def test_a_text_without_speakers_or_with_too_short_ones_is_named(tmp_path):
    file = tmp_path / "shakespeare.txt"
    file.write_text("Shall I compare thee to a summer's day?\n")
    assert f"{file}: nobody says as much as 81 characters" in refusal("shakespeare", root=str(tmp_path))


# -- tables --------------------------------------------------------------------------------


def table(path, rows):
    with path.open("w", newline="") as file:
        comma.writer(file).writerows(rows)
    return str(path)


ROWS = [["age", "kind", "who", "sick"], [30, "b", "x", "yes"], [40, "a", "y", "no"], [50.5, "b", "x", "no"]]


def test_a_csv_gives_numbers_words_labels_and_owners(tmp_path):
    found = data.build("csv", path=table(tmp_path / "a.csv", ROWS), target="sick", owner="who")
    # age, kind a, kind b
    assert found.x.tolist() == [[30, 0, 1], [40, 1, 0], [50.5, 0, 1]]
    assert (found.y.tolist(), found.classes, found.owners.tolist(), found.test) == ([1, 0, 0], 2, [0, 1, 0], None)
    values = data.build("csv", path=str(tmp_path / "a.csv"), target="age", task="regression")
    assert values.x.shape == (3, 2 + 2 + 2)
    assert (values.y.tolist(), values.classes, values.y.dtype) == ([30, 40, 50.5], None, np.float32)


def test_columns_of_words_are_said_and_numbers_that_a_word_makes_words_of(tmp_path):
    rows = [["age", "kind", "hours", "sick"], [1, "a", "7", 0], [2, "b", "?", 1], [3, "a", "8.5", 1], [4, "a", "9", 0]]
    found = data.build("csv", path=table(tmp_path / "a.csv", rows), target="sick")
    assert found.about == (
        "x: float32 [4, 7], 0 to 4",
        "words, each a column of 0 and 1, in kind (2) and hours (4, numbers but for '?')",
        "sick: int64, 2 labels, 0 to 1",
    )


@pytest.mark.parametrize("other", ["7", "7.5", "-1e3"])
@pytest.mark.parametrize("digits", [20, 30, 60, 400])
def test_whole_numbers_beyond_64_bits_are_numbers(tmp_path, digits, other):
    rows = [["age", "hours", "sick"], [1, other, 0], [2, "9" * digits, 1]]
    path = table(tmp_path / "a.csv", rows)
    for options in ({"target": "sick"}, {"target": "hours", "task": "regression"}):
        if digits > 38:
            with pytest.raises(DataError, match=r"a.csv: line 3: hours is (missing or not finite|1e\+60, and numbers)"):
                data.build("csv", path=path, **options)
        else:
            found = data.build("csv", path=path, **options)
            values = found.x[:, 1] if options["target"] == "sick" else found.y
            assert values.tolist() == [np.float32(other), np.float32(10.0**digits)]
    # identifiers and labels are told apart to the last digit
    rows = [["age", "id", "sick"], [1, "9" * digits, 0], [2, "9" * (digits - 1) + "8", 1], [3, "7", 1]]
    found = data.build("csv", path=table(tmp_path / "b.csv", rows), target="sick", owner="id")
    assert len(set(found.owners.tolist())) == 3
    # among words they are words that say numbers
    rows = [["age", "hours", "sick"], [1, "7", 0], [2, "?", 1], [3, "9" * digits, 1]]
    found = data.build("csv", path=table(tmp_path / "c.csv", rows), target="sick")
    assert found.about[1] == "words, each a column of 0 and 1, in hours (3, numbers but for '?')"


def test_owners_in_a_csv_may_be_numbers_of_any_size(tmp_path):
    rows = [["age", "id", "sick"], [1, 1e300, 0], [2, 5, 1]]
    found = data.build("csv", path=table(tmp_path / "a.csv", rows), target="sick", owner="id")
    assert found.owners.tolist() == [1, 0]


def test_columns_of_a_csv_can_be_left_out(tmp_path):
    found = data.build("csv", path=table(tmp_path / "a.csv", ROWS), target="sick", drop=("kind", "who"))
    assert found.x.tolist() == [[30], [40], [50.5]]


def test_a_csv_for_the_test_has_the_same_words_in_the_same_columns(tmp_path):
    train = table(tmp_path / "a.csv", ROWS)
    test = table(tmp_path / "b.csv", [ROWS[0], [60, "c", "z", "yes"]])
    found = data.build("csv", path=train, target="sick", test_path=test)
    assert found.test.tolist() == [3]
    # age, kinds a to c, who x to z
    assert found.x[3].tolist() == [60, 0, 0, 1, 0, 0, 1]


CSV = {
    "a gap": ([*ROWS, ["", "a", "x", "no"]], {}, "line 5: age is missing or not finite"),
    "infinity": ([*ROWS, ["inf", "a", "x", "no"]], {}, "line 5: age is missing or not finite"),
    "more than float32 holds": ([*ROWS, [1e300, "a", "x", "no"]], {}, "line 5: age is 1e+300, and numbers are kept as"),
    "a value that float32 does not hold": (
        [["sick", "age"], *([1, age] for age in (1, 2, -4e38, 3))],
        {"target": "age", "task": "regression"},
        "line 4: age is -4e+38, and numbers are kept as float32, up to 3.4e38",
    ),
    "no label": ([*ROWS, [1, "a", "x", ""]], {}, "line 5: sick is missing"),
    "one label": (ROWS[:2], {}, "sick: all labels are yes: two of them"),
    "no such column": (ROWS, {"target": "ill"}, "has no column 'ill', but age, kind, who and sick"),
    "no such owner": (ROWS, {"owner": "whom"}, "has no column 'whom'"),
    "words for values": (ROWS, {"target": "kind", "task": "regression"}, "kind must hold numbers"),
    "a line too long": (
        [*ROWS, [1, "a", "x", "no", "more"]],
        {},
        "1 of 5 lines have more values than there are columns (4), such as line 5",
    ),
    "every line too long": (
        [ROWS[0], *([*row, "more"] for row in ROWS[1:])],
        {},
        "3 of 4 lines have more values than there are columns (4), such as line 2 (5 values)",
    ),
    "names of lines": ([["", *ROWS[0]], *([i, *row] for i, row in enumerate(ROWS[1:]))], {}, "column 1 has no name"),
    "a label between numbers": ([["a", "sick"], [1, 1.5], [1, 2]], {}, "sick holds 1.5, which is no label: values to"),
    "a label of 2^62": ([["a", "sick"], [1, 2**62], [1, 2]], {}, "sick holds the label 4.61169e+18: labels are whole"),
    "no such column to drop": (ROWS, {"drop": ("id",)}, "has no column 'id'"),
    "only names": (ROWS[:1], {}, "holds no line after its column names"),
    "a column twice": ([["age", "sick", "sick"], [1, "yes", "no"]], {}, "column 'sick' stands twice"),
    "empty": ([], {}, "is no CSV with a line of column names"),
    "nothing else": ([["sick"], ["yes"], ["no"]], {}, "has no column beside sick"),
}


@pytest.mark.parametrize("what", CSV)
def test_a_csv_that_will_not_do_is_named_with_its_line(tmp_path, what):
    rows, options, expected = CSV[what]
    path = table(tmp_path / "a.csv", rows)
    said = refusal("csv", **{"path": path, "target": "sick", **options})
    assert said.startswith(path)
    assert expected in said


def test_a_test_csv_of_other_columns_is_refused(tmp_path):
    other = table(tmp_path / "b.csv", [["age", "sick"], [1, "no"]])
    said = refusal("csv", path=table(tmp_path / "a.csv", ROWS), target="sick", test_path=other)
    assert said == f"{other} has other columns than {tmp_path / 'a.csv'}: the same are needed"
    with pytest.raises(ValueError, match="task must be 'classification' or 'regression', got 'ranking'"):
        data.build("csv", path=other, target="sick", task="ranking")


HOUSES = [
    [-122.23, 37.88, 41, 880, 129, 322, 126, 8.3252, 452600],
    [-122.22, 37.86, 21, 7099, 1106, 2401, 1138, 8.3, 358500],
]


@pytest.mark.parametrize("kind", ["data", "csv"])
def test_california_has_the_features_of_scikit_learn_from_either_file(tmp_path, kind):
    if kind == "data":
        table(tmp_path / "cal_housing.data", HOUSES)
    else:
        names = california.COLUMNS
        gap = [*HOUSES[0][:4], "", *HOUSES[0][5:], "INLAND"]
        table(tmp_path / "housing.csv", [[*names, "ocean_proximity"], *([*row, "NEAR BAY"] for row in HOUSES), gap])
    found = data.build("california", root=str(tmp_path))
    # the first line of scikit-learn's fetch_california_housing, as its documentation prints it
    expected = [8.3252, 41, 6.98412698, 1.02380952, 322, 2.55555556, 37.88, -122.23]
    np.testing.assert_allclose(found.x[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.y, [4.526, 3.585], rtol=1e-6)
    assert found.classes is None


def test_a_damaged_housing_file_is_named(tmp_path):
    place = tmp_path / "cal_housing.data"
    for rows, expected in (
        ([row[:8] for row in HOUSES], "median_house_value"),
        ([[*HOUSES[0][:6], 0, *HOUSES[0][7:]]], "without a household"),
        ([[*HOUSES[0][:5], "many", *HOUSES[0][6:]]], "population must hold numbers"),
    ):
        table(place, rows)
        said = refusal("california", root=str(tmp_path))
        assert str(place) in said
        assert expected in said
    place.unlink()
    table(tmp_path / "housing.csv", HOUSES)
    assert "lacks the column longitude" in refusal("california", root=str(tmp_path))


def test_libsvm_files_have_indices_from_1_and_labels_in_their_order(tmp_path):
    (tmp_path / "a9a").write_text("+1 1:0.5 3:-2\n-1 2:1 # a comment\n+1 1:1\n")
    found = data.build("libsvm", path=str(tmp_path / "a9a"))
    assert found.x.tolist() == [[0.5, 0, -2], [0, 1, 0], [1, 0, 0]]
    assert (found.y.tolist(), found.classes) == ([1, 0, 1], 2)
    assert data.build("libsvm", path=str(tmp_path / "a9a"), features=5).x.shape == (3, 5)
    assert data.build("libsvm", path=str(tmp_path / "a9a"), task="regression").y.tolist() == [1, -1, 1]


def test_libsvm_joins_a_test_file_that_has_fewer_or_more_features(tmp_path):
    rng = RNG(0)
    x, y = rng.normal(size=(7, 4)).astype(np.float32), rng.integers(0, 3, 7)
    y[:3] = range(3)
    with gzip.open(tmp_path / "train.gz", "wb") as file:
        dump_svmlight_file(x, y, file, zero_based=False)
    (tmp_path / "test").write_text("2 6:1\n0 1:3\n")
    found = data.build("libsvm", path=str(tmp_path / "train.gz"), test_path=str(tmp_path / "test"))
    np.testing.assert_allclose(found.x[:7, :4], x, rtol=1e-6)
    assert found.x[7].tolist() == [0, 0, 0, 0, 0, 1]
    assert found.y.tolist() == [*y.tolist(), 2, 0]
    assert found.test.tolist() == [7, 8]


LIBSVM = {
    "words": ("yes 1:2\n", {}, "is no file in LIBSVM's format"),
    "an index of 0": ("1 0:2\n2 1:1\n", {}, "is no file in LIBSVM's format"),
    "empty": ("", {}, "holds no samples"),
    "one label": ("1 1:2\n1 1:3\n", {}, "all labels are 1: two of them"),
    "values": ("0.5 1:2\n1 1:3\n", {}, "holds 0.5, which is no label: values to predict need task: regression"),
    "a label of 2^62": (f"{2**62} 1:2\n1 1:3\n", {}, "holds the label 4.61169e+18"),
    "more than float32 holds": ("1 1:1e300\n2 1:1\n", {}, "not finite, or beyond float32"),
    "a value that float32 does not hold": ("1e300 1:1\n2 1:1\n", {"task": "regression"}, "or beyond float32"),
    "infinite": ("1 1:inf\n2 1:1\n", {}, "holds a value that is not finite"),
    "more features than said": ("1 5:2\n2 1:1\n", {"features": 3}, "has the index 5, and data.features is 3"),
}


@pytest.mark.parametrize("what", LIBSVM)
def test_a_libsvm_file_that_will_not_do_is_named(tmp_path, what):
    content, options, expected = LIBSVM[what]
    (tmp_path / "file").write_text(content)
    said = refusal("libsvm", path=str(tmp_path / "file"), **options)
    assert said.startswith(str(tmp_path / "file"))
    assert expected in said
    with pytest.raises(ValueError, match=r"^libsvm: features must be at least 1, got 0"):
        data.build("libsvm", path="file", features=0)
    with pytest.raises(ValueError, match="task must be 'classification' or 'regression', got 'ranking'"):
        data.build("libsvm", path="file", task="ranking")


# -- arrays --------------------------------------------------------------------------------

X, Y = RNG(0).normal(size=(6, 2, 3)), np.array([0, 2, 1, 0, 1, 2])


def store(place, kind, **held):
    if kind == "npz":
        np.savez(place / "mine.npz", **held)
        return str(place / "mine.npz")
    for key, array in held.items():
        np.save(place / f"{key}.npy", array)
    return str(place)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_of_ones_own_are_labels_or_values(tmp_path, kind):
    found = data.build("arrays", path=store(tmp_path, kind, x=X, y=Y, owners=np.array([5, 5, 1, 1, 9, 9])))
    np.testing.assert_array_equal(found.x, X.astype(np.float32))
    assert (found.y.tolist(), found.classes, found.test) == (Y.tolist(), 3, None)
    assert found.owners.tolist() == [1, 1, 0, 0, 2, 2]
    (tmp_path / "values").mkdir()
    assert data.build("arrays", path=store(tmp_path / "values", kind, x=X, y=Y / 3)).classes is None


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_test_arrays_become_the_test_set(tmp_path, kind):
    found = data.build("arrays", path=store(tmp_path, kind, x=X, y=Y, x_test=X[:2] + 1, y_test=Y[:2], owners=Y))
    assert found.test.tolist() == [6, 7]
    np.testing.assert_allclose(found.x[6:], X[:2] + 1, rtol=1e-6)
    assert found.owners.tolist() == [*Y, -1, -1]


def test_a_folder_of_arrays_of_the_right_type_is_mapped_and_not_read(tmp_path):
    found = data.build("arrays", path=store(tmp_path, "npy", x=X.astype(np.float32), y=Y.astype(np.int32)))
    base = found.x
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not found.x.flags.writeable


def test_whole_numbers_are_pixels_unless_they_are_tokens(tmp_path):
    bytes_ = RNG(0).integers(0, 256, (6, 4), np.uint8)
    path = store(tmp_path, "npz", x=bytes_, y=Y)
    pixels = data.build("arrays", path=path)
    assert (pixels.x.dtype, pixels.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(pixels.values(), bytes_)
    found = data.build("arrays", path=path, tokens=True)
    assert found.x.dtype == np.int32
    np.testing.assert_array_equal(found.x, bytes_)


ARRAYS = {
    "no labels": ({"x": X}, {}, "lacks the array y: it has x"),
    "a test without labels": ({"x": X, "y": Y, "x_test": X}, {}, "lacks the array y_test"),
    "labels of others": ({"x": X, "y": Y[:3]}, {}, "y has 3 entries for 6 samples of x"),
    "one-hot labels": (
        {"x": X, "y": np.eye(6)}, {}, r"y must be \[N\], got \[6, 6\]: it looks one-hot, and y.argmax\(1\) gives"
    ),
    "labels in a column": ({"x": X, "y": Y[:, None]}, {}, r"got \[6, 1\]: y.ravel\(\) is of that shape"),
    "whole numbers of a float type": (
        {"x": X, "y": Y * 1.0}, {}, "say data.task: classification .labels. or data.task: regression"
    ),
    "values as labels": ({"x": X, "y": Y / 2}, {"task": "classification"}, "y holds 0.5, which is no label"),
    "words as values": ({"x": X, "y": Y.astype(str)}, {"task": "regression"}, "y holds words, and task: regression"),
    "a label of 2^62": ({"x": X, "y": Y + 2**62}, {}, r"y holds the label 4.61169e\+18: .* np.unique\(y, return_inv"),
    "more than float32 holds, of 80 bits": (
        {"x": X.astype(np.longdouble) * np.longdouble("1e4000"), "y": Y}, {}, "numbers are kept as float32"
    ),
    "words for the test only": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y.astype(str)}, {}, "y is of int64 and y_test of <U21: bring them"
    ),
    "bytes for the test only": (
        {"x": X, "y": Y, "x_test": X.astype(np.uint8), "y_test": Y}, {}, "x is of float64 and x_test of uint8"
    ),
    "colours first": (
        {"x": np.zeros((6, 3, 32, 32), np.uint8), "y": Y}, {},
        r"x is \[6, 3, 32, 32\], images with their 3 colours first, and \[N, 32, 32, 3\] is needed: set data.layout",
    ),
    "colours first of what has none": ({"x": X, "y": Y}, {"layout": "channels_first"}, r"is for \[N, colours, height"),
    "owners of the test alone": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y, "owners_test": Y}, {}, "owners_test needs owners and x_test"
    ),
    "tokens beyond int32": ({"x": np.arange(12).reshape(6, 2) + 2**31, "y": Y}, {"tokens": True}, "x holds the token"),
    "flat samples": ({"x": Y, "y": Y}, {}, r"x must be \[N, ...\], got \[6\]"),
    "one label": ({"x": X, "y": Y * 0}, {}, "all labels are 0: two of them or more"),
    "more than float32 holds": (
        {"x": np.where(np.arange(36).reshape(6, 2, 3) == 8, 1e300, 0.0), "y": Y}, {}, r"x\[1, 0, 2\] is 1e\+300, and"
    ),
    "NaN": ({"x": X * np.nan, "y": Y}, {}, "x holds a number that is not finite"),
    "words": ({"x": X.astype(str), "y": Y}, {}, "x must hold numbers, got <U"),
    "objects": ({"x": X, "y": Y.astype(object)}, {}, r"no .npz or .npy file of numbers.* y.astype\(str\)"),
    "another shape for the test": (
        {"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, {}, r"samples of x_test are \[1, 3\], of x \[2, 3\]"
    ),
    "owners between numbers": ({"x": X, "y": Y, "owners": Y / 2}, {}, "owners must hold whole numbers or words"),
    "tokens with a point": ({"x": X, "y": Y}, {"tokens": True}, "with data.tokens x must hold whole numbers"),
    "no samples": ({"x": X[:0], "y": Y[:0]}, {}, "x has 0 entries"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("what", ARRAYS)
def test_arrays_that_do_not_fit_are_refused(tmp_path, what, kind):
    held, options, expected = ARRAYS[what]
    path = store(tmp_path, kind, **held)
    with pytest.raises(DataError, match=expected) as caught:
        data.build("arrays", path=path, **options)
    assert str(caught.value).startswith(path)


LABELS = {
    "from 1": (Y + 1, [0, 2, 1, 0, 1, 2], ("1", "2", "3"), "3 labels: 1, 2, 3 are numbered 0, 1, 2"),
    "with gaps": (np.array([0, 5, 2, 0, 2, 5]), [0, 2, 1, 0, 1, 2], ("0", "2", "5"), "0, 2, 5 are numbered 0, 1, 2"),
    "below 0": (Y % 2 * 2 - 1, [0, 0, 1, 0, 1, 0], ("-1", "1"), "2 labels: -1, 1 are numbered 0, 1"),
    "words": (np.array(list("bcabca")), [1, 2, 0, 1, 2, 0], ("a", "b", "c"), "labels: a, b, c are numbered 0, 1, 2"),
    "bytes": (np.array([b"b", b"a"] * 3), [1, 0] * 3, ("a", "b"), "2 labels: a, b are numbered 0, 1"),
    "truth values": (Y > 0, [0, 1, 1, 0, 1, 1], None, "bool, 2 labels, False to True"),
    "plain": (Y.astype(np.uint8), Y.tolist(), None, "y: uint8, 3 labels, 0 to 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", LABELS)
def test_labels_are_numbered_in_their_order_and_keep_their_names(tmp_path, what):
    given, numbers, names, said = LABELS[what]
    found = data.build("arrays", path=store(tmp_path, "npz", x=X, y=given))
    assert (found.y.tolist(), found.labels) == (numbers, names)
    assert found.classes == len(set(numbers))
    assert said in found.about[-1]


def test_the_task_of_whole_numbers_of_a_float_type_can_be_said(tmp_path):
    path = store(tmp_path, "npz", x=X, y=Y * 1.0)
    labelled = data.build("arrays", path=path, task="classification")
    assert (labelled.y.tolist(), labelled.classes, labelled.labels) == (Y.tolist(), 3, None)
    values = data.build("arrays", path=path, task="regression")
    assert (values.y.tolist(), values.classes, values.y.dtype) == (Y.tolist(), None, np.float32)
    (tmp_path / "whole").mkdir()
    counts = data.build("arrays", path=store(tmp_path / "whole", "npz", x=X, y=Y), task="regression")
    assert (counts.classes, counts.about[-1]) == (None, "y: int64, values to predict, 0 to 2")


def test_images_with_their_colours_first_are_brought_into_order(tmp_path):
    x = RNG(0).integers(0, 256, (6, 3, 5, 7), np.uint8)
    path = store(tmp_path, "npz", x=x, y=Y)
    found = data.build("arrays", path=path, layout="channels_first")
    np.testing.assert_array_equal(found.x, x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data.build("arrays", path=path, layout="channels_last").x, x)
    assert found.about[0] == f"x: uint8 [6, 3, 5, 7], {x.min()} to {x.max()}"


def test_owners_may_be_words_and_those_of_test_samples_are_kept(tmp_path):
    held = {"x": X, "y": Y, "x_test": X[:2], "y_test": Y[:2], "owners": np.array(list("bbaacc"))}
    assert data.build("arrays", path=store(tmp_path, "npz", **held)).owners.tolist() == [1, 1, 0, 0, 2, 2, -1, -1]
    path = store(tmp_path, "npz", **held, owners_test=np.array(list("cd")))
    assert data.build("arrays", path=path).owners.tolist() == [1, 1, 0, 0, 2, 2, 2, 3]


def test_what_float32_rounds_and_what_may_be_values_is_said(tmp_path):
    stamps = np.arange(40).reshape(20, 2) + 1_700_000_000
    found = data.build("arrays", path=store(tmp_path, "npz", x=stamps, y=np.arange(20)))
    assert found.about[0].endswith("1.7e+09 to 1.7e+09, of which float32 keeps 7 digits")
    assert found.about[1].endswith("20 samples have so many: are these values to predict (task: regression)?")


def test_damaged_arrays_are_named(tmp_path):
    place = tmp_path / "mine.npz"
    for content in (b"", b"PK\x03\x04nothing", b"<html>"):
        place.write_bytes(content)
        assert f"{place} is no .npz or .npy file" in refusal("arrays", path=str(place))
    np.save(tmp_path / "x.npy", X)
    assert "holds one array" in refusal("arrays", path=str(tmp_path / "x.npy"))
    assert "lacks the array x: it has none we know" in refusal("arrays", path=str(tmp_path.parent))
