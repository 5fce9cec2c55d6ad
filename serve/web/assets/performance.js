// The operators' page: figures, charts and tables of the service itself. Data is text, never HTML.
import { askForKey, keyFor } from "/assets/key.js";
import { LineChart, fixed, shown, trend } from "/assets/linechart.js";
import { Stream } from "/assets/stream.js";

const DASHBOARD = "/api/v2/performance/dashboard";
const FIRST_MS = 2000, POLL_MS = 10_000, TABLES_MS = 30_000;
const SILENT_MS = 25_000; // two readings of the stream are missing
const LATE_MS = 30_000; // the service answers, but nothing reads its figures any more
const MOST_READINGS = 360, TREND_READINGS = 20;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

const readings = new Map(); // by Unix second
let board = null, current = null;
let isOpen = false, toldAtMs = 0, problem = "";
let isLoading = false, timer = null;

async function ask(path, options = {}) {
  const headers = keyFor() ? { "X-API-Key": keyFor() } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    await askForKey();
    return ask(path, options);
  }
  if (answer.ok) return answer.json();
  const { status } = answer;
  const { detail } = await answer.json().catch(() => ({})); // a proxy answers in HTML
  throw Object.assign(new Error(detail?.message ?? `answer ${status}`), { status });
}

function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text; // told again only where it is news
}

function made(parent, name, text = "", className = "") {
  const element = parent.appendChild(document.createElement(name));
  element.textContent = text;
  element.className = className;
  return element;
}

// -- figures and charts --------------------------------------------------------------------------

const cards = [...document.querySelectorAll("[data-figure]")].map((card) => {
  const svg = made(card, "dd", "", "trend").appendChild(document.createElementNS(SVG, "svg"));
  svg.setAttribute("viewBox", "0 0 100 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = svg.appendChild(document.createElementNS(SVG, "path"));
  return { field: card.dataset.figure, unit: card.dataset.unit, value: card.querySelector("dd"), path };
});
const charts = [...document.querySelectorAll("figure")].map((figure) => new LineChart(figure));

function keep(points) {
  for (const point of points) {
    const time = Math.floor(Date.parse(point.timestamp) / 1000);
    readings.set(time, { ...point, time });
  }
  const times = [...readings.keys()].sort((a, b) => a - b);
  for (const time of times.slice(0, -MOST_READINGS)) readings.delete(time);
}

const inOrder = () => [...readings.values()].sort((a, b) => a.time - b.time);

function showCharts() {
  const count = Number(document.querySelector("#range input:checked").value);
  const points = inOrder();
  for (const chart of charts) chart.show(points.slice(-count));
  for (const { field, path } of cards)
    path.setAttribute("d", trend(points.slice(-TREND_READINGS).map((point) => point[field])));
}

function showFigures(status, isLate = false) {
  put($("status"), status);
  $("status").className = status;
  document.title = `${status} · Performance · Finstage`;
  $("read-at").textContent = current ? clock.format(new Date(current.timestamp)) : "–";
  $("read-at").className = isLate ? "late" : "";
  for (const { field, unit, value } of cards) put(value, shown(current?.[field], unit));
}

// -- tables --------------------------------------------------------------------------------------

// Empty the element and fill it with what `draw` makes of each item; a word where there is none.
function fill(id, items, draw) {
  const body = $(id).tBodies?.[0] ?? $(id);
  body.replaceChildren();
  for (const item of items) draw(body, item);
  showEmpty(id, items);
}

function showEmpty(id, items) {
  const card = $(id).closest("section");
  card.querySelector(".empty").hidden = items.length > 0;
  (card.querySelector(".scroll") ?? $(id)).hidden = items.length === 0;
}

function row(body, name, ...numbers) {
  const line = body.insertRow();
  const head = made(line, "th", name, "told");
  head.scope = "row";
  for (const number of numbers) made(line, "td", number, "number");
  return line;
}

// A bar of `whole`, with the part of it that is darker.
function bar(cell, partPct, wholePct) {
  const box = made(cell, "span", "", "bar");
  box.ariaHidden = "true";
  made(box, "i", "", "whole").style.width = `${wholePct}%`;
  made(box, "i", "", "part").style.width = `${partPct}%`;
}

const order = { field: "requests", isDown: true };

function showRoutes() {
  const sign = order.isDown ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -1) - (b ?? -1));
  const routes = board.routes.toSorted((a, b) => sign * compare(a[order.field], b[order.field]));
  for (const button of document.querySelectorAll("[data-sort]")) {
    const isChosen = button.dataset.sort === order.field;
    button.parentElement.ariaSort = isChosen ? (order.isDown ? "descending" : "ascending") : "none";
  }
  fill("routes", routes, (body, { route, requests, failed, avg_ms, p95_ms }) => {
    const { cells } = row(body, route, shown(requests), shown(failed), fixed(avg_ms, 1), fixed(p95_ms, 1));
    if (failed > 0) cells[2].classList.add("loss");
  });
}

