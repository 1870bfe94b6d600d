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

function draw() {
  const theme = getComputedStyle(document.documentElement);
  const narrow = innerWidth <= 640;
  for (const [place, figure] of Object.entries(figures)) {
    const { data, layout } = themed(figure, theme);
    layout.font.family = getComputedStyle(document.body).fontFamily;
    // On a phone a finger on a plot scrolls the page.
    if (narrow) Object.assign(layout, { dragmode: false, font: { ...layout.font, size: 12 } });
    Plotly.react(place, data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: narrow ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

for (const button of document.querySelectorAll(".command button"))
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
