"""Compiled code is shared by runs, and let go before the process has no memory maps left for more."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from byzax.simulator import compilation, executors
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from tests.nightly import by_day

TOPOLOGIES = {
    "parameter_server": "parameter_server",
    "guanyu": {"name": "guanyu", "servers": 4, "byzantine_servers": 0},
    "byzsgd": {"name": "byzsgd", "servers": 5},
    "byzsgd, synchronous": {"name": "byzsgd", "servers": 5, "variant": "synchronous", "gather_every": 2},
    "gossip": "gossip",
    "pairwise": {"name": "pairwise", "mixing": "weighted_average"},
    "sharded": {"name": "sharded", "servers": 2},
    "all_gather": "all_gather",
    "all_reduce": "all_reduce",
}


def test_compiled_code_is_let_go_where_it_takes_too_many_maps_and_only_there():
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not tell the memory maps of a process: nothing is let go there")

    function = jax.jit(lambda x: jnp.sort(x) @ jnp.cumsum(x))
    expected = function(jnp.arange(5.0))
    traced = []
    listener = lambda event, duration, **_: traced.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        compilation.make_room(share=1.0)
        function(jnp.arange(5.0))
        assert not traced
        before = maps.read_bytes().count(b"\n")
        compilation.make_room(share=0.0)
        assert maps.read_bytes().count(b"\n") < before
        assert function(jnp.arange(5.0)) == expected
        assert traced
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.parametrize("executor", ["loop", "vectorised"])
@pytest.mark.parametrize("name", by_day({"sharded", "all_reduce"}, TOPOLOGIES))
def test_a_second_run_compiles_nothing(name, executor):
    study = parse_as(
        Study,
        {
            "name": "twice", "steps": 3, "evaluate_every": 3, "model": "softmax", "attack": "sign_flip",
            "data": {"name": "gaussian_mixture", "samples": 240, "shape": [5], "classes": 3, "batch_size": 8},
            "rule": "average" if name in ("all_reduce", "pairwise") else "median", "executor": executor,
            "workers": {"total": 7, "byzantine": 1}, "topology": TOPOLOGIES[name],
        },
    )  # fmt: skip
    lowered = []

    def listener(event, duration, **_):
        lowered.extend([event] if event.endswith("jaxpr_to_mlir_module_duration") else [])

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for count in (0, 1):
            with executors.session(study.executor) as execute:
                list(execute(study.task))
            assert bool(lowered) == (not count), lowered
            lowered.clear()
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
