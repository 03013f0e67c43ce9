// Which jobs the figures and the table show: values of the axes, controls or none, points that a drag went over.
// The choice stands in the address, and so does what the selects of the figures are set to: `#sae.k=16&sae.k=32&control=without`.
const CONTROL = "control", JOB = "job";
const row = new Map(data.values.index.map((job, at) => [job, at]));
const textOf = (key, job) => String(data.values.columns[key]?.[row.get(job)] ?? "");  // empty where the job has none
const settings = new Map();  // select or checkbox of a figure → what it was when the page opened
const stateOf = box => box.type === "checkbox" ? (box.checked ? "yes" : "no") : box.value;
let choice = new URLSearchParams();

function remember(box, redraw) {
  settings.set(box, stateOf(box));
  box.addEventListener("change", () => {
    choice.delete(box.id);
    if (stateOf(box) !== settings.get(box)) choice.set(box.id, stateOf(box));
    writeAddress("replaceState");
    redraw();
  });
}

function readAddress() {
  const keys = [...data.axes, CONTROL, JOB, ...[...settings.keys()].map(box => box.id)];
  choice = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  for (const key of [...new Set(choice.keys())]) if (!keys.includes(key)) choice.delete(key);
}
function writeAddress(how) {
  const text = String(choice);
  try { history[how](null, "", text ? "#" + text : location.pathname + location.search); }
  catch { /* inside another page there is no address to write to */ }
}

const isNarrowed = () => [...data.axes, CONTROL, JOB].some(key => choice.has(key));
function fits(job) {
  const control = choice.get(CONTROL), jobs = choice.getAll(JOB);
  return (!control || (control === "only") === Boolean(data.controls[job]))
    && (!jobs.length || jobs.includes(data.jobs[job]))
    && data.axes.every(key => !choice.has(key) || choice.getAll(key).includes(textOf(key, job)));
}
// `values`, `place` and `lines` of the jobs that fit; of all where none does.
function narrow() {
  const every = data.values.index, some = every.filter(fits), jobs = some.length ? some : every;
  const at = jobs.map(job => row.get(job));
  const pick = columns => Object.fromEntries(Object.entries(columns).map(([key, column]) => [key, at.map(n => column[n])]));
  values = {...data.values, index: jobs, columns: pick(data.values.columns), noise: pick(data.values.noise)};
  place = new Map(jobs.map((job, n) => [job, n]));
  lines = data.lines.map(line => {
    const points = line.jobs.map((_, n) => n).filter(n => line.jobs[n].some(isShown)), of = column => points.map(n => column[n]);
    return {...line, x: of(line.x), jobs: of(line.jobs),
      readings: Object.fromEntries(Object.entries(line.readings).map(([key, readings]) => [key, of(readings)]))};
  }).filter(line => line.x.length);
  return some.length > 0;
}
function apply() {
  const fit = narrow();
  for (const [box, first] of settings) {
    const state = choice.get(box.id) ?? first;
    if (box.type === "checkbox") box.checked = state === "yes";
    else box.value = [...box.options].some(option => option.value === state) ? state : first;
  }
  document.querySelectorAll("#choices input").forEach(box => { box.checked = !choice.has(box.name) || choice.getAll(box.name).includes(box.value); });
  document.querySelectorAll("#choices select").forEach(box => { box.value = choice.get(box.name) || ""; });
  // jobs without a result are in no figure and stay in the table
  document.querySelectorAll("[data-job]").forEach(entry => { entry.hidden = row.has(+entry.dataset.job) && !isShown(+entry.dataset.job); });
  el("chosen").hidden = !isNarrowed();
  el("chosen-jobs").textContent = fit ? `${values.index.length} of ${data.values.index.length} finished jobs shown` : "No job fits this choice, so all are shown";
  drawAll();
}
function choose(key, wanted) {
  const next = new URLSearchParams(choice);
  next.delete(key);
  wanted.forEach(value => next.append(key, value));
  choice = next;
  writeAddress("pushState");
  apply();
}
function chooseJobs(jobs) {
  // not inside Plotly's own event, which goes on with the figure as it was
  if (jobs.length && jobs.length < values.index.length) setTimeout(() => choose(JOB, jobs.map(job => data.jobs[job])));
}
const choosePoints = points => chooseJobs([...new Set(points.flatMap(point => point.customdata || []))].filter(isShown));

function offer(name, ...parts) {
  const set = document.createElement("fieldset"), legend = document.createElement("legend");
  legend.textContent = name;
  set.append(legend, ...parts);
  el("choices").append(set);
}
function offerAxis(key) {
  const all = [...new Set(data.values.index.map(job => textOf(key, job)))].sort((a, b) => a.localeCompare(b, undefined, {numeric: true}));
  if (all.length < 2) return;
  const boxes = all.map(value => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, {type: "checkbox", name: key, value, checked: true});
    box.addEventListener("change", () => {
      const checked = boxes.map(other => other.firstChild).filter(other => other.checked).map(other => other.value);
      choose(key, checked.length < all.length ? checked : []);
    });
    label.append(box, " " + (value || NONE));
    return label;
  });
  offer(key, ...boxes);
}
function offerControls() {
  const controls = data.values.index.filter(job => data.controls[job]);
  if (!controls.length || controls.length === data.values.index.length) return;
  const select = document.createElement("select");
  select.name = CONTROL;
  select.setAttribute("aria-label", "controls");
  for (const [value, words] of [["", "results and controls"], ["without", "results only"], ["only", "controls only"]]) select.add(new Option(words, value));
  select.addEventListener("change", () => choose(CONTROL, select.value ? [select.value] : []));
  offer("controls", select);
}
function offerChoices() {
  data.axes.forEach(offerAxis);
  offerControls();
  el("choose").hidden = values.index.length < 2;
  el("show-all").addEventListener("click", () => {
    const next = new URLSearchParams([...choice].filter(([key]) => ![...data.axes, CONTROL, JOB].includes(key)));
    choice = next;
    writeAddress("pushState");
    apply();
  });
  addEventListener("hashchange", () => {
    if (location.hash && !location.hash.includes("=")) return;  // an address of a section
    readAddress();
    apply();
  });
  // a section's address would take the place of the choice
  document.addEventListener("click", event => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || !String(choice)) return;
    event.preventDefault();
    el(link.hash.slice(1)).scrollIntoView();
  });
}
