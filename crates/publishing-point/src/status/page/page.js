// The status page: asks the status API once a second and shows the answer.
// Everything that comes from outside is inserted as text, never as markup.

import { Plot, SECONDS, rate } from "./plot.js";

const PERIOD_MS = 1000;
const PATIENCE_MS = 10_000;
// An encoder is disconnected by two clicks: how long the second one may take.
const SURE_MS = 4000;
// How long a button says that it has copied.
const COPIED_MS = 2000;

const byId = (id) => document.getElementById(id);

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(name, text, attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// As many children as there are items, each brought up to date.
function list(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => update(parent.children[index] ?? parent.appendChild(create()), item));
}

const number = new Intl.NumberFormat("en");
const count = (amount, one, many = `${one}s`) => `${number.format(amount)} ${amount === 1 ? one : many}`;

function bytes(amount) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${amount.toFixed(unit === 0 || amount >= 100 ? 0 : 1)} ${units[unit]}`;
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  if (minutes > 0) return `${minutes} min ${seconds % 60} s`;
  return `${seconds} s`;
}

const lag = (milliseconds) => (milliseconds < 1000 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(1)} s`);

// A clock time, with the day where it is not today's.
function clock(milliseconds) {
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

function streamParts(stream) {
  return [
    stream.codec ?? stream.kind,
    stream.width && `${stream.width} × ${stream.height}`,
    stream.frame_rate && `${+stream.frame_rate.toFixed(2)} fps`,
    stream.sample_rate && `${+(stream.sample_rate / 1000).toFixed(2)} kHz`,
    stream.channels && ({ 1: "mono", 2: "stereo" }[stream.channels] ?? `${stream.channels} channels`),
    stream.bit_rate && rate(stream.bit_rate),
  ].filter(Boolean);
}

// A point is live if its stream arrives, which an open connection alone does not mean.
function isLive(point) {
  return (point.state === "pushed" || point.state === "pulled") && !point.problems.some((problem) => problem.kind === "no-data");
}

// The colour of a point, and its state in words.
function health(point) {
  const troubled = point.problems.length > 0;
  if (isLive(point)) return troubled ? ["warn", "Live, with problems"] : ["live", "Live"];
  if (point.state === "waiting") return ["waiting", point.source ? "Waiting for the origin" : "Waiting for the encoder"];
  if (point.state === "idle") return troubled ? ["bad", "Not live"] : ["idle", "Idle"];
  return ["bad", "No data"];
}

// Browsers give pages the clipboard only over TLS and on the server's own machine; the older way works everywhere.
async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(place);
    const copied = document.execCommand("copy");
    if (copied) getSelection().removeAllRanges();
    return copied;
  }
}

class PointView {
  constructor(name) {
    this.root = byId("point").content.cloneNode(true).firstElementChild;
    const all = (attribute) => Object.fromEntries(
      [...this.root.querySelectorAll(`[data-${attribute}]`)].map((element) => [element.dataset[attribute], element]));
    this.texts = all("text");
    this.parts = all("part");
    this.lists = all("list");
    const places = all("plot");
    this.plots = {
      in: new Plot(places.in, "Bit rate from the encoder"),
      out: new Plot(places.out, "Bit rate to players"),
    };
    this.history = { end: null, in: [], out: [] };
    put(this.texts.name, name || "/");
    const heading = `point-${PointView.next++}`;
    this.texts.name.id = heading;
    this.root.setAttribute("aria-labelledby", heading);
    this.button = all("button").disconnect;
    this.button.addEventListener("click", () => this.clicked(name));
  }

  text(name, text) {
    put(this.texts[name], text);
  }

  show(name, visible) {
    this.parts[name].hidden = !visible;
  }

  update(point, now) {
    const [colour, words] = health(point);
    this.root.dataset.state = point.state;
    this.root.dataset.health = colour;
    this.text("state", words);
    this.problems(point.problems);
    this.stream(point.stream);
    this.rates(point);
    this.pusher(point.pusher, now);
    this.facts(point, now);
    this.urls(point.urls);
    this.players(point, now);
    this.source(point.source);
    this.forwards(point.forwards);
    this.recordings(point.recordings);
    this.errors(point.errors);
  }

  problems(problems) {
    this.lists.problems.hidden = problems.length === 0;
    list(this.lists.problems, problems, () => {
      const item = make("li");
      item.append(make("bdi"));
      return item;
    }, (item, problem) => put(item.firstElementChild, problem.text));
  }

