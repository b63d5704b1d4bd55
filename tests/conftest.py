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
# one thread for XLA, as in the actors: a test may be what starts it
os.environ["NPROC"] = "1"

from fnmatch import fnmatch

import pytest

from byzax.simulator import compilation

compilation.use_disk_cache()


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
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]filtered-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]reduced-2]",
    "*test_executors.py::test_batched_updates*[[]filtered-vectorised]",
    "*test_executors.py::test_batched_updates*[[]lagging-*",
    "*test_executors.py::test_batched_updates*[[]selecting-executor*",
    "*test_executors.py::test_a_killed_actor_ends_the_run*-lagging]",
    "*test_executors.py::test_a_killed_actor_ends_the_run*-asynchronous]",
    "*test_racing.py::test_a_killed_worker_actor*[[]schedule[45]-*",
    "*test_rules_contract.py::*[[]bulyan-base=median]",
    "*test_rules_contract.py::*[[]krum-distance=plain]",
    "*test_rules_contract.py::*[[]signguard-share=1.0]",
    "*test_rules_contract.py::*[[]bfloat16-bulyan*",
    "*test_rules_contract.py::test_jit_and_vmap*[[]geometric_median]",
    "*test_rules_contract.py::test_jit_and_vmap*[[]smea]",
    "*test_rules_contract.py::test_float64_rows_are_computed*[[]geometric_median]",
    "*test_rules_contract.py::test_float64_rows_are_computed*[[]smea]",
    "*test_rules_contract.py::test_one_bad_number*[[]smea]",
    "*test_rules_contract.py::test_the_order_of_rows*[[]clipped_clustering]",
    "*test_rules_contract.py::test_the_order_of_rows*[[]smea]",
    "*test_rules_effort.py::test_ten_byzantine_rows_among_fifty*",
    "*test_rules_effort.py::test_bulyan_over_an_undecided_brute*",
    "*test_pre.py::test_nnm_takes*[[]130-*",
    "*test_pre.py::test_a_rule_behind_them*[[][[]'nnm'*",
    "*test_filters.py::test_kardam_says_of_every_row*[[]10-*{'*",
    "*test_filters.py::test_byzantine_workers_that_send_ten_times*[[]1[02]-*",
    "*test_filters.py::test_byzantine_workers_that_send_ten_times*[[]7-*",
    "*test_filters.py::test_after_a_row_close_to_0*",
    "*test_certify_command.py::test_the_same_seed_gives*",
    "*test_certify.py::test_the_leak_of_krum_grows*",
    "*test_command.py::test_shipped_scenarios_can_run*",
    "*test_models.py::test_the_same_key_gives*[[]l*",
    "*test_parts.py::test_dropout_drops_by_the_key*[[]rnn-*",
    "*test_parts.py::test_a_recurrent_network_is_its_equations*[[]l*",
    "*test_parts.py::test_no_step_of_a_transformer*",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]mixed-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]poisoned-2]",
    "*test_executors.py::test_ray_is_bitwise_equal_to_loop*[[]buffer-2]",
    "*test_executors.py::test_one_worker_per_actor*",
    "*test_rules_kernels.py::test_columns_come_out_sorted*[[]33]",
    "*test_rules_kernels.py::test_columns_come_out_sorted*[[]97]",
    "*test_rules_kernels.py::test_columns_come_out_sorted*[[]130]",
    "*test_rules_kernels.py::test_the_nearest_of_a_pool*[[]97]",
    "*test_rules_oracles.py::test_brute_finds_the_planted_cluster*[[]5*",
    "*test_rules_oracles.py::test_no_point_has_a_smaller_sum*",
    "*test_certify.py::test_kappa_is_found_between*[[]geometric_median]",
    "*test_certify.py::test_kappa_is_found_between*[[]brute]",
    "*test_regression.py::test_the_record_of_a_run_holds*",
    "*test_models.py::test_parameters_are_one_flat_vector*[[]resnet*",
    "*test_models.py::test_the_same_key_gives*[[]gru-*",
    "*test_parts.py::test_numbers_where_characters*[[]transformer]",
    "*test_bench.py::test_a_mistake_is_one_line*[[]arguments[6789]-*",
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
