// The connection: sessions by number, one answer for each message.
import { pack, unpack } from "/page/msgpack.js";

export class Server extends EventTarget {
  constructor() {
    super();
    this.waiting = new Map();
    this.next = 0;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/world${location.search}`);
    this.socket.binaryType = "arraybuffer";
    this.hello = new Promise((resolve, reject) => {
      this.greet = resolve;
      this.socket.onclose = (event) => {
        const why = event.reason || "the server is gone; reload the page when it is back";
        for (const { reject: stop } of this.waiting.values()) stop(new Error(why));
        this.waiting.clear();
        this.dispatchEvent(new CustomEvent("gone", { detail: why }));
        reject(new Error(why));
      };
    });
    this.socket.onmessage = (event) => this.take(unpack(event.data));
  }

  take(message) {
    if (message.type === "hello") return this.greet(message);
    if (message.reason === "draining") {
      return this.dispatchEvent(new CustomEvent("draining"));
    }
    const key = `${message.id}/${message.seq ?? ""}`;
    const waiting = this.waiting.get(key);
    if (!waiting) return;
    this.waiting.delete(key);
    if (message.type === "error") waiting.reject(Object.assign(new Error(message.message), { code: message.code }));
    else waiting.resolve(Object.assign(message, { took: performance.now() - waiting.since }));
  }

  ask(message, key) {
    return new Promise((resolve, reject) => {
      if (this.socket.readyState !== WebSocket.OPEN) return reject(new Error("the server is gone"));
      this.waiting.set(key, { resolve, reject, since: performance.now() });
      this.socket.send(pack(message));
    });
  }

  async open(start, view) {
    const id = this.next++;
    const reply = await this.ask({ type: "open", id, start, ...view }, `${id}/`);
    return new Session(this, id, reply);
  }
}

export class Session {
  constructor(server, id, first) {
    Object.assign(this, { server, id, first, seq: 0, inFlight: 0 });
  }

  async change(type, fields) {
    const seq = this.seq++;
    this.inFlight++;
    try {
      return await this.server.ask({ type, id: this.id, seq, ...fields }, `${this.id}/${seq}`);
    } finally {
      this.inFlight--;
    }
  }

  step(action) { return this.change("step", { action }); }
  back(ticks) { return this.change("rollback", { ticks }); }

  async fork() {
    const into = this.server.next++, seq = this.seq++;
    const reply = await this.server.ask({ type: "fork", id: this.id, seq, into, count: 1 }, `${into}/${seq}`);
    return new Session(this.server, into, reply);
  }

  close() { return this.server.ask({ type: "close", id: this.id }, `${this.id}/`).catch(() => {}); }
}
