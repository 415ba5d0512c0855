// Keyboard, mouse and gamepad as one action vector in the robot's own units.

const KEYS = [["ArrowLeft", "ArrowRight"], ["ArrowDown", "ArrowUp"], ["a", "d"], ["s", "w"], ["q", "e"],
  ["f", "h"], ["g", "t"], ["j", "l"], ["k", "i"], ["u", "o"]];
const SHOWN = { ArrowLeft: "←", ArrowRight: "→", ArrowDown: "↓", ArrowUp: "↑" };
const SECONDS_ACROSS = 1.5; // a key held moves a lever that stays through its whole range in so long

export class Sticks {
  constructor(spec, place) {
    this.spec = spec;
    this.size = spec ? spec.shape.reduce((a, b) => a * b, 1) : 0;
    this.held = new Set();
    this.low = spec?.low ?? Array(this.size).fill(-1);
    this.high = spec?.high ?? Array(this.size).fill(1);
    // what may be negative springs back to its middle; a grip or a force stays where it was put
    this.springs = this.low.map((low, i) => low < 0 && this.high[i] > 0);
    this.values = this.low.map((low, i) => this.springs[i] ? 0 : low);
    this.sliders = [];
    for (let i = 0; i < this.size; i++) place.append(this.slider(i));
    addEventListener("keydown", (event) => this.key(event, true));
    addEventListener("keyup", (event) => this.key(event, false));
    addEventListener("blur", () => this.held.clear());
  }

  slider(i) {
    const label = document.createElement("label"), unit = this.spec.unit.split(",").map((u) => u.trim());
    label.className = "stick";
    const keys = KEYS[i]?.map((key) => `<kbd>${SHOWN[key] ?? key}</kbd>`).join(" ") ?? "";
    const name = this.spec.names[i] ?? `action ${i}`;
    label.innerHTML = `<span>${name} ${keys}</span><output></output>
      <input type="range" min="${this.low[i]}" max="${this.high[i]}" step="any" tabindex="-1" aria-label="${name}">`;
    const input = label.querySelector("input"), output = label.querySelector("output");
    input.value = this.values[i];
    input.oninput = () => { this.values[i] = Number(input.value); this.dragged = i; };
    input.onchange = () => { this.dragged = undefined; };
    this.sliders.push({ input, output, unit: unit[i] ?? unit[0] ?? "" });
    return label;
  }

  key(event, down) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.target.matches?.("input[type=number]") || !KEYS.slice(0, this.size).flat().includes(key)) return;
    event.preventDefault();
    down ? this.held.add(key) : this.held.delete(key);
  }

  // The mouse on a picture: the first two numbers, from the middle outwards; null lets go.
  point(x, y) {
    this.pointed = x === null ? undefined : [x, -y];
  }

  read(seconds) {
    const pad = navigator.getGamepads?.().find(Boolean);
    for (let i = 0; i < this.size; i++) {
      if (this.dragged === i) continue;
      const [less, more] = KEYS[i] ?? [];
      let push = (this.held.has(more) ? 1 : 0) - (this.held.has(less) ? 1 : 0);
      const axis = pad?.axes[i] ?? 0;
      if (Math.abs(axis) > 0.1) push = i % 2 ? -axis : axis;
      if (this.pointed && i < 2) push = this.pointed[i];
      const low = this.low[i], high = this.high[i];
      if (this.springs[i]) this.values[i] = push > 0 ? push * high : -push * low;
      else this.values[i] = Math.min(high, Math.max(low, this.values[i] + push * (high - low) * seconds / SECONDS_ACROSS));
    }
    this.sliders.forEach(({ input, output, unit }, i) => {
      input.value = this.values[i];
      output.textContent = `${this.values[i].toFixed(2)} ${unit}`;
    });
    return this.size ? this.values.slice() : null;
  }
}
