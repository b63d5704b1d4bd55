"""The report of a study as one HTML file, and its server."""

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

import byzax as library
from byzax.experiments.html_report.content import POINTS, content
from byzax.experiments.html_report.page import page
from byzax.experiments.html_report.serving import open_server
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.browser import CHROMIUM, browser
from tests.experiments.command import byzax, write

GRID = {
    "rule": ["average", "median", "krum"],
    "attack": ["none", {"name": "sign_flip", "scale": 4.0}],
    "workers.byzantine": [1, 2],
}
MORE = {"measure": ["class_accuracy", "confusion"], "record": {"weights": True}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    done = byzax("run", write(folder, repeats=2, grid=GRID, executor="vectorised", **MORE), "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "out"


@pytest.fixture(scope="module")
def result(study):
    return library.load(study)


def test_what_a_report_shows_are_the_numbers_of_the_result(result):
    found = content(result)
    summary = result.summary()
    (table,) = found["tables"]
    means = {
        (*row["names"], attack): cell["mean"]
        for row in table["rows"]
        for attack, cell in zip(table["columns"], row["cells"], strict=True)
        if attack != "worst case"
    }
    expected = summary.set_index(["workers.byzantine", "rule", "attack"])["mean"]
    assert means == {tuple(map(str, names)): pytest.approx(value) for names, value in expected.items()}
    lines = found["curves"]["test_accuracy"]["lines"]
    assert {tuple(line["names"]): line["mean"][-1] for line in lines} == {
        tuple(map(str, names)): pytest.approx(value, rel=1e-3) for names, value in expected.items()
    }
    assert found["progress"] == "24 of 24 runs done"
    assert not found["running"]
    assert len(found["classes"]) == len(found["confusion"]) == len(found["weights"]) == 12
    total = sum(np.sum(each["counts"]) for each in found["confusion"])
    assert total == sum(matrix.sum() for matrix in result.confusion.values())
    krum = next(each for each in found["weights"] if "krum" in each["names"])
    np.testing.assert_allclose(np.sum(krum["values"], axis=0), 1, rtol=1e-3)
    assert sum(krum["byzantine"]) == 1
    json.dumps(found, allow_nan=False)


def test_a_report_of_a_study_without_measures_has_no_sections_for_them(tmp_path):
    found = content(library.run({**json.loads(json.dumps(PLAIN))}, quiet=True, out=tmp_path / "out"))
    assert not any(found[part] for part in ("classes", "confusion", "weights", "pairs", "ranks"))
    assert found["question"] == "One combination of settings, over 1 seed."


PLAIN = {"data": "digits", "model": "softmax", "rule": "average", "attack": "none", "steps": 2}


def test_long_curves_keep_their_first_and_last_evaluation():
    found = content(library.run(PLAIN, steps=POINTS + 50, evaluate_every=1, executor="vectorised", quiet=True))
    (line,) = found["curves"]["test_loss"]["lines"]
    assert len(line["step"]) == POINTS
    assert (line["step"][0], line["step"][-1]) == (0, POINTS + 50)


def test_a_report_loads_nothing_and_texts_end_no_element(result):
    found = content(result)
    hostile = "</script><script>alert('1')</script><!-- %CONTENT% &amp;"
    text = page({**found, "name": hostile, "problems": [hostile]})
    assert text.count("</script>") == 3
    assert "<script>alert" not in text
    (held,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
    assert json.loads(held)["problems"] == [hostile]
    assert not re.search(r'(src|href)\s*=\s*"(?!#|data:,)|@import|url\(', text)


def test_the_report_is_a_file_of_the_study_or_where_it_is_asked_for(study, result, tmp_path):
    done = byzax("report", study)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(study / "report.html")
    assert (study / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert byzax("report", study).exit_code == 0, "its own file is replaced"
    assert byzax("show", study).exit_code == 0
    elsewhere = tmp_path / "of study.html"
    assert result.report(elsewhere) == elsewhere
    assert result.report(elsewhere) == elsewhere
    assert elsewhere.read_text() == (study / "report.html").read_text()


def test_other_files_stay_and_mistakes_are_one_line(study, tmp_path):
    letter = tmp_path / "letter.html"
    letter.write_text("<p>Dear reader")
    done = byzax("report", study, "--out", letter)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "byzax did not write it" in done.stderr
    assert letter.read_text() == "<p>Dear reader"
    assert "is a folder: name a file in it" in byzax("report", study, "--out", tmp_path).stderr
    assert "no run here" in byzax("report", tmp_path).stderr
    assert "no study here" in byzax("serve", tmp_path).stderr


@contextmanager
def served(folder):
    with open_server(folder, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def fetch(address, tag=""):
    asked = urllib.request.Request(address, headers={"If-None-Match": tag} if tag else {})
    # a proxy of the environment is not asked for this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        return error.code, "", tag


def test_the_server_gives_new_content_when_files_have_changed(study, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    runs = sorted((folder / "runs").iterdir())
    with served(folder) as address:
        assert fetch(address)[:2][0] == 200
        assert 'data-live="true"' in fetch(address)[1]
        status, text, tag = fetch(address + "content.json")
        assert (status, json.loads(text)["progress"]) == (200, "24 of 24 runs done")
        assert fetch(address + "content.json", tag)[0] == 304
        assert fetch(address + "etc/passwd")[0] == 404
        shutil.rmtree(runs[0])
        status, text, other = fetch(address + "content.json", tag)
        assert (status, other != tag) == (200, True)
        assert (json.loads(text)["progress"], json.loads(text)["running"]) == ("23 of 24 runs done", True)
        (runs[1] / "summary.json").write_text("{")
        assert any("damaged" in line for line in json.loads(fetch(address + "content.json")[1])["problems"])
        shutil.rmtree(folder / "runs")
        (folder / "runs").mkdir()
        assert json.loads(fetch(address + "content.json")[1])["progress"] == "no run has begun"
        port = int(address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(ScenarioError, match=f"--port {port}: cannot be taken"):
            open_server(folder, "127.0.0.1", port)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
CHOOSE = (
    "(() => {{ const it = document.getElementById('{}'); it.value = '{}'; it.dispatchEvent(new Event('change')) }})()"
)
COLUMN = "[...document.querySelectorAll('#results tbody tr')].map((row) => row.children[{}].textContent)"


@needs_chromium
def test_the_report_works_in_chromium(result, tmp_path):
    file = result.report(tmp_path / "report.html")
    with browser(tmp_path / "profile") as shown:
        shown.open(file.as_uri())
        titles = shown.evaluate("[...document.querySelectorAll('h2')].map((each) => each.textContent)")
        assert titles == ["Results", "Curves", "Heat map", "Labels", "Selection", "Statistics", "Scenario"]
        # sorting, by the keyboard
        shown.evaluate("document.querySelectorAll('#results thead button')[2].focus()")
        shown.press("Enter")
        assert shown.evaluate("document.querySelectorAll('#results thead th')[2].ariaSort") == "descending"
        values = [float(text.split()[0]) for text in shown.evaluate(COLUMN.format(2))]
        assert values == sorted(values, reverse=True)
        shown.press("Enter")
        again = [float(text.split()[0]) for text in shown.evaluate(COLUMN.format(2))]
        assert again == sorted(values)
        # filtering
        shown.evaluate(
            "const field = document.querySelector('#results input'); field.value = 'krum 2';"
            "field.dispatchEvent(new Event('input'))"
        )
        assert shown.evaluate(COLUMN.format(1)) == ["krum"]
        assert shown.evaluate("document.querySelector('#results [aria-live]').textContent") == "1 of 6 rows"
        # lines that are shown
        button = "document.querySelector('#curves .lines button')"
        shown.evaluate(f"{button}.click()")
        assert shown.evaluate(f"{button}.ariaPressed") == "false"
        assert shown.evaluate("charts.curves.series[1].show") is False
        # zooming, by the mouse and back
        left, top, width, height = shown.evaluate(
            "(() => { const over = document.querySelector('#curves .u-over'); over.scrollIntoView({block: 'center'});"
            "const box = over.getBoundingClientRect(); return [box.left, box.top, box.width, box.height] })()"
        )
        shown.drag((left + 0.25 * width, top + height / 2), (left + 0.75 * width, top + height / 2))
        low, high = shown.evaluate("[charts.curves.scales.x.min, charts.curves.scales.x.max]")
        assert (low, high) == (pytest.approx(1, abs=0.1), pytest.approx(3, abs=0.1))
        shown.evaluate("[...document.querySelectorAll('#curves button')].at(-1).click()")
        assert shown.evaluate("[charts.curves.scales.x.min, charts.curves.scales.x.max]") == [0, 4]
        # another measurement, and dark colours
        shown.evaluate(CHOOSE.format("measure", "test loss"))
        assert "test loss" in shown.evaluate("document.querySelector('#curves [role=img]').ariaLabel")
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        shown.evaluate(CHOOSE.format("theme", "dark"))
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
        # what a screen reader needs
        unnamed = "[...document.querySelectorAll('select, input')].filter((it) => !it.labels.length).length"
        assert shown.evaluate(unnamed) == 0
        assert shown.evaluate("[...document.querySelectorAll('thead th')].every((it) => it.scope === 'col')") is True
        assert shown.evaluate("[...document.querySelectorAll('canvas.map')].every((it) => it.ariaLabel)") is True
        assert shown.complaints == []


@needs_chromium
def test_a_page_of_the_server_keeps_what_was_chosen_when_content_is_new(study, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    with served(folder) as address, browser(tmp_path / "profile") as shown:
        shown.open(address)
        shown.evaluate("document.querySelectorAll('#results thead button')[1].click()")
        order = shown.evaluate(COLUMN.format(1))
        shutil.rmtree(sorted((folder / "runs").iterdir())[0])
        waited = (
            "new Promise((done) => { const look = () => "
            "document.getElementById('progress').textContent.startsWith('23') ? done(true) : setTimeout(look, 50);"
            " look() })"
        )
        assert shown.evaluate(waited) is True
        assert shown.evaluate(COLUMN.format(1)) == order
        assert shown.complaints == []


@pytest.mark.slow
def test_a_report_of_two_thousand_runs_is_below_fifteen_megabytes(study, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(study, folder, ignore=lambda at, names: names if at.endswith("runs") else [])
    runs = sorted((study / "runs").iterdir())
    for number in range(2000):
        run = runs[number % len(runs)]
        copied = folder / "runs" / f"run-{number:04}"
        shutil.copytree(run, copied)
        summary = json.loads((run / "summary.json").read_text())
        summary |= {
            "position": number,
            "others": {**summary["others"], "optimizer.learning_rate": f"0.{number // 24:03}1"},
        }
        (copied / "summary.json").write_text(json.dumps(summary))
    path = library.load(folder).report()
    assert path.stat().st_size < 15e6
    if CHROMIUM:
        with browser(tmp_path / "profile") as shown:
            shown.open(path.as_uri())
            assert shown.evaluate("document.querySelectorAll('#results tbody tr').length") > 400
            assert shown.complaints == []
