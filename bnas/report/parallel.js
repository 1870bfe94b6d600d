// Parallel coordinates: an axis for each choice, one for latency and one for accuracy; a line for each subnet. Axes stand
// side by side, or below one another where the page is narrow.
function parallelCoordinates(board) {
  if (!board) return { draw() {}, mark() {} };
  const MARGIN = { across: 46, before: 58, after: 20 };
  const extents = Object.fromEntries(Object.entries(VALUES).map(([key, { of }]) => {
    const known = subnets.slice(0, -1).map(of).filter((x) => x != null);
    return [key, known.length ? [Math.min(...known), Math.max(...known)] : [0, 1]];
  }));
  const shareOf = (key, own) => (VALUES[key].of(own) - extents[key][0]) / (extents[key][1] - extents[key][0] || 1);
  const axes = [...explored.axes.map(choiceAxis), ...["latency", "metric"].map(valueAxis)];
  let ids = [], path = () => "";

  function choiceAxis(i) {
    const { name, label, values, stage, dim } = explored.choices[i];
    const part = label === explored.stages[stage] ? dim : dim === "width" ? label : `${label} ${dim}`;
    const middle = (place) => (place + 0.5) / values.length;
    const told = values.length <= 6 ? values : [values[0], values[values.length >> 1], values.at(-1)];
    return {
      title: [explored.stages[stage], part],
      name,
      // Subnets with equal values lie beside each other, not upon each other.
      at: (own, id) => middle(own.indices[i] + 0.6 * (((id * 0.618034) % 1) - 0.5)),
      ticks: told.map((value) => [middle(values.indexOf(value)), value]),
    };
  }

  function valueAxis(key) {
    const [low, high] = extents[key];
    const told = (x) => VALUES[key].text(x).replace(/ (%|ms)$/, "");
    return {
      title: [VALUES[key].label, key === "metric" ? "%" : "ms"],
      name: VALUES[key].label,
      at: (own) => shareOf(key, own),
      ticks: [0, 0.5, 1].map((at) => [at, told(low + at * (high - low))]),
    };
  }

  // Strong colours are good ones: high accuracy, low latency.
  const goodness = (own) => (view.colour === "metric" ? shareOf("metric", own) : 1 - shareOf("latency", own));
  function colour(own) {
    const at = 2 * goodness(own), from = Math.min(Math.floor(at), 1);
    return `color-mix(in oklab, var(--scale-${from}), var(--scale-${from + 1}) ${(100 * (at - from)).toFixed(1)}%)`;
  }

  function draw(shown = ids) {
    ids = shown;
    drawScale();
    const width = board.parentElement.clientWidth - 24, narrow = width < 620;
    const height = narrow ? 58 * axes.length + 20 : 400;
    const step = (narrow ? height - 70 : width - 2 * MARGIN.across) / Math.max(axes.length - 1, 1);
    // Of axis n and share s from its low to its high end: where that is.
    const place = (n, s) => narrow
      ? [20 + s * (width - 40), 40 + n * step]
      : [MARGIN.across + n * step, height - MARGIN.after - s * (height - MARGIN.before - MARGIN.after)];
    path = (own, id) => {
      const places = axes.map(({ at }, n) => place(n, at(own, id)).map((x) => Math.round(10 * x) / 10));
      return places.slice(1).reduce((drawn, [x, y], n) => {
        const [fromX, fromY] = places[n], half = step / 2;
        const bend = narrow ? [fromX, fromY + half, x, y - half] : [fromX + half, fromY, x - half, y];
        return `${drawn}C${bend},${x},${y}`;
      }, `M${places[0]}`);
    };
    const drawn = ids.filter((id) => subnets[id].indices.length).sort((a, b) => goodness(subnets[a]) - goodness(subnets[b]));
    board.setAttribute("viewBox", `0 0 ${width} ${height}`);
    board.style.height = `${height}px`;
    board.replaceChildren(
      element("g", { class: "lines" }, ...drawn.slice(-explored.lines).map((id) => element("path", {
        d: path(subnets[id], id), "data-id": id, style: `stroke:${colour(subnets[id])}`,
        on: { mouseenter: () => point(id), mouseleave: () => point(null), click: () => pin(id) },
      }))),
      element("g", { class: "over" }),
      ...axes.map((axis, n) => drawAxis(axis, n, place, step, narrow)),
    );
    mark(pointed());
  }

  function drawScale() {
    for (const button of document.querySelectorAll("#colours button"))
      button.setAttribute("aria-pressed", button.textContent === VALUES[view.colour].label);
    const ends = extents[view.colour].map(VALUES[view.colour].text).map((text) => element("small", { text }));
    if (view.colour === "latency") ends.reverse();
    document.getElementById("scale").replaceChildren(ends[0], element("i"), ends[1]);
  }

  function drawAxis({ title, name, ticks }, n, place, step, narrow) {
    const [x0, y0] = place(n, 0), [x1, y1] = place(n, 1);
    const room = Math.max(5, Math.floor(step / 6.2));
    const cut = (text) => (text.length > room ? `${text.slice(0, Math.ceil(room / 2) - 1)}…${text.slice(1 - Math.floor(room / 2))}` : text);
    const heads = narrow
      ? [element("text", { x: 20, y: y0 - 10, class: "head", text: title.join(" · ") })]
      : title.map((text, row) => element("text", {
        x: x0, y: 14 + 15 * row, class: row ? "head under" : "head", "text-anchor": "middle", text: cut(text),
      }));
    const labels = ticks.map(([at, text]) => {
      const [x, y] = place(n, at);
      return narrow
        ? element("text", { x, y: y + 14, class: "tick", "text-anchor": at <= 0 ? "start" : at >= 1 ? "end" : "middle", text })
        : element("text", { x: x + 5, y: y + 4, class: "tick", text });
    });
    return element("g", { class: "axis" }, element("title", { text: name }),
      element("line", { x1: x0, y1: y0, x2: x1, y2: y1 }), ...heads, ...labels);
  }

  function mark(id) {
    const own = subnets[id], has = own.indices.length && latencyOf(own) != null;
    board.querySelector(".over")?.replaceChildren(...(has ? [element("path", { d: path(own, id), "data-at": id })] : []));
  }

  for (const key of ["metric", "latency"])
    document.getElementById("colours").append(element("button", {
      type: "button", text: VALUES[key].label,
      on: { click: () => { view.colour = key; draw(); } },
    }));
  let wide = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === wide) return;
    wide = contentRect.width;
    draw();
  }).observe(board.parentElement);
  return { draw, mark };
}
