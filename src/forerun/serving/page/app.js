// Choose a start, drive it, fork it, compare.
import { Server } from "/page/server.js";
import { Sticks } from "/page/sticks.js";
import { WorldView } from "/page/world.js";

const find = (id) => document.getElementById(id);
const server = new Server();
const worlds = [];
let sticks, streams, tick, gone = false, paused = false, timer;

server.addEventListener("gone", (event) => {
  say(event.detail);
  gone = true;
  clearTimeout(timer);
  health();
});
server.addEventListener("draining", () => say("this server is about to stop"));
begin().catch((error) => say(error.message));

async function begin() {
  const hello = await server.hello;
  const { model, starts } = hello;
  streams = model.streams;
  find("about").textContent = `${model.name}: ${streams.map((stream) => stream.name).join(", ")}, imagined`;
  tick = model.tick_s;
  find("rate").value = Math.round(1 / tick);
  find("rate").oninput = pace;
  pace();
  sticks = new Sticks(model.action, find("sticks"));
  const camera = streams.some((stream) => stream.kind === "video");
  starts.forEach((name, number) => {
    const button = document.createElement("button");
    button.innerHTML = `${camera ? `<img src="/starts/${number}.jpg${location.search}" alt="">` : ""}<span></span>`;
    button.querySelector("span").textContent = name;
    button.onclick = () => start(number, camera).catch((error) => say(error.message));
    find("starts").append(button);
  });
  if (!starts.length) find("starts").textContent = "This server was given no recordings to begin from.";
  setInterval(health, 2000);
  health();
}

async function start(number, camera) {
  await leave();
  // a step is always one tick of the world as it was learned: the rate only plays it faster or slower
  const view = { picture: camera ? "jpeg" : "none", period_s: 1 / rate(), tick_s: tick };
  const session = await server.open(number, view);
  add(session);
  find("choose").hidden = true;
  find("stage").hidden = false;
  say("");
  clearTimeout(timer);
  beat();
}

function add(session) {
  const view = new WorldView(session, "AB"[worlds.length], streams);
  worlds.push(view);
  const picture = view.find(".picture");
  const steer = (event) => {
    const box = picture.getBoundingClientRect(), half = box.width / 2;
    const clip = (value) => Math.max(-1, Math.min(1, value / half));
    sticks.point(clip(event.clientX - box.left - half), clip(event.clientY - box.top - half));
  };
  picture.onpointerdown = (event) => { picture.setPointerCapture(event.pointerId); steer(event); };
  picture.onpointermove = (event) => { if (event.buttons) steer(event); };
  picture.onpointerup = picture.onpointercancel = () => sticks.point(null);
  view.find(".close").onclick = () => remove(view);
  find("worlds").append(view.element);
  arrange();
}

function remove(view) {
  view.session.close();
  view.element.remove();
  worlds.splice(worlds.indexOf(view), 1);
  arrange();
}

function arrange() {
  const two = worlds.length > 1;
  find("worlds").classList.toggle("two", two);
  find("drive").hidden = !two;
  find("fork").disabled = two;
  for (const view of worlds) view.find(".close").hidden = !two;
}

async function leave() {
  clearTimeout(timer);
  for (const view of worlds.splice(0)) {
    view.element.remove();
    await view.session.close();
  }
}

function pace() {
  const times = rate() * tick;
  find("pace").textContent = Math.abs(times - 1) < 0.01 ? "as fast as it was recorded" : `${times.toFixed(1)} times as fast`;
}

function rate() {
  return Math.min(60, Math.max(1, Number(find("rate").value) || 10));
}

let due = 0;
function beat() {
  const period = 1000 / rate(), now = performance.now();
  due = Math.max(now, due + period);
  timer = setTimeout(beat, due - now);
  if (paused || gone || !worlds.length) return;
  const action = sticks.read(period / 1000);
  const drive = document.querySelector("input[name=drive]:checked").value;
  worlds.forEach((view, k) => {
    if (worlds.length < 2 || drive === "both" || drive === String(k) || !view.action) view.action = action;
    if (view.session.inFlight > 2) return; // an answer is late: do not pile up questions
    view.done = Math.min(view.done + 1, 16);
    view.session.step(view.action).then((reply) => view.show(reply)).catch((error) => { if (!gone) say(error.message); });
  });
}

find("pause").onclick = () => {
  paused = !paused;
  find("pause").textContent = paused ? "go on" : "pause";
};
find("back").onclick = () => Promise.all(worlds.map(goBack)).catch((error) => say(error.message));

async function goBack(view) {
  const ticks = Math.min(10, view.done); // the server keeps at most sixteen
  if (!ticks) return say("this world has just begun");
  view.done -= ticks;
  view.show(await view.session.back(ticks));
}

find("fork").onclick = async () => {
  try {
    if (worlds.length === 1) add(await worlds[0].session.fork());
  } catch (error) {
    say(error.message);
  }
};
find("again").onclick = async () => {
  await leave();
  arrange();
  find("choose").hidden = false;
  find("stage").hidden = true;
};

function say(words) {
  find("trouble").textContent = words;
  if (words && find("stage").hidden) find("about").textContent = words;
}

async function health() {
  try {
    if (gone) throw new Error();
    const { sessions, load, level } = await (await fetch("/readyz")).json();
    const worldsLive = `${sessions} live ${sessions === 1 ? "world" : "worlds"}`;
    find("server").textContent = `${worldsLive} · ${Math.round(100 * load)} % busy${level === "full" ? "" : ` · ${level}`}`;
  } catch {
    find("server").textContent = "the server does not answer";
  }
}
