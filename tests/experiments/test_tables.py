"""Tables: the number of runs of each cell, the best cells, and the title. No run trains here."""

import json
import math

import pandas as pd
import pytest

from byzax.experiments import plots, report, tables
from byzax.experiments.gathering import time_varies
from byzax.experiments.settings import settings, settings_line
from byzax.experiments.tables import TableCell, cell_text
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
        "| nnm + average | **0.920 ± 0.020** | 0.600 ± 0.100 |",
        "| nnm + median | **0.910 to 0.930 (2 of 3)** | **0.710 ± 0.010** |",
        "| nnm + trimmed_mean | 0.800 (1 of 3) | - |",
    ):
        assert row in page
        for cell in row.replace("*", "").strip("| ").split(" | "):
            assert cell in shown
    assert "mean ± standard deviation over 3 seeds; of two the range, of one its value" in page
    cells = pd.read_csv(folder / "tables.csv").set_index(["rule", "attack"])
    assert cells["count"].to_dict() == {
        (f"nnm + {rule}", attack): sum(end is not None for end in ends) for (rule, attack), ends in ENDS.items()
    }
    assert (cells["of"] == 3).all()
    assert cells.loc[("nnm + median", "none"), ["mean", "low", "high", "best"]].tolist() == [0.92, 0.91, 0.93, 1]


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
    frame = pd.DataFrame({"value": values, "study": "one", "of": of})
    assert cell_text(tables._cell(frame if values else None, of), ".3f") == said


def cell(mean, std, count=3):
    return TableCell(mean, std, mean, mean, count, 3)


@pytest.mark.parametrize(
    ("cells", "best"),
    [
        # the standard error of the first is 0.03 / sqrt(3), about 0.017
        ([cell(0.90, 0.03), cell(0.89, 0.0), cell(0.88, 0.5)], [True, True, False]),
        ([cell(0.90, 0.0), cell(0.89, 0.5), cell(0.90, 0.1)], [True, False, True]),
        ([cell(0.90, math.nan, 1), cell(0.80, 0.01)], [False, False]),
        ([cell(0.90, 0.03), cell(0.89, math.nan, 1)], [True, False]),
        ([cell(math.nan, math.nan, 0), cell(0.80, 0.01)], [False, True]),
        ([cell(math.nan, math.nan, 0)] * 2, [False, False]),
        ([cell(0.90, 0.03)], [False]),
    ],
)
def test_the_best_of_a_block_are_those_within_the_standard_error_and_never_a_single_run(cells, best):
    names = [("2", f"rule {i}") for i in range(len(cells))]
    assert [row[0] for row in tables._best(names, [[each] for each in cells], 1)] == best
    # of losses the smallest
    mirrored = [[each._replace(mean=-each.mean)] for each in cells]
    assert [row[0] for row in tables._best(names, mirrored, -1)] == best


def test_bold_is_decided_within_a_block_of_equal_other_keys():
    names = [("1", "krum"), ("1", "median"), ("2", "krum"), ("2", "median")]
    cells = [[cell(0.9, 0.01)], [cell(0.8, 0.01)], [cell(0.2, 0.01)], [cell(0.3, 0.01)]]
    assert [row[0] for row in tables._best(names, cells, 1)] == [True, False, False, True]


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
