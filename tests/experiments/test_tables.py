"""Tables: the number of runs of each cell, the best cells, and the title. No run trains here."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from byzax import load as byzax_load
from byzax.experiments import plots, report, tables
from byzax.experiments.gathering import time_varies
from byzax.experiments.settings import settings, settings_line
from byzax.experiments.statistics import worst_interval
from byzax.experiments.tables import cell_text
from byzax.experiments.tune import Tuning
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from tests.experiments.command import SMALL, byzax
from tests.experiments.written import study_of

GRID = {"rule.name": ["average", "median", "trimmed_mean"], "attack.name": ["none", "sign_flip"]}
# accuracies of seeds 0, 1, 2 at the end; None where the run failed, and nothing where it never began
ENDS = {
    ("average", "none"): [0.90, 0.92, 0.94],
    ("median", "none"): [0.93, 0.91, None],
    ("trimmed_mean", "none"): [0.80],
    ("average", "sign_flip"): [0.5, 0.6, 0.7],
    ("median", "sign_flip"): [0.70, 0.71, 0.72],
    ("trimmed_mean", "sign_flip"): [None, None, None],
}


def end_of(run):
    ends = ENDS[run.scenario.rule.name, run.scenario.attack.name]
    return ends[run.scenario.seed] if run.scenario.seed < len(ends) else math.nan


def status_of(run):
    end = end_of(run)
    return "failed" if end is None else "missing" if math.isnan(end) else "complete"


@pytest.fixture
def undrawn(monkeypatch):
    """Results are shown without their plots, which take most of the time."""
    monkeypatch.setattr(plots, "draw", lambda results, folder: [])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A study of three seeds of which some failed and some never began, and what `byzax show` printed of it."""
    folder = study_of(
        tmp_path_factory.mktemp("tables") / "uneven",
        lambda run, step: end_of(run) or 0.3,
        status_of,
        repeats=3,
        pre=["nnm"],
        grid=GRID,
    )
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    return folder, shown.stdout


def test_every_cell_says_of_how_many_runs_it_is(uneven):
    folder, shown = uneven
    page = (folder / "summary.md").read_text()
    for row in (
        "| nnm + average | 0.920 ± 0.020 | 0.600 ± 0.100 | 0.600 [0.500, 0.700] |",
        "| nnm + median | 0.910 to 0.930 (2 of 3) | 0.710 ± 0.010 | 0.705 (2 of 3) |",
        "| nnm + trimmed_mean | 0.800 (1 of 3) | - | - |",
    ):
        assert row in page
        for cell in row.replace("*", "").strip("| ").split(" | "):
            assert cell in shown
    assert "mean ± standard deviation over 3 seeds; of two the range, of one its value; worst case with its" in page
    assert "1 seed cannot rank 3 rules at 5 % (paired Wilcoxon tests, Holm): it takes 7" in page
    cells = pd.read_csv(folder / "tables.csv").set_index(["rule", "attack"])
    assert cells["count"].to_dict() == {
        (f"nnm + {rule}", attack): sum(end is not None for end in ends) for (rule, attack), ends in ENDS.items()
    } | {("nnm + average", "worst case"): 3, ("nnm + median", "worst case"): 2, ("nnm + trimmed_mean", "worst case"): 0}
    assert (cells["of"] == 3).all()
    assert cells.loc[("nnm + median", "none"), ["mean", "low", "high", "best"]].tolist() == [0.92, 0.91, 0.93, 0]
    assert cells.loc[("nnm + average", "none"), ["interval_low", "interval_high"]].tolist() == [0.9, 0.94]


def test_runs_that_failed_and_runs_that_never_began_are_said_below(uneven):
    _, shown = uneven
    assert "nnm-median_none_seed-2: failed after step 2 (it broke)" in shown
    assert "uneven: 2 runs of 18 not begun" in shown


def test_a_table_says_what_it_is_of_in_the_terminal_markdown_csv_and_plots(uneven):
    folder, shown = uneven
    subject = (
        "data digits batch_size=4, partition iid, model softmax, n=7, f=1, pre [nnm], steps=4, "
        "optimizer sgd learning_rate=0.1"
    )
    first, second, *_ = shown.splitlines()
    assert first == "small: final test accuracy by rule and attack"
    assert second == subject
    page = (folder / "summary.md").read_text()
    assert f"{subject}." in page
    assert "## Final test accuracy by rule and attack" in page
    for name in ("summary.csv", "tables.csv"):
        frame = pd.read_csv(folder / name)
        assert (frame["study"] == ("small" if name == "tables.csv" else "uneven")).all()
        assert (frame[["data", "workers.total", "pre"]] == ["digits", 7, "[nnm]"]).all(axis=None)
    drawn = (folder / "accuracy.svg").read_text()
    assert ">small<" in drawn
    assert "partition iid, model softmax, n=7, f=1, pre [nnm]" in drawn


