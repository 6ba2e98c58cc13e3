// Shows the newest errands and lets them be answered. Values go in as text only, so nothing that a caller or an
// exchange sends can become markup. A row that is shown is changed in place, so a refresh takes no focus away.
"use strict";

const EVERY_MS = 2000;
const SHOWN = 100;

const rows = new Map(); // errand id -> {row, cells, button}
const at = (id) => document.getElementById(id);

let answering = null; // the id of the errand whose answer is being written

function put(cell, text, more) {
  // Only what differs is touched: a selection that somebody makes in the table survives a refresh.
  const key = JSON.stringify([text, more]);
  if (cell.dataset.shown === key) return;
  cell.dataset.shown = key;
  cell.replaceChildren(text);
  if (more) {
    const line = document.createElement("span");
    line.className = "more";
    line.textContent = more;
    cell.append(line);
  }
}

function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

function putLink(cell, link) {
  if (cell.dataset.shown === (link ?? "")) return;
  cell.dataset.shown = link ?? "";
  const address = link ? webAddress(link) : null;
  if (address === null) {
    cell.replaceChildren(link ?? "");
    return;
  }
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.rel = "noopener noreferrer";
  anchor.textContent = link;
  cell.replaceChildren(anchor);
}

function newRow(errand) {
  const row = document.createElement("tr");
  row.dataset.errand = errand.id;
  const names = ["errand", "caller", "called", "queue", "agent", "came", "link", "state", "answer"];
  const cells = Object.fromEntries(names.map((name) => [name, document.createElement("td")]));
  for (const name of ["agent", "came", "state"]) cells[name].className = "tight";
  for (const name of ["errand", "caller", "link", "answer"]) cells[name].className = "long";
  row.append(...names.map((name) => cells[name]));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Answer";
  button.setAttribute("aria-label", `Answer errand ${errand.id}`);
  button.addEventListener("click", () => open(errand.id));
  cells.answer.append(button);
  const text = document.createElement("span");
  cells.answer.append(text);
  return { row, cells, button, text };
}

function stateOf(errand) {
  if (errand.answer) return "answered";
  return errand.state === "open" ? "open" : "ended";
}

function fill(shown, errand) {
  const { cells, button, text } = shown;
  const pair = errand.deviceId === null ? "" : `${errand.deviceId}/${errand.extensionId}`;
  const state = stateOf(errand);
  put(cells.errand, errand.id, errand.subject);
  put(cells.caller, errand.from ?? "", errand.name);
  put(cells.called, errand.destNumber ?? "");
  put(cells.queue, errand.queueName ?? "", errand.queueNumber);
  put(cells.agent, pair);
  put(cells.came, new Date(errand.createdAt).toLocaleTimeString());
  putLink(cells.link, errand.link);
  put(cells.state, state);
  cells.state.className = `tight state ${state}`;
  if (button.hidden !== Boolean(errand.answer)) {
    const focused = document.activeElement === button;
    button.hidden = Boolean(errand.answer);
    if (focused) at("errands").closest(".scroll").focus();
  }
  put(text, errand.answer ? errand.answer.text : "", errand.answer ? errand.answer.agent : null);
}

function show(page) {
  const body = at("errands");
  const wanted = new Set(page.errands.map((errand) => errand.id));
  for (const [id, shown] of rows) {
    if (!wanted.has(id)) {
      shown.row.remove();
      rows.delete(id);
    }
  }
  let place = body.firstElementChild;
  for (const errand of page.errands) {
    if (!rows.has(errand.id)) rows.set(errand.id, newRow(errand));
    const shown = rows.get(errand.id);
    if (shown.row === place) place = place.nextElementSibling;
    else body.insertBefore(shown.row, place);
    fill(shown, errand);
  }
  at("none").hidden = page.errands.length > 0;
  at("counts").textContent = `${page.counts.errands} errands, ${page.counts.open} open, ${page.counts.dirty} changed`;
}

function say(text, wrong = false) {
  const status = at("status");
  status.classList.toggle("wrong", wrong);
  if (status.textContent !== text) status.textContent = text;
}

const AWAY = "The sandbox does not answer. Trying again.";

async function refresh() {
  try {
    const response = await fetch(`/errands?limit=${SHOWN}`);
    if (!response.ok) throw new Error(String(response.status));
    show(await response.json());
    if (at("status").textContent === AWAY) say("");
  } catch {
    say(AWAY, true);
  }
}

async function refreshOnAndOn() {
  await refresh();
  setTimeout(refreshOnAndOn, EVERY_MS);
}

function open(id) {
  answering = id;
  at("title").textContent = `Answer errand ${id}`;
  at("text").value = "";
  at("dialog").showModal();
  at("text").focus();
}

function told(answer) {
  const { callback, errand } = answer;
  if (callback === null) return `Errand ${errand.id} is answered. No callback is set up.`;
  if (callback.status !== null) return `Errand ${errand.id} is answered. The callback got ${callback.status}.`;
  return `Errand ${errand.id} is answered. The callback failed: ${callback.error}`;
}

async function send(id, text) {
  say(`Answering errand ${id}…`);
  try {
    const response = await fetch(`/errands/${id}/answer`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text }),
    });
    const answer = await response.json();
    if (response.ok) say(told(answer), answer.callback !== null && answer.callback.status === null);
    else say(`Errand ${id} was not answered: ${answer.detail}`, true);
  } catch {
    say(AWAY, true);
  }
  await refresh();
}

at("cancel").addEventListener("click", () => at("dialog").close());
at("form").addEventListener("submit", () => {
  // `method="dialog"` closes the dialog; Escape closes it without a submit.
  send(answering, at("text").value);
});
refreshOnAndOn();