  pusher(pusher, now) {
    this.show("pusher", pusher !== null);
    if (pusher === null) return this.unsure();
    this.text("pusher-address", pusher.address);
    this.text("pusher-agent", pusher.user_agent ?? "");
    this.show("pusher-user", pusher.user !== null);
    this.text("pusher-user", pusher.user ?? "");
    const { waiting_since_ms: since, session_ends_ms: end } = pusher;
    this.text("pusher-wait", since === null ? ""
      : `Waiting for the encoder since ${clock(since)}. The session ends at ${clock(end)} (in ${duration(end - now)}) unless the encoder returns.`);
  }

  urls({ push, play }) {
    const urls = [...push.map((url) => ["Push", url]), ...play.map((url) => ["Play", url])];
    list(this.lists.urls, urls, () => {
      const item = make("li");
      const [what, place, button] = [make("span"), make("code"), make("button", "Copy", { type: "button" })];
      button.addEventListener("click", async () => {
        put(button, await copy(place.textContent, place) ? "Copied" : "Press Ctrl+C");
        setTimeout(() => put(button, "Copy"), COPIED_MS);
      });
      item.append(what, place, button);
      return item;
    }, (item, [what, url]) => {
      item.dataset.way = what;
      put(item.children[0], what);
      put(item.children[1], url);
      item.children[2].setAttribute("aria-label", `Copy ${url}`);
    });
  }

  stream(stream) {
    this.show("stream", stream !== null);
    if (!stream) return;
    this.text("title", stream.title ?? "Untitled");
    this.show("author", Boolean(stream.author));
    this.text("author", stream.author ?? "");
    list(this.lists.streams, stream.streams, () => {
      const item = make("li");
      item.append(make("b"), " ", make("bdi"));
      return item;
    }, (item, one) => {
      put(item.firstElementChild, one.kind[0].toUpperCase() + one.kind.slice(1));
      const parts = streamParts(one);
      put(item.lastElementChild, parts[0] === one.kind ? parts.slice(1).join(" · ") : parts.join(" · "));
    });
  }

  rates(point) {
    const { end_ms: end, step_ms: step } = point.history;
    const known = this.history;
    if (end !== null) {
      const fresh = known.end === null ? Infinity : Math.round((end - known.end) / step);
      for (const way of ["in", "out"]) {
        const values = point.history[way];
        const whole = fresh > values.length ? values : known[way].concat(fresh > 0 ? values.slice(-fresh) : []);
        known[way] = whole.slice(-SECONDS);
      }
      if (fresh > 0) known.end = end;
    }
    const quiet = point.state === "idle" && point.players.count === 0 && [...known.in, ...known.out].every((bits) => bits === 0);
    this.show("plots", !quiet);
    if (quiet) return;
    for (const way of ["in", "out"]) this.plots[way].show(known[way]);
    this.text("in", rate(point.bit_rate_in));
    this.text("out", rate(point.bit_rate_out));
  }

  facts(point, now) {
    const { totals, pusher } = point;
    const facts = [];
    const fact = (name, value, warn = false) => facts.push({ name, value, warn });
    if (pusher) {
      fact("Pushing for", duration(now - pusher.since_ms));
      fact("Received", bytes(pusher.bytes));
      fact("Packets", number.format(pusher.packets));
      fact("Disconnects", pusher.breaks === 0 ? "none" : number.format(pusher.breaks), pusher.breaks > 0);
      if (pusher.breaks > 0) fact("Resumed", number.format(pusher.resumes));
    } else if (totals.sessions > 0) {
      fact("Received in total", bytes(totals.bytes));
      fact("Packets in total", number.format(totals.packets));
    }
    if (totals.sessions > 1) fact("Pushes in total", number.format(totals.sessions));
    if (totals.players > 0) {
      fact("Players in total", number.format(totals.players));
      fact("Sent", bytes(totals.bytes_sent));
      fact("Lost by players", totals.packets_lost === 0 ? "nothing" : count(totals.packets_lost, "packet"), totals.packets_lost > 0);
    }
    this.lists.facts.hidden = facts.length === 0;
    list(this.lists.facts, facts, () => {
      const pair = make("div");
      pair.append(make("dt"), make("dd"));
      return pair;
    }, (pair, { name, value, warn }) => {
      put(pair.firstElementChild, name);
      put(pair.lastElementChild, value);
      pair.classList.toggle("warn", warn);
    });
  }

