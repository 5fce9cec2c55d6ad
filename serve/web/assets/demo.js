// The live page: prices of all symbols, a chart of one, alerts. Data becomes text, never HTML.
import { askForKey, keyFor } from "/assets/key.js";
import { Chart, INDICATORS } from "/assets/chart.js";
import { addForm, SourceWatch } from "/assets/source.js";
import { Stream } from "/assets/stream.js";

const MOST_ALERTS = 100;
const LIVE = "live";
const LIVE_AGAIN_MS = 5000;
const $ = (id) => document.getElementById(id);
const money = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const shown = (value) => (value === null || value === undefined ? "–" : money.format(value));

const rows = new Map();
const prices = new Map();
let chosen = "";
let loading = 0;
let liveAgain = 0;
const headers = () => (keyFor() ? { "X-API-Key": keyFor() } : {});
const watch = new SourceWatch(() => ask("/api/v2/symbols?size=500"), showList);
const chart = new Chart($("chart"));
const stream = new Stream(onMessage, onState, onRestart);

async function ask(path) {
  const answer = await fetch(path, { headers: headers() });
  if (answer.status === 401) {
    await askForKey();
    return ask(path);
  }
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function part(row, className) {
  const made = row.appendChild(document.createElement("span"));
  made.className = className;
  return made;
}

function addRow(symbol, name) {
  const row = $("rows").appendChild(document.createElement("div"));
  row.className = "row";
  row.role = "option";
  row.dataset.symbol = symbol;
  const parts = {
    row, name: name ?? "", symbol: part(row, "symbol"), price: part(row, "price"),
    full: part(row, "full"), move: part(row, "move"), why: part(row, "why"),
  };
  parts.symbol.textContent = symbol;
  parts.full.textContent = name ?? "";
  row.addEventListener("click", () => choose(symbol));
  rows.set(symbol, parts);
}

function showList({ items }, words) {
  for (const item of items) {
    if (!rows.has(item.symbol)) addRow(item.symbol, item.name);
    rows.get(item.symbol).why.textContent = prices.has(item.symbol) ? "" : words(item);
  }
  $("none").hidden = visible().length > 0;
  $("none").textContent = rows.size ? "No symbol has this in its name." : "Nothing is monitored yet: add a symbol.";
  if (!chosen && rows.size) choose(rows.has("AAPL") ? "AAPL" : rows.keys().next().value);
  sayWhy();
}

// Above a chart that is empty, why it is.
function sayWhy() {
  const isEmpty = $("chart").dataset.bars === "0";
  const text = isEmpty ? (rows.get(chosen)?.why.textContent ?? "") : "";
  $("why").textContent = text;
  $("why").hidden = !text;
}

function move(update) {
  const exact = update.change_percent;
  if (exact === null || exact === undefined) return { text: "", kind: "" };
  const change = Math.round(exact * 100) / 100 + 0; // + 0: no minus zero
  return { text: `${change >= 0 ? "+" : ""}${change.toFixed(2)} %`, kind: change >= 0 ? "gain" : "loss" };
}

function flash(cell, value, before) {
  cell.textContent = money.format(value);
  if (before === undefined || before === value) return;
  cell.classList.remove("up", "down");
  void cell.offsetWidth; // restart the animation
  cell.classList.add(value > before ? "up" : "down");
}

function showPrice(update) {
  const before = prices.get(update.symbol);
  prices.set(update.symbol, update);
  const parts = rows.get(update.symbol);
  const { text, kind } = move(update);
  if (parts) {
    parts.why.textContent = "";
    flash(parts.price, update.current_price, before?.current_price);
    parts.move.textContent = text;
    parts.move.className = `move ${kind}`;
  }
  $("session").textContent = update.session;
  if (update.symbol !== chosen) return;
  flash($("price"), update.current_price, before?.current_price);
  $("change").textContent = text;
  $("change").className = kind;
  $("range").textContent = `${shown(update.low)} – ${shown(update.high)}`;
  if (!chart.price(update) || (before && before.session !== update.session)) load();
}

function showLive(update) {
  if (update.symbol !== chosen) return;
  const { rsi, macd, sma } = update.data.indicators;
  $("rsi").textContent = shown(rsi?.current);
  $("macd").textContent = `${shown(macd?.macd)} / ${shown(macd?.signal)}`;
  $("sma20").textContent = shown(sma?.["20"]);
  $("sma50").textContent = shown(sma?.["50"]);
  chart.live(update);
}

function showAlert(alert) {
  const item = document.createElement("li");
  item.className = alert.severity;
  item.dataset.alert = alert.alert_id;
  const time = item.appendChild(document.createElement("time"));
  time.textContent = `${clock.format(new Date(alert.triggered_at))} · ${alert.alert_type.replaceAll("_", " ")}`;
  item.append(alert.message);
  $("alerts").prepend(item);
  $("quiet").hidden = true;
  while ($("alerts").childElementCount > MOST_ALERTS) $("alerts").lastElementChild.remove();
}

function onMessage(message) {
  if (message.type === "price_update" && message.symbol) showPrice(message);
  else if (message.type === "technical_analysis_update") showLive(message);
  else if (message.type === "alert") showAlert(message);
  else if (message.event === "data_restarted") load();
  else if (message.event === "source_state") onSource(message);
  else if (message.type === "error" && message.id === LIVE) liveAgain = setTimeout(takeLive, LIVE_AGAIN_MS);
  else if (message.type === "error") onState({ name: "lost", text: message.message });
}

function onState({ name, text, waitMs }) {
  watch.connected({ name, text: waitMs ? `${text} in ${Math.ceil(waitMs / 1000)} s` : text });
}

function onRestart() {
  if (chosen) load();
}

async function load() {
  if (!chosen) return;
  const number = ++loading;
  const symbol = encodeURIComponent(chosen);
  try {
    const [history, table] = await Promise.all([
      ask(`/api/v2/prices/${symbol}/history?period=1y`),
      ask(`/api/v2/technical-analysis/indicators/${symbol}?period=1y&series=true&indicators=${encodeURIComponent(INDICATORS.join(","))}`),
    ]);
    if (number !== loading) return; // another symbol was chosen meanwhile
    chart.show(history, table);
    const last = prices.get(chosen);
    if (last) chart.price(last);
    sayWhy();
  } catch {
    // Bars of a source that does not answer are asked for when it is tried again.
    const afterMs = 1000 * (watch.page?.source.trouble?.retry_after_s ?? 0);
    if (number === loading) setTimeout(() => number === loading && load(), Math.min(30_000, Math.max(2000, afterMs)));
  }
}

function choose(symbol) {
  if (symbol === chosen || !rows.has(symbol)) return;
  rows.get(chosen)?.row.setAttribute("aria-selected", "false");
  chosen = symbol;
  const parts = rows.get(symbol);
  parts.row.setAttribute("aria-selected", "true");
  parts.row.scrollIntoView({ block: "nearest" });
  $("symbol").textContent = symbol;
  $("name").textContent = parts.name;
  for (const id of ["price", "rsi", "macd", "sma20", "sma50", "range"]) $(id).textContent = "–";
  $("change").textContent = "";
  chart.clear();
  sayWhy();
  load();
  const last = prices.get(symbol);
  if (last) showPrice(last);
  takeLive();
}

// Again where it was refused: a source that did not answer then may do so now.
function takeLive() {
  clearTimeout(liveAgain);
  stream.take(LIVE, { type: "technical_analysis", symbols: [chosen], interval: "1d", id: LIVE });
}

function onSource({ status }) {
  watch.load().catch(() => {});
  if (status === "ok" && chosen && $("chart").dataset.bars === "0") {
    load();
    takeLive();
  }
}

function visible() {
  return [...rows.entries()].filter(([, parts]) => !parts.row.hidden).map(([symbol]) => symbol);
}

$("filter").addEventListener("input", () => {
  const text = $("filter").value.trim().toLowerCase();
  for (const [symbol, parts] of rows)
    parts.row.hidden = !`${symbol} ${parts.name}`.toLowerCase().includes(text);
  $("none").hidden = visible().length > 0;
});

$("filter").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && visible().length) choose(visible()[0]);
});

$("rows").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const names = visible();
  const next = names[Math.min(names.length - 1, Math.max(0, names.indexOf(chosen) + step))];
  if (next) choose(next);
});

for (const name of INDICATORS) {
  const label = $("toggles").appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => chart.toggle(name, box.checked));
  label.append(name);
}

let counted = 0;
setInterval(() => {
  const { messages, drops, recovered, restarts } = stream.counts;
  $("counts").textContent = `${messages - counted} messages/s · ${drops} drops · ${recovered} recovered · ${restarts} restarts`;
  counted = messages;
}, 1000);

async function start() {
  try {
    await watch.load();
  } catch {
    onState({ name: "lost", text: "no answer, trying again" });
    setTimeout(start, 2000);
    return;
  }
  stream.take("prices", { type: "prices", symbols: ["*"] });
  stream.take("alerts", { type: "alerts", symbols: ["*"] });
  stream.connect();
}

addForm(async (symbol) => {
  await watch.load();
  choose(symbol);
});
start();
