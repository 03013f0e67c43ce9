(() => {
  "use strict";
  const ROWS = 50, byId = id => document.getElementById(id);

  // base64 of gzip of JSON, as the page's writer packs it
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text.trim()), c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // text only: nothing from the data becomes markup
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "strength") made.style.setProperty("--strength", value);
      else made.setAttribute(name, value);
    }
    made.append(...children.filter(child => child !== null && child !== undefined).map(child =>
      child instanceof Node ? child : document.createTextNode(String(child))));
    return made;
  }

  function number(value) {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Math.abs(value) >= 1e-3 || value === 0 ? String(value) : value.toExponential(1);
  }

  function svg(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  }

  function histogram(counts) {
    const most = Math.max(1, ...counts), width = 11;
    const picture = svg("svg", {viewBox: "0 0 232 84", role: "img",
      "aria-label": `Histogram of activations: ${counts.join(", ")} in ${counts.length} equal bins up to the largest`});
    counts.forEach((count, at) => {
      const high = count ? Math.max(1, 66 * Math.log1p(count) / Math.log1p(most)) : 0;
      picture.append(svg("rect", {x: 4 + at * width, y: 68 - high, width: width - 1, height: high}));
    });
    picture.append(svg("text", {x: 4, y: 80}, "0"), svg("text", {x: 228, y: 80, "text-anchor": "end"}, "largest activation"));
    return picture;
  }

  // a shard that the page has no room for is a script beside it, which hands over its text
  const waiting = new Map();
  window.latentShard = (number, text) => waiting.get(number)?.(text);
  const beside = number => new Promise((done, fail) => {
    waiting.set(number, done);
    const script = element("script", {src: `features/shard-${number}.js`});
    script.addEventListener("error", () => fail(new Error(`features/shard-${number}.js cannot be read`)));
    document.body.append(script);
  });

  const shards = new Map();
  let index, order, shown, page = 0, sorted = {at: -1, up: false};

  async function detail(at) {
    const number = Math.floor(at / index.shard);
    if (!shards.has(number)) shards.set(number, await unpack(byId(`shard-${number}`)?.textContent ?? await beside(number)));
    return shards.get(number)[at % index.shard];
  }

  const link = latent => element("a", {href: `#latent-${latent}`}, latent);

  // a community's number, which lists its latents, and the way to its card in the report where there is one
  function community(number, start, none) {
    if (number < 0) return [none];
    const list = element("a", {href: `#${start}-${number}`, title: "list its latents"}, number);
    if (!index.cards.includes(start)) return [list];
    return [list, " ", element("a", {href: `${index.report}#${start}-${number}`, class: "card-link", "aria-label": `card of ${start} ${number} in the report`}, "card")];
  }

  function words(title, pairs, note) {
    if (!pairs || !pairs.length) return null;
    return element("div", {}, element("h3", {}, title),
      note ? element("p", {class: "absent"}, note) : null,
      element("ul", {class: "words"}, ...pairs.map(([word, value]) =>
        element("li", {}, element("code", {}, word), element("span", {}, value)))));
  }

  function others(title, pairs, unit) {
    if (!pairs || !pairs.length) return null;
    return element("div", {}, element("h3", {}, title), element("ul", {class: "words"}, ...pairs.map(([latent, value]) =>
      element("li", {}, index.place.has(latent) ? link(latent) : element("span", {}, latent), element("span", {}, `${unit} ${value}`)))));
  }

  function context([task, doc, quantile, about, tokens, acts], largest) {
    const text = element("span", {class: "text"});
    tokens.forEach((token, at) => {
      if (acts[at] > 0) {
        const mark = element("span", {"data-act": acts[at], strength: Math.min(1, acts[at] / largest).toFixed(2),
          title: `activation ${acts[at]}`}, token || "∅");
        if (at === about) mark.className = "about";
        text.append(mark);
      } else text.append(token);
    });
    const where = quantile ? `${quantile}th percentile` : "strong";
    return element("li", {}, text, element("span", {class: "where"},
      `${index.tasks[task]} · document ${doc} · ${where} · ${number(acts[about])}`));
  }

  async function show() {
    const match = /^#latent-(\d+)$/.exec(location.hash), box = byId("latent");
    const address = /^#(within-)?community-(\d+)$/.exec(location.hash);
    if (address) {
      byId("of-community").value = address[1] ? "" : address[2];
      byId("of-within").value = address[1] ? address[2] : "";
      filter();
      byId("all").scrollIntoView();
    }
    if (!match) { box.hidden = true; document.title = document.title.replace(/^Latent \d+/, "Latents"); return; }
    const latent = Number(match[1]), at = index.place.get(latent);
    box.hidden = false;
    box.className = "latent";
    document.title = document.title.replace(/^Latents?( \d+)?/, `Latent ${latent}`);
    if (at === undefined) {
      box.replaceChildren(element("h2", {}, `Latent ${latent}`),
        element("p", {class: "absent"}, "It has too few firings to be measured, or does not exist."));
      return;
    }
    let one;
    try { one = await detail(at); }
    catch (error) {
      box.replaceChildren(element("h2", {}, `Latent ${latent}`), element("p", {class: "absent"},
        `${error.message}: keep the folder features/ of the run beside this page, or ask for saescope-feature RUN ${latent}.`));
      return;
    }
    const total = one.rates.reduce((a, b) => a + b, 0) || 1;
    const largest = Math.max(1e-9, index.numbers[index.labels.indexOf("max activation")]?.[at] ?? 0,
      ...one.contexts.flatMap(context => context[5]));
    const facts = element("dl", {}, ...index.labels.flatMap((label, column) =>
      [element("dt", {}, label), element("dd", {}, number(index.numbers[column][at]))]));
    const group = index.community[at];
    facts.append(element("dt", {}, "community"), element("dd", {}, ...community(group, "community", "none")));
    if (index.within) facts.append(element("dt", {}, "within-token community"), element("dd", {}, ...community(index.within[at], "within-community", "none")));
    const rates = element("table", {class: "rates"}, element("caption", {class: "quiet"}, "Share of the summed rates by task"),
      element("tbody", {}, ...index.tasks.map((task, t) => {
        const share = one.rates[t] / total, bar = element("span", {});
        bar.style.width = `${(100 * share).toFixed(1)}%`;
        return element("tr", {}, element("th", {scope: "row"}, task), element("td", {class: "bar", "aria-hidden": "true"}, bar),
          element("td", {class: "num"}, `${(100 * share).toFixed(1)} %`));
      })));
    const heading = element("h2", {tabindex: "-1"}, `Latent ${latent}`);
    box.replaceChildren(heading,
      element("div", {class: "parts"},
        element("div", {}, element("h3", {}, "Numbers"), facts),
        element("div", {}, element("h3", {}, "Share of the summed rates"), rates,
          element("h3", {}, "Activations"), histogram(one.histogram)),
        words("Fires most on", one.frequent.map((word, place) => [word, `${(100 * one.shares[place]).toFixed(1)} %`])),
        words("Promotes", (one.promoted || []).map(([word, z]) => [word, `z ${z}`]),
          index.weak ? "Weak evidence: the hookpoint lies in the first half of the model." : null),
        words("Suppresses", (one.suppressed || []).map(([word, z]) => [word, `z ${z}`])),
        others("Nearest decoder rows", one.nearest, "cosine"),
        others("Fires together with", one.partners, "PMI")),
      element("h3", {}, "Contexts"),
      element("ol", {class: "spans"}, ...one.contexts.map(item => context(item, largest))));
    heading.focus();
    heading.scrollIntoView();
  }

  function filter() {
    const query = byId("query").value.trim().toLowerCase(), task = byId("of-task").value, group = byId("of-community").value, within = byId("of-within").value;
    shown = order.filter(at =>
      (!query || String(index.latents[at]) === query || index.token[at].toLowerCase().includes(query)) &&
      (!task || index.task[at] === Number(task)) && (!group || index.community[at] === Number(group)) &&
      (!within || index.within[at] === Number(within)));
    page = 0;
    draw();
  }

  function sort(column, up) {
    const values = column === -1 ? index.latents : index.numbers[column];
    order.sort((a, b) => {
      const x = values[a], y = values[b];
      if (x === null || y === null) return (x === null) - (y === null);  // absent values stay at the end
      return (up ? x - y : y - x) || a - b;
    });
    sorted = {at: column, up};
    [...byId("list").tHead.rows[0].cells].forEach(cell => {
      if (cell.dataset.column === String(column)) cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    filter();
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / ROWS));
    byId("count").textContent = `${shown.length.toLocaleString("en")} of ${index.latents.length.toLocaleString("en")} latents`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("back").disabled = page === 0;
    byId("on").disabled = page + 1 >= pages;
    byId("list").tBodies[0].replaceChildren(...shown.slice(page * ROWS, (page + 1) * ROWS).map(at => element("tr", {},
      element("th", {scope: "row"}, link(index.latents[at])),
      ...index.numbers.map(column => element("td", {class: "num"}, number(column[at]))),
      element("td", {}, index.task[at] < 0 ? "–" : index.tasks[index.task[at]]),
      element("td", {}, ...community(index.community[at], "community", "–")),
      element("td", {class: "word"}, index.token[at]))));
  }

  async function start() {
    index = await unpack(byId("index").textContent);
    index.place = new Map(index.latents.map((latent, at) => [latent, at]));
    order = index.latents.map((_, at) => at);
    const heading = (column, label) => {
      const cell = element("th", {scope: "col", "data-column": column}), button = element("button", {type: "button"}, label);
      button.addEventListener("click", () => sort(column, sorted.at === column ? !sorted.up : column === -1));
      cell.append(button);
      return cell;
    };
    byId("list").tHead.rows[0].append(heading(-1, "latent"), ...index.labels.map((label, at) => heading(at, label)),
      ...["task", "community", "most frequent token"].map(label => element("th", {scope: "col"}, label)));
    index.tasks.forEach((task, at) => byId("of-task").append(element("option", {value: at}, task)));
    for (const [id, numbers] of [["of-community", index.community], ["of-within", index.within || []]])
      [...new Set(numbers)].filter(group => group >= 0).sort((a, b) => a - b)
        .forEach(group => byId(id).append(element("option", {value: group}, group)));
    byId("of-within").parentElement.hidden = !index.within;
    byId("filters").addEventListener("input", filter);
    byId("filters").addEventListener("submit", event => event.preventDefault());
    byId("back").addEventListener("click", () => { page -= 1; draw(); });
    byId("on").addEventListener("click", () => { page += 1; draw(); });
    addEventListener("hashchange", show);
    sort(index.labels.indexOf("SI"), false);
    await show();
  }

  start();
})();