  players({ players, state }, now) {
    this.show("players", players.count > 0);
    this.text("players", count(players.count, "player"));
    const labels = ["Address", "Player", "For", "Received", "Lost", "Behind"];
    list(this.lists.players, players.listed, () => {
      const row = make("tr", undefined, { role: "row" });
      for (const [index, label] of labels.entries()) {
        const cell = make("td", undefined, { role: "cell", "data-label": label });
        if (index > 1) cell.classList.add("number");
        if (index < 2) cell.append(make("bdi", undefined, { class: index === 0 ? "address" : "agent" }));
        row.append(cell);
      }
      return row;
    }, (row, player) => {
      const cells = row.children;
      put(cells[0].firstElementChild, player.address);
      put(cells[1].firstElementChild, [player.user, player.user_agent ?? "unknown"].filter(Boolean).join(" · "));
      put(cells[2], duration(now - player.since_ms));
      put(cells[3], bytes(player.bytes_acknowledged ?? player.bytes));
      put(cells[4], number.format(player.packets_lost));
      put(cells[5], lag(player.lag_ms));
      cells[4].classList.toggle("warn", player.packets_lost > 0);
      cells[5].classList.toggle("warn", player.lag_ms >= 1000 && (state === "pushed" || state === "pulled"));
    });
    const more = players.count - players.listed.length;
    this.text("more-players", more > 0 ? `and ${count(more, "other player")} (with fewer lost packets)` : "");
  }

  source(source) {
    this.show("source", source !== null);
    if (source === null) return;
    const parts = [source.state];
    if (source.on_demand) parts.push("on demand");
    if (source.players_waiting > 0) parts.push(`${count(source.players_waiting, "player")} waiting`);
    if (source.retry_in_ms !== null) parts.push(`next attempt in ${duration(source.retry_in_ms)}`);
    if (source.failures_in_a_row > 0) parts.push(count(source.failures_in_a_row, "failure"));
    this.text("source-location", source.location);
    this.text("source-how", parts.join(" · "));
  }

  forwards(forwards) {
    const flowing = forwards.filter((forward) => forward.state === "streaming").length;
    this.show("forwards", forwards.length > 0);
    this.text("forwards", `Relayed to ${count(forwards.length, "server")}, ${flowing} of them streaming`);
    list(this.lists.forwards, forwards, () => {
      const item = make("li");
      item.append(make("bdi"), make("span"), make("bdi", undefined, { class: "cause" }));
      return item;
    }, (item, forward) => {
      const [location, how, cause] = item.children;
      const parts = [forward.state, rate(forward.bit_rate), bytes(forward.bytes)];
      if (forward.packets_lost > 0) parts.push(`${count(forward.packets_lost, "packet")} not relayed`);
      if (forward.packets_uncertain > 0) parts.push(`${count(forward.packets_uncertain, "packet")} may not have arrived`);
      if (forward.lag_ms >= 1000) parts.push(`${lag(forward.lag_ms)} behind`);
      put(location, forward.location);
      put(how, parts.join(" · "));
      put(cause, forward.failures > 0 ? forward.last_error ?? "" : "");
      item.classList.toggle("warn", forward.failures > 0);
    });
  }

  recordings({ count: amount, listed, free_bytes: free }) {
    this.show("recordings", amount > 0 || free !== null);
    const files = amount === listed.length ? count(amount, "recording") : `${count(amount, "recording")}, the latest ${listed.length} of them`;
    this.text("recordings", free === null ? files : `${files} · ${bytes(free)} of disk space free`);
    list(this.lists.recordings, listed, () => {
      const item = make("li");
      item.append(make("a", undefined, { download: "" }), make("span"));
      return item;
    }, (item, file) => {
      put(item.firstElementChild, file.name);
      if (item.firstElementChild.getAttribute("href") !== file.path) item.firstElementChild.setAttribute("href", file.path);
      put(item.lastElementChild, file.bytes === null ? "…" : bytes(file.bytes));
    });
  }

  errors(errors) {
    this.show("errors", errors.length > 0);
    if (errors.length === 0) return;
    this.text("errors", `Last error at ${clock(errors[0].last_ms)}`);
    list(this.lists.errors, errors, () => {
      const item = make("li");
      item.append(make("time"), make("bdi"));
      return item;
    }, (item, error) => {
      put(item.firstElementChild, clock(error.last_ms));
      item.firstElementChild.dateTime = new Date(error.last_ms).toISOString();
      put(item.lastElementChild, error.count === 1 ? error.text : `${error.text} (${number.format(error.count)} times since ${clock(error.first_ms)})`);
    });
  }