function showStages(stages) {
  const most = Math.max(...stages.map((stage) => stage.p99_ms ?? 0)) || 1;
  fill("stages", stages, (body, { stage, p50_ms, p99_ms }) => {
    const cell = made(row(body, stage, fixed(p50_ms, 2), fixed(p99_ms, 2)), "td", "", "share");
    bar(cell, 100 * (p50_ms ?? 0) / most, 100 * (p99_ms ?? 0) / most);
  });
}

function showCaches(rates) {
  fill("caches", Object.entries(rates), (body, [name, pct]) => {
    const line = row(body, name);
    bar(made(line, "td", "", "share"), pct ?? 0, 100);
    made(line, "td", pct === null ? "–" : `${fixed(pct, 1)} %`, "number");
  });
}

function showNamed(id, items) {
  fill(id, items, (body, { id: itemId, name, status }) => {
    const line = row(body, name);
    if (itemId !== name) made(line.cells[0], "span", itemId, "quiet");
    made(made(line, "td", "", "number"), "span", status.replaceAll("_", " "), `chip ${status}`);
  });
}

function showRecommendations(items) {
  fill("recommendations", items, (list, { category, priority, title, description, recommendations }) => {
    const item = made(list, "li", "", priority);
    const head = made(item, "p", "", "head");
    made(head, "strong", title);
    made(head, "span", priority, `chip ${priority}`);
    made(item, "p", description);
    const steps = made(item, "ul");
    for (const step of recommendations) made(steps, "li", step);
    made(item, "p", category.replaceAll("_", " "), "quiet");
  });
}

// -- alerts: an item stays the same element, so that the keyboard does not lose its place ---------

const alerts = new Map();

function newAlert(alert) {
  const item = document.createElement("li");
  item.tabIndex = -1;
  const head = made(item, "p", "", "head");
  made(head, "strong", alert.title);
  made(head, "span", alert.severity, `chip ${alert.severity}`);
  made(item, "p", alert.message);
  const foot = made(item, "p", "", "foot");
  const parts = { item, told: made(foot, "span", "", "quiet"), foot, button: null };
  item.className = alert.severity;
  $("alerts").prepend(item);
  return parts;
}

function showAlerts(found) {
  for (const [id, { item }] of alerts)
    if (!found.some((alert) => alert.id === id)) {
      item.remove();
      alerts.delete(id);
    }
  for (const alert of found.toSorted((a, b) => Date.parse(a.triggered_at) - Date.parse(b.triggered_at))) {
    if (!alerts.has(alert.id)) alerts.set(alert.id, newAlert(alert));
    const parts = alerts.get(alert.id);
    put(parts.told, `${alert.metric_name} ${shown(alert.current_value)}, limit ${shown(alert.threshold)}; since ${
      clock.format(new Date(alert.triggered_at))}${alert.acknowledged ? "; acknowledged" : ""}`);
    showButton(alert, parts);
  }
  showEmpty("alerts", found);
  const open = found.filter((alert) => !alert.acknowledged).length;
  $("alert-count").hidden = open === 0;
  put($("alert-count"), `${open} ${open === 1 ? "alert" : "alerts"}`);
}

