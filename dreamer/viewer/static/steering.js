// The viewer's hand on the dream: a pad and sliders for continuous actions, buttons for discrete ones, and keys.

const UP = ["KeyQ", "KeyW", "KeyE", "KeyR", "KeyT", "KeyY", "KeyU", "KeyI", "KeyO", "KeyP"];
const DOWN = ["KeyA", "KeyS", "KeyD", "KeyF", "KeyG", "KeyH", "KeyJ", "KeyK", "KeyL", "Semicolon"];
const DIGITS = ["Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0"];
const letter = (code) => code.replace(/Key|Digit/, "").replace("Semicolon", ";");

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

export function makeSteering(box, hello, act) {
  return hello.choices.length ? new Choices(box, hello, act) : new Levers(box, hello, act);
}

class Choices {
  constructor(box, hello, act) {
    this.act = act;
    this.action = hello.choices.map(() => 0);
    this.buttons = hello.choices.map((count, part) => {
      const codes = [DIGITS, UP, DOWN][part] ?? [];
      return Array.from({ length: count }, (_, choice) => {
        const hint = codes[choice] ? [element("kbd", {}, letter(codes[choice]))] : [];
        const press = () => this.choose(part, choice);
        return element("button", { type: "button", "aria-pressed": "false", onclick: press }, `${choice}`, ...hint);
      });
    });
    this.codes = new Map();
    hello.choices.forEach((count, part) =>
      ([DIGITS, UP, DOWN][part] ?? []).slice(0, count).forEach((code, choice) => this.codes.set(code, [part, choice])),
    );
    box.replaceChildren(
      ...this.buttons.map((row, part) => {
        const name = hello.choices.length > 1 ? `Action ${part}` : "Action";
        return element("div", { class: "choices", role: "group", "aria-label": name }, `${name} `, ...row);
      }),
    );
  }

  choose(part, choice) {
    this.action[part] = choice;
    this.act(this.action);
    this.show(this.action);
  }

  show(action) {
    this.action = [...action];
    this.buttons.forEach((row, part) =>
      row.forEach((button, choice) => button.setAttribute("aria-pressed", `${choice === action[part]}`)),
    );
  }

  rest() {
    this.show(this.action.map(() => 0));
  }

  release() {} // a choice stays until another is made

  key(code, isDown) {
    if (!this.codes.has(code)) return false;
    if (isDown) this.choose(...this.codes.get(code));
    return true;
  }
}

class Levers {
  constructor(box, hello, act) {
    this.act = act;
    this.count = hello.num_actions;
    this.rests = Array(this.count).fill(0); // where sliders were left
    this.held = new Map(); // by the code of a key: [entry, value]
    this.names = Array.from({ length: this.count }, (_, index) => hello.action_names[index] || `action ${index}`);
    this.sliders = this.names.map((name, index) => this.makeSlider(name, index));
    const presets = element("div", { class: "presets" },
      this.preset("Let go", () => 0), this.preset("All +1", () => 1), this.preset("All −1", () => -1),
      this.preset("Random", () => Math.random() * 2 - 1), this.springChoice());
    const parts = [element("div", { class: "sliders" }, ...this.sliders.map(({ label }) => label), presets)];
    if (this.count > 1) parts.unshift(this.makePad());
    box.replaceChildren(...parts);
  }

  makeSlider(name, index) {
    const keys = UP[index] ? [element("kbd", {}, letter(UP[index])), " ", element("kbd", {}, letter(DOWN[index])), " "] : [];
    const input = element("input", { type: "range", min: "-1", max: "1", step: "0.01", value: "0", "aria-label": name });
    const output = element("output", {}, "0");
    input.addEventListener("input", () => {
      this.rests[index] = Number(input.value);
      this.send();
    });
    input.addEventListener("change", () => this.spring(index));
    input.addEventListener("pointerup", () => this.spring(index));
    return { input, output, label: element("label", { class: "slider", title: name }, element("span", {}, ...keys, name), input, output) };
  }

  springChoice() {
    this.springs = element("input", { type: "checkbox", checked: "" });
    return element("label", {}, this.springs, " spring back");
  }

  spring(...indices) {
    if (!this.springs.checked) return;
    for (const index of indices) this.rests[index] = 0;
    this.send();
  }

  preset(name, value) {
    const press = () => {
      this.rests = this.rests.map(value);
      this.send();
    };
    return element("button", { type: "button", onclick: press }, name);
  }

  makePad() {
    const second = Math.min(this.count - 1, Math.ceil(this.count / 2));
    this.axes = [0, second].map((chosen) =>
      element("select", {}, ...this.names.map((name, index) =>
        element("option", { value: `${index}`, ...(index === chosen ? { selected: "" } : {}) }, name))),
    );
    this.dot = element("i");
    this.pad = element("div", { class: "pad", role: "application", tabindex: "0", "aria-label": "Pad: arrow keys push" }, this.dot);
    const move = (event) => {
      const box = this.pad.getBoundingClientRect();
      const part = (at, start, size) => Math.min(1, Math.max(-1, (((at - start) / size) * 2 - 1) / 0.88));
      this.push(part(event.clientX, box.left, box.width), -part(event.clientY, box.top, box.height));
    };
    this.pad.addEventListener("pointerdown", (event) => {
      this.pad.setPointerCapture(event.pointerId);
      move(event);
    });
    this.pad.addEventListener("pointermove", (event) => event.buttons && move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.pad.addEventListener(name, () => this.spring(...this.axes.map((axis) => Number(axis.value))));
    }
    const labels = [element("label", {}, "↔", this.axes[0]), element("label", {}, "↕", this.axes[1])];
    return element("div", { class: "pad-side" }, this.pad, ...labels);
  }

  push(x, y) {
    this.rests[Number(this.axes[0].value)] = x;
    this.rests[Number(this.axes[1].value)] = y;
    this.send();
  }

  send() {
    const action = [...this.rests];
    for (const [index, value] of this.held.values()) action[index] = value;
    this.act(action);
    this.show(action);
  }

  show(action) {
    this.sliders.forEach(({ input, output }, index) => {
      const value = Math.min(1, Math.max(-1, action[index]));
      if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
      output.value = value.toFixed(2);
    });
    if (!this.pad) return;
    const [x, y] = this.axes.map((axis) => Math.min(1, Math.max(-1, action[Number(axis.value)])));
    this.dot.style.setProperty("--x", x);
    this.dot.style.setProperty("--y", y);
  }

  rest() {
    this.rests.fill(0);
    this.held.clear();
    this.show(this.rests);
  }

  release() {
    if (!this.held.size) return;
    this.held.clear();
    this.send();
  }

  key(code, isDown) {
    const found = this.find(code);
    if (!found) return false;
    if (isDown === this.held.has(code)) return true; // repeats of a key that is held
    if (isDown) this.held.set(code, found);
    else this.held.delete(code);
    this.send();
    return true;
  }

  find(code) {
    const arrows = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1] };
    if (code in arrows && this.pad) return [Number(this.axes[arrows[code][0]].value), arrows[code][1]];
    for (const [codes, value] of [[UP, 1], [DOWN, -1]]) {
      const index = codes.indexOf(code);
      if (index >= 0 && index < this.count) return [index, value];
    }
    return null;
  }
}
