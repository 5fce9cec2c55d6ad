// Where prices come from and whether it answers, as the pages say it. Data becomes text only.
import { askForKey, keyFor } from "/assets/key.js";

const $ = (id) => document.getElementById(id);
const FIRST_PAUSE_MS = 3000;
const LONGEST_PAUSE_MS = 60000;
const LASTING = "symbol_unknown"; // the cause that no waiting mends

// In words, with the seconds that are left until the source is tried again.
export function why(trouble, readMs) {
  const { text, retry_after_s: afterS } = trouble;
  if (afterS === null) return text;
  const leftS = afterS - (Date.now() - readMs) / 1000;
  return leftS > 0 ? `${text}, tried again in ${Math.ceil(leftS)} s` : `${text}, tried again now`;
}

export class SourceWatch {
  // `read()`: the answer of /api/v2/symbols; `onList(page, words)`: after each reading, and each
  // second while the source is in trouble: `words(item)` says why an item has no price, "" of one
  // that has. While something is to come it is read again, ever less often.
  constructor(read, onList) {
    this.read = read;
    this.onList = onList;
    this.page = null;
    this.readMs = 0;
    this.pauseMs = FIRST_PAUSE_MS;
    this.again = 0;
    this.connection = { name: "connecting", text: "connecting" };
    setInterval(() => this.page?.source.trouble && this.#show(), 1000);
  }

  async load() {
    await this.#look();
    this.pauseMs = FIRST_PAUSE_MS;
    this.#lookLater();
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
    const { source, items } = this.page;
    return source.trouble || items.some((item) => item.no_price && item.no_price.cause !== LASTING);
  }

  async #look() {
    this.page = await this.read();
    this.readMs = Date.now();
    this.#show();
  }

  #lookLater() {
    clearTimeout(this.again);
    this.again = setTimeout(() => this.#lookAgain(), this.pauseMs);
    this.pauseMs = Math.min(2 * this.pauseMs, LONGEST_PAUSE_MS);
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
    try {
      if (!document.hidden && this.#lacks()) await this.#look();
    } catch { /* the socket says that the service is away */ }
    this.#lookLater();
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
