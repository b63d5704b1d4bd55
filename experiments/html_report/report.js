"use strict";
// The report of a study. `content` is what experiments/html_report/content.py makes; `state` is what the reader chose,
// which stays when a running study sends new content.
let content = JSON.parse(document.getElementById("content").textContent);
const state = { sort: {}, filter: {}, choice: {}, off: {}, zoom: {} };
const charts = {};
const DASHES = [[], [10, 4], [2, 3], [10, 3, 2, 3], [6, 2], [14, 5]];

function make(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const number = (value, digits = 3) => (value === null || value === undefined ? "-" : Number(value).toFixed(digits));
const label = (names, keys) => keys.map((key, i) => `${key}: ${names[i]}`).join(", ") || "all runs";
const unique = (values) => [...new Set(values)];

// a field with a choice that the reader makes once and keeps
function choose(id, words, options, redraw) {
  const names = options.map(String);
  if (!names.includes(state.choice[id])) state.choice[id] = names[0];
  const field = make("select", { id, onchange: () => { state.choice[id] = field.value; redraw(); } },
    ...names.map((name) => make("option", { value: name, selected: name === state.choice[id] }, name)));
  return make("label", {}, words, field);
}

// Sortable, filterable tables. A cell is {text, value, best, shade}; head cells of a row are the first `heads`.
function table(id, headings, heads, rows, caption, className = "") {
  const part = make("div");
  const draw = () => {
    const wanted = (state.filter[id] || "").toLowerCase().split(/\s+/).filter(Boolean);
    const shown = rows.filter((row) => {
      const text = row.slice(0, heads).map((cell) => cell.text).join(" ").toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    const sort = state.sort[id];
    if (sort) {
      const value = (row) => row[sort.column].value ?? row[sort.column].text;
      shown.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === b) return 0;
        // what was not measured is last
        if (a === "-" || b === "-") return a === "-" ? 1 : -1;
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        return sort.up ? order : -order;
      });
    }
    const focus = document.activeElement?.dataset?.sorts;
    const head = make("tr", {}, ...headings.map((heading, column) => {
      const sorted = sort && sort.column === column;
      const turn = () => {
        state.sort[id] = { column, up: sorted ? !sort.up : column < heads };
        draw();
      };
      return make("th", { scope: "col", "aria-sort": sorted ? (sort.up ? "ascending" : "descending") : "none" },
        make("button", { type: "button", "data-sorts": `${id} ${column}`, onclick: turn }, heading + (sorted ? (sort.up ? " ▲" : " ▼") : "")));
    }));
    const body = shown.map((row) => make("tr", {}, ...row.map((cell, column) => {
      const one = column < heads ? make("th", { scope: "row" }, cell.text)
        : make("td", { class: `number${cell.best ? " best" : ""}`, title: cell.title }, cell.text);
      if (cell.shade) Object.assign(one.style, cell.shade);
      return one;
    })));
    held.replaceChildren(make("table", { class: className }, make("caption", {}, caption),
      make("thead", {}, head), make("tbody", {}, ...body)));
    count.textContent = `${shown.length} of ${rows.length} rows`;
    if (focus) document.querySelector(`[data-sorts="${focus}"]`)?.focus();
  };
  const held = make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `${caption.slice(0, 80)}` });
  const count = make("span", { class: "dim", "aria-live": "polite", id: `${id}-count` });
  const field = make("input", { type: "search", id: `${id}-filter`, value: state.filter[id] || "", placeholder: "such as: krum",
    oninput: () => { state.filter[id] = field.value; draw(); } });
  if (rows.length > 5) part.append(make("div", { class: "controls" }, make("label", {}, "Show rows with", field), count));
  part.append(held);
  draw();
  return part;
}

