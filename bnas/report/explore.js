// Every subnet of the page: to point at one shows it beside the plot, a click pins it, and what is selected or limited
// stays in all parts at once.
const explored = JSON.parse(document.getElementById("explored").textContent);
const { subnets } = explored;
const frontPlot = document.getElementById("front");
const view = { hovered: null, pinned: explored.pinned, selected: null, limits: {}, colour: "metric", freeing: false };

const latencyOf = (own) => own.measured ?? own.latency;
const metricOf = (own) => own.int8 ?? own.metric;
const significant = (x, digits = 3) => {
  if (x && (Math.abs(x) < 1e-4 || Math.abs(x) >= 1e6)) return x.toExponential(1).replace("e+", "e");
  const rounded = Number(x.toPrecision(digits));
  const decimals = rounded ? Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(rounded)))) : 0;
  return rounded.toFixed(decimals);
};
const short = (x) => {
  for (const [limit, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(x) >= 0.9995 * limit) return `${significant(x / limit)} ${prefix}`;
  return significant(x);
};
const toneOf = ({ names }) => (["A", "B", "C"].includes(names[0]) ? names[0] : "");
const nameOf = (id) => {
  const own = subnets[id];
  if (id === explored.original) return "Original";
  return own.names.length ? `Subnet${own.names.length > 1 ? "s" : ""} ${own.names.join(", ")}` : `Subnet ${id + 1}`;
};

const VALUES = {
  metric: { label: explored.metric_first, sign: "≥", of: metricOf, text: (x) => `${x.toFixed(2)} %`, keeps: (x, at) => x >= at },
  latency: { label: "Latency", sign: "≤", of: latencyOf, text: (x) => `${significant(x)} ms`, keeps: (x, at) => x <= at },
  macs: { label: "MACs", sign: "≤", of: (own) => own.macs, text: short, keeps: (x, at) => x <= at },
};

// An element: element("b", { class: "x", text: "…" }, child, …). Names go in as text, never as HTML.
function element(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  for (const [event, listener] of Object.entries(on)) made.addEventListener(event, listener);
  if (text != null) made.textContent = text;
  made.append(...children.filter((child) => child != null));
  return made;
}

// What limits let through; the original network always stays.
function within(id) {
  return id === explored.original || Object.entries(view.limits).every(([key, at]) => {
    const x = VALUES[key].of(subnets[id]);
    return x == null || VALUES[key].keeps(x, at);
  });
}
const isShown = (id) => within(id) && (!view.selected || view.selected.has(id));
const pointed = () => view.hovered ?? view.pinned;

// The plot of the front, without what limits leave out, with a ring around the subnet that is pinned.
shaped.front = (figure) => {
  const data = figure.data.map((trace) => {
    const ids = trace.customdata;
    if (!ids || ids.every(within)) return trace;
    if (trace.mode === "lines") return { ...trace, y: trace.y.map((y, i) => (within(ids[i]) ? y : null)) };
    const { opacity = 1, ...marker } = trace.marker;
    const bars = (values) => values.map((x, i) => (within(ids[i]) ? x : null));
    const error = trace.error_x;
    return {
      ...trace,
      marker: { ...marker, opacity: ids.map((id) => (within(id) ? opacity : trace.unselected?.marker.opacity ?? opacity)) },
      ...(error && { error_x: { ...error, array: bars(error.array), arrayminus: bars(error.arrayminus) } }),
      ...(trace.text && { text: trace.text.map((text, i) => (within(ids[i]) ? text : "")) }),
    };
  });
  const own = subnets[view.pinned];
  const place = own.measured != null && own.int8 != null ? [own.measured, own.int8] : [own.latency, own.metric];
  const ring = data.at(-1), size = own.names.length ? 19 + 8 * own.names.length : ring.marker.size; // around a badge
  data[data.length - 1] = { ...ring, x: [place[0]], y: [place[1]], marker: { ...ring.marker, size } };
  return { data, layout: { ...figure.layout, selections: frontPlot.layout?.selections } };
};

function filtered() {
  drawOne("front");
  told();
}
function told() {
  const ids = [...subnets.keys()].filter((id) => id !== explored.original && isShown(id));
  lines.draw(ids);
  table.draw(ids);
  const all = subnets.length - 1;
  for (const place of document.querySelectorAll(".count"))
    place.textContent = ids.length === all ? `all ${all} subnets` : `${ids.length} of ${all} subnets`;
  const free = !view.selected && !Object.keys(view.limits).length;
  document.querySelector("#filters button").disabled = free;
}
function point(id) {
  view.hovered = id;
  showSubnet(pointed());
  lines.mark(pointed());
  table.mark(pointed());
}
function pin(id) {
  view.pinned = id === view.pinned ? explored.pinned : id;
  table.draw();
  point(null);
  drawOne("front");
}
async function freeAll() {
  view.limits = {};
  view.selected = null;
  for (const input of document.querySelectorAll("#filters input")) resetLimit(input);
  told();
  view.freeing = true; // plotly tells of its own selections as they go
  frontPlot.layout.selections = [];
  await drawOne("front");
  await Plotly.restyle("front", { selectedpoints: null });
  view.freeing = false;
}

// Limits as sliders; one that stands at its loose end limits nothing.
function resetLimit(input) {
  input.value = input.dataset.loose;
  input.nextElementSibling.textContent = "any";
}
let due = 0;
function makeFilters() {
  const form = document.getElementById("filters");
  for (const [key, { label, sign, of, text }] of Object.entries(VALUES)) {
    const known = subnets.slice(0, -1).map(of).filter((x) => x != null);
    if (known.length < 2 || Math.min(...known) === Math.max(...known)) continue;
    const steps = [...new Set(known)].sort((a, b) => a - b);
    const loose = sign === "≤" ? steps.length - 1 : 0;
    const slide = ({ target }) => {
      const at = steps[Number(target.value)];
      if (Number(target.value) === loose) delete view.limits[key];
      else view.limits[key] = at;
      target.nextElementSibling.textContent = Number(target.value) === loose ? "any" : `${sign} ${text(at)}`;
      cancelAnimationFrame(due);
      due = requestAnimationFrame(filtered);
    };
    const input = element("input", {
      type: "range", min: 0, max: steps.length - 1, value: loose, name: key, "data-loose": loose, on: { input: slide },
      "aria-label": `${label} ${sign}`,
    });
    form.append(element("label", {}, element("span", { text: `${label} ${sign}` }), input, element("output", { text: "any" })));
  }
  form.append(
    element("span", { class: "count", role: "status" }),
    element("button", { type: "button", text: "Clear", on: { click: freeAll } }),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
}

// One subnet in words, bars and columns, beside the plot.
function showSubnet(id) {
  const own = subnets[id], panel = document.getElementById("subnet"), whole = subnets[explored.original];
  const fixed = id === view.pinned;
  const note = fixed ? (id === explored.pinned ? "hover another" : "pinned") : "click to pin";
  const pairs = [
    [`${explored.metric_first}, search`, own.metric == null ? null : `${own.metric.toFixed(2)} %`],
    [`${explored.metric_first}, INT8`, own.int8 == null ? null : `${own.int8.toFixed(2)} %`],
    ["MACs", own.macs == null ? null : short(own.macs), whole.macs && own.macs && `${Math.round((100 * own.macs) / whole.macs)} %`],
    ["Images", own.share < 1 ? `${Math.round(100 * own.share)} %` : null],
    ...Object.entries(own.values).map(([name, x]) => [explored.names[name], short(x)]),
  ].filter(([, value]) => value != null);
  panel.className = `subnet ${toneOf(own)}`;
  panel.replaceChildren(
    element("header", {},
      element("span", { class: "badge", text: own.names.join(" ") || (id === explored.original ? "◆" : id + 1) }),
      element("b", { text: nameOf(id) }),
      element("small", { text: note })),
    element("dl", {}, ...pairs.map(([name, value, more]) =>
      element("div", {}, element("dt", { text: name }), element("dd", { text: value }, more && element("small", { text: ` ${more}` }))))),
    latencyBars(own, whole),
    own.indices.length ? element("div", { class: "strips" }, ...stageStrips(own)) : "",
    element("footer", {},
      own.indices.length
        ? element("button", { type: "button", text: "Copy config", on: { click: ({ target }) => copy(target, configText(own)) } })
        : null,
      element("code", { text: own.digest })),
  );
}
const configText = (own) =>
  JSON.stringify(Object.fromEntries(explored.choices.map(({ name, numbers }, i) => [name, numbers[own.indices[i]]])));

// Predicted latency with its error bar, and the measured one from its 10th to its 90th percentile, on one scale.
function latencyBars(own, whole) {
  const rows = [
    ["predicted", own.latency, own.low, own.high],
    ["measured", own.measured, own.p10, own.p90],
  ].filter(([, at]) => at != null);
  if (own !== whole) rows.push(["original", whole.measured, whole.p10, whole.p90]);
  // A bar that is far longer than what it is about runs out of sight.
  const ends = rows.flatMap(([, at, low, high]) => [at, Math.max(low ?? at, at / 3), Math.min(high ?? at, 3 * at)]);
  const first = Math.min(...ends), span = Math.max(...ends) - first || 1;
  const percent = (x) => `${(4 + (92 * (x - first)) / span).toFixed(2)}%`;
  return element("div", { class: "spread" }, ...rows.map(([name, at, low, high]) => {
    const range = low == null ? "" : `${significant(low)}–${significant(high)}`;
    return element("div", { class: name },
      element("span", { text: name }),
      element("div", {},
        low == null ? null : element("i", { style: `left:${percent(low)};width:${((92 * (high - low)) / span).toFixed(2)}%` }),
        element("b", { style: `left:${percent(at)}` })),
      element("strong", { text: `${significant(at)} ms` }),
      element("small", { text: range }));
  }));
}

// For each stage a column per choice, filled as far as the original is kept; what a left-out block holds is empty.
function stageStrips(own) {
  const gone = new Set(Object.entries(explored.gone).flatMap(([depth, byValue]) => byValue[own.indices[depth]]));
  const strips = explored.stages.map((stage, number) => {
    const depths = [], columns = [], precisions = [];
    explored.choices.forEach((choice, i) => {
      if (choice.stage !== number) return;
      const at = own.indices[i], of = choice.dim === "precision" ? "" : ` of ${choice.values.at(-1)}`;
      const title = `${choice.name}: ${choice.values[at]}${of}${gone.has(i) ? ", in a block that is left out" : ""}`;
      const height = gone.has(i) ? 0 : 100 * choice.shares[at];
      const made = () => element("i", { class: `${choice.dim}${gone.has(i) ? " gone" : ""}`, title }, element("b", { style: `height:${height}%` }));
      if (choice.dim === "depth") depths.push([choice.numbers[at], choice.numbers.at(-1), title]);
      else (choice.dim === "precision" ? precisions : columns).push(made());
    });
    const kept = depths.reduce((sum, [value]) => sum + value, 0), blocks = depths.reduce((sum, [, all]) => sum + all, 0);
    const pips = Array.from({ length: Math.min(blocks, 24) }, (_, i) => element("i", { class: i < kept ? "kept" : "" }));
    return element("div", { class: "strip" },
      element("span", { text: stage, title: stage }),
      element("div", { class: "both" }, element("div", { class: "columns" }, ...columns), precisions.length
        ? element("div", { class: "columns low" }, ...precisions) : null),
      element("div", { class: "pips", title: depths.map(([, , title]) => title).join("\n") },
        ...pips, blocks ? element("small", { text: `${kept}/${blocks}` }) : null));
  });
  return [
    element("div", { class: "strip heads" }, element("span", { text: "stage" }), element("div", { text: "width kept" }),
      element("div", { text: "depth" })),
    ...strips,
  ];
}

const lines = parallelCoordinates(document.getElementById("parallel"));
const table = evaluationsTable(document.getElementById("evaluations"));
makeFilters();
showSubnet(pointed());
const idOf = ({ points }) => points.map((own) => own.customdata).find((id) => id != null);
frontPlot.on("plotly_hover", (event) => idOf(event) != null && point(idOf(event)));
frontPlot.on("plotly_unhover", () => point(null));
frontPlot.on("plotly_click", (event) => idOf(event) != null && pin(idOf(event)));
frontPlot.on("plotly_selected", (event) => {
  if (view.freeing) return;
  const ids = event?.points.map((own) => own.customdata).filter((id) => id != null && id !== explored.original);
  view.selected = ids?.length ? new Set(ids) : null;
  told();
});
frontPlot.on("plotly_deselect", () => {
  view.selected = null;
  told();
});
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  view.pinned = explored.pinned;
  point(null);
  freeAll();
});
filtered();
