"use strict";
const data = JSON.parse(document.getElementById("payload").textContent);
const {labels, groups, metrics} = data;
let {values, lines} = data;  // of the jobs that the choice leaves (sweep_choice.js)
const manyGroups = new Set(groups.filter(Boolean)).size > 1;
// Okabe and Ito's colours, apart for every colour vision; the two blues and greys differ between light and dark.
const HUES = ["#0a72b1", "#d8730f", "#0f8f6f", "#b5478f", "#7a66c9", "#a08a00", "#3fa3d8", "#c2452d"];
const DARK = ["#4aa8e0", "#ee9640", "#33b892", "#e07fbd", "#a795f0", "#d2bd3a", "#86cdf2", "#f07a63"];
const MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];
const SCALE = [[0, "#3b528b"], [0.35, "#21918c"], [0.7, "#5ec962"], [1, "#fde725"]];
// Plotly reads a few HTML tags in text: names from files must not become any.
const safe = value => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const unsafe = text => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
const clip = name => name.length > 56 ? name.slice(0, 26) + "…" + name.slice(-29) : name;
const dark = matchMedia("(prefers-color-scheme: dark)");
const css = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
let onPaper = false;
const hue = at => (dark.matches && !onPaper ? DARK : HUES)[at % HUES.length];
const el = id => document.getElementById(id);
const title = key => safe(metrics.labels[key] || key);
const isPresent = value => value !== null && value !== undefined && value !== "";
const NONE = "—";  // in place of what a job does not have

function axis(key, xs) {
  const label = (metrics.labels[key] || "").length > 34 ? safe(metrics.short[key]) : title(key);  // longer than an axis
  const out = {title: {text: label, standoff: 12}, gridcolor: css("grid"), zeroline: false,
    linecolor: css("grey"), automargin: true};
  const numbers = (xs || []).filter(x => typeof x === "number");
  if (xs && numbers.length === xs.filter(isPresent).length && numbers.length) {
    const distinct = [...new Set(numbers)].sort((a, b) => a - b);
    const log = distinct[0] > 0 && distinct.at(-1) / distinct[0] >= 3.9;
    if (log) out.type = "log";
    const span = distinct.at(-1) - distinct[0];
    if (distinct.length <= 8 && new Set(distinct.map(short)).size === distinct.length && distinct.every((x, at) => !at || (log ? x / distinct[at - 1] > 1.2 : x - distinct[at - 1] > 0.05 * span)))
      Object.assign(out, {tickvals: distinct, ticktext: distinct.map(short)});
  } else if (xs) out.type = "category";
  return out;
}
function short(x) {
  if (x >= 1e9) return +(x / 1e9).toPrecision(3) + "B";
  if (x >= 1e6) return +(x / 1e6).toPrecision(3) + "M";
  if (x >= 1e4) return +(x / 1e3).toPrecision(3) + "k";
  return String(+x.toPrecision(4));
}
const shown = value => !isPresent(value) ? NONE : typeof value === "number" ? short(value) : safe(value);
const fig = x => typeof x !== "number" ? shown(x)
  : Math.abs(x) >= 1e4 ? Math.round(x).toLocaleString("en") : Number.isInteger(x) ? String(x)
  : x && Math.abs(x) < 1e-3 ? x.toExponential(1) : x.toPrecision(3);
// "si/mean 0.351 (0.347–0.355)"
const says = (key, value, noise) => `${safe(key)} ${fig(value)}`
  + (noise && isPresent(value) ? ` (${fig(value - noise)}–${fig(value + noise)})` : "");
