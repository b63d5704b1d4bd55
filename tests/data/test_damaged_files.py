"""Files of every kind that are damaged at random: samples that will do, or one line that names the file."""

import gzip
import json

import numpy as np
import pytest
import sklearn.datasets
from scipy.io import savemat

from byzax.simulator import data, latency
from byzax.simulator.data import DataError
from tests.data.conftest import file_of, idx

RNG = np.random.default_rng
cifar10 = file_of("cifar10")
DAY, NIGHT = 12, 300


def of_idx(folder):
    for part, count in (("train", 5), ("t10k", 3)):
        rng = RNG(count)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (count, 4, 4), np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count, dtype=np.uint8))))
    return "mnist", {"root": str(folder)}


def of_emnist(folder):
    for part in ("train", "test"):
        images, labels = RNG(0).integers(0, 256, (4, 4, 4), np.uint8), np.arange(1, 5, dtype=np.uint8)
        (folder / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return "emnist", {"root": str(folder), "split": "letters"}


def of_cifar(folder):
    for number, name in enumerate((*cifar10.TRAIN, cifar10.TEST)):
        (folder / name).write_bytes(bytes([number]) + RNG(number).bytes(3072))
    return "cifar10", {"root": str(folder)}


def of_svhn(folder):
    for part in ("train", "test"):
        images = RNG(0).integers(0, 256, (32, 32, 3, 2), np.uint8)
        savemat(folder / f"{part}_32x32.mat", {"X": images, "y": np.array([[1], [10]], np.uint8)})
    return "svhn", {"root": str(folder)}


def of_femnist(folder):
    users = {"users": ["a", "b"], "user_data": {u: {"x": [[0.25] * 784] * 2, "y": [0, 61]} for u in "ab"}}
    for part in ("train", "test"):
        (folder / part).mkdir()
        (folder / part / "a.json").write_text(json.dumps(users))
    return "femnist", {"root": str(folder), "leaf_split": True}


def of_shakespeare(folder):
    (folder / "shakespeare.txt").write_text("HAMLET.\nTo be, or not to be.\n\nGHOST.\nMark me, Hamlet.\n\n" * 3)
    return "shakespeare", {"root": str(folder), "length": 5, "stride": 2, "held_out": 0.4}


def of_csv(folder):
    rows = "".join(f"{i / 4},{'abc'[i % 3]},{i % 2},{'xy'[i % 2]}\n" for i in range(8))
    (folder / "a.csv").write_text(f"size,kind,sick,who\n{rows}")
    return "csv", {"path": str(folder / "a.csv"), "target": "sick", "owner": "who"}


def of_values(folder):
    (folder / "a.csv").write_text("size,price\n" + "".join(f"{i},{i / 3}\n" for i in range(8)))
    return "csv", {"path": str(folder / "a.csv"), "target": "price", "task": "regression"}


def of_california(folder):
    line = "-122.23,37.88,41,880,129,322,126,8.3252,452600\n"
    (folder / "cal_housing.data").write_text(line * 4)
    return "california", {"root": str(folder)}


def of_libsvm(folder):
    (folder / "a").write_text("".join(f"{i % 2 * 2 - 1} 1:{i / 4} 3:-{i}\n" for i in range(8)))
    return "libsvm", {"path": str(folder / "a")}


def of_npz(folder):
    held = {"x": RNG(0).normal(size=(6, 2, 3)), "y": np.arange(6) % 3, "owners": np.arange(6) % 2}
    np.savez(folder / "a.npz", **held)
    return "arrays", {"path": str(folder / "a.npz")}


def of_npy(folder):
    np.save(folder / "x.npy", RNG(0).normal(size=(6, 3)).astype(np.float32))
    np.save(folder / "y.npy", np.array(list("abcabc")))
    return "arrays", {"path": str(folder)}


KINDS = [
    of_idx, of_emnist, of_cifar, of_svhn, of_femnist, of_shakespeare, of_csv, of_values, of_california, of_libsvm,
    of_npz, of_npy,
]  # fmt: skip
# what numbers and words of a text file are replaced by
WORDS = [
    "nan", "inf", "-inf", "1e400", "-1", "0", "1.5", str(2**62), "9" * 400, "", "None", "true", "\x00", "\u00e9", '"',
    "'", ",", ":", "[", "]", "{", "}", "[]", "{}", "null", "NaN", "Infinity", "\n", "#", "0:1", "-3:1",
    "999999999999:1", "x" * 5000,
]  # fmt: skip


def damage(content, rng):
    """The bytes of a file, damaged in one of many ways."""
    place = int(rng.integers(0, len(content) + 1))
    kind = rng.integers(0, 10)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.bytes(int(rng.integers(1, 40))) + content[place:]
    if kind == 2:
        changed = bytearray(content)
        for _ in range(int(rng.integers(1, 20))):
            changed[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        return bytes(changed)
    if kind == 3:
        # headers stand at the beginning
        changed = bytearray(content)
        changed[int(rng.integers(0, min(len(content), 130)))] = int(rng.choice([0, 0x7F, 0xFF, 0x2D, 0x39]))
        return bytes(changed)
    if kind == 4:
        return content[:place] + content[int(rng.integers(place, len(content) + 1)) :]
    if kind == 5:
        return content + content[:place]
    if kind == 6:
        return gzip.compress(content)[: -int(rng.integers(1, 12))]
    if kind == 7:
        return rng.bytes(int(rng.integers(0, 300)))
    # a word or number of a text
    begin = max(content.rfind(mark, 0, place) for mark in (b" ", b",", b"\n", b":", b"[")) + 1
    end = min((e for mark in (b" ", b",", b"\n", b":", b"]") if (e := content.find(mark, begin)) >= 0), default=place)
    return content[:begin] + str(rng.choice(WORDS)).encode() + content[max(end, begin) :]


def will_do(found):
    """Tells whether a data set is one that a run can begin with."""
    assert len(found.x) == len(found.y) > 0
    assert found.dtype in (np.float32, np.int32)
    assert np.isfinite(found.values()).all()
    assert np.isfinite(found.y).all()
    assert found.classes is None or (0 <= found.y.min() <= found.y.max() < found.classes)
    assert found.owners is None or len(found.owners) == len(found.y)
    assert found.test is None or (0 < len(found.test) < len(found.y) and found.test.max() < len(found.y))


@pytest.mark.parametrize(
    "seeds", [range(DAY), pytest.param(range(DAY, DAY + NIGHT), marks=pytest.mark.slow)], ids=["day", "night"]
)
@pytest.mark.parametrize("made_by", KINDS)
def test_a_file_damaged_at_random_is_read_or_named_in_one_line(tmp_path, made_by, seeds):
    name, options = made_by(tmp_path)
    will_do(data.build(name, **options))
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}
    for seed in seeds:
        rng = RNG(seed)
        chosen = files[int(rng.integers(0, len(files)))]
        chosen.write_bytes(damage(whole[chosen], rng))
        said = None
        try:
            found = data.build(name, **options)
        except DataError as error:
            said = str(error)
        if said is None:
            will_do(found)
        else:
            assert "\n" not in said, seed
            assert len(said) < 1000, seed
            # of a folder of arrays the folder and the array are named
            assert any(str(path) in said for path in (*files, f"{tmp_path}: ")), (seed, said)
        chosen.write_bytes(whole[chosen])
    will_do(data.build(name, **options))


@pytest.mark.parametrize("made_by", KINDS)
@pytest.mark.parametrize("how", ["a folder", "nothing", "unreadable"])
def test_what_is_no_file_is_named(tmp_path, made_by, how, monkeypatch):
    name, options = made_by(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    chosen = files[0]
    if how == "unreadable":
        # whoever runs as root may read everything
        def refusing(read):
            def guarded(path, *arguments, **options):
                if str(path) == str(chosen):
                    raise PermissionError(13, "Permission denied", str(path))
                return read(path, *arguments, **options)

            return guarded

        for owner, function in ((type(chosen), "open"), (np, "load"), (sklearn.datasets, "load_svmlight_file")):
            monkeypatch.setattr(owner, function, refusing(getattr(owner, function)))
    else:
        chosen.unlink()
        if how == "a folder":
            chosen.mkdir()
    with pytest.raises(DataError) as caught:
        data.build(name, **options)
    assert "\n" not in str(caught.value)
    # of what is not there the folder is named, and the file or its pattern
    assert str(chosen) in str(caught.value) or (how != "unreadable" and str(tmp_path) in str(caught.value))


@pytest.mark.parametrize(
    "seeds", [range(DAY), pytest.param(range(DAY, DAY + NIGHT), marks=pytest.mark.slow)], ids=["day", "night"]
)
def test_a_damaged_trace_is_read_or_named_in_one_line(tmp_path, seeds):
    file = tmp_path / "trace.csv"
    whole = ("worker,seconds\n" + "".join(f"{'ab'[i % 2]},{i / 2}\n" for i in range(8))).encode()
    for seed in seeds:
        file.write_bytes(damage(whole, RNG(seed)))
        said = None
        try:
            times = latency.factory("trace")(file=str(file))(RNG(0), 0, 0, 20)
        except ValueError as error:
            said = str(error)
        if said is None:
            assert np.isfinite(times).all()
            assert (times >= 0).all()
        else:
            assert "\n" not in said, seed
            assert str(file) in said, seed