  // The first click asks for confirmation, the second one disconnects.
  async clicked(name) {
    if (!this.button.classList.contains("sure")) {
      this.button.classList.add("sure");
      put(this.button, "Really disconnect?");
      this.timer = setTimeout(() => this.unsure(), SURE_MS);
      return;
    }
    this.unsure();
    try {
      const path = `/api/v1/points/${encodeURIComponent(name)}/disconnect`;
      const answer = await fetch(path, { method: "POST", cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) say((await answer.json()).error);
    } catch {
      say("The server did not respond to the request to disconnect the encoder.");
    }
  }

  unsure() {
    clearTimeout(this.timer);
    this.button.classList.remove("sure");
    put(this.button, "Disconnect");
  }
}
PointView.next = 0;

const views = new Map();
let lastAnswer = null;
let lost = null;
let notice = null;

// Shows the outcome of a request of the reader's, for a while.
function say(text) {
  notice = { text, until: Date.now() + 10_000 };
  alarm();
}

function alarm() {
  if (notice && Date.now() > notice.until) notice = null;
  const text = lost ?? notice?.text ?? null;
  byId("alarm").hidden = text === null;
  if (text !== null) put(byId("alarm"), text);
}

function showLink(state, text) {
  byId("link").dataset.state = state;
  put(byId("link-text"), text);
  document.body.classList.toggle("stale", state === "lost");
}

function logins({ count: amount, last }) {
  byId("logins").hidden = amount === 0;
  if (last === null) return;
  const user = last.user === null ? "" : ` as “${last.user}”`;
  put(byId("logins"), `${count(amount, "failed login")}. The latest: ${clock(last.time_ms)} from ${last.address}${user}, for ${last.path}`);
}

function show(status) {
  const live = status.points.filter(isLive).length;
  const sum = (key) => status.points.reduce((total, point) => total + point[key], 0);
  document.title = live > 0 ? `${live} live · ${status.product}` : status.product;
  put(byId("server"), `${status.product} ${status.version}`);
  put(byId("uptime"), `· up ${duration(status.uptime_ms)}`);
  put(byId("sum-points"), number.format(status.points.length));
  put(byId("sum-live"), number.format(live));
  put(byId("sum-players"), number.format(status.players));
  put(byId("sum-in"), rate(sum("bit_rate_in")));
  put(byId("sum-out"), rate(sum("bit_rate_out")));
  byId("sums").hidden = false;
  logins(status.failed_logins);
  byId("empty").hidden = status.points.length > 0;

  // By name, those without an encoder last: a point that loses its encoder stays where the reader looks.
  const rank = (point) => (point.state === "idle" && point.problems.length === 0 ? 1 : 0);
  const points = [...status.points].sort((one, other) => rank(one) - rank(other));
  const names = new Set(points.map((point) => point.name));
  for (const [name, view] of views) {
    if (!names.has(name)) {
      view.root.remove();
      views.delete(name);
    }
  }
  let before = null;
  for (const point of points) {
    let view = views.get(point.name);
    if (!view) {
      view = new PointView(point.name);
      views.set(point.name, view);
    }
    // Moved only if its place has changed: a move would lose the reader's focus.
    const place = before ? before.nextElementSibling : byId("points").firstElementChild;
    if (place !== view.root) byId("points").insertBefore(view.root, place);
    before = view.root;
    view.update(point, status.now_ms);
  }
}

async function ask() {
  const missed = lastAnswer === null ? SECONDS : Math.ceil((Date.now() - lastAnswer) / 1000) + 5;
  try {
    const answer = await fetch(`/api/v1/status?history=${Math.min(SECONDS, missed)}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const status = await answer.json();
    if (!answer.ok) throw new Error(status.error);
    lastAnswer = Date.now();
    lost = null;
    showLink("connected", "Page connected");
    show(status);
  } catch (error) {
    const since = lastAnswer === null ? "" : ` since ${clock(lastAnswer)}`;
    const refused = error instanceof TypeError || error.name === "TimeoutError" || error instanceof SyntaxError ? "" : `: ${error.message}`;
    lost = `No answer from the server${since}${refused}. This page tries again each second.`;
    showLink("lost", "No answer");
  }
  alarm();
}

async function run() {
  for (;;) {
    const begun = Date.now();
    // A hidden page sends no requests.
    if (!document.hidden) await ask();
    const rest = Math.max(100, PERIOD_MS - (Date.now() - begun));
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

run();
