"""Compiled code is let go before the process has no memory maps left for more."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from byzax.simulator import compilation


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