// What a point is: its settings, `first` in front, its measures, and below them the jobs a click opens.
function hover(jobs, first, ...measured) {
  const settings = [...new Set([...first, ...data.axes])].filter(key => data.axes.includes(key) && isPresent(of(key, jobs[0])));
  return [...settings.map(key => `${safe(key)} ${shown(of(key, jobs[0]))}`), ...measured].join(", ")
    + "<br>" + safe(jobs.map(job => "job " + clip(data.jobs[job])).join(", "));
}
const openJob = jobs => { const link = jobs.map(job => data.links[job]).find(Boolean); if (link) location.href = link; };
// Every point as a link, for those who cannot click it.
function listJobs(id, traces) {
  const items = new Map();
  for (const trace of traces) (trace.customdata || []).forEach((jobs, n) => {
    for (const job of jobs || []) if (data.links[job]) items.set(job + " " + trace.text[n], [job, trace.text[n].split("<br>")[0]]);
  });
  let box = el(id + "-jobs");
  if (!box) {
    box = document.createElement("details");
    box.id = id + "-jobs"; box.className = "points";
    el(id).after(box);
  }
  box.hidden = !items.size;
  const list = document.createElement("ul"), summary = document.createElement("summary");
  summary.textContent = "the jobs of this figure as links";
  for (const [job, text] of items.values()) {
    const entry = document.createElement("li"), link = document.createElement("a");
    link.href = data.links[job]; link.textContent = "job " + data.jobs[job];
    entry.append(link, " " + unsafe(text));
    list.append(entry);
  }
  box.replaceChildren(summary, list);
}
// A figure is one picture with a name for screen readers; its parts say nothing by themselves.
function describe(id, label) {
  el("js-plotly-tester")?.setAttribute("aria-hidden", "true");  // Plotly measures text with it
  el(id).querySelectorAll("svg").forEach(svg => svg.setAttribute("aria-hidden", "true"));
  const picture = el(id).querySelector("svg.main-svg");
  if (!picture) return;
  picture.removeAttribute("aria-hidden");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", unsafe(label));
}
// A drag chooses jobs; a finger scrolls the page instead.
const DRAG = matchMedia("(pointer: coarse)").matches ? false : "select";
const PAPER = 660, PAPER_HEIGHT = 320, NARROW = 640;  // px; narrower figures, and those on paper, have their legend above them
const ABOVE = {orientation: "h", y: 1.02, yanchor: "bottom", x: 0};
const baseHeight = box => onPaper ? Math.min(PAPER_HEIGHT, box.dataset.height) : +box.dataset.height;
// The margin above a figure and its height follow its legend, whose rows depend on the width.
function fitLegend(id, top) {
  const box = el(id), {legend, margin, height} = box._fullLayout;
  const rows = legend?._height && legend.orientation === "h" && box._fullLayout.showlegend ? Math.ceil(legend._height) : 0;
  const wanted = {"margin.t": top + rows, height: baseHeight(box) + Math.max(0, rows - 40)};
  if (margin.t === wanted["margin.t"] && height === wanted.height) return null;
  box.style.height = wanted.height + "px";
  return Plotly.relayout(id, wanted);
}
function draw(id, label, traces, layout) {
  const box = el(id);
  box.dataset.height ||= parseInt(box.style.height);
  const width = onPaper ? PAPER : box.clientWidth;
  const above = onPaper || width < NARROW || layout.legend?.orientation === "h";
  layout = {...layout, ...(onPaper ? {width} : {}), legend: above ? {...layout.legend, ...ABOVE} : layout.legend};
  const base = {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: {family: css("sans"), color: css("ink"), size: 13}, margin: {l: 60, r: 16, t: 34, b: 50},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: css("grey"), activecolor: css("ink")},
    dragmode: traces.some(trace => trace.customdata) ? DRAG : "zoom",
    hoverlabel: {bgcolor: css("wash"), bordercolor: css("grid"), font: {color: css("ink")}, align: "left"}};
  layout.legend = {font: {color: css("ink"), size: 12}, bgcolor: "rgba(0,0,0,0)", itemsizing: "constant", ...layout.legend};
  // buttons are named one by one, so that none leads to a web page
  const fresh = !el(id).on;
  const drawn = Plotly.react(id, traces, Object.assign(base, layout), {displaylogo: false, responsive: true,
    modeBarButtons: [["toImage"], ...(traces.some(trace => trace.customdata) ? [["select2d", "zoom2d", "resetScale2d"]] : [])]});
  if (traces.some(trace => trace.customdata)) {
    listJobs(id, traces);
    if (fresh) {
      el(id).on("plotly_click", event => openJob(event.points[0].customdata || []));
      el(id).on("plotly_selected", event => choosePoints(event?.points || []));
    }
  }
  return drawn.then(() => fitLegend(id, base.margin.t)).then(() => describe(id, label));
}
const groupOf = key => key === "none" ? "" : data.axes.includes(key) ? "swept" : key.includes("/") ? key.split("/")[0] : key.includes(".") ? "settings" : "other";
function options(id, keys, chosen, redraw) {
  const select = el(id);
  const groups = new Map();
  for (const key of keys) {
    const option = document.createElement("option"), name = Array.isArray(key) ? "" : groupOf(key);
    [option.value, option.textContent] = Array.isArray(key) ? key : [key, key];
    if (name && !groups.has(name)) {
      groups.set(name, document.createElement("optgroup"));
      groups.get(name).label = name;
      select.append(groups.get(name));
    }
    (groups.get(name) || select).append(option);
  }
  if (isPresent(chosen)) select.value = chosen;
  remember(select, redraw);
}
function panel(parent, id, height) {
  const cell = document.createElement("div"), div = document.createElement("div");
  cell.className = "cell";
  div.id = id; div.className = "plot"; div.style.height = height + "px";
  cell.append(div);
  el(parent).append(cell);
}

