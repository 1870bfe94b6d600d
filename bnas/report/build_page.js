"use strict";
const map = document.querySelector(".map");
const members = (element, kind) => (element.dataset[kind] ?? "").split(" ").filter(Boolean);
const meet = (a, b) => a.some((item) => b.includes(item));

// The layers that make the channels of the layer under the pointer, and those that read them.
function light(row) {
  const groups = row ? members(row, "makes") : [];
  for (const other of map.querySelectorAll("li")) {
    const same = meet(groups, members(other, "makes"));
    other.classList.toggle("hot", same);
    other.classList.toggle("reads", !same && meet(groups, members(other, "reads")));
  }
  for (const edge of map.querySelectorAll(".edges path")) edge.classList.toggle("hot", groups.includes(edge.dataset.group));
}

let shown = null;
map.addEventListener("pointerover", (event) => {
  const row = event.target.closest("li");
  if (row !== shown) light((shown = row));
});
map.addEventListener("pointerleave", () => light((shown = null)));
