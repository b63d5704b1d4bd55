"""The checks of differential privacy and secure aggregation: what a run cannot have together with them."""

from collections.abc import Sequence

import numpy as np

from byzax.models import Model
from byzax.simulator import accounting
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build, build_rule
from byzax.simulator.data import Dataset
from byzax.simulator.masks import fixed_point
from byzax.simulator.mistakes import Impossible
from byzax.simulator.parts import rule_of, topology
from byzax.simulator.schedules import Schedule


def check_privacy(run: Run, schedule: Schedule) -> None:
    """Checks what needs neither data nor tracing.

    Args:
        run: The run.
        schedule: Its schedule.

    Raises:
        ScenarioError: One line that begins with the key.
    """
    private, structure = run.privacy, topology(run)
    if private is None:
        return
    if not accounting.has_library():
        raise Impossible(
            "privacy: epsilon is computed by the package dp-accounting, which is not installed: "
            "pip install 'byzax[privacy]'"
        )
    if structure.mixes:
        key, mixing = rule_of(run)
        rows = (structure.inboxes or (run.workers.total,))[0]
        if build_rule(mixing, run.pre, rows, 0).needs & {"gradient", "loss"}:
            raise Impossible(
                f"{key}: {mixing.label} asks the samples of a node, which no noise hides: with privacy take another one"
            )
    if private.level == "worker" and run.local is not None and run.local.control_variates:
        raise Impossible(
            "privacy.level: worker hides rows, by which control variates are computed: take level sample, or leave "
            "local.control_variates out"
        )
    if private.level == "worker" and run.sends_models:
        raise Impossible("privacy.level: worker clips changes and gradients: with local.send model take delta")
    if private.level == "server":
        needed = {
            "rule average without pre": run.rule.name == "average" and not run.pre,
            "weights equal": run.weights == "equal",
            "no filter": run.filter is None,
            "topology parameter_server": structure.one_server,
            "local.send delta": not run.sends_models,
            "a schedule whose rule sees the rows of an update": schedule.sees == "rows",
        }
        if missing := [what for what, fulfilled in needed.items() if not fulfilled]:
            raise Impossible(
                f"privacy.level: server knows how far one row moves the mean of clipped rows, and of nothing else: it "
                f"needs {'; '.join(missing)}: or take level worker or sample, with any rule"
            )


def check_masks(run: Run, schedule: Schedule) -> None:
    """Checks what needs neither data nor tracing.

    Args:
        run: The run.
        schedule: Its schedule, as it is without masks.

    Raises:
        ScenarioError: One line that begins with `masks`.
    """
    masks, n = run.masks, run.workers.total
    if masks is None:
        return
    if 2 * masks.groups > n:
        raise Impossible(
            f"masks.groups: in {masks.groups} groups of {n} workers (workers.total) some have one alone, whose row the "
            f"server would see: take {n // 2} at most"
        )
    try:
        fixed_point(masks.bits, masks.range, -(-n // masks.groups))
    except ValueError as error:
        raise Impossible(f"masks: {error}: look at bits, range and groups") from None
    in_rounds = schedule.sees == "rows" and schedule.oldest == 0 and schedule.order is None and schedule.plan is None
    needed = {
        "topology parameter_server": topology(run).one_server,
        "a schedule in which all workers begin together and no row is older than the model (synchronous)": in_rounds,
        "weights equal": run.weights == "equal",
        "no filter": run.filter is None,
        "no privacy of level server, which cannot clip a row that it does not see": run.privacy is None
        or run.privacy.level != "server",
    }
    if missing := [what for what, fulfilled in needed.items() if not fulfilled]:
        raise Impossible(f"masks: hide every row but in the sum of a group of one round: needs {'; '.join(missing)}")


def check_private_model(run: Run, data: Dataset) -> None:
    """Checks that the loss of a sample is one of the sample alone, where `privacy` asks for its gradient.

    Args:
        run: The run.
        data: The data.

    Raises:
        ScenarioError: One line that begins with `privacy.level`.
    """
    if run.privacy is None or run.privacy.level != "sample":
        return
    made: Model = build(run.model, data.x.shape[1:], data.classes)
    if made.statistics is not None or made.least_batch > 1:
        raise Impossible(
            f"privacy.level: sample clips the gradient of every sample, and that of {run.model.label} depends on the "
            "batch (norm batch): take another norm (layer, group, none), or level worker"
        )


def check_batches(run: Run, shares: Sequence[np.ndarray]) -> None:
    """Checks that every worker holds as many samples as a batch that is drawn without replacement.

    Args:
        run: The run.
        shares: Positions of the samples of each worker.

    Raises:
        ScenarioError: One line that begins with `data.batches`.
    """
    size, held = run.data.batch_size, min(map(len, shares))
    if run.data.batches != "replacement" and held < size:
        raise Impossible(
            f"data.batches: {run.data.batches} needs {size} samples (data.batch_size) at every worker, and one holds "
            f"{held}: take batch_size {held} at most, or batches replacement"
        )
