// The page of tasks: what there is over REST, what changes over the stream. Data is text, never HTML.
import { askForKey, keyFor } from "/assets/key.js";
import { Stream } from "/assets/stream.js";

const $ = (id) => document.getElementById(id);
const ENDED = ["completed", "failed", "cancelled"];
const PAGE = 15, RELOAD_MS = 400, AGAIN_MS = 5000;
const live = new Map(); // tasks that have not ended, by id
const known = new Map(); // what can be submitted, by name
let page = 1, reloading = null;

async function ask(path, options = {}) {
  const headers = { ...(options.body ? { "content-type": "application/json" } : {}) };
  if (keyFor()) headers["X-API-Key"] = keyFor();
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    await askForKey();
    return ask(path, options);
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(reason(body.detail));
  return body;
}

const reason = (detail) => Array.isArray(detail)
  ? detail.map((item) => `${item.loc.at(-1)}: ${item.msg}`).join("; ") : detail.message;

function cell(row, text, className = "") {
  const td = row.insertCell();
  td.className = className;
  td.textContent = text;
  return td;
}

// A name may be broken after a dot or an underscore, and nowhere else.
function named(row, task) {
  const td = cell(row, "", "symbol");
  td.title = task.task_id;
  for (const part of task.task_name.split(/(?<=[._])/)) td.append(part, document.createElement("wbr"));
}

function button(td, text, work) {
  const made = td.appendChild(document.createElement("button"));
  made.textContent = text;
  made.addEventListener("click", async () => {
    made.disabled = true;
    try { await work(); } catch (error) { say(error.message, true); }
    made.disabled = false;
  });
}

function say(text, isBad = false) {
  $("said").textContent = text;
  $("said").className = isBad ? "bad" : "";
}

const seconds = (s) => s === null ? "" : s < 120 ? `${s.toFixed(s < 10 ? 1 : 0)} s` : `${Math.round(s / 60)} min`;
const clock = (iso) => iso ? new Date(iso).toLocaleString([], { dateStyle: "short", timeStyle: "medium" }) : "";

// -- what has not ended --------------------------------------------------------------------------

function showLive() {
  const order = { running: 0, retrying: 1, pending: 2 };
  const tasks = [...live.values()].sort((a, b) => order[a.status] - order[b.status]);
  const body = $("now");
  body.replaceChildren();
  for (const task of tasks.slice(0, 100)) {
    const row = body.insertRow();
    row.dataset.id = task.task_id;
    named(row, task);
    cell(row, task.status === "pending" ? `${task.status} (${task.stage})` : task.status);
    const bar = cell(row, "", "progress");
    if (task.status === "running") {
      const progress = bar.appendChild(document.createElement("progress"));
      Object.assign(progress, { max: 100, value: task.progress });
    }
    const message = bar.appendChild(document.createElement("span"));
    message.className = "message";
    message.textContent = task.progress_message || task.error || "";
    const since = Date.parse(task.started_at ?? task.created_at);
    cell(row, seconds(Math.max(0, (Date.now() - since) / 1000)), "number");
    button(cell(row, ""), "Cancel", () => ask(`/api/tasks/task/${task.task_id}/cancel`, { method: "POST" }));
  }
  $("quiet").hidden = tasks.length > 0;
}

function take(message) {
  if (message.type === "task_queue") {
    for (const name of ["pending", "running"]) $(name).textContent = message[name];
    if (message.omitted) reloadSoon();
    return;
  }
  if (message.type !== "task_update") return;
  if (ENDED.includes(message.status)) {
    live.delete(message.task_id);
    reloadSoon();
  } else {
    live.set(message.task_id, message);
  }
  showLive();
}

// -- what there is -------------------------------------------------------------------------------

async function load() {
  const status = (await ask("/api/tasks/status")).data;
  const figures = status.queue_statistics;
  $("queue").textContent = `queue: ${status.standby ?? status.system_status}`;
  for (const [id, name] of [["running", "running_tasks"], ["pending", "pending_tasks"],
    ["scheduled", "scheduled_tasks"], ["completed", "total_completed"], ["failed", "total_failed"]])
    $(id).textContent = figures[name].toLocaleString("en-US");
  live.clear();
  for (const state of ["running", "retrying", "pending"])
    for (const task of (await ask(`/api/tasks?status=${state}&size=100`)).items)
      if (!ENDED.includes(task.status)) live.set(task.task_id, task);
  showLive();
  await loadHistory();
}

