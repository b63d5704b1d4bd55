"""Ctrl-C and SIGTERM end every command with their exit code, wherever they come, and what was measured is kept."""

import gc
import json
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from byzax.experiments import plots, report, run_files, timelines
from byzax.experiments.benchmarks import timing
from byzax.experiments.certify import subject
from byzax.experiments.refusing import signal_outcome
from byzax.simulator import interrupts
from byzax.simulator.executors import loop as loop_executor
from byzax.simulator.interrupts import Terminated, raise_on_signals
from byzax.simulator.validation import task_checks
from tests.experiments.command import ROOT, byzax, command, write


def lose(number=signal.SIGINT):
    """A signal that comes while Python calls a destructor: it prints "Exception ignored", and nothing is raised."""

    class Sticky:
        def __del__(self):
            signal.raise_signal(number)

    Sticky()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a study that is complete."""
    folder = tmp_path_factory.mktemp("interrupts")
    assert byzax("run", write(folder), "--out", folder / "out").exit_code == 0
    return folder / "out"


# a command, and where in it the signal comes
COMMANDS = {
    "run, at a check": (["run", "FILE", "--out", "OUT"], task_checks, "check_numbers"),
    "run, at an evaluation": (["run", "FILE", "--out", "OUT"], run_files, "record"),
    "run, after all": (["run", "FILE", "--out", "OUT"], report, "show"),
    "tune": (["tune", "FILE", "--out", "OUT", "--over", "steps=[2,4]"], run_files, "record"),
    "certify": (["certify", "--rule", "median", "-n", "5", "-f", "1", "-d", "10", "--samples", "8", "--set",
                 "parts=resilience", "--out", "OUT"], subject, "numbered_keys"),
    "bench": (["bench", "rules", "--rule", "average", "--size", "3,0,10", "--no-plain", "--no-peers", "--repeats", "1"],
              timing, "PeakMemory"),
    "replay": (["replay", "DONE"], loop_executor, "updates"),
    "timeline": (["timeline", "FILE", "--out", "OUT.png"], timelines, "table"),
    "show": (["show", "DONE"], report, "write"),
}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_that_python_swallows_ends_every_command(tmp_path, monkeypatch, done, name, number):
    arguments, module, function = COMMANDS[name]
    original, often = getattr(module, function), []

    def losing(*given, **named):
        if not often:
            often.append(True)
            lose(number)
        return original(*given, **named)

    monkeypatch.setattr(module, function, losing)
    here = {"FILE": write(tmp_path), "OUT": tmp_path / "out", "OUT.png": tmp_path / "out.png", "DONE": done}
    result = byzax(*[here.get(each, each) for each in arguments])
    assert often, "the place was never reached"
    assert result.exit_code == 128 + number, result.output
    assert ("interrupted" if number == signal.SIGINT else "terminated") in result.stderr
    assert "Traceback" not in result.output


def test_a_signal_while_the_end_of_a_run_is_written_leaves_a_complete_run(tmp_path, monkeypatch):
    original, often = run_files._summary, []

    def losing(run, status, *rest):
        if status == "complete" and not often:
            often.append(True)
            raise KeyboardInterrupt
        return original(run, status, *rest)

    monkeypatch.setattr(run_files, "_summary", losing)
    done = byzax("run", write(tmp_path), "--out", tmp_path / "out")
    assert (done.exit_code, often) == (130, [True])
    (summary,) = tmp_path.glob("out/runs/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "complete"


# a file that was being written is closed with what held it
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_ends_with_130_whenever_ctrl_c_comes_and_its_files_can_be_read(tmp_path, monkeypatch, seed):
    path, moments = write(tmp_path, grid={"rule": ["average", "median"]}), random.Random(seed)
    for name in ("compiles", "whole"):
        begin = time.monotonic()
        assert byzax("run", path, "--out", tmp_path / name).exit_code == 0
        whole_s = time.monotonic() - begin
    late = []
    before = signal.signal(signal.SIGINT, lambda *_: late.append(True))
    codes = []
    try:
        for i in range(40 if seed else 4):
            out, ended, late[:] = tmp_path / f"out-{i}", threading.Event(), []

            # the first one early: on a machine that was busy just before, a run may now take a third of the time
            delay = moments.uniform(0, 0.9 * whole_s) if i else 0.1 * whole_s

            def send(ended=ended, delay=delay):
                while signal.getsignal(signal.SIGINT) is not interrupts._receive and not ended.is_set():
                    time.sleep(0.001)
                if not ended.wait(delay):
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

            sender = threading.Thread(target=send)
            sender.start()
            result = byzax("run", path, "--out", out)
            ended.set()
            sender.join()
            # it came when the command was over, or there was nothing left to end
            codes.append(result.exit_code)
            assert result.exit_code == 130 or late or result.exit_code == 0, result.output
            assert "Traceback" not in result.output
            for summary in out.glob("runs/[!.]*/summary.json"):
                assert json.loads(summary.read_text())["status"] in ("complete", "interrupted")
            with monkeypatch.context() as changed:
                # its files are read for the tables; plots take a second, each time
                changed.setattr(plots, "draw", lambda *_: [])
                shown = byzax("show", out) if list(out.glob("runs/[!.]*")) else None
            assert shown is None or shown.exit_code == 0, shown.output
    finally:
        signal.signal(signal.SIGINT, before)
    gc.collect()
    assert 130 in codes


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.6, 1, 1.5, 2, 3, 4, 6, 8])
def test_a_command_in_a_process_of_its_own_ends_with_130_at_any_moment(tmp_path, delay):
    process = command("run", write(tmp_path, steps=100_000, evaluate_every=50), "--out", tmp_path / "out")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    # before the command has begun it is Python that ends, by the signal itself, which a shell calls 130 too
    assert process.returncode == 130 or (process.returncode == -signal.SIGINT and not (tmp_path / "out").exists()), said
    assert "Exception ignored" not in said


LOADING = """
import os, signal, sys
from byzax.simulator.interrupts import raise_on_signals

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("jaxlib.") and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

