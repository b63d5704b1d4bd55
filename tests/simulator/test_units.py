"""Units of the data change nothing that should not: triggers, noise, rare samples and augmentations."""

import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator import data
from byzax.simulator.core import build
from byzax.simulator.data.base import dataset
from byzax.simulator.units import change_in_units, measure_units
from byzax.simulator.world import world
from tests.simulator.conftest import small

POISON = {
    "name": "backdoor",
    "value": 0.7,
    "target": 8,
    "workers": 1,
    "beside": [{"name": "feature_noise", "workers": 1, "standard_deviation": 0.3}, {"name": "edge_case", "share": 0.3}],
}
CHANGES = ["cutout", {"name": "shift", "pixels": 1}, "rotate"]


def poisoned(place, x, y, normalise, augment=(), attack=POISON):
    """Rows of the three Byzantine workers and the success of the trigger at the first model, of samples in a file."""
    np.savez(place, x=np.asarray(x, np.float32), y=y)
    described = {"name": "arrays", "path": str(place), "batch_size": 8, "normalise": normalise, "augment": [*augment]}
    scenario = small(data=described, attack=attack, workers={"total": 7, "byzantine": 3})
    core, here = build(scenario.run, 7), world(scenario.run)
    params = core.start(here).params
    rows = [np.asarray(core.work(here, params, worker, 0, 0)) for worker in range(4)]
    return np.stack(rows), float(core.evaluate(here, params).attack_success)


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["standard", "unit"])
def test_poisoned_and_changed_images_are_the_same_in_any_units(tmp_path, normalise):
    digits = data.build("digits")
    reference, success = poisoned(tmp_path / "a.npz", digits.x, digits.y, normalise, CHANGES)
    for place, x in (("b.npz", 255 * digits.x), ("c.npz", 2 * digits.x - 1)):
        rows, other = poisoned(tmp_path / place, x, digits.y, normalise, CHANGES)
        np.testing.assert_allclose(rows, reference, rtol=1e-3, atol=1e-4 * np.abs(reference).max())
        assert other == pytest.approx(success, abs=0.01)
    assert success > 0


def test_each_feature_of_a_table_has_units_of_its_own(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 5)), rng.integers(0, 3, 120)
    attack = {"name": "edge_case", "share": 0.3, "workers": 1, "beside": [{"name": "feature_noise"}]}
    found = []
    for place, other in (("a.npz", x), ("b.npz", x * [1, 1e3, 1e-2, 7, 100] + [0, -5, 3, 0, 1e3])):
        np.savez(tmp_path / place, x=other.astype(np.float32), y=y)
        described = {"name": "arrays", "path": str(tmp_path / place), "batch_size": 8, "normalise": "per_feature"}
        scenario = small(data=described, attack=attack, workers={"total": 7, "byzantine": 3})
        core, here = build(scenario.run, 7), world(scenario.run)
        found.append(np.stack([core.work(here, core.start(here).params, worker, 0, 0) for worker in range(4)]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2, atol=1e-3)


def test_the_background_is_dark_or_the_paper_and_what_is_left_alone_keeps_its_bits():
    x = np.random.default_rng(0).uniform(0.1, 0.9, (6, 4, 4)).astype(np.float32)
    x[0, 0, :2] = 0, 1
    for scale, shift in ((1, 0), (255, 0), (3, -1)):
        stored = (scale * x + shift).astype(np.float32)
        for background, nothing, other in (("low", shift, scale + shift), ("high", scale + shift, shift)):
            unit = measure_units(dataset(stored, np.zeros(6, int), 2, background=background))
            for value, expected in ((0.0, nothing), (1.0, other), (0.25, nothing + 0.25 * (other - nothing))):
                made = np.asarray(
                    change_in_units(unit, jnp.asarray(stored), lambda x, v=value: x.at[:, 1:3, 1:3].set(v))
                )
                np.testing.assert_allclose(made[:, 1:3, 1:3], expected, rtol=1e-6, atol=1e-6)
                kept = np.ones((4, 4), bool)
                kept[1:3, 1:3] = False
                np.testing.assert_array_equal(made[:, kept], stored[:, kept])
    assert measure_units(dataset(np.zeros((6, 3), np.int32), np.zeros(6, int), 2)) is None
    constant = measure_units(dataset(np.full((6, 3), 2.0), np.zeros(6, int), 2))
    np.testing.assert_allclose(change_in_units(constant, jnp.full((6, 3), 2.0), lambda x: x + 0.5), 2.5)