@pytest.mark.parametrize(
    ("values", "of", "said"),
    [
        ([0.5, 0.6, 0.7], 3, "0.600 ± 0.100"),
        ([0.5, 0.6, 0.7], 4, "0.600 ± 0.100 (3 of 4)"),
        ([0.5, 0.7], 2, "0.500 to 0.700"),
        ([0.7, 0.5], 3, "0.500 to 0.700 (2 of 3)"),
        ([0.5], 1, "0.500"),
        ([0.5], 3, "0.500 (1 of 3)"),
        ([], 3, "-"),
        ([0.5, math.inf], 2, "not finite"),
    ],
)
def test_fewer_than_three_values_have_no_deviation(values, of, said):
    frame = pd.DataFrame({"value": values, "study": "one", "of": of, "seed": range(len(values))})
    assert cell_text(tables._cell(frame if values else None, of), ".3f") == said


def cells_of(*values):
    """Cells of one column, a row each, of the values of seeds 0, 1, ...; None for a seed without a value."""
    return [[tables._cell(frame_of(each), 10)] for each in values]


def frame_of(values):
    there = [(seed, value) for seed, value in enumerate(values) if value is not None]
    frame = pd.DataFrame(there, columns=["seed", "value"]) if there else pd.DataFrame({"seed": [0], "value": [None]})
    return frame.assign(study="one", of=10)


def best_of(*values, names=None):
    names = names or [("2", f"rule {i}") for i in range(len(values))]
    marked, short = tables._best(names, cells_of(*values), 1)
    # of losses the smallest
    mirrored = cells_of(*([None if each is None else -each for each in row] for row in values))
    assert tables._best(names, mirrored, -1) == (marked, short)
    return [row[0] for row in marked], short


BASE = [0.80, 0.84, 0.79, 0.83, 0.82, 0.81, 0.85, 0.78]


def moved(by, wiggle=0.0):
    return [each + by + wiggle * (-1) ** seed * (seed + 1) for seed, each in enumerate(BASE)]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        # lower in every seed by the same: seeds are pairs, so that their spread does not hide it
        ([BASE, moved(-0.01)], [True, False]),
        # lower on average, in some seeds higher
        ([BASE, moved(-0.001, 0.01)], [True, True]),
        ([moved(-0.001, 0.01), BASE, moved(-0.02)], [True, True, False]),
        # a cell without a value, and one that is not finite, are compared with none
        ([BASE, moved(-0.01), [None] * 8], [True, False, False]),
        ([BASE, moved(-0.01), [math.inf, *BASE[1:]]], [True, False, False]),
        ([BASE], [False]),
        ([[None] * 8, [None] * 8], [False, False]),
    ],
)
def test_bold_are_the_best_of_a_block_and_those_that_are_not_significantly_worse(values, best):
    assert best_of(*values) == (best, None)


@pytest.mark.parametrize(("rules", "needed"), [(2, 6), (3, 7), (4, 7), (8, 9)])
def test_where_seeds_are_too_few_for_any_difference_nothing_is_bold_and_the_number_that_could_is_given(rules, needed):
    values = [[1 - rule / 10 + seed / 100 for seed in range(needed)] for rule in range(rules)]
    assert best_of(*values) == ([True] + [False] * (rules - 1), None)
    marked, short = best_of(*(row[:-1] for row in values))
    assert marked == [False] * rules
    assert short == (needed - 1, rules, needed)
    # the seeds that two rules have in common count
    marked, short = best_of([None, *values[0]], [*values[1], None], *([None, *row] for row in values[2:]))
    assert short == (needed - 1, rules, needed)
    assert f"{needed - 1} seeds cannot rank {rules} rules at 5 %" in short.words
    assert short.words.endswith(f"it takes {needed}")


def test_bold_is_decided_within_a_block_of_equal_other_keys():
    names = [("1", "krum"), ("1", "median"), ("2", "krum"), ("2", "median")]
    best, _ = best_of(BASE, moved(-0.1), moved(-0.6), moved(-0.5), names=names)
    assert best == [True, False, False, True]


