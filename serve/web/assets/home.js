// The front page: one socket, one row a symbol. Data reaches the page as text only, never as HTML.
import { keyFor, askForKey } from "/assets/key.js";
import { addForm, SourceWatch } from "/assets/source.js";

const rows = new Map();
const $ = (id) => document.getElementById(id);
const money = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const headers = () => (keyFor() ? { "X-API-Key": keyFor() } : {});
const watch = new SourceWatch(readSymbols, showList);
let socket = null;
let pauseMs = 500;

function setState(text, name) {
  watch.connected({ text, name });
}

function cell(row, className) {
  const td = row.insertCell();
  td.className = className;
  return td;
}

function addRow(symbol, name) {
  const row = $("prices").insertRow();
  const parts = {
    symbol: cell(row, "symbol"), name: cell(row, "name"), price: cell(row, "number price"),
    change: cell(row, "number"), range: cell(row, "range"),
  };
  parts.row = row;
  parts.symbol.textContent = symbol;
  parts.name.textContent = name ?? "";
  parts.meter = parts.range.appendChild(document.createElement("meter"));
  rows.set(symbol, parts);
}

function showList({ items }, words) {
  for (const item of items) {
    if (!rows.has(item.symbol)) {
      addRow(item.symbol, item.name);
      take([item.symbol]);
    }
    const parts = rows.get(item.symbol);
    if (!parts.price.dataset.value) sayWhy(parts, words(item));
  }
  $("none").hidden = rows.size > 0;
}

// In place of the price, the change and the day.
function sayWhy(parts, text) {
  parts.price.textContent = text;
  parts.price.colSpan = text ? 3 : 1;
  parts.price.className = text ? "why" : "number price";
  parts.change.hidden = parts.range.hidden = Boolean(text);
}

function show(update) {
  const parts = rows.get(update.symbol);
  if (!parts) return;
  if (!parts.price.dataset.value) sayWhy(parts, "");
  const before = Number(parts.price.dataset.value ?? update.current_price);
  parts.price.dataset.value = update.current_price;
  parts.price.textContent = money.format(update.current_price);
  if (update.current_price !== before) {
    parts.price.classList.remove("up", "down");
    void parts.price.offsetWidth; // restart the animation
    parts.price.classList.add(update.current_price > before ? "up" : "down");
  }
  const exact = update.change_percent;
  const change = exact === null ? null : Math.round(exact * 100) / 100 + 0; // + 0: no minus zero
  parts.change.textContent = change === null ? "" : `${change >= 0 ? "+" : ""}${change.toFixed(2)} %`;
  parts.change.className = `number ${change >= 0 ? "gain" : "loss"}`;
  Object.assign(parts.meter, { min: update.low, max: update.high, value: update.current_price });
  parts.meter.title = `${update.low} to ${update.high}`;
  $("session").textContent = update.session;
}

async function readSymbols() {
  const answer = await fetch("/api/v2/symbols?size=50", { headers: headers() });
  if (answer.status === 401) {
    await askForKey();
    return readSymbols();
  }
  if (!answer.ok) throw new Error(`symbols: ${answer.status}`);
  return answer.json();
}

function take(symbols) {
  if (!symbols.length || socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ action: "subscribe", type: "prices", symbols }));
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const query = keyFor() ? `?api_key=${encodeURIComponent(keyFor())}` : "";
  socket = new WebSocket(`${scheme}://${location.host}/ws/realtime${query}`);
  socket.onopen = () => {
    pauseMs = 500;
    setState("live", "live");
    take([...rows.keys()]);
  };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "price_update") show(message);
    else if (message.snapshot) message.snapshot.forEach(show);
    else if (message.event === "source_state") watch.load().catch(() => {});
    else if (message.type === "error") setState(message.message, "lost");
  };
  socket.onclose = () => {
    setState("reconnecting", "lost");
    setTimeout(start, pauseMs * (0.5 + Math.random()));
    pauseMs = Math.min(pauseMs * 2, 10000);
  };
}

async function start() {
  try {
    await watch.load();
    connect();
  } catch {
    setState("no answer, trying again", "lost");
    setTimeout(start, pauseMs);
    pauseMs = Math.min(pauseMs * 2, 10000);
  }
}

addForm(() => watch.load());
start();
