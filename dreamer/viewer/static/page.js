// The page: what the session shows goes into pictures and lines, what the viewer does becomes commands.

import { colours, draw, quantile, rowAt, short, span } from "./charts.js";
import { History } from "./history.js";
import { Live, paint } from "./live.js";
import { makeSteering } from "./steering.js";

const find = (id) => document.getElementById(id);
const history = new History();
const charts = [];
const vectorLines = [];
let hello = null;
let shown = null; // the newest view
let pictures = null; // of it
let unshown = 0; // views since the last painting
let steering = null;
let colour = colours();
let isScrubbing = false;
let isEnded = false;

const live = new Live(receive, () => {
  if (isEnded) return;
  say("The connection has ended. Reload the page to begin anew.", true);
});
const ask = (what, more = {}) => live.send({ do: what, ...more });

function receive(header, images, rest) {
  if (header.kind === "hello") begin(header);
  if (header.kind === "fault") say(header.text, true), (isEnded = true);
  if (header.kind === "note") say(header.text);
  if (header.kind === "film") keep(rest);
  if (header.kind !== "view") return;
  history.take(header);
  shown = header;
  pictures = images;
  unshown += 1;
  if (unshown === 1) requestAnimationFrame(show);
}

function say(text, isFault = false) {
  find("status").textContent = text;
  find("status").classList.toggle("is-fault", isFault);
}

function keep(film) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([film], { type: "image/gif" }));
  link.download = `${hello.name}_${shown.mode}.gif`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say("The film is in your downloads.");
  find("save").disabled = false;
}

function begin(header) {
  hello = header;
  document.title = `${header.name}: the dream`;
  find("task").textContent = header.name;
  find("sees").textContent = header.sees === "pixels" ? "from pixels" : "from state";
  find("note").textContent = header.note;
  find("note").hidden = !header.note;
  const rates = [0.25, 0.5, 1, 2].map((factor) => [factor === 1 ? header.rate : Math.round(header.rate * factor * 10) / 10, `× ${factor}`]);
  for (const [value, name] of rates) {
    if (value >= header.rates[0] && value <= header.rates[1]) find("rate").append(new Option(name, value));
  }
  find("rate").value = header.rate;
  for (const count of header.counts) find("count").append(new Option(count, count, count === 4, count === 4));
  find("every").value = header.every;
  for (const [name, key] of [["Reward", "told"], ["Value", "value"], ["Going on", "cont"], ["KL, nats", "kl"]]) {
    charts.push(makeChart(name, key));
  }
  find("vectors").hidden = header.labels.length === 0;
  const hidden = header.num_labels - header.labels.length;
  find("vectors-said").textContent =
    "Real in ink, reconstruction in green, dreams in violet: their median, and a band that holds the middle 80 %." +
    (hidden ? ` The first ${header.labels.length} of ${header.num_labels}.` : "");
  find("vector-lines").replaceChildren(...header.labels.map((label) => {
    const box = document.createElement("div");
    const title = document.createElement("span");
    const canvas = document.createElement("canvas");
    title.textContent = title.title = label;
    canvas.dataset.scale = "none";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    box.append(title, canvas);
    vectorLines.push(canvas);
    return box;
  }));
  steering = makeSteering(find("controls"), header, (action) => {
    if (shown.mode !== "steer") return;
    if (!shown.is_steered) ask("hand", { to: "viewer" }), (shown.is_steered = true);
    ask("act", { action });
    if (!shown.is_playing) ask("play");
  });
  say("");
}

function makeChart(name, key) {
  const box = document.createElement("div");
  const title = document.createElement("h2");
  const canvas = document.createElement("canvas");
  const values = ["of-real", "of-dream"].map((kind) => {
    const value = document.createElement("span");
    value.className = kind;
    return value;
  });
  title.append(name, ...values);
  canvas.setAttribute("role", "img");
  canvas.dataset.key = key;
  const seek = (event) => {
    const row = rowAt(canvas, event.clientX, present());
    const last = shown.mode === "watch" ? shown.rows : shown.length;
    const place = row - (shown.mode === "watch" ? 0 : shown.start);
    ask("seek", { to: Math.min(Math.max(0, place), last - 1) });
  };
  canvas.addEventListener("pointerdown", seek);
  canvas.addEventListener("pointermove", (event) => event.buttons && seek(event));
  box.append(title, canvas);
  find("charts").append(box);
  return { name, key, canvas, values };
}