def test_the_worst_case_is_the_worst_mean_over_the_seeds_that_all_attacks_have():
    one, other = ({0: 0.9, 1: 0.7, 2: 0.8, 3: 0.1}, {0: 0.8, 1: 0.85, 2: 0.6})
    row = [
        tables._cell(pd.DataFrame({"seed": each.keys(), "value": each.values(), "study": "one", "of": 4}), 4)
        for each in (one, other)
    ]
    worst = tables._worst(row, True)
    assert worst.mean == pytest.approx(0.75)
    assert (worst.counted, worst.of) == (3, 4)
    assert worst.by_seed == {0: 0.8, 1: 0.7, 2: 0.6}
    assert worst.interval == worst_interval(np.array([[0.9, 0.7, 0.8], [0.8, 0.85, 0.6]]), True)
    low, high = worst.interval
    assert cell_text(worst, ".3f") == f"0.750 [{low:.3f}, {high:.3f}] (3 of 4)"
    assert tables._worst(row, False).mean == pytest.approx(0.8)
    assert cell_text(tables._worst([row[0], tables._cell(None, 4)], True), ".3f") == "-"


CURVE = {0: 0.1, 2: 0.5, 4: 0.9, 6: 0.7}


@pytest.mark.parametrize(
    ("how", "value", "words"),
    [
        ("last", 0.7, "final test accuracy"),
        ("best", 0.9, "best test accuracy"),
        ("area", (0.3 + 0.7 + 0.8) / 3, "mean over all updates of the test accuracy"),
        ({"last": 2}, 0.8, "mean of the last 2 evaluations of the test accuracy"),
        ({"last": 9}, 0.55, "mean of the last 9 evaluations of the test accuracy"),
    ],
)
def test_tables_give_of_a_run_what_report_asks_for(tmp_path, undrawn, how, value, words):
    options = {"steps": 6, "evaluate_every": 2, "grid": {"rule.name": ["average", "median"]}}
    folder = study_of(tmp_path / "mine", lambda run, step: CURVE[step], report=how, **options)
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    assert f"small: {words} by rule" in shown.stdout
    assert pd.read_csv(folder / "tables.csv")["mean"].tolist() == pytest.approx([value] * 2)
    # in Python, and of a study that asks for another
    assert byzax_load(folder).summary()["mean"].tolist() == pytest.approx([value] * 2)
    plain = study_of(tmp_path / "plain", lambda run, step: CURVE[step], **options)
    asked = str(how["last"]) if isinstance(how, dict) else how
    assert byzax("show", plain, "--report", asked).exit_code == 0
    assert pd.read_csv(plain / "tables.csv")["mean"].tolist() == pytest.approx([value] * 2)
    assert byzax_load(plain).summary(report=asked)["mean"].tolist() == pytest.approx([value] * 2)


@pytest.mark.parametrize("asked", ["worst", "0", "-1", "1.5", ""])
def test_a_report_that_is_none_is_refused(tmp_path, asked):
    folder = study_of(tmp_path / "mine")
    shown = byzax("show", folder, "--report", asked)
    assert shown.exit_code == 2
    assert "--report" in shown.stderr
    assert "give last, best, area, or a number of evaluations" in shown.stderr
    with pytest.raises(ValueError, match="give last, best, area"):
        byzax_load(folder).summary(report=asked)


def test_settings_are_compared_seed_by_seed(tmp_path):
    ends = {"average": moved(-0.01), "median": BASE, "krum": moved(-0.001, 0.01)}
    folder = study_of(
        tmp_path / "mine",
        lambda run, step: ends[run.scenario.rule.name][run.scenario.seed],
        repeats=8,
        grid={"rule.name": [*ends], "attack.name": ["none", "sign_flip"]},
    )
    found = byzax_load(folder).compare()
    assert found[["attack", "first", "second"]].to_numpy().tolist() == [
        [attack, *pair] for attack in ("none", "sign_flip") for pair in itertools.combinations(ends, 2)
    ]
    first = found.iloc[0]
    assert (first["difference"], first["pairs"]) == (pytest.approx(-0.01), 8)
    assert first["interval_low"] <= first["difference"] <= first["interval_high"] < 0
    assert first["p"] == pytest.approx(2 / 2**8)
    assert first["p_holm"] == pytest.approx(6 / 2**8)
    # attacks can be compared too
    by_attack = byzax_load(folder).compare("attack")
    assert by_attack["difference"].tolist() == [0] * 3
    assert by_attack["p"].tolist() == [1] * 3
    with pytest.raises(ValueError, match="by must be one of"):
        byzax_load(folder).compare("seed")


