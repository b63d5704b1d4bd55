"""Room for the processes of an embedded Ray, before they are started."""

import pytest

from byzax.simulator.executors import room
from byzax.simulator.mistakes import ScenarioError
from tests.simulator.conftest import small

GB = 10**9


@pytest.fixture
def machine(monkeypatch):
    def of(cores, free):
        monkeypatch.setattr(room, "cores", lambda: cores)
        monkeypatch.setattr(room, "free_bytes", lambda: free)

    return of


def hundred(**executor):
    return small(workers={"total": 100, "byzantine": 10}, executor={"name": "ray", **executor}).task


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ({"workers_per_actor": 1}, r"executor.workers_per_actor: 101 processes take about 3\d.* GB .*8 GB are free: "),
        ({"actors": 60}, r"executor.actors: 61 processes take about .* GB .*8 GB are free: take actors: \d+, "),
    ],
)
def test_a_hundred_actors_without_room_are_refused_with_the_way_out(machine, executor, said):
    machine(2, 8 * GB)
    with pytest.raises(ScenarioError, match=said) as caught:
        room.check(hundred(**executor))
    words = str(caught.value).split(": take ")[1].split(",")[0]
    key, number = words.split(": ")
    # what is proposed has room
    assert room.check(hundred(**{key: int(number)})) is not None
    assert room.needed_bytes(hundred(**{key: int(number)})) <= 8 * GB


def test_many_processes_on_few_cores_are_said_and_few_are_not(machine):
    machine(2, 100 * GB)
    assert "101 processes take about 3" in room.check(hundred(workers_per_actor=1))
    assert "share 2 cores" in room.check(hundred(workers_per_actor=1))
    assert room.check(hundred()) == room.check(hundred(actors=8)) == ""
    machine(2, None)
    assert room.check(hundred(actors=8)) == ""


def test_what_is_free_is_that_of_the_machine_or_of_the_container(tmp_path):
    assert room.free_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 2000000 kB\n")
    assert room.free_bytes(tmp_path) == 2_048_000_000
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("400\n")
    for limit, expected in (("max", 2_048_000_000), ("1000", 600), ("100", 0)):
        (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
        assert room.free_bytes(tmp_path) == expected
