"""Augmented images, held to NumPy and SciPy."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from byzax.simulator import augmentations
from byzax.simulator.config.part import Choice
from byzax.simulator.core import build_augmentation
from tests.nightly import by_day

FOLDER = Path(inspect.getfile(augmentations)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("__init__", "base"))
# unlike in both axes and without a zero; sizes odd and even
IMAGES = np.random.default_rng(0).uniform(0.1, 1, (40, 7, 10, 3)).astype(np.float32)


def changed(name, images=IMAGES, seed=0, /, **options):
    # compiled as a whole, as in a run: operation by operation takes longer
    return np.asarray(jax.jit(augmentations.build(name, **options))(jax.random.key(seed), jnp.asarray(images)))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_image_has_a_draw_of_its_own_that_the_key_decides(name):
    same = np.repeat(IMAGES[:1], 30, axis=0)
    made = changed(name, same)
    assert (made.shape, made.dtype) == (same.shape, np.float32)
    assert len(np.unique(made.reshape(30, -1), axis=0)) > 1
    np.testing.assert_array_equal(made, changed(name, same))
    assert not np.array_equal(made, changed(name, same, 1))


@pytest.mark.parametrize("name", by_day(["flip", "rotate"], SHIPPED))
def test_grey_images_without_an_axis_for_it_are_changed_as_those_with_one(name):
    np.testing.assert_array_equal(changed(name, IMAGES[..., 0]), changed(name, IMAGES[..., :1])[..., 0])


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("samples", [np.ones((4, 20), np.float32), np.ones((4, 3, 3), np.int32)])
def test_samples_that_are_no_images_are_refused(name, samples):
    with pytest.raises(ValueError, match=rf"{name} is for images .* leave it out of data.augment"):
        changed(name, samples)


@pytest.mark.parametrize(("axis", "turned"), [("horizontal", IMAGES[:, :, ::-1]), ("vertical", IMAGES[:, ::-1])])
def test_flip_mirrors_so_many_images_and_leaves_the_others(axis, turned):
    made = changed("flip", axis=axis, probability=0.3)
    flipped = np.array([np.array_equal(a, b) for a, b in zip(made, turned, strict=True)])
    kept = np.array([np.array_equal(a, b) for a, b in zip(made, IMAGES, strict=True)])
    assert (flipped ^ kept).all()
    # of 40 draws 12, give or take three deviations
    assert 3 < flipped.sum() < 21
    np.testing.assert_array_equal(changed("flip", axis=axis, probability=1.0), turned)


def test_shift_moves_an_image_by_each_number_of_pixels_and_lets_zeros_in():
    image = IMAGES[0]
    wide = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {(i, j): wide[i : i + 7, j : j + 10] for i in range(5) for j in range(5)}
    found = [
        next(place for place, window in windows.items() if np.array_equal(made, window))
        for made in changed("shift", np.repeat(IMAGES[:1], 400, axis=0), pixels=2)
    ]
    # all 25, so that none is left out and none farther; and row and column are not drawn as one
    assert set(found) == set(windows)


def test_cutout_makes_a_square_about_any_pixel_zero():
    made = changed("cutout", np.repeat(IMAGES[:1], 600, axis=0), size=4)
    corners = set()
    for image in made:
        rows, columns = np.nonzero((image == 0).all(axis=-1))
        expected = IMAGES[0].copy()
        expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
        np.testing.assert_array_equal(image, expected)
        corners.add((rows.min(), rows.max(), columns.min(), columns.max()))
        assert np.ptp(rows) <= 3
        assert np.ptp(columns) <= 3
    # the middle, two pixels after the first, is any of 7 x 10 pixels: the last row and column are cut to two
    assert len(corners) == 70
    assert max(corner[0] for corner in corners) == 4
    assert min(corner[1] for corner in corners) == 1


def turned(image, degrees):
    """SciPy's own, about the same middle."""
    return ndimage.affine_transform(
        image.astype(np.float64), *_affine(image.shape, np.deg2rad(degrees)), order=1, mode="constant"
    )


def _affine(shape, angle):
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(shape) - 1) / 2
    return matrix, middle - matrix @ middle


def test_rotate_turns_about_the_middle_by_angles_in_both_directions_up_to_the_largest():
    # 0 at the rim, where SciPy and JAX cut off in ways of their own
    image = np.zeros((9, 12), np.float32)
    image[2:-2, 3:-3] = np.random.default_rng(1).uniform(0.1, 1, (5, 6))
    angles = np.linspace(-20, 20, 401)
    candidates = np.stack([turned(image, angle) for angle in angles])
    found = []
    for made in changed("rotate", np.repeat(image[None], 60, axis=0), degrees=20.0):
        distance = np.abs(candidates - made).max(axis=(1, 2))
        # half a step of 0.1 degrees at 5 pixels from the middle, between pixels that differ by 0.9 at most
        assert distance.min() < 5e-3
        found.append(angles[distance.argmin()])
    assert -20 <= min(found) < -14
    assert 14 < max(found) <= 20


def test_crop_is_a_window_of_the_image_of_the_areas_asked_for():
    # brightness says where a pixel was, and a bilinear window of a plane is a plane
    rows, columns = np.mgrid[0:9, 0:13]
    planes = np.stack([rows, columns], axis=-1).astype(np.float32)
    areas = []
    for made in changed("crop", np.repeat(planes[None], 200, axis=0), smallest=0.25):
        height, width = np.ptp(made[..., 0]) / 8, np.ptp(made[..., 1]) / 12
        assert height == pytest.approx(width, abs=1e-4)
        areas.append(height * width)
        assert made.min() >= -1e-4
        assert made[..., 0].max() <= 8 + 1e-4
        assert made[..., 1].max() <= 12 + 1e-4
        np.testing.assert_allclose(np.diff(made[..., 0], axis=0), height, atol=1e-4)
    assert min(areas) >= 0.25 - 1e-4
    # uniform in the area: the mean is in the middle
    assert np.mean(areas) == pytest.approx(0.625, abs=0.05)
    np.testing.assert_allclose(changed("crop", smallest=1.0), IMAGES, atol=1e-5)


def test_several_are_done_in_their_order_each_with_a_key_of_its_own():
    parts = tuple(Choice("augmentation").validate(each) for each in ("flip", {"name": "shift", "pixels": 2}))
    both = build_augmentation(parts)
    assert both is not None
    key = jax.random.key(3)
    one = augmentations.build("flip")(jax.random.fold_in(key, 0), jnp.asarray(IMAGES))
    expected = augmentations.build("shift", pixels=2)(jax.random.fold_in(key, 1), one)
    np.testing.assert_array_equal(both(key, jnp.asarray(IMAGES)), expected)
    assert build_augmentation(()) is None


def test_every_file_of_the_folder_is_an_augmentation_that_is_found():
    assert {"flip", "shift", "crop", "rotate", "cutout"} <= set(SHIPPED) <= set(augmentations.available())
    with pytest.raises(ValueError, match=r"unknown augmentation 'flop'; did you mean 'flip'\?"):
        augmentations.build("flop")