def test_one_seed_has_no_deviation_and_nothing_bold(tmp_path, undrawn):
    folder = study_of(tmp_path / "one", grid={"rule.name": ["average", "median"]})
    assert byzax("show", folder).exit_code == 0
    page = (folder / "summary.md").read_text()
    assert "±" not in page
    assert "**" not in page
    assert "final test accuracy, seed 0." in page


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Three studies in one folder that differ in f, in the partition and in the rules, one of them without runs."""
    folder = tmp_path_factory.mktemp("several")
    grid = {"rule.name": ["average", "median"]}
    uneven = {"name": "digits", "batch_size": 4, "partition": {"name": "dirichlet", "alpha": 0.1}}
    study_of(folder / "a", repeats=3, grid=grid)
    study_of(folder / "b", repeats=3, grid={"workers.byzantine": [2, 3], **grid}, data=uneven)
    study_of(folder / "c", repeats=3, seed=3, rule={"name": "krum", "distance": "plain"})
    study_of(folder / "empty", status=lambda run: "missing")
    return folder


def test_studies_of_one_folder_are_one_table_with_a_column_for_each_key_that_differs(several, tmp_path, undrawn):
    shown = byzax("show", several, "--out", tmp_path / "joined")
    # the one without runs is named, and hides nothing
    assert shown.exit_code == 1
    assert "empty: no run here" in " ".join(shown.stdout.split())
    title, subject, *_ = shown.stdout.splitlines()
    assert title == "small: final test accuracy by workers.byzantine, data.partition and rule"
    assert "partition" not in subject
    assert "f=" not in subject
    assert subject.startswith("data digits batch_size=4, model softmax, n=7, steps=4")
    cells = pd.read_csv(tmp_path / "joined" / "tables.csv")
    found = cells[["workers.byzantine", "data.partition", "rule"]].to_numpy().tolist()
    assert found == [
        [1, "iid", "average"],
        [1, "iid", "median"],
        [1, "iid", "krum distance=plain"],
        *[[f, "dirichlet alpha=0.1", rule] for f in (2, 3) for rule in ("average", "median")],
    ]
    assert (cells[["count", "of"]] == 3).all(axis=None)


@pytest.mark.slow
def test_joined_studies_have_a_figure_for_each_combination(several, tmp_path):
    byzax("show", several, "--out", tmp_path / "joined")
    assert {path.name for path in (tmp_path / "joined").glob("*.png")} == {
        "accuracy_byzantine-1_partition-iid.png", "accuracy_byzantine-2_partition-dirichlet-alpha-0.1.png",
        "accuracy_byzantine-3_partition-dirichlet-alpha-0.1.png",
    }  # fmt: skip


def test_each_of_several_studies_gets_its_own_files_and_nothing_is_written_beside_them(several, undrawn):
    before = {path for path in several.iterdir() if path.is_file()}
    assert byzax("show", several).exit_code == 1
    assert {path for path in several.iterdir() if path.is_file()} == before
    assert all((several / name / "tables.csv").exists() for name in ("a", "b", "c"))


def test_more_seeds_of_the_same_cells_are_added_and_the_same_seeds_are_told_apart(tmp_path):
    for name, seed in {"first": 0, "more": 2}.items():
        study_of(tmp_path / name, repeats=2, seed=seed)
    (made,) = tables.tables(report.read([tmp_path / "first", tmp_path / "more"], "all"))
    assert [(row[0].counted, row[0].of) for row in made.cells] == [(4, 4)]
    study_of(tmp_path / "again", repeats=2, executor="vectorised")
    (made,) = tables.tables(report.read([tmp_path / "again", tmp_path / "first"], "all"))
    assert made.keys == ["folder", "rule"]
    assert [(name[0], row[0].counted, row[0].of) for name, row in zip(made.names, made.cells, strict=True)] == [
        ("again", 2, 2),
        ("first", 2, 2),
    ]


def test_runs_of_two_grids_in_one_folder_are_one_table(several, tmp_path):
    folder = study_of(tmp_path / "two", repeats=3, grid={"optimizer.learning_rate": [0.1, 0.2]})
    for run in (several / "b" / "runs").iterdir():
        (folder / "runs" / f"x-{run.name}").symlink_to(run)
    (made,) = tables.tables(report.read([folder]))
    assert made.keys == ["optimizer.learning_rate", "workers.byzantine", "rule"]
    assert len(made.names) == 6
    # from before runs said their settings
    for path in folder.glob("runs/*/summary.json"):
        told = json.loads(path.read_text())
        told = {key: value for key, value in told.items() if key not in ("settings", "of", "runs")}
        path.parent.joinpath("summary.json").write_text(json.dumps(told))
    (made,) = tables.tables(report.read([folder]))
    assert {name[:2] for name in made.names} == {("0.1", "-"), ("0.2", "-"), ("-", "2"), ("-", "3")}
    assert all(row[0].of == 3 for row in made.cells)


def test_a_run_that_lost_workers_counts_and_is_named_with_whom_it_lost_when(tmp_path):
    folder = study_of(tmp_path / "race", status=lambda run: "degraded" if run.scenario.seed else "complete", repeats=2)
    (path,) = folder.glob("runs/*seed-1/summary.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lost": {"5": 2, "6": 3}}))
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    said = "average_none_seed-1: degraded: worker 5 lost from update 2 on, worker 6 lost from update 3 on"
    assert said in shown.stdout
    page = (folder / "summary.md").read_text()
    assert f"- {said}" in page
    assert "of 2)" not in page
    assert "lost workers or servers: 1 run" in (folder / "accuracy.svg").read_text()


def test_runs_that_were_cut_short_make_no_tables_and_plots_of_time(tmp_path):
    ends = {0: "complete", 1: "interrupted", 2: "missing"}
    folder = study_of(tmp_path / "cut", status=lambda run: ends[run.scenario.seed], repeats=3)
    # one that was interrupted before its first update used none of its jobs
    (path,) = folder.glob("runs/*seed-1/summary.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unused": 1.0}))
    found = report.read([folder])
    assert not time_varies(found.frame, found.curves)
    shown = byzax("show", folder)
    assert "how the time was used" not in shown.stdout
    assert [path.name for path in folder.glob("*.png")] == ["accuracy.png"]


def test_labels_with_brackets_are_shown_as_they_are(tmp_path, undrawn):
    folder = study_of(tmp_path / "brackets", grid={"pre": [["nnm"], ["clip", "nnm"]], "attack.name": ["none", "zero"]})
    for path in folder.glob("runs/*/summary.json"):
        told = json.loads(path.read_text())
        told["attack"] += " [red]x[/red] [/y]"
        path.write_text(json.dumps(told))
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    for text in ("[nnm]", "[clip, nnm]", "[red]x[/red]", "[/y]"):
        assert text in shown.stdout


def test_a_line_of_settings_holds_what_is_not_the_default_and_no_option_twice():
    made = settings(
        parse_as(
            Study,
            {
                **SMALL,
                "workers": {"total": 9, "byzantine": 2, "declared": 3},
                "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 4},
                "worker_momentum": 0.9,
                "attack": {"name": "little", "z": 1.5, "knowledge": "colluding"},
                "rule": {"name": "krum", "distance": "plain"},
            },
        )
    )
    said = settings_line(made, ["krum"], ["little z=1.5"])
    assert said == (
        "data digits batch_size=4, partition iid, model softmax, n=9, f=2, declared=3, rule.distance=plain, "
        "attack.knowledge=colluding, steps=4, optimizer sgd learning_rate=0.1, worker_momentum.beta=0.9, "
        "schedule asynchronous apply=buffer rows=4"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency": {"name": "lognormal", "stragglers": {}}}, "latency lognormal stragglers.share=0.2"),
        ({"latency": {"name": "lognormal", "stragglers": {"share": 0.3}}}, "latency lognormal stragglers.share=0.3"),
        ({"early_stopping": {}}, "early_stopping.patience=5 early_stopping.measure=validation_loss"),
    ],
)
def test_what_stands_in_the_place_of_nothing_is_said_though_all_of_it_is_the_default(changes, said):
    without, made = settings(parse_as(Study, SMALL)), settings(parse_as(Study, {**SMALL, **changes}))
    assert said.replace(" early", ", early") in settings_line(made)
    assert set(made) > set(without)


def test_tuning_says_what_it_is_of_and_has_no_deviation_of_two(tmp_path, monkeypatch):
    from byzax.experiments import study, tune

    over = {"optimizer.learning_rate": [0.1, 0.2]}
    folder = study_of(
        tmp_path / "tuned",
        lambda run, step: 0.5 + 0.1 * run.scenario.seed,
        lambda run: "failed" if run.slug.startswith("median") and "rate-0.2_seed-1" in run.slug else "complete",
        repeats=2,
        grid={"rule.name": ["average", "median"], **over},
    )
    made = study.load(tmp_path / "tuned.yaml")
    planned = Tuning(made, tuple(over), ("rule.name",), "validation_accuracy")
    tune.write(folder, planned, tune.tried_combinations(folder, planned))
    frame = pd.read_csv(folder / "tune.csv")
    assert frame["count"].tolist() == [2, 2, 2, 1]
    assert (frame["of"] == 2).all()
    assert frame["low"].tolist()[:3] == [0.5] * 3
    shown = byzax("show", folder)
    assert shown.exit_code == 0, shown.output
    title, subject, *_ = shown.stdout.splitlines()
    assert title == "small: validation accuracy by rule.name and optimizer.learning_rate"
    assert "n=7, f=1" in subject
    assert "±" not in shown.stdout
    assert "0.500 to 0.600" in shown.stdout
    assert "1 of 2" in shown.stdout


def test_joined_studies_of_unlike_repeats_say_so_and_not_what_decides_no_number(tmp_path, undrawn):
    for name, repeats, skips in (("one", 1, False), ("two", 2, True)):
        study_of(
            tmp_path / "all" / name,
            lambda run, step: 0.3 + run.scenario.seed / 10,
            lambda run: "complete",
            repeats=repeats,
            skip_impossible=skips,
            optimizer={"name": "sgd", "learning_rate": repeats / 10},
        )
    assert byzax("show", tmp_path / "all", "--out", tmp_path / "joined").exit_code == 0
    page = (tmp_path / "joined" / "summary.md").read_text()
    assert "| 0.1 | average | 0.300 |" in page
    assert "| 0.2 | average | 0.300 to 0.400 |" in page
    assert "range over 2 seeds; of one its value." in page
    assert "skip_impossible" not in page + (tmp_path / "joined" / "tables.csv").read_text()


RANKED = {"average": (0.9, 0.1, 0.2), "median": (0.8, 0.7, 0.6), "krum": (0.7, 0.6, 0.5)}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Three rules under three attacks, of which krum has no run under one."""
    attacks = ("none", "sign_flip", "zero", "empire")
    ends = {
        (rule, attack): value
        for rule, values in RANKED.items()
        for attack, value in zip(attacks, (*values, 0.5), strict=True)
    }
    return study_of(
        tmp_path_factory.mktemp("ranked") / "mine",
        lambda run, step: ends[run.scenario.rule.name, run.scenario.attack.name] + run.scenario.seed / 100,
        lambda run: (
            "failed" if (run.scenario.rule.name, run.scenario.attack.name) == ("krum", "empire") else "complete"
        ),
        repeats=2,
        grid={"rule.name": [*RANKED], "attack.name": [*attacks]},
    )