try:
    with raise_on_signals():
        sys.meta_path.insert(0, Finder())
        import jax
        print(jax.__version__)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_signal_while_jax_is_imported_ends_the_command_once_it_is_there():
    ended = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (130, jax.__version__, "")


def test_a_lost_signal_is_raised_at_the_next_check_and_at_the_end_at_the_latest():
    reached = []

    def checks(number):
        lose(number)
        reached.append("a check")
        interrupts.check()
        reached.append("more")

    with pytest.raises(Terminated), raise_on_signals():
        checks(signal.SIGTERM)
    assert reached == ["a check"]
    with pytest.raises(KeyboardInterrupt) as caught, raise_on_signals():
        lose()
    assert caught.type is KeyboardInterrupt


def test_a_lost_signal_that_comes_out_as_another_exception_is_an_interrupt():
    def called(_):
        signal.raise_signal(signal.SIGINT)
        return np.float32(0)

    with pytest.raises(KeyboardInterrupt), raise_on_signals():
        # JAX says that its callback failed
        jax.block_until_ready(
            jax.jit(lambda x: jax.pure_callback(called, jax.ShapeDtypeStruct((), np.float32), x))(0.0)
        )


def test_who_has_handled_an_interrupt_is_not_interrupted_again():
    with raise_on_signals():
        try:
            lose()
            interrupts.check()
        except KeyboardInterrupt:
            interrupts.acknowledge()
        interrupts.check()


def test_handlers_are_there_inside_and_nowhere_else():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with raise_on_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
    # another thread is not told of signals, and may run what it likes
    thread = threading.Thread(target=lambda: raise_on_signals().__enter__())
    thread.start()
    thread.join()


def test_the_second_ctrl_c_ends_at_once():
    code = """
import signal, time
from byzax.simulator.validation import task_checks
from byzax.simulator.interrupts import raise_on_signals
with raise_on_signals():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
        print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_sigterm_that_ray_makes_an_ordinary_interrupt_of_is_still_one():
    def waits():
        # what Ray does where a signal comes while it waits
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise KeyboardInterrupt from None

    with pytest.raises(Terminated), raise_on_signals():
        waits()
    with raise_on_signals():
        with pytest.raises(KeyboardInterrupt) as caught:
            waits()
        assert signal_outcome(caught.value) == ("terminated", 143)
    with pytest.raises(KeyboardInterrupt) as caught, raise_on_signals():
        raise KeyboardInterrupt
    assert caught.type is KeyboardInterrupt


def test_a_sigterm_while_ray_starts_ends_as_any_other():
    with pytest.raises(Terminated), raise_on_signals():
        sys.exit(signal.SIGTERM)
    with pytest.raises(SystemExit), raise_on_signals():
        sys.exit(3)


def test_after_an_interrupt_the_interpreter_is_not_torn_down_and_what_stands_at_exit_is_done():
    # threads of XLA that are at work then may abort the process while Python finalises: here a destructor does it
    code = """
import atexit, os, sys
from byzax.experiments import cli
from byzax.experiments.refusing import report_errors
class Late:
    def __del__(self, end=os._exit):
        end(9)
sys.late = Late()
atexit.register(print, "at exit")
@cli.app.command("interrupted")
@report_errors
def command():
    raise KeyboardInterrupt
sys.argv = ["byzax", "interrupted"]
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "at exit\n", "interrupted\n")