// Places in `values` of the jobs that are shown.
let place = new Map(values.index.map((job, at) => [job, at]));
const isShown = job => place.has(job);
const of = (key, job) => values.columns[key] ? values.columns[key][place.get(job)] : null;
const errors = (array, color) => ({type: "data", array: array.map(x => x || 0), visible: array.some(isPresent),
  thickness: 1.3, width: 4, color});

// Colours by another column: a legend for names and few numbers, a scale for many numbers.
function coloured(key) {
  if (!key || key === "none") return {kind: "one"};
  const all = values.columns[key], distinct = [...new Set(data.values.columns[key])];  // so that a colour stays
  if (values.numeric.includes(key) && distinct.length > 8) return {kind: "scale", all};
  distinct.sort((a, b) => typeof a === "number" && typeof b === "number" ? a - b : 0);
  return {kind: "legend", all, distinct};
}

const FOLLOWED = [...metrics.along, ...metrics.along_matched];
function drawAlong() {
  const wanted = el("matched").checked ? metrics.along_matched : metrics.along;
  for (const name of data.axes) for (const [side, measure] of FOLLOWED.entries()) {
    const every = data.lines.filter(line => line.axis === name && line.readings[measure]);
    const mine = lines.filter(line => line.axis === name && line.readings[measure]);
    const id = "along-" + data.axes.indexOf(name) + "-" + side;
    if (!el(id)) continue;
    el(id).parentElement.hidden = !wanted.includes(measure);
    if (!wanted.includes(measure)) continue;
    const many = every.length > 8, traces = [], shown = new Set();
    // too many lines for a legend of their own: colour by the other axis with the fewest values
    const counts = data.axes.filter(other => other !== name)
      .map(other => [new Set(every.map(line => line.at[other])).size, other]).filter(pair => pair[0] > 1).sort((a, b) => a[0] - b[0]);
    const by = many && counts.length ? counts[0][1] : null;
    const hues = by ? [...new Set(every.map(line => line.at[by]))] : [];
    mine.forEach((line, at) => {
      const control = line.control, readings = line.readings[measure];
      const random = line.at["model.random_init"] === "True" ? " random weights" : "";
      const legend = by ? by.split(".").pop() + " " + line.at[by] + (by === "model.random_init" ? "" : random) : line.name;
      const color = hue(by ? hues.indexOf(line.at[by]) : every.findIndex(other => other.name === line.name));
      traces.push({type: "scatter", mode: line.ordered ? "lines+markers" : "markers", x: line.x.map(x => typeof x === "string" ? safe(x) : x),
        y: readings.map(reading => reading && reading.v), error_y: errors(readings.map(reading => reading && reading.e), color),
        name: safe(clip(legend)), legendgroup: safe(legend), showlegend: !shown.has(legend) && mine.length > 1,
        line: {color, width: many ? 1.2 : 2, dash: control ? "dash" : "solid"},
        marker: {color, size: many ? 6 : 8, symbol: control ? "circle-open" : "circle"}, opacity: many ? 0.85 : 1,
        customdata: line.jobs, text: line.jobs.map((jobs, n) => hover(jobs, [name], says(measure, readings[n]?.v, readings[n]?.e),
          ...(isPresent(readings[n]?.n) ? [`by chance ${fig(readings[n].n)}`] : []))),
        hovertemplate: "%{text}<extra></extra>"});
      shown.add(legend);
      if (readings.some(reading => reading && isPresent(reading.n))) traces.push({type: "scatter", mode: "markers", x: line.x,
        y: readings.map(reading => reading && reading.n), marker: {color: css("grey"), symbol: "x-thin", size: 7, line: {width: 1.4, color: css("grey")}},
        name: "by chance", legendgroup: "null", legendrank: 2000, showlegend: at === 0, hovertemplate: "by chance: %{y:.4g}<extra></extra>"});
    });
    draw(id, `${title(measure)} along ${name}: ${mine.length} lines`, traces, {xaxis: axis(name, mine.flatMap(line => line.x)), yaxis: {...axis(measure), rangemode: "tozero"}, legend: ABOVE});
  }
}