function showButton(alert, parts) {
  if (alert.acknowledged && parts.button) {
    if (document.activeElement === parts.button) parts.item.focus();
    parts.button.remove();
    parts.button = null;
  }
  if (alert.acknowledged || parts.button) return;
  parts.button = made(parts.foot, "button", "Acknowledge");
  parts.button.type = "button";
  parts.button.ariaLabel = `Acknowledge ${alert.title}`;
  parts.button.addEventListener("click", () => acknowledge(alert, parts.button));
}

async function acknowledge(alert, button) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // `disabled` would take the keyboard's place away
  try {
    await ask(`/api/v2/alerts/alerts/${encodeURIComponent(alert.id)}/acknowledge`, { method: "PUT" });
    const shownAlert = board.alerts.find(({ id }) => id === alert.id); // of a later answer
    if (shownAlert) shownAlert.acknowledged = true;
    showAlerts(board.alerts);
    say("");
  } catch (error) {
    say(`The alert is not acknowledged: ${error.message}`);
  }
  button.ariaDisabled = null;
}

// -- what there is, and what comes ---------------------------------------------------------------

const ms = ({ timestamp }) => Date.parse(timestamp);

function showBoard() {
  if (!current || !board.current || ms(board.current) >= ms(current)) // a push may be newer
    current = board.current && { tasks_unfinished: board.tasks.unfinished, ...board.current };
  keep(board.series);
  showFigures(current?.status ?? board.status, current && ms(board) - ms(current) > LATE_MS);
  showCharts();
  showAlerts(board.alerts);
  showRoutes();
  showStages(board.stages);
  showCaches(board.hit_rates);
  showRecommendations(board.recommendations);
  showNamed("rules", board.rules);
  showNamed("experiments", board.experiments);
  fill("processes", board.processes, (body, { process, resident_mb, cpu_percent, event_loop_lag_ms }) => {
    row(body, process, fixed(resident_mb, 0), fixed(cpu_percent, 1), fixed(event_loop_lag_ms, 1));
  });
  for (const name of ["unfinished", "ended", "failed"]) put($(name), shown(board.tasks[name]));
}

const isLive = () => isOpen && Date.now() - toldAtMs < SILENT_MS;

function showState() {
  const [text, kind] = problem ? [problem, "lost"]
    : isLive() ? ["live", "live"]
      : board ? ["asked every 10 s", "waiting"] : ["connecting", "waiting"];
  put($("state"), text);
  $("state").className = `badge ${kind}`;
}

async function load() {
  if (isLoading) return;
  isLoading = true;
  const found = await ask(DASHBOARD).catch((error) => {
    if (error.status === 503 && !board) say("The first reading comes within ten seconds.");
    else problem = "no answer, trying again";
  });
  isLoading = false;
  if (found) {
    if (!board) say("");
    board = found;
    problem = "";
  }
  loadSoon();
  if (found) showBoard();
  showState();
}

function loadSoon() {
  clearTimeout(timer);
  timer = setTimeout(load, !board ? FIRST_MS : isLive() ? TABLES_MS : POLL_MS);
}

function take(message) {
  if (message.type === "error") toldAtMs = 0;
  if (message.type === "metrics_update") {
    toldAtMs = Date.now();
    const before = current?.status;
    current = message.data;
    keep([current]);
    showFigures(current.status);
    showCharts();
    if (!board || before !== current.status) load(); // the alerts will have changed as well
  }
  showState();
}

const stream = new Stream(take, ({ name }) => {
  const wasOpen = isOpen;
  isOpen = name === "live";
  if (isOpen) toldAtMs = Date.now();
  showState();
  if (wasOpen && !isOpen && !isLoading) loadSoon(); // no pause of a live stream any more
}, load);

for (const button of document.querySelectorAll("[data-sort]"))
  button.addEventListener("click", () => {
    const { sort: field } = button.dataset;
    order.isDown = order.field === field ? !order.isDown : field !== "route";
    order.field = field;
    if (board) showRoutes();
  });
$("range").addEventListener("change", showCharts);

await load(); // asks for the key, where one is wanted, before the stream needs it
stream.take("performance", { type: "performance" });
stream.connect();