// cividis at nine places
const HEAT = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
function shade(value, low, high) {
  if (value === null || value === undefined) return null;
  const place = Math.max(0, Math.min(1, high > low ? (value - low) / (high - low) : 0.5)) * (HEAT.length - 1);
  const [at, rest] = [Math.min(Math.floor(place), HEAT.length - 2), place - Math.min(Math.floor(place), HEAT.length - 2)];
  const rgb = HEAT[at].map((each, i) => Math.round(each + rest * (HEAT[at + 1][i] - each)));
  return { background: `rgb(${rgb})`, color: place < (HEAT.length - 1) / 2 ? "#ffffff" : "#000000" };
}
// a colour that is dark on paper is lighter on a dark page
function readable(colour) {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const light = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2];
  if (!dark || light > 120) return colour;
  return `#${rgb.map((each) => Math.round(each + 0.5 * (255 - each)).toString(16).padStart(2, "0")).join("")}`;
}
const range = (values, share) => (share ? [0, 1] : [Math.min(...values), Math.max(...values)]);

// given: {name, colour, x, y, low, high} of each line
function plot(id, words, xWords, given, redraw, share) {
  const lines = given.map((line) => ({ ...line, colour: readable(line.colour) }));
  const places = unique(lines.flatMap((line) => line.x)).sort((a, b) => a - b);
  const read = (line, part) => {
    const known = new Map(line.x.map((x, i) => [x, line[part][i]]));
    return places.map((x) => (known.has(x) ? known.get(x) : undefined));
  };
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  const faint = getComputedStyle(document.documentElement).getPropertyValue("--line");
  const off = (state.off[id] ||= {});
  const columns = [places];
  const series = [{ label: xWords }];
  const bands = [];
  lines.forEach((line, i) => {
    const show = !off[line.name];
    columns.push(read(line, "y"));
    series.push({ label: line.name, stroke: line.colour, width: 2, dash: DASHES[i % DASHES.length], show, spanGaps: true, points: { show: line.x.length < 12 },
      value: (_, value) => (value === null || value === undefined ? "-" : value.toPrecision(4)) });
    if (line.low) {
      columns.push(read(line, "high"), read(line, "low"));
      for (const name of ["highest", "lowest"]) series.push({ label: `${line.name} ${name}`, stroke: "transparent", width: 0, show, spanGaps: true, points: { show: false }, class: "hidden" });
      bands.push({ series: [series.length - 2, series.length - 1], fill: `${line.colour}22`, show });
    }
  });
  const place = make("div", { role: "img", "aria-label": `${words} over ${xWords}: ${lines.map((line) => `${line.name} ends at ${number(line.y.at(-1))}`).join(", ")}` });
  const axis = { stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint } };
  const settings = {
    width: Math.max(300, Math.min(1100, document.getElementById("main").clientWidth - 8)), height: 380, series, bands,
    scales: { x: { time: false }, ...(share ? { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1, high ?? 1)] } } : {}) },
    axes: [{ ...axis, label: xWords }, { ...axis, label: words, size: 64 }],
    cursor: { drag: { x: true, y: false } },
    legend: { live: true },
    hooks: { setScale: [(chart, key) => {
      if (key !== "x" || !chart.ready) return;
      const { min, max } = chart.scales.x;
      state.zoom[id] = min === places[0] && max === places.at(-1) ? undefined : [min, max];
      show();
    }], ready: [(chart) => {
      chart.ready = true;
      // bands are no entries of the legend
      chart.root.querySelectorAll(".u-legend .u-series.hidden").forEach((row) => row.remove());
      if (state.zoom[id]) chart.setScale("x", { min: state.zoom[id][0], max: state.zoom[id][1] });
    }] },
  };
  const ends = ["from", "to"].map((word, i) => {
    const field = make("input", { type: "number", id: `${id}-${word}`, onchange: () => {
      const [low, high] = fields().map(Number);
      if (high > low) chart().setScale("x", { min: low, max: high });
    } });
    return make("label", {}, `${xWords} ${word}`, field);
  });
  const fields = () => ends.map((each) => each.querySelector("input").value);
  const show = () => ends.forEach((each, i) => { each.querySelector("input").value = +(state.zoom[id] || [places[0], places.at(-1)])[i].toPrecision(6); });
  const chart = () => charts[id];
  const buttons = lines.map((line, i) => make("button", { type: "button", "aria-pressed": String(!off[line.name]), onclick: () => { off[line.name] = !off[line.name]; redraw(); } },
    Object.assign(make("span", { class: `swatch${["", " dashed", " dotted"][Math.min(i % DASHES.length, 2)]}` }), { style: `color:${line.colour}` }), line.name));
  const reset = make("button", { type: "button", onclick: () => { state.zoom[id] = undefined; redraw(); } }, "Whole range");
  const figure = make("figure", { id }, make("div", { class: "lines", role: "group", "aria-label": "Lines that are shown" }, ...buttons), place,
    make("div", { class: "controls" }, ...ends, reset), make("figcaption", {}, "Drag over the figure to zoom; a double click shows all of it."));
  // it is drawn when it is in the page
  figure.draw = () => {
    charts[id]?.destroy();
    charts[id] = new uPlot(settings, columns, place);
    show();
  };
  return figure;
}

