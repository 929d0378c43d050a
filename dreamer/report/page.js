"use strict";
// What stands under the pointer in a chart. Points are read back from the paths, so the page holds each only once.
const SIDE = 1000;

function compact(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return (value / 1e6).toPrecision(4).replace(/\.?0+$/, "") + "M";
  if (size >= 1e4) return Math.round(value).toLocaleString("en");
  return size && size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
}

function pointsOf(path) {
  const numbers = path.getAttribute("d").match(/-?[\d.]+/g).map(Number);
  const points = [];
  for (let index = 0; index < numbers.length; index += 2) points.push([numbers[index], numbers[index + 1]]);
  return points;
}

function colorOf(path) {
  return [...path.classList].find((name) => /^[cp]\d$/.test(name)) || "";
}

function valueAt(plot, y) {
  const low = Number(plot.dataset.low), high = Number(plot.dataset.high), share = 1 - y / SIDE;
  return plot.dataset.log === "1" ? low * Math.pow(high / low, share) : low + (high - low) * share;
}

function entry(color, name, value) {
  const row = document.createElement("div"), dot = document.createElement("span");
  const label = document.createElement("span"), number = document.createElement("b");
  dot.className = "swatch " + color;
  label.textContent = name;
  number.textContent = value;
  row.append(dot, label, number);
  return row;
}

function watch(plot) {
  const hair = document.createElement("div"), tip = document.createElement("div");
  hair.className = "hair";
  tip.className = "tip";
  let lines = null;
  const hide = () => { hair.remove(); tip.remove(); };

  function show(event) {
    lines ||= [...plot.querySelectorAll("path[data-name]")].map((path) => ({ path, points: pointsOf(path) }));
    const box = plot.getBoundingClientRect();
    const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * SIDE;
    const near = lines.map(({ path, points }) => ({
      path, point: points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best)),
    })).filter(({ point }) => Math.abs(point[0] - x) < 30).sort((one, other) => one.point[1] - other.point[1]).slice(0, 12);
    if (!near.length) return hide();
    hair.style.left = (x / SIDE) * 100 + "%";
    const place = document.createElement("div");
    place.className = "soft";
    place.textContent = compact((x / SIDE) * Number(plot.dataset.x)) + " " + plot.dataset.unit;
    tip.replaceChildren(place, ...near.map(({ path, point }) =>
      entry(colorOf(path), path.dataset.name, compact(valueAt(plot, point[1])))));
    plot.append(hair, tip);
    const isRight = x > SIDE / 2;
    tip.style.left = isRight ? "auto" : `calc(${(x / SIDE) * 100}% + 12px)`;
    tip.style.right = isRight ? `calc(${100 - (x / SIDE) * 100}% + 12px)` : "auto";
  }

  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}

document.querySelectorAll(".plot").forEach(watch);