function drawPicker() {
  const x = el("pick-x").value, y = el("pick-y").value, by = el("pick-colour").value, color = coloured(by);
  const placed = key => values.numeric.includes(key) ? values.columns[key] : values.columns[key].map(shown);
  const xs = placed(x), ys = placed(y), traces = [];
  const letter = job => groups[job];
  const sets = color.kind === "legend" ? color.distinct.map(value => [value, (_, at) => color.all[at] === value]) : [[null, () => true]];
  const kinds = [...new Set(data.values.index.map(letter))];
  sets.forEach(([name, inside], at) => {
    const mine = values.index.map((job, n) => n).filter(n => inside(values.index[n], n));
    if (!mine.length) return;
    const tint = hue(at), pick = column => mine.map(n => column[n]);
    const noise = values.noise[y];
    traces.push({type: "scatter", mode: "markers", x: pick(xs), y: pick(ys), name: shown(name),
      error_y: noise ? errors(pick(noise), color.kind === "legend" ? tint : css("grey")) : {visible: false},
      showlegend: color.kind === "legend", customdata: mine.map(n => [values.index[n]]),
      text: mine.map(n => hover([values.index[n]], [x], ...[x, y].filter(key => !data.axes.includes(key)).map(key => says(key, values.columns[key][n], (values.noise[key] || [])[n])))),
      marker: {size: 9, symbol: mine.map(n => manyGroups ? MARKS[kinds.indexOf(letter(values.index[n])) % MARKS.length] : "circle"),
        color: color.kind === "scale" ? pick(color.all) : tint, ...(color.kind === "scale" ? {colorscale: SCALE, showscale: true,
          colorbar: {title: {text: title(by), side: "right"}, thickness: 12, outlinewidth: 0}} : {})},
      hovertemplate: "%{text}<extra></extra>"});
  });
  const key = metrics.nulls[y], nulls = key && values.columns[key];
  if (nulls) traces.push({type: "scatter", mode: "markers", x: xs, y: nulls, name: "by chance",
    marker: {color: css("grey"), symbol: "x-thin", size: 7, line: {width: 1.4, color: css("grey")}},
    hovertemplate: "by chance: %{y:.4g}<extra></extra>"});
  draw("picker-plot", `${title(y)} against ${title(x)} of ${xs.length} jobs`, traces, {xaxis: axis(x, xs), yaxis: axis(y, values.numeric.includes(y) ? null : ys),
    legend: color.kind === "legend" ? {title: {text: title(by)}} : ABOVE});
}

function drawFront() {
  const y = el("front-y").value, x = metrics.sparsity, traces = [];
  const pointText = job => hover([job], [], says(x, of(x, job)), says(y, of(y, job)));
  traces.push({type: "scatter", mode: "markers", name: "jobs", x: values.columns[x], y: values.columns[y],
    customdata: values.index.map(job => [job]), text: values.index.map(pointText), showlegend: false,
    marker: {size: 9, color: css("grey"), symbol: "circle-open", line: {width: 1.6}}, hovertemplate: "%{text}<extra></extra>"});
  data.fronts.filter(front => front.y === y).forEach((front, at) => {
    const jobs = front.jobs.filter(isShown);
    if (jobs.length) traces.push({type: "scatter", mode: "lines+markers",
      name: safe(clip(front.name)), x: jobs.map(job => of(x, job)), y: jobs.map(job => of(y, job)),
      line: {color: hue(at), width: 2, shape: "linear"}, marker: {size: 9}, customdata: jobs.map(job => [job]), text: jobs.map(pointText),
      hovertemplate: "%{text}<extra></extra>"});
  });
  draw("front-plot", `${title(y)} against ${title(x)}, with the Pareto front`, traces, {xaxis: axis(x, values.columns[x]), yaxis: axis(y), showlegend: true});
}