const present = () => shown.start + shown.step;

function show() {
  const count = unshown;
  unshown = 0;
  showPictures();
  showWords();
  showLines();
  for (let index = 0; index < count; index += 1) ask("shown");
}

function showPictures() {
  const dreams = [...pictures].filter(([name]) => name.startsWith("dream"));
  const box = find("dreams");
  if (box.childElementCount !== dreams.length) {
    box.dataset.count = dreams.length;
    box.replaceChildren(...dreams.map((_, index) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", dreams.length > 1 ? `Dream ${index + 1}` : "What the model dreams");
      return canvas;
    }));
  }
  dreams.forEach(([, picture], index) => paint(box.children[index], picture));
  for (const name of ["real", "reconstruction"]) {
    const card = find(`card-${name}`);
    card.hidden = !pictures.has(name);
    if (pictures.has(name)) paint(card.querySelector("canvas"), pictures.get(name));
  }
  find("card-dream").hidden = dreams.length === 0;
  find("pictures").hidden = pictures.size === 0;
  document.body.classList.toggle("is-blind", pictures.size === 0);
}

function showWords() {
  const { mode, step, start, length, rows, at } = shown;
  document.body.dataset.mode = mode;
  for (const name of ["watch", "branch", "steer"]) find(name).setAttribute("aria-pressed", `${name === mode}`);
  find("play").textContent = shown.is_playing ? "Pause" : "Play";
  const isDone = !shown.is_playing && (mode === "watch" ? at + 1 === rows && (shown.is_over || shown.is_full) : shown.is_full && step + 1 === length);
  find("play").disabled = isDone;
  const [place, last] = mode === "watch" ? [at, rows - 1] : [step, length - 1];
  if (!isScrubbing) {
    find("scrub").max = Math.max(1, last);
    find("scrub").value = place;
  }
  find("place").value = `${place} of ${last}`;
  const ended = shown.is_over && at + 1 === rows ? ", the last one" : "";
  find("real-said").textContent = mode === "steer" ? `frame ${at}, where the dream began` :
    mode === "branch" && at < present() ? `frame ${at}, the last that was played` : `frame ${at}${ended}`;
  find("dream-said").textContent = step === 0 ? `was just shown frame ${start}` :
    `${step} ${step === 1 ? "step" : "steps"} on from frame ${start}` + (mode === "watch" ? ", by the same actions" : "");
  find("again").textContent = mode === "watch" ? "Dream from here" : "Dream anew";
  find("wheel").hidden = mode !== "steer";
  find("hand").textContent = shown.is_steered ? "Hand back to the policy" : "Take over";
  find("hand").setAttribute("aria-pressed", `${shown.is_steered}`);
  const worth = `Reward ${short(shown.dream.told[0])}, value ${short(shown.dream.value[0])}.`;
  find("who").textContent = shown.is_steered ? `You act in the dream. ${worth}` : `The policy acts; move anything to take over. ${worth}`;
  if (mode === "steer" && !shown.is_steered) steering.show(shown.action);
  if (isDone && mode === "watch") say(shown.is_over ? "The episode is over." : "That is as much as is kept of an episode.");
  else if (isDone) say("That is as long as a dream is kept.");
  else if (shown.is_playing) say("");
}

