// Where prices come from and whether it answers, as the pages say it. Data becomes text only.
import { askForKey, keyFor } from "/assets/key.js";

const $ = (id) => document.getElementById(id);
const LOOK_AGAIN_MS = 3000;

// In words, with the seconds that are left until the source is tried again.
export function why(trouble, readMs) {
  const { text, retry_after_s: afterS } = trouble;
  if (afterS === null) return text;
  const leftS = afterS - (Date.now() - readMs) / 1000;
  return leftS > 0 ? `${text}, tried again in ${Math.ceil(leftS)} s` : `${text}, tried again now`;
}

export class SourceWatch {
  // `read()`: the answer of /api/v2/symbols; `onList(page, words)`: after each reading, and each
  // second while something has no price: `words(item)` says why, "" of an item that has one.
  constructor(read, onList) {
    this.read = read;
    this.onList = onList;
    this.page = null;
    this.readMs = 0;
    this.connection = { name: "connecting", text: "connecting" };
    setInterval(() => this.#lacks() && this.#show(), 1000);
    setInterval(() => this.#lookAgain(), LOOK_AGAIN_MS);
  }

  async load() {
    this.page = await this.read();
    this.readMs = Date.now();
    this.#show();
  }

  // The state of the socket: of a badge the source's trouble says more, while there is some.
  connected(state) {
    this.connection = state;
    this.#showState();
  }

  #show() {
    const { source } = this.page;
    $("source").textContent = `source: ${source.label}`;
    $("notice").hidden = !source.notice;
    $("notice-text").textContent = source.notice;
    this.#showState();
    this.onList(this.page, (item) => this.#words(item));
  }

  // Whether something is to come: the source's answer, or a price.
  #lacks() {
    return this.page && (this.page.source.trouble || this.page.items.some((item) => item.no_price));
  }

  #words(item) {
    return item.no_price ? `no price yet: ${why(item.no_price, this.readMs)}` : "";
  }

  #showState() {
    const trouble = this.page?.source.trouble;
    const degraded = trouble && this.connection.name === "live";
    $("state").className = `badge ${degraded ? "degraded" : this.connection.name}`;
    $("state").textContent = degraded ? why(trouble, this.readMs) : this.connection.text;
  }

  async #lookAgain() {
    if (document.hidden || !this.#lacks()) return;
    try {
      await this.load();
    } catch { /* the socket says that the service is away */ }
  }
}

// The form that adds a symbol: `added()` after it is monitored; what stands against it is shown.
export function addForm(added) {
  $("add").addEventListener("submit", async (event) => {
    event.preventDefault();
    const symbol = $("add-symbol").value.trim();
    if (!symbol) return;
    $("add-said").textContent = "";
    const answer = await fetch("/api/v2/symbols", {
      method: "POST",
      headers: { "content-type": "application/json", ...(keyFor() ? { "X-API-Key": keyFor() } : {}) },
      body: JSON.stringify({ symbols: [symbol] }),
    });
    if (answer.ok) {
      $("add-symbol").value = "";
      await added(symbol.toUpperCase());
      return;
    }
    if (answer.status === 401) {
      await askForKey();
      $("add").requestSubmit();
      return;
    }
    const { detail } = await answer.json();
    $("add-said").textContent = Array.isArray(detail) ? detail[0].msg : detail.message;
  });
}
