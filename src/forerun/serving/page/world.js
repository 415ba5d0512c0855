// One world on the page: its picture, what it feels, how sure it is, how fast the answer came.

const KEPT = 200;
const COLOURS = ["#5cc8ff", "#ffb454", "#a6e22e", "#f78fb3", "#c3a6ff", "#7ee8c7"];

export class WorldView {
  constructor(session, letter, streams) {
    Object.assign(this, { session, letter, streams, steps: 0, done: 0, action: null, series: new Map() });
    this.lines = touchLines(streams);
    this.element = document.createElement("article");
    this.element.className = "world";
    this.element.innerHTML = `
      <h2><span>${letter}</span><small class="facts"></small><button class="close" hidden>close</button></h2>
      <div class="view">
        <canvas class="picture" width="64" height="64" aria-label="what the model imagines"></canvas>
        <div>
          <figure><figcaption class="touch-legend"></figcaption><canvas class="touch"></canvas></figure>
          <figure><figcaption>uncertainty</figcaption><canvas class="doubt"></canvas></figure>
          <figure><figcaption class="latency-legend"></figcaption><canvas class="latency"></canvas></figure>
        </div>
      </div>`;
    this.find = (name) => this.element.querySelector(name);
    this.show(session.first);
  }

  async show(reply) {
    if ("tick" in reply && reply.tick !== null) this.tick = reply.tick;
    else if (reply.type === "obs") this.tick = (this.tick ?? 0) + 1;
    this.note("uncertainty", reply.heads.uncertainty);
    for (const line of this.lines) this.note(line.name, line.read(reply));
    if (reply.timing) {
      this.note("latency", reply.took);
      this.note("rows", reply.timing.rows);
    }
    this.level = reply.level ?? "full";
    this.draw(reply);
    const jpeg = reply.picture && Object.values(reply.picture.cameras)[0];
    if (jpeg && reply.picture.state === "fresh") await this.paint(jpeg);
  }

  note(name, value) {
    if (value === undefined || value === null || Number.isNaN(value)) return;
    const kept = this.series.get(name) ?? [];
    kept.push(value);
    if (kept.length > KEPT) kept.shift();
    this.series.set(name, kept);
  }

  async paint(jpeg) {
    const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    const canvas = this.find(".picture");
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    this.steps++;
    this.element.dataset.frames = this.steps;
  }

  draw(reply) {
    const last = (name) => this.series.get(name)?.at(-1);
    const took = last("latency"), rows = last("rows");
    const touch = this.lines.length ? this.lines.map((line, i) =>
      `<b style="color:${COLOURS[i]}">${line.name} ${format(last(line.name))}</b>`).join("") : "no touch in this world";
    this.find(".touch-legend").innerHTML = touch;
    plot(this.find(".touch"), this.lines.map((line) => this.series.get(line.name) ?? []));
    plot(this.find(".doubt"), [this.series.get("uncertainty") ?? []], 0);
    plot(this.find(".latency"), [this.series.get("latency") ?? [], this.series.get("rows") ?? []], 0);
    this.find(".latency-legend").innerHTML =
      `<b style="color:${COLOURS[0]}">answer ${format(took)} ms</b><b style="color:${COLOURS[1]}">${rows ?? 0} in the pass</b>`;
    const contact = reply.heads.contact;
    this.find(".facts").textContent = [
      `step ${this.tick ?? 0}`,
      contact === undefined ? "" : contact > 0.5 ? "in contact" : "no contact",
      this.level === "full" ? "" : `busy server: ${this.level === "half" ? "every second picture" : "no pictures"}`,
    ].filter(Boolean).join(" · ");
  }
}

// Forces first: the mean of each force channel of a burst, or what the force head says.
function touchLines(streams) {
  const touch = streams.find((stream) => stream.kind === "touch");
  if (!touch) return [];
  const forces = touch.names.map((name, i) => ({ name, i })).filter(({ name }) => /f[xyz]\b.* mean$|f[xyz]$/.test(name));
  const chosen = (forces.length ? forces : touch.names.map((name, i) => ({ name, i }))).slice(0, COLOURS.length);
  return chosen.map(({ name, i }) => ({
    name: `${name.replace(" mean", "")} [${touch.unit.split(",")[0]}]`,
    read: (reply) => reply.streams[touch.name]?.[i],
  }));
}

function format(value) {
  return value === undefined ? "-" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}

function plot(canvas, lines, floor) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  if (canvas.width !== width * scale) { canvas.width = width * scale; canvas.height = height * scale; }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const all = lines.flat();
  if (!all.length) return;
  let low = Math.min(...all), high = Math.max(...all);
  if (floor !== undefined) low = Math.min(floor, low);
  if (high - low < 1e-6) high = low + 1;
  pen.fillStyle = "#9aa4b2";
  pen.font = "10px system-ui";
  pen.fillText(format(high), 2, 10);
  pen.fillText(format(low), 2, height - 3);
  lines.forEach((line, k) => {
    pen.strokeStyle = COLOURS[k];
    pen.lineWidth = 1.5;
    pen.beginPath();
    line.forEach((value, i) => {
      const x = 34 + (i / (KEPT - 1)) * (width - 36), y = 3 + (1 - (value - low) / (high - low)) * (height - 6);
      i ? pen.lineTo(x, y) : pen.moveTo(x, y);
    });
    pen.stroke();
  });
}
