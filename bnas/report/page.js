"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);

// "@name" in a figure is the custom property --name of the theme that is shown.
function themed(part, theme) {
  if (Array.isArray(part)) return part.map((item) => themed(item, theme));
  if (part && typeof part === "object")
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [
      key,
      typeof value === "string" && value[0] === "@" && key.endsWith("color")
        ? theme.getPropertyValue("--" + value.slice(1)).trim()
        : themed(value, theme),
    ]));
  return part;
}

const shaped = {}; // by place: a function that changes a figure before it is drawn

function drawOne(place) {
  const theme = getComputedStyle(document.documentElement);
  const narrow = innerWidth <= 640;
  const { data, layout } = (shaped[place] ?? ((figure) => figure))(themed(figures[place], theme));
  layout.font.family = getComputedStyle(document.body).fontFamily;
  // On a phone a finger on a plot scrolls the page.
  if (narrow) Object.assign(layout, { dragmode: false, font: { ...layout.font, size: 12 } });
  const select = layout.meta?.explored ? ["select2d", "lasso2d"] : [], whole = select.length ? ["autoScale2d"] : [];
  return Plotly.react(place, data, layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: narrow ? false : "hover",
    modeBarButtons: [["toImage", ...select, "zoom2d", "pan2d", ...whole, "resetScale2d"]],
  });
}

function draw() {
  for (const place of Object.keys(figures)) drawOne(place);
}

async function copy(button, text) {
  const usual = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = usual), 1600);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

for (const button of document.querySelectorAll(".command button"))
  button.addEventListener("click", () => copy(button, button.parentElement.querySelector("code").textContent));