const sections = {
  Results(part, redraw) {
    const titles = content.tables.map((each) => each.words);
    part.append(make("div", { class: "controls" }, choose("table", "Value of a run", titles, redraw)));
    const shown = content.tables[Math.max(0, titles.indexOf(state.choice.table))];
    const rows = shown.rows.map((row) => [...row.names.map((name) => ({ text: name })),
      ...row.cells.map((cell) => ({ text: cell.text, value: cell.mean ?? "-", best: cell.best,
        title: cell.low === null ? `${cell.runs} runs` : `95 % interval ${cell.low.toPrecision(4)} to ${cell.high.toPrecision(4)}, ${cell.runs} runs` }))]);
    part.append(table(`results-${titles.indexOf(state.choice.table)}`, [...shown.keys, ...shown.columns], shown.keys.length, rows, shown.caption));
  },
  Curves(part, redraw) {
    const measures = Object.keys(content.curves);
    if (!measures.length) return false;
    const words = measures.map((name) => content.curves[name].words);
    const others = content.keys.filter((key) => key !== "rule");
    const at = others.map((key) => content.keys.indexOf(key));
    const rule = content.keys.indexOf("rule");
    const field = choose("measure", "Measurement", words, redraw);
    const { lines } = content.curves[measures[words.indexOf(state.choice.measure)]];
    const panels = unique(lines.map((line) => label(at.map((i) => line.names[i]), others)));
    part.append(make("div", { class: "controls" }, field, choose("panel", "Runs with", panels, redraw)));
    const chosen = lines.filter((line) => label(at.map((i) => line.names[i]), others) === state.choice.panel);
    const drawn = chosen.map((line) => ({ name: line.names[rule], colour: content.colours[line.names[rule]] || "#555555", x: line.step, y: line.mean, low: line.low, high: line.high }));
    const share = /accuracy|success/.test(measures[words.indexOf(state.choice.measure)]);
    part.append(plot("curves", state.choice.measure, "server updates", drawn, redraw, share));
    part.append(make("p", { class: "dim" }, "Means over the seeds; bands: one standard deviation, of two seeds their range. Long curves keep 200 evaluations."));
  },
  "Heat map"(part, redraw) {
    const shown = content.tables[Math.max(0, content.tables.map((each) => each.words).indexOf(state.choice.table))];
    const keys = [...shown.keys, "attack"];
    const attacks = shown.columns.filter((column) => column !== "worst case");
    const cells = shown.rows.flatMap((row) => attacks.map((attack, i) => ({ names: [...row.names, attack], mean: row.cells[i].mean })));
    const varied = keys.filter((key, i) => unique(cells.map((cell) => cell.names[i])).length > 1);
    if (varied.length < 2) return false;
    const down = choose("down", "Rows", unique(["rule", ...varied]).filter((key) => varied.includes(key)), redraw);
    const across = choose("across", "Columns", unique(["attack", ...varied]).filter((key) => varied.includes(key) && key !== state.choice.down), redraw);
    part.append(make("div", { class: "controls" }, down, across));
    const [i, j] = [keys.indexOf(state.choice.down), keys.indexOf(state.choice.across)];
    const columns = unique(cells.map((cell) => cell.names[j]));
    const mean = (row, column) => {
      const values = cells.filter((cell) => cell.names[i] === row && cell.names[j] === column && cell.mean !== null).map((cell) => cell.mean);
      return values.length ? values.reduce((a, b) => a + b) / values.length : null;
    };
    const rows = unique(cells.map((cell) => cell.names[i]));
    const [low, high] = range(cells.map((cell) => cell.mean).filter((value) => value !== null), shown.share);
    const rest = varied.filter((key) => ![state.choice.down, state.choice.across].includes(key));
    part.append(table("heat", [state.choice.down, ...columns], 1, rows.map((row) => [{ text: row }, ...columns.map((column) => {
      const value = mean(row, column);
      return { text: value === null ? "-" : shown.share ? number(value) : value.toPrecision(4), value: value ?? "-", shade: shade(value, low, high) };
    })]), `${shown.words}${rest.length ? `, means over all values of ${rest.join(", ")}` : ""}; the lighter the larger`, "heat"));
  },
  Labels(part, redraw) {
    if (!content.classes.length && !content.confusion.length) return false;
    if (content.classes.length) {
      const labels = content.classes[0].labels;
      const rows = content.classes.map((row) => [...row.names.map((name) => ({ text: name })), ...row.values.map((value) => ({ text: number(value), value: value ?? "-", shade: shade(value, 0, 1) }))]);
      part.append(table("labels", [...content.keys, ...labels.map((each) => `label ${each}`)], content.keys.length, rows, "Accuracy of the last model on the test samples of each label, means over the seeds", "heat"));
    }
    if (content.confusion.length) {
      const names = content.confusion.map((each) => label(each.names, content.keys));
      part.append(make("div", { class: "controls" }, choose("matrix", "Confusion matrix of", names, redraw)));
      const { counts } = content.confusion[names.indexOf(state.choice.matrix)];
      const rows = counts.map((row, i) => {
        const size = row.reduce((a, b) => a + b, 0);
        return [{ text: `label ${i}`, value: i }, ...row.map((count) => ({ text: String(count), value: count, shade: shade(size ? count / size : null, 0, 1) }))];
      });
      part.append(table("matrix-table", ["test samples of", ...counts.map((_, i) => `taken for ${i}`), "none"], 1, rows, "Test samples by label and prediction of the last models, sums over the seeds; lighter: a larger share of the row", "heat"));
    }
  },
  Selection(part, redraw) {
    if (!content.selection.length && !content.weights.length) return false;
    if (content.selection.length) {
      const rows = content.selection.map((row) => [...row.names.map((name) => ({ text: name })), { text: number(row.weight), value: row.weight ?? "-" }, { text: number(row.chosen), value: row.chosen ?? "-" }]);
      part.append(table("selection", [...content.keys, "weight of Byzantine rows", "updates with a Byzantine row chosen"], content.keys.length, rows, "Share of all weight that the rule gave to Byzantine rows, and share of the updates in which it gave them any; means over updates and seeds"));
    }
    if (content.weights.length) {
      const names = content.weights.map((each) => label(each.names, content.keys));
      part.append(make("div", { class: "controls" }, choose("weights", "Weights of the workers in", names, redraw)));
      const { values, byzantine, steps, run } = content.weights[names.indexOf(state.choice.weights)];
      const most = Math.max(...values.flat().filter((value) => value !== null));
      const byWorker = values.map((row) => { const known = row.filter((value) => value !== null); return known.length ? known.reduce((a, b) => a + b) / known.length : null; });
      const map = make("canvas", { class: "map", width: steps.length, height: values.length, role: "img",
        "aria-label": `Weights of ${values.length} workers, from worker 0 at the top, over updates ${steps[0]} to ${steps.at(-1)} of ${run}; the table below has their means` });
      map.style.height = `${Math.max(120, Math.min(480, values.length * 14))}px`;
      const brush = map.getContext("2d");
      values.forEach((row, i) => row.forEach((value, j) => { brush.fillStyle = shade(value, 0, most)?.background || "#808080"; brush.fillRect(j, i, 1, 1); }));
      part.append(map, make("p", { class: "dim" }, `Rows: workers from 0; columns: updates ${steps[0]} to ${steps.at(-1)}; the lighter the larger, up to ${number(most)}.`));
      part.append(table("by-worker", ["worker", "Byzantine", "mean weight"], 1, byWorker.map((value, i) => [{ text: String(i), value: i }, { text: byzantine[i] ? "yes" : "no" }, { text: number(value, 4), value: value ?? "-" }]), `Mean weights in ${run}`));
    }
  },
  Statistics(part, redraw) {
    if (!content.ranks && !content.pairs.length && !content.profiles.length) return false;
    if (content.ranks) part.append(table("ranks", content.ranks.headings, 1, content.ranks.rows.map((row) => row.map((text, i) => ({ text, value: i ? Number(text) : text }))), content.ranks.caption));
    if (content.pairs.length) {
      const columns = Object.keys(content.pairs[0]);
      const heads = columns.indexOf("difference");
      const rows = content.pairs.map((pair) => columns.map((name) => (typeof pair[name] === "number" ? { text: name === "pairs" ? String(pair[name]) : pair[name].toPrecision(3), value: pair[name] } : { text: pair[name] ?? "-" })));
      part.append(table("pairs", columns.map((name) => name.replaceAll("_", " ")), heads, rows, "Rules compared seed by seed: mean difference (first minus second) with its 95 % interval, p of Wilcoxon's signed-rank test, and p adjusted by Holm"));
    }
    if (content.profiles.length) {
      const drawn = content.profiles.map((each) => ({ name: each.rule, colour: content.colours[each.rule] || "#555555", x: each.threshold, y: each.share }));
      part.append(make("h3", {}, "Performance profiles"), plot("profiles", "share of the runs", `threshold: ${content.score.words}`, drawn, redraw, true));
    }
  },
  Scenario(part) {
    part.append(make("p", {}, "With the file below as scenario.yaml these runs are made again by"), make("pre", { id: "command" }, content.command));
    part.append(make("pre", {}, content.scenario || "(the folder has no scenario.yaml)"));
    part.append(make("details", {}, make("summary", {}, "The first run with all defaults"), make("pre", {}, content.resolved)));
    part.append(make("details", {}, make("summary", {}, "Versions and machine"), make("pre", {}, content.versions)));
  },
  Problems(part) {
    if (!content.problems.length) return false;
    part.append(make("ul", {}, ...content.problems.map((line) => make("li", { class: "bad" }, line))));
  },
};

