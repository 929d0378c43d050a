// Lines that grow: the real episode in ink, dreams in violet, with a band where there are several.

const LEAST = 60; // rows that are seen at once, at first
const MOST = 220;
const MARGIN = 1.12; // the present row stays a little left of the edge
const AXIS = 38; // pixels for the numbers of the scale

export const span = (present) => {
  const width = Math.min(Math.max(LEAST, present * MARGIN), MOST);
  const last = width < MOST ? width : present + MOST * (1 - 1 / MARGIN);
  return [last - width, last];
};

// The row that lies under a point of a chart.
export const rowAt = (canvas, clientX, present) => {
  const [from, to] = span(present);
  const box = canvas.getBoundingClientRect();
  return Math.round(from + ((clientX - box.left - AXIS) / (box.width - AXIS)) * (to - from));
};

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    real: read("real"), seen: read("seen"), dream: read("dream"), band: read("dream-band"), field: read("dream-field"),
    faint: read("faint"), soft: read("soft"),
  };
}

export const quantile = (sorted, share) => {
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
};

// A line is [[x, y], ...]; bands are [[x, low, high], ...]. Both may hold nulls, where they break.
export function draw(canvas, { lines, bands = [], range, present, begins, limits, paint }) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const [from, to] = range;
  const [low, high] = limits ?? extent(lines, bands, from, to);
  const left = canvas.dataset.scale === "none" ? 0 : AXIS;
  const x = (row) => left + ((row - from) / (to - from)) * (width - left);
  const y = (value) => height - 6 - ((value - low) / (high - low)) * (height - 16);
  if (left) scale(context, low, high, y, left, width, paint);
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  context.fillStyle = paint.field;
  context.fillRect(x(begins), 0, Math.max(0, x(present) - x(begins)), height);
  upright(context, x(begins), height, paint.dream, [3, 3]);
  context.fillStyle = paint.band;
  for (const band of bands) fill(context, band, x, y, from, to);
  for (const { points, colour, weight = 1.6, dash = [] } of lines) {
    stroke(context, points, x, y, from, to, colour, weight, dash);
  }
  upright(context, x(present), height, paint.soft, []);
  context.restore();
}

function extent(lines, bands, from, to) {
  let low = Infinity;
  let high = -Infinity;
  const take = (row, value) => {
    if (row < from || row > to || value === null || value === undefined) return;
    low = Math.min(low, value);
    high = Math.max(high, value);
  };
  for (const { points } of lines) for (const point of points) if (point) take(point[0], point[1]);
  for (const band of bands) for (const point of band) if (point) take(point[0], point[1]), take(point[0], point[2]);
  if (low > high) return [0, 1];
  const room = Math.max((high - low) * 0.08, 1e-3 * Math.max(1, Math.abs(high)));
  return [low - room, high + room];
}

function stroke(context, points, x, y, from, to, colour, weight, dash) {
  context.beginPath();
  let isDown = false;
  for (const point of points) {
    if (!point || point[1] === null || point[1] === undefined || point[0] < from - 1 || point[0] > to + 1) {
      isDown = isDown && point && point[0] < from - 1;
      continue;
    }
    if (isDown) context.lineTo(x(point[0]), y(point[1]));
    else context.moveTo(x(point[0]), y(point[1]));
    isDown = true;
  }
  context.strokeStyle = colour;
  context.lineWidth = weight;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

function fill(context, band, x, y, from, to) {
  const inside = band.filter((point) => point && point[1] !== null && point[0] >= from - 1 && point[0] <= to + 1);
  if (inside.length < 2) return;
  context.beginPath();
  inside.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point[0]), y(point[2])));
  [...inside].reverse().forEach((point) => context.lineTo(x(point[0]), y(point[1])));
  context.closePath();
  context.fill();
}

function upright(context, at, height, colour, dash) {
  context.beginPath();
  context.setLineDash(dash);
  context.moveTo(at, 0);
  context.lineTo(at, height);
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.stroke();
  context.setLineDash([]);
}

function scale(context, low, high, y, left, width, paint) {
  const step = niceStep((high - low) / 2.2);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    context.globalAlpha = 0.6;
    context.fillStyle = paint.faint;
    context.fillRect(left, y(value), width - left, 1);
    context.globalAlpha = 1;
    context.fillStyle = paint.soft;
    context.fillText(short(value), left - 7, y(value));
  }
}

const niceStep = (size) => {
  const power = 10 ** Math.floor(Math.log10(size));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= size);
};

export const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2).replace(/^-(0\.?0*)$/, "$1");
};
