// The stream as the pages use it: reconnects by itself, recovers what was missed, knows repeats.
import { keyFor } from "/assets/key.js";

const FIRST_PAUSE_MS = 500, LONGEST_PAUSE_MS = 10_000;
const FINAL = 4500; // close codes from here on: the same again would fail

export class Stream {
  // `on(message)`: every message that is news; of a snapshot each of its messages, after
  // `onRestart()` where it takes the place of what was missed. `onState({name, text, waitMs})`.
  constructor(on, onState, onRestart) {
    this.on = on;
    this.onState = onState;
    this.onRestart = onRestart;
    this.subscriptions = new Map();
    this.counts = { messages: 0, drops: 0, recovered: 0, restarts: 0 };
    this.place = null; // the largest offset that came, of its epoch
    this.alertId = 0;
    this.pauseMs = FIRST_PAUSE_MS;
    this.socket = null;
  }

  // Take a subscription under a name; the same name again takes the place of the former.
  take(name, request) {
    const before = this.subscriptions.get(name);
    this.subscriptions.set(name, request);
    if (before) this.#send({ action: "unsubscribe", type: before.type, symbols: before.symbols });
    this.#send({ action: "subscribe", ...request });
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = keyFor() ? `?api_key=${encodeURIComponent(keyFor())}` : "";
    this.onState({ name: "connecting", text: "connecting" });
    const socket = new WebSocket(`${scheme}://${location.host}/ws/realtime${query}`);
    this.socket = socket;
    let leaveMs = 0;
    socket.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      const recover = this.place && { ...this.place, alert_id: this.alertId };
      for (const request of this.subscriptions.values())
        this.#send({ action: "subscribe", ...request, ...(recover ? { recover } : {}) });
      this.onState({ name: "live", text: "live" });
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.event === "going_away") {
        const [least, most] = message.reconnect_after_ms;
        leaveMs = least + Math.random() * (most - least);
      }
      this.#take(message);
    };
    socket.onclose = (event) => {
      this.counts.drops += 1;
      if (event.code >= FINAL) {
        this.onState({ name: "lost", text: `closed: ${event.reason || event.code}` });
        return;
      }
      const waitMs = leaveMs || this.pauseMs * (0.5 + Math.random());
      this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
      this.onState({ name: "lost", text: "reconnecting", waitMs });
      setTimeout(() => this.connect(), waitMs);
    };
  }

  #send(request) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(request));
  }

  #take(message) {
    this.counts.messages += 1;
    if (message.recovered === true) this.counts.recovered += 1;
    if (message.recovered === false) {
      this.counts.restarts += 1;
      this.onRestart();
    }
    this.#move(message);
    if (message.snapshot) {
      const byNumber = (a, b) => (a.alert_id ?? 0) - (b.alert_id ?? 0);
      for (const last of message.snapshot.toSorted(byNumber)) this.#tell(last);
    } else this.#tell(message);
  }

  #tell(message) {
    if (message.alert_id) {
      if (message.alert_id <= this.alertId) return; // it came before
      this.alertId = message.alert_id;
    }
    this.on(message);
  }

  #move({ epoch, offset }) {
    if (!epoch || offset === undefined) return;
    if (this.place?.epoch !== epoch) this.place = { epoch, offset };
    else this.place.offset = Math.max(this.place.offset, offset);
  }
}