function draw() {
  const focus = document.activeElement?.id;
  document.getElementById("name").textContent = content.name;
  document.getElementById("question").textContent = content.question;
  document.getElementById("settings").textContent = content.settings;
  const progress = document.getElementById("progress");
  if (progress.textContent !== content.progress) progress.textContent = content.progress;
  const [left, top] = [window.scrollX, window.scrollY];
  const parts = [];
  for (const [title, fill] of Object.entries(sections)) {
    const id = title.toLowerCase().replace(" ", "-");
    const inner = make("div");
    const redraw = () => draw();
    if (content.tables.length + (title === "Scenario" || title === "Problems") > 0 && fill(inner, redraw) !== false) parts.push({ id, title, whole: make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), inner) });
  }
  document.getElementById("main").replaceChildren(...parts.map((each) => each.whole));
  document.getElementById("sections").replaceChildren(...parts.map((each) => make("li", {}, make("a", { href: `#${each.id}` }, each.title))));
  document.querySelectorAll("figure").forEach((figure) => figure.draw?.());
  window.scrollTo(left, top);
  if (focus) document.getElementById(focus)?.focus();
}

const theme = document.getElementById("theme");
theme.addEventListener("change", () => {
  document.documentElement.dataset.theme = theme.value;
  draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } });
draw();

if (document.body.dataset.live === "true") {
  let tag = "";
  const ask = async () => {
    try {
      const answer = await fetch("content.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        content = await answer.json();
        draw();
      }
    } catch {
      document.getElementById("progress").textContent = `${content.progress}; the server does not answer`;
    }
    setTimeout(ask, 3000);
  };
  setTimeout(ask, 3000);
}
