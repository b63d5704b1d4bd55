"""Ray beyond one machine without a GPU, as far as one such machine can show it."""

import logging
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import byzax
from byzax.experiments import records
from byzax.simulator import executors
from byzax.simulator.config.executors import Ray
from byzax.simulator.executors import SessionLost
from byzax.simulator.executors.ray import ray
from tests.simulator.conftest import loop, processes, same, small
from tests.simulator.test_executors import SCENARIOS

# Half a minute each: a Ray of their own and five actors that import JAX.
pytestmark = pytest.mark.slow


def apart(function: Callable[[], None]) -> None:
    """Calls the function in a process of its own: this one holds the Ray of the session."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(function).result(timeout=300)


def two_nodes() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        with executors.session(Ray(), address=cluster.address) as execute:
            for changes in (SCENARIOS["remembering"], SCENARIOS["lagging"]):
                scenario = small(**changes, executor={"name": "ray", "actors": 3})
                assert same(loop(**changes), list(execute(scenario.task)))
            # each node has a parent process of its own
            assert len({process.ppid() for process in processes("ray::WorkerActor")}) == 2
        time.sleep(5)
        assert not processes("ray::WorkerActor")
        ray.init(address=cluster.address, logging_level=logging.ERROR)
        assert [node["Alive"] for node in ray.nodes()] == [True, True]
        ray.shutdown()
    finally:
        cluster.shutdown()


def test_two_nodes_give_the_numbers_of_loop_and_outlive_the_session():
    apart(two_nodes)


def one_gpu() -> None:
    # Ray counts a GPU that is not there; JAX runs on the CPU
    ray.init(address="local", num_gpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with executors.session(Ray()) as execute:
        for actors in (1, 3, 2, 4):
            assert same(loop(), list(execute(small(executor={"name": "ray", "actors": actors}).task)))
    ray.shutdown()


def test_any_number_of_actors_shares_a_gpu_also_after_another_number():
    apart(one_gpu)


def head_is_gone() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    scenario = small(steps=100_000, evaluate_every=200, schedule="asynchronous", executor={"name": "ray", "actors": 1})
    with executors.session(Ray(), address=cluster.address) as execute:
        checkpoints = execute(scenario.task)
        assert next(checkpoints).step == 0
        for process in processes("gcs_server"):
            process.kill()
        begin = time.monotonic()
        for _ in range(2):
            # whoever asks again is told at once too
            with pytest.raises(SessionLost, match=f"the cluster at {cluster.address} is gone"):
                list(checkpoints)
            assert time.monotonic() - begin < 20
            checkpoints = execute(scenario.task)
    cluster.shutdown()


def test_a_cluster_that_is_gone_ends_runs_within_seconds():
    apart(head_is_gone)


def head_is_gone_in_a_study() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    killed_s = []

    with tempfile.TemporaryDirectory() as folder:

        def kill() -> None:
            while not [*Path(folder).glob("runs/*/metrics.csv")]:
                time.sleep(0.2)
            time.sleep(3)
            for process in processes("gcs_server"):
                process.kill()
            killed_s.append(time.monotonic())

        threading.Thread(target=kill, daemon=True).start()
        study = small(
            steps=100_000, evaluate_every=200, schedule="asynchronous", executor={"name": "ray", "actors": 1},
            grid={"rule": ["median", "average"]},
        )  # fmt: skip
        with pytest.raises(byzax.RunError, match=rf"^Ray: the cluster at {cluster.address} is gone$"):
            byzax.run(study, out=folder, ray_address=cluster.address, quiet=True)
        assert time.monotonic() - killed_s[0] < 20
        # one was under way and goes on, the other one has not begun
        (under_way,) = Path(folder).glob("runs/*")
        result = records.read_summary(under_way)
        assert (result.status, result.reason) == ("interrupted", f"Ray: the cluster at {cluster.address} is gone")
    cluster.shutdown()


def test_a_cluster_that_is_gone_ends_a_study_and_its_next_runs_do_not_begin():
    apart(head_is_gone_in_a_study)
