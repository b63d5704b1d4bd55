"""What all tests share: plug-ins of their own, and one compilation cache, of all processes that run them."""

import os
import tempfile
from pathlib import Path

# before anything imports the packages: rules, attacks and schedules that only the tests need
os.environ["BYZAX_PLUGINS"] = str(Path(__file__).parent / "plugins")
if "BYZAX_TEST_CACHE" not in os.environ:
    folder = tempfile.TemporaryDirectory(prefix="byzax-tests-", ignore_cleanup_errors=True)
    # processes that run tests side by side begin with the environment of this one
    os.environ["BYZAX_TEST_CACHE"] = folder.name
os.environ["BYZAX_CACHE"] = os.environ["BYZAX_TEST_CACHE"]

from fnmatch import fnmatch

import pytest

from simulator import compilation

compilation.keep()


# Compiled anew in each of them, which is what takes the time; by day others stand for them.
NIGHTLY = [
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]*-[15]]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]suspecting-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]late-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]epochs-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]adaptive-2]",
    "*test_executors.py::test_batched_updates*[[]recurrent-*",
    "*test_executors.py::test_batched_updates*[[]regression-*",
    "*test_executors.py::test_batched_updates*[[]table-*",
    "*test_executors.py::test_batched_updates*[[]reduced-*",
    "*test_executors.py::test_a_repeat_that_gets_no_better*[[]asynchronous-vectorised]",
    "*test_racing.py::test_a_race_replays_to_the_same_bits[[]table]",
    "*test_racing.py::test_two_hundred_updates*",
    "*test_filters.py::test_plain_asynchrony_fails_where_a_filter_stands[[]kardam]",
    "*test_filters.py::test_the_frequency_filter_holds*",
    "*test_certify.py::test_the_search_breaks_the_average*",
    "*test_models.py::test_cnn_gives_the_values*",
    "*test_models.py::test_gradients_agree_with_finite_differences[[]*-[58]x*",
    "*test_models.py::test_the_convolutions_values*",
    "*test_models.py::test_training_fits_a_toy_set[[]*-5x*",
    "*test_parts.py::test_the_truncated_gradient*",
    "*test_parts.py::test_gradients_of_a_truncated_network*",
    "*test_parts.py::test_a_transformer_is_causal*",
    "*test_parts.py::test_dropout_drops_by_the_key*[[]transformer-*",
    "*test_attacks.py::test_jit_and_vmap*[[]fang]",
    "*test_attacks.py::test_jit_and_vmap*[[]gradient_ascent]",
    "*test_attacks.py::test_jit_and_vmap*[[]mimic]",
    "*test_adaptive.py::test_gradient_ascent_is_never_less_harmful*",
    "*test_adaptive.py::test_a_search_is_what_optimised*",
    "*test_samples.py::test_vectorised_seeds_follow*",
    "*test_tune.py::test_other_test_labels*",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if any(fnmatch(item.nodeid, pattern) for pattern in NIGHTLY):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def _room_for_compiled_code():
    # two processes of several GB each otherwise, before Linux runs out of maps
    compilation.make_room(share=0.2)