function drawHeat() {
  const heatmap = data.heatmaps[+el("heat-pair").value], z = el("heat-z").value;
  const jobs = heatmap.jobs.filter(isShown);
  const level = key => [...new Set(jobs.map(job => of(key, job) ?? NONE))].sort((a, b) => typeof a === "number" && typeof b === "number" ? a - b : (a === NONE) - (b === NONE));
  const xs = level(heatmap.x), ys = level(heatmap.y);
  const cells = ys.map(b => xs.map(a => {
    const measured = jobs.filter(job => (of(heatmap.x, job) ?? NONE) === a && (of(heatmap.y, job) ?? NONE) === b).map(job => of(z, job)).filter(isPresent);
    return measured.length ? measured.reduce((sum, v) => sum + v, 0) / measured.length : null;
  }));
  draw("heat-plot", `${title(z)} by ${heatmap.x} and ${heatmap.y}`, [{type: "heatmap", x: xs.map(shown), y: ys.map(shown), z: cells, colorscale: SCALE,
    texttemplate: "%{z:.3g}", xgap: 2, ygap: 2, colorbar: {thickness: 12, outlinewidth: 0, title: {text: title(z), side: "right"}},
    hovertemplate: safe(heatmap.x) + " %{x}, " + safe(heatmap.y) + " %{y}: %{z:.4g}<extra></extra>"}],
    {xaxis: {...axis(heatmap.x), type: "category", showgrid: false}, yaxis: {...axis(heatmap.y), type: "category", showgrid: false}});
}

// How the effect of one axis depends on another: every step at every value of the other.
function drawEffects() {
  const [axisOf, by] = data.effect_pairs[+el("effect-pair").value], measure = el("effect-z").value;
  const mine = data.effects.filter(step => step.axis === axisOf && step.measure === measure && by in step.at);
  const rest = step => Object.entries(step.at).filter(([key]) => key !== by).map(([key, value]) => `${key.split(".").pop()} ${shown(value)}`);
  const nameOf = step => [step.step, ...rest(step), ...(manyGroups ? ["group " + step.group] : [])].join(", ");
  const names = [...new Set(mine.map(nameOf))];
  const shownSteps = mine.filter(step => step.jobs.every(isShown)), traces = [];
  const order = value => typeof value === "number" ? value : 0;
  names.forEach((name, at) => {
    const steps = shownSteps.filter(step => nameOf(step) === name).sort((a, b) => order(a.at[by]) - order(b.at[by]));
    if (!steps.length) return;
    const numbers = steps.every(step => typeof step.at[by] === "number");
    traces.push({type: "scatter", mode: numbers ? "lines+markers" : "markers", name: safe(clip(name)), x: steps.map(step => numbers ? step.at[by] : shown(step.at[by])),
      y: steps.map(step => step.change), error_y: errors(steps.map(step => step.noise), hue(at)), line: {color: hue(at), width: 2}, marker: {size: 8, color: hue(at)},
      customdata: steps.map(step => step.jobs), hovertemplate: "%{text}<extra></extra>",
      text: steps.map(step => `${safe(axisOf)} ${safe(step.step)} at ${safe(by)} ${shown(step.at[by])}: ${says(measure, step.change, step.noise)}, ${step.verdict}`
        + "<br>" + safe(step.jobs.map(job => "job " + clip(data.jobs[job])).join(", ")))});
  });
  draw("effect-plot", `What a step of ${axisOf} does to ${title(measure)}, by ${by}`, traces, {xaxis: axis(by, traces.flatMap(trace => trace.x)),
    yaxis: {...axis(measure), title: {text: "change of " + title(measure), standoff: 12}, rangemode: "tozero", zeroline: true, zerolinecolor: css("ink")}, showlegend: true, legend: ABOVE});
}

