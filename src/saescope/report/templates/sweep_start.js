const figures = [];
if (el("along-plots")) {
  data.axes.forEach((name, at) => {
    const mine = data.lines.filter(line => line.axis === name);
    // a measure that no job of these lines has gets no empty figure
    FOLLOWED.forEach((measure, side) => {
      if (mine.some(line => line.readings[measure])) panel("along-plots", `along-${at}-${side}`, 380);
    });
  });
  remember(el("matched"), drawAlong);
  figures.push(drawAlong);
}
if (values.index.length) {
  const all = [...values.numeric, ...values.named.filter(key => !values.numeric.includes(key))];
  const first = [...data.axes.filter(key => all.includes(key)), ...all.filter(key => !data.axes.includes(key))];
  const has = key => values.columns[key] ? key : null;
  const x = data.axes.find(key => values.numeric.includes(key)) || first[0];
  options("pick-x", first, x, drawPicker);
  options("pick-y", first, has(metrics.main) || first[0], drawPicker);
  options("pick-colour", ["none", ...first], data.axes.find(key => key !== x && first.includes(key)) || "none", drawPicker);
  figures.push(drawPicker);
  if (el("front-plot")) { options("front-y", metrics.qualities, null, drawFront); figures.push(drawFront); }
  if (el("heat-plot")) {
    options("heat-pair", data.heatmaps.map((heatmap, at) => [String(at), `${heatmap.x} × ${heatmap.y}${heatmap.at ? " at " + heatmap.at : ""}`]), "0", drawHeat);
    options("heat-z", metrics.table.filter(has), has(metrics.main), drawHeat);
    figures.push(drawHeat);
  }
  if (el("effect-plot")) {
    const measures = [...new Set(data.effects.map(step => step.measure))];
    options("effect-pair", data.effect_pairs.map(([of, by], at) => [String(at), `${of}, by ${by}`]), "0", drawEffects);
    options("effect-z", measures.map(key => [key, metrics.labels[key] || key]), measures.includes(metrics.main) ? metrics.main : null, drawEffects);
    figures.push(drawEffects);
  }
  if (el("scaling-plots")) {
    new Set(data.scaling.map(fit => fit.measure)).forEach(() => panel("scaling-plots", "scaling-" + el("scaling-plots").children.length, 380));
    figures.push(drawScaling);
  }
  if (el("hist-plot")) {
    options("hist-of", Object.keys(data.histograms), null, drawHist);
    options("hist-colour", [["none", "job"], ...first], values.index.length > 12 ? x : "none", drawHist);
    figures.push(drawHist);
  }
  if (document.createElement("canvas").getContext("webgl")) figures.push(drawParallel);
  else el("parallel-plot").closest("section").hidden = true;
  if (el("dynk-plot")) { options("dynk-name", [...new Set(data.dynamic_k.map(curve => curve.name))], null, drawDynamicK); figures.push(drawDynamicK); }
} else for (const id of ["picker-plot", "parallel-plot"]) { el(id).closest("section").hidden = true; }
// One figure that cannot be drawn must not keep the others from being drawn.
const drawAll = () => figures.forEach(drawFigure => {
  try { drawFigure(); } catch (error) { console.error(error); }
});
offerChoices();
document.querySelectorAll(".contents a").forEach(link => { link.parentElement.hidden = el(link.hash.slice(1)).closest("section").hidden; });
readAddress();
apply();
dark.addEventListener("change", drawAll);
matchMedia(`(max-width: ${NARROW}px)`).addEventListener("change", drawAll);
// Paper has its own width and is light: figures are laid out anew for it.
function printed(starts) {
  onPaper = starts;
  document.documentElement.classList.toggle("paper", starts);
  drawAll();
  if (!starts) document.querySelectorAll(".plot").forEach(plot => plot.layout && Plotly.relayout(plot, {width: null, autosize: true}));
}
addEventListener("beforeprint", () => printed(true));
addEventListener("afterprint", () => printed(false));