def test_rules_are_ranked_over_the_settings_that_all_of_them_have(ranked, undrawn):
    shown = byzax("show", ranked)
    assert shown.exit_code == 0, shown.output
    page = (ranked / "summary.md").read_text()
    # under three attacks average is first, last and last, median second, first and first
    for row in ("| median | 1.33 | 0.705 |", "| average | 2.33 | 0.355 |", "| krum | 2.33 | 0.605 |"):
        assert row in page
    assert "over 3 settings: average rank of the means, 1 the best; ranks that differ by 1.91 differ at 5 %" in page
    assert "average rank" in shown.stdout
    result = byzax_load(ranked)
    found = result.ranks()
    assert found["rule"].tolist() == ["median", "average", "krum"]
    assert found["rank"].tolist() == pytest.approx([4 / 3, 7 / 3, 7 / 3])
    # of six runs the two lowest and highest count less: scipy leaves one out at each end
    assert found["iqm"].tolist() == pytest.approx([0.705, (0.11 + 0.2 + 0.21 + 0.9) / 4, 0.605])
    profile = result.profiles([0.0, 0.65, 0.95]).set_index(["rule", "threshold"])["share"]
    assert profile["median"].tolist() == pytest.approx([1, 2 / 3, 0])
    assert profile["average"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert len(result.profiles()) == 3 * 101


def test_one_rule_or_one_setting_has_no_ranks(tmp_path, undrawn):
    for name, grid in {
        "rule": {"attack.name": ["none", "zero"]},
        "setting": {"rule.name": ["average", "krum"]},
    }.items():
        folder = study_of(tmp_path / name, grid=grid)
        assert byzax("show", folder).exit_code == 0
        assert "over all settings" not in (folder / "summary.md").read_text()
        assert byzax_load(folder).ranks().empty