function drawScaling() {
  const measures = [...new Set(data.scaling.map(fit => fit.measure))];
  measures.forEach((measure, side) => {
    const traces = [], mine = data.scaling.filter(fit => fit.measure === measure);
    mine.forEach((fit, at) => {
      const jobs = fit.jobs.filter(isShown);
      if (!jobs.length) return;
      const color = fit.control ? css("grey") : hue(at), name = (fit.control ? "random weights" : "trained")
        + (fit.at ? ", " + fit.at : "") + (manyGroups ? ", group " + fit.group : "");
      const key = "model.num_parameters", ends = [fit.sizes[0], fit.sizes.at(-1)];
      traces.push({type: "scatter", mode: "markers", x: jobs.map(job => of(key, job)), y: jobs.map(job => of(measure, job)),
        error_y: errors(jobs.map(job => values.noise[measure][place.get(job)]), color), legendgroup: name, name: safe(name),
        marker: {color, size: 7, symbol: fit.control ? "circle-open" : "circle"}, customdata: jobs.map(job => [job]),
        text: jobs.map(job => hover([job], [key], says(measure, of(measure, job), values.noise[measure][place.get(job)]))),
        hovertemplate: "%{text}<extra></extra>"});
      if (jobs.length === fit.jobs.length) traces.push({type: "scatter", mode: "lines", x: ends, y: ends.map(x => fit.intercept + fit.slope * Math.log10(x)),
        line: {color, width: 2, dash: fit.control ? "dash" : "solid"}, legendgroup: name, showlegend: false, hoverinfo: "skip"});
    });
    draw("scaling-" + side, `${title(measure)} against model size`, traces, {xaxis: axis("model.num_parameters", mine.flatMap(fit => fit.sizes)), yaxis: {...axis(measure), rangemode: "tozero"}, legend: ABOVE});
  });
}

function drawHist() {
  const name = el("hist-of").value, histogram = data.histograms[name], by = el("hist-colour").value, color = coloured(by), seen = new Set(), traces = [];
  const curves = histogram.curves.filter(curve => isShown(curve.job));
  const low = color.kind === "scale" ? Math.min(...color.all.filter(isPresent)) : 0, high = color.kind === "scale" ? Math.max(...color.all.filter(isPresent)) : 1;
  const lineOf = (curve, share, words, extra) => {
    const below = share.reduce((sums, part) => [...sums, sums.at(-1) + part], [0]);
    return {type: "scatter", mode: "lines", x: histogram.edges, y: below, opacity: curves.length > 16 ? 0.7 : 1, customdata: below.map(() => [curve.job]),
      text: below.map((share, n) => hover([curve.job], [], `${words} below ${fig(histogram.edges[n])}: ${(100 * share).toFixed(1)} %`)),
      hovertemplate: "%{text}<extra></extra>", ...extra};
  };
  curves.forEach(curve => {
    const nth = histogram.curves.indexOf(curve);
    let label = labels[curve.job], tint = hue(nth);
    if (color.kind === "legend") {
      const value = of(by, curve.job);
      label = by.split(".").pop() + " " + shown(value); tint = hue(color.distinct.indexOf(value));
    } else if (color.kind === "scale") {
      tint = isPresent(of(by, curve.job)) ? blend(of(by, curve.job), low, high) : css("grey");
    }
    const legend = color.kind === "legend" || (color.kind === "one" && curves.length <= 16);
    traces.push(lineOf(curve, curve.share, "latents", {line: {width: 1.8, color: tint, dash: data.controls[curve.job] ? "dash" : "solid"},
      name: safe(clip(label)), legendgroup: safe(label), showlegend: legend && !seen.has(label)}));
    if (curve.null) traces.push(lineOf(curve, curve.null, "by chance", {line: {width: 1, color: css("grey"), dash: "dot"},
      name: "by chance", legendgroup: "null", legendrank: 2000, showlegend: !seen.has("null")}));
    seen.add(label).add("null");
  });
  const note = el("hist-other"), other = histogram.other.filter(isShown);
  note.hidden = !other.length;
  note.textContent = "Not shown, because their bins differ: " + other.map(job => labels[job]).join("; ");
  draw("hist-plot", `Share of latents below each value of ${name}, ${curves.length} jobs`, traces, {xaxis: axis(name), dragmode: "zoom",
    yaxis: {...axis("share of latents below"), range: [0, 1.02], tickformat: ".0%"}, showlegend: true,
    ...(traces.filter(trace => trace.showlegend).length > 6 ? {} : {legend: ABOVE})});
}
function blend(value, low, high) {
  const at = high > low ? (value - low) / (high - low) : 0, next = SCALE.findIndex(([stop]) => stop >= at) || 1;
  const [a, b] = [SCALE[next - 1], SCALE[next]], part = (at - a[0]) / (b[0] - a[0]);
  const channel = n => Math.round((1 - part) * parseInt(a[1].substr(n, 2), 16) + part * parseInt(b[1].substr(n, 2), 16));
  return `rgb(${channel(1)},${channel(3)},${channel(5)})`;
}

