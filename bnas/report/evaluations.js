// The table of the evaluations: its heads sort, its rows point at subnets and pin them.
function evaluationsTable(board) {
  if (!board) return { draw() {}, mark() {} };
  const FIRST = 10; // rows, before all are asked for
  const percent = (_, x) => `${x.toFixed(2)} %`, ms = (_, x) => `${significant(x)} ms`, count = (_, x) => short(x);
  const columns = [
    ["subnet", (own, id) => id, nameOf],
    [`${explored.metric}, search`, (own) => own.metric, percent],
    [`${explored.metric}, INT8`, (own) => own.int8, percent],
    ["predicted", (own) => own.latency, ms],
    ["error bar", (own) => own.high && own.high - own.low, (id) => `${significant(subnets[id].low)}–${significant(subnets[id].high)}`],
    ["measured", (own) => own.measured, ms],
    ["MACs", (own) => own.macs, count],
    ["images", (own) => (own.share < 1 ? own.share : null), (_, x) => `${Math.round(100 * x)} %`],
    ...Object.entries(explored.names).map(([name, words]) => [words, (own) => own.values[name], count]),
  ].filter(([, of]) => subnets.slice(0, -1).some((own, id) => of(own, id) != null));
  const more = document.getElementById("more");
  let ids = [], column = 1, down = true, all = false;

  function draw(shown = ids) {
    ids = shown;
    const [, of] = columns[column];
    const key = (id) => of(subnets[id], id) ?? (down ? -Infinity : Infinity);
    const sorted = [...ids].sort((a, b) => (down ? key(b) - key(a) : key(a) - key(b)) || a - b);
    const rows = sorted.slice(0, all ? undefined : FIRST);
    if (ids.includes(view.pinned) && !rows.includes(view.pinned)) rows.push(view.pinned);
    const focused = document.activeElement?.dataset.id;
    board.replaceChildren(
      element("thead", {}, element("tr", {}, ...columns.map(head))),
      element("tbody", {}, ...rows.map(row)),
    );
    if (focused != null) board.querySelector(`tr[data-id="${focused}"]`)?.focus();
    more.hidden = sorted.length <= FIRST;
    more.textContent = all ? `Show the first ${FIRST}` : `Show all ${sorted.length}`;
    mark(pointed());
  }

  function head([title], own) {
    const sort = () => {
      down = own === column ? !down : own !== 0;
      column = own;
      draw();
    };
    return element("th", { scope: "col", "aria-sort": own === column ? (down ? "descending" : "ascending") : null },
      element("button", { type: "button", text: title, on: { click: sort } }));
  }

  function row(id) {
    const own = subnets[id];
    const cells = columns.map(([, of, text], place) => {
      const x = of(own, id), told = x == null ? "–" : text(id, x);
      return place ? element("td", { text: told }) : element("th", { scope: "row", text: told });
    });
    return element("tr", {
      "data-id": id, class: `${toneOf(own)}${own.front ? " front" : ""}`, tabindex: 0,
      on: {
        mouseenter: () => point(id), mouseleave: () => point(null), focus: () => point(id), blur: () => point(null),
        click: () => pin(id), keydown: (event) => event.key === "Enter" && pin(id),
      },
    }, ...cells);
  }

  function mark(id) {
    for (const own of board.querySelectorAll("tr[data-id]")) own.classList.toggle("at", Number(own.dataset.id) === id);
  }

  more.addEventListener("click", () => {
    all = !all;
    draw();
  });
  return { draw, mark };
}