function showLines() {
  const range = span(present());
  const tracks = shown.mode === "watch" ? history.followers : [history.free];
  const steady = { range, present: present(), begins: shown.start, paint: colour };
  for (const { key, canvas, values, name } of charts) {
    const lines = [];
    const bands = [];
    if (key === "told") lines.push({ points: realPoints((row) => row.reward), colour: colour.soft, weight: 1.2, dash: [2, 3] });
    const weight = shown.mode === "steer" ? 1 : 1.6;
    lines.push({ points: realPoints((row) => row[key]), colour: colour.real, weight });
    for (const track of tracks) {
      const several = track.rows.map((row) => row[key]);
      if (shown.mode === "branch") {
        for (let index = 0; index < (several[0] ?? several[1] ?? []).length; index += 1) {
          lines.push({ points: several.map((row, step) => row && [track.start + step, row[index]]), colour: colour.dream, weight: 1.1 });
        }
        continue;
      }
      const sorted = several.map((row) => row && row.filter((value) => value !== null).sort((a, b) => a - b));
      const at = (share) => (row, step) => row?.length ? [track.start + step, quantile(row, share)] : null;
      lines.push({ points: sorted.map(at(0.5)), colour: colour.dream, weight: 2 });
      bands.push(sorted.map((row, step) => row?.length > 1 ? [track.start + step, quantile(row, 0.1), quantile(row, 0.9)] : null));
    }
    draw(canvas, { ...steady, lines, bands, limits: key === "cont" ? [-0.03, 1.05] : undefined });
    const dreamed = [...(shown.dream[key] ?? [])].filter((value) => value !== null).sort((a, b) => a - b);
    const real = shown.mode === "steer" && shown.step ? null : shown.real[key];
    values[0].textContent = real === null ? "" : `real ${short(real)}`;
    values[1].textContent = dreamed.length ? `dreamed ${short(quantile(dreamed, 0.5))}` : "";
    canvas.setAttribute("aria-label", `${name}: ${values[0].textContent} ${values[1].textContent}`);
  }
  vectorLines.forEach((canvas, index) => {
    const lines = [
      { points: realPoints((row) => row.seen?.[index]), colour: colour.seen, weight: 1 },
      { points: realPoints((row) => row.vectors?.[index]), colour: colour.real, weight: 1.4 },
    ];
    const bands = [];
    for (const track of tracks) {
      lines.push({ points: track.rows.map((row, step) => row && [track.start + step, row.vectors[0][index]]), colour: colour.dream, weight: 1.6 });
      bands.push(track.rows.map((row, step) => row && [track.start + step, row.vectors[1][index], row.vectors[2][index]]));
    }
    draw(canvas, { ...steady, lines, bands });
  });
}

function realPoints(read) {
  const [from] = span(present());
  const points = [];
  for (let row = Math.max(0, Math.floor(from) - 1); row < history.real.length; row += 1) {
    points.push(history.real[row] ? [row, read(history.real[row])] : null);
  }
  return points;
}

const commands = {
  play: () => ask(shown.is_playing ? "pause" : "play"),
  back: () => ask("step", { by: -1 }),
  forth: () => ask("step", { by: 1 }),
  new: () => (steering.rest(), ask("new")),
  watch: () => ask("watch"),
  branch: () => ask("branch", { count: Number(find("count").value) }),
  steer: () => (steering.rest(), ask("steer")),
  again: () => shown.mode === "watch" ? ask("dream") : commands[shown.mode](),
  hand: () => (steering.rest(), ask("hand", { to: shown.is_steered ? "policy" : "viewer" })),
  save: () => {
    find("save").disabled = true;
    setTimeout(() => (find("save").disabled = false), 3000);
    say("Writing the film…");
    ask("save");
  },
};
const keys = {
  Space: "play", ArrowLeft: "back", ArrowRight: "forth", KeyN: "new", KeyX: "watch", KeyB: "branch", KeyV: "steer",
  KeyZ: "again", KeyC: "hand", KeyM: "save",
};

for (const name of Object.keys(commands)) find(name).addEventListener("click", () => shown && commands[name]());
find("rate").addEventListener("change", () => ask("rate", { to: Number(find("rate").value) }));
find("every").addEventListener("change", () => ask("every", { to: Number(find("every").value) }));
find("count").addEventListener("change", () => commands.branch());
find("scrub").addEventListener("input", () => ask("seek", { to: Number(find("scrub").value) }));
find("scrub").addEventListener("pointerdown", () => (isScrubbing = true));
addEventListener("pointerup", () => (isScrubbing = false));
addEventListener("change", (event) => event.target.matches("select") && event.target.blur()); // the keys are free again
addEventListener("resize", () => shown && requestAnimationFrame(showLines));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colour = colours();
  if (shown) requestAnimationFrame(showLines);
});

function isTyping(target, code) {
  if (target.matches("select")) return true;
  if (target.matches("input[type=range]")) return code.startsWith("Arrow");
  return target.matches("button, summary, input") && code === "Space";
}

addEventListener("keydown", (event) => {
  if (!shown || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target, event.code)) return;
  const isTaken = shown.mode === "steer" && steering.key(event.code, true);
  const name = keys[event.code];
  if (isTaken || name) event.preventDefault();
  const isAgain = event.repeat && !event.code.startsWith("Arrow");
  if (isTaken || !name || isAgain || (name === "hand" && shown.mode !== "steer")) return;
  commands[name]();
});
addEventListener("keyup", (event) => {
  if (shown && shown.mode === "steer") steering.key(event.code, false);
});
addEventListener("blur", () => steering?.release());