const ON_PAPER = 7;  // parallel axes beside which their numbers can still be read
function drawParallel() {
  const every = [...new Set([...data.axes, ...metrics.table])]
    .filter(key => data.values.columns[key] && new Set(data.values.columns[key]).size > 1);
  const keys = onPaper ? every.slice(0, ON_PAPER) : every;
  el("parallel-paper").textContent = every.length > ON_PAPER ? `On paper: the first ${ON_PAPER} of ${every.length} axes.` : "";
  const dimensions = keys.map(key => {
    const all = values.columns[key], label = safe(metrics.short[key] || key.replace(/^(model|sae|hookpoint)\./, ""));
    const distinct = [...new Set(all.map(x => isPresent(x) ? x : NONE))], numbers = distinct.filter(x => x !== NONE);
    if (values.numeric.includes(key) && numbers.length) {
      const few = numbers.length <= 6 && data.axes.includes(key);
      if (numbers.length === distinct.length) return few ? {label, values: all, tickvals: numbers, ticktext: numbers.map(short)} : {label, values: all};
      // below the numbers the jobs that have none
      const low = Math.min(...numbers), high = Math.max(...numbers), step = (high - low || 1) / 4, below = low - step;
      const ticks = few || high === low ? numbers : [0, 1, 2, 3, 4].map(n => low + n * step);
      return {label, values: all.map(x => x ?? below), range: [below, high > low ? high : low + 1], tickvals: [below, ...ticks], ticktext: [NONE, ...ticks.map(short)]};
    }
    return {label, values: all.map(x => distinct.indexOf(isPresent(x) ? x : NONE)), tickvals: distinct.map((_, at) => at),
      ticktext: distinct.map(x => String(x).length > 18 ? "…" + String(x).slice(-17) : String(x))};
  });
  const main = values.columns[metrics.main];
  const fresh = !el("parallel-plot").on;
  el("parallel-plot").style.minWidth = onPaper ? "" : `${6.5 * keys.length}rem`;  // so that the axes' names stand apart
  draw("parallel-plot", `Parallel coordinates of ${values.index.length} jobs over ${keys.length} settings and measures`, [{type: "parcoords", dimensions, labelangle: -25, labelfont: {color: css("ink"), size: 12}, tickfont: {color: css("ink"), size: 11},
    rangefont: {color: "rgba(0,0,0,0)", size: 1}, line: main && !main.includes(null) ? {color: main, colorscale: SCALE, showscale: true,
      colorbar: {thickness: 12, outlinewidth: 0, title: {text: title(metrics.main), side: "right"}}} : {color: hue(0)}}],
    {margin: {l: 70, r: 90, t: 120, b: 30}});
  if (fresh) el("parallel-plot").on("plotly_restyle", () => {
    const inside = ({constraintrange: range, values: at}, n) => !range || (Array.isArray(range[0]) ? range : [range]).some(([a, b]) => at[n] >= a && at[n] <= b);
    const brushed = el("parallel-plot").data[0].dimensions;
    chooseJobs(values.index.filter((_, n) => brushed.every(dimension => inside(dimension, n))));
  });
}

function drawDynamicK() {
  const name = el("dynk-name").value;
  const every = data.dynamic_k.filter(curve => curve.name === name), mine = every.filter(curve => isShown(curve.job));
  const tint = curve => hue(every.indexOf(curve));
  draw("dynk-plot", `Loss against k, ${mine.length} jobs`, mine.map(curve => ({type: "scatter", mode: "lines+markers", x: curve.k, y: curve.ce_delta, name: safe(clip(labels[curve.job])),
    error_y: curve.high && curve.low ? {type: "data", symmetric: false, array: curve.high.map((h, n) => Math.max(0, h - curve.ce_delta[n])),
      arrayminus: curve.low.map((l, n) => Math.max(0, curve.ce_delta[n] - l)), thickness: 1.2, color: tint(curve)} : {visible: false},
    line: {color: tint(curve)}, customdata: curve.k.map(() => [curve.job]),
    text: curve.k.map((k, n) => hover([curve.job], [], says("k", k), says("ce_delta", curve.ce_delta[n]))), hovertemplate: "%{text}<extra></extra>"})),
    {xaxis: axis("k", mine.flatMap(curve => curve.k)), yaxis: {...axis("ce_delta, nats a token"), rangemode: "tozero"}, showlegend: mine.length <= 16});
}