async function loadHistory() {
  const state = $("status").value;
  const wanted = state ? [state] : ENDED;
  const pages = await Promise.all(wanted.map((s) => ask(`/api/tasks?status=${s}&size=${PAGE * page}`)));
  const all = pages.flatMap((one) => one.items)
    .sort((a, b) => Date.parse(b.completed_at) - Date.parse(a.completed_at));
  const total = pages.reduce((sum, one) => sum + one.pagination.total, 0);
  $("older").disabled = total <= PAGE * page;
  $("newer").disabled = page === 1;
  showHistory(all.slice(PAGE * (page - 1), PAGE * page));
}

function showHistory(tasks) {
  const body = $("history");
  body.replaceChildren();
  for (const task of tasks) {
    const row = body.insertRow();
    row.dataset.id = task.task_id;
    named(row, task);
    cell(row, task.status, task.status);
    cell(row, clock(task.completed_at), "when");
    cell(row, seconds(task.execution_time), "number");
    cell(row, task.error ?? "", "told");
    const actions = cell(row, "");
    if (task.status === "completed") button(actions, "Result", () => showResult(task));
    else button(actions, "Retry", async () => {
      if (await isSure(task.task_name, "with the arguments it had"))
        await ask(`/api/tasks/task/${task.task_id}/retry`, { method: "POST" });
      reloadSoon();
    });
  }
  $("nothing").hidden = tasks.length > 0;
}

async function showResult(task) {
  const result = await ask(`/api/tasks/task/${task.task_id}/result`);
  $("result-title").textContent = task.task_name;
  $("result").textContent = result.result_file
    ? `A frame: ${location.origin}${result.result_file}` : JSON.stringify(result.result, null, 2);
  $("result-dialog").showModal();
}

function reloadSoon() {
  reloading ??= setTimeout(async () => {
    reloading = null;
    try { await load(); } catch (error) { say(error.message, true); }
  }, RELOAD_MS);
}

// -- what people do ------------------------------------------------------------------------------

async function loadNames() {
  const { registered_functions } = await ask("/api/tasks/queue/stats");
  for (const one of registered_functions) {
    if (known.has(one.name)) continue;
    known.set(one.name, one);
    const option = $("name").appendChild(document.createElement("option"));
    option.value = option.textContent = one.name;
  }
}

function showAbout() {
  const { title, parameters } = known.get($("name").value) ?? { title: "", parameters: [] };
  $("about").textContent = parameters.length ? `${title} Takes ${parameters.join(", ")}.` : title;
}

// Whether a task may run: what takes something away for good is asked about.
function isSure(name, how) {
  const one = known.get(name);
  if (!one?.destructive) return Promise.resolve(true);
  const dialog = $("sure-dialog");
  $("sure-title").textContent = `Run ${name}?`;
  $("sure").textContent = `${one.title} This cannot be undone. It runs ${how}.`;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

$("submit").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const kwargs = JSON.parse($("arguments").value || "{}");
    const name = $("name").value, given = Object.keys(kwargs).length;
    if (!await isSure(name, given ? `with ${JSON.stringify(kwargs)}` : "with its defaults")) return;
    const body = JSON.stringify({ task_name: name, kwargs });
    const { data } = await ask("/api/tasks/submit", { method: "POST", body });
    say(`${data.task_name} is queued as ${data.task_id}`);
  } catch (error) {
    say(error instanceof SyntaxError ? "the arguments are no JSON object" : error.message, true);
  }
});
$("name").addEventListener("change", showAbout);
const turn = (by) => () => { page = Math.max(1, page + by); loadHistory(); };
$("older").addEventListener("click", turn(1));
$("newer").addEventListener("click", turn(-1));
$("status").addEventListener("change", () => { page = 1; loadHistory(); });
setInterval(showLive, 1000);

async function start() {
  try {
    await loadNames();
    await load();
  } catch (error) {
    say(`${error.message}; trying again`, true);
    setTimeout(start, AGAIN_MS);
    return;
  }
  const stream = new Stream(take, (state) => {
    $("state").textContent = state.text;
    $("state").className = `badge ${state.name}`;
    if (state.name === "live") reloadSoon();
  }, reloadSoon);
  stream.take("tasks", { type: "tasks" });
  stream.connect();
}

start();
