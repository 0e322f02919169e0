"use strict";
// The explorable page: which models, which quantities, which scale; one picture at a time.

// Colours that the colour-blind can tell apart, and markers for everybody.
const COLOURS = [
  "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133",
  "#56b4e9",
];
const MARKERS = ["circle", "square", "diamond", "triangle-down", "triangle-up", "cross", "star"];
const TOOLS = [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: TOOLS };
const WHO = ["group", "name", "hollow", "reason"]; // columns of points that are no quantities
const SHARPNESS = "worst_case_sharpness"; // the published dots have an axis of their own for it

const at = (id) => document.getElementById(id);
const words = (name) => name.replaceAll("_", " ");

let data; // all that the page holds
let set; // the models that are chosen
let view; // which of their points
let spots = []; // the points that are drawn, in the order of the keys
let current = -1; // the spot that was last pointed at
const hidden = new Set(); // groups that the reader has switched off

async function unpacked(id) {
  const packed = Uint8Array.from(atob(at(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = chosen;
}

function label(name) {
  const symbol = set.quantities[name].symbol || words(name);
  return symbol.toLowerCase() === words(name) ? symbol : `${symbol} · ${words(name)}`;
}

function fillSets() {
  for (const paper of [...Object.keys(data.papers), ""]) {
    const group = document.createElement("optgroup");
    group.label = data.papers[paper] ?? "Both papers";
    const own = data.sets.filter((entry) => entry.paper === paper);
    group.append(...own.map((entry) => new Option(entry.title, entry.id)));
    if (own.length) at("set").append(group);
  }
}

// Shows a scatter; what is not given is taken as the view has it.
function show({ set: setId, view: viewName = "", x = "", y = "" }) {
  set = data.sets.find((entry) => entry.id === setId);
  view = set.views.find((entry) => entry.name === viewName) ?? set.views[0];
  const quantities = Object.keys(view.points).filter(
    (name) => !WHO.includes(name) && !name.endsWith("_se"),
  );
  const options = quantities.map((name) => [name, label(name)]);
  const known = (name, other) => [name, other, ...quantities].find((n) => quantities.includes(n));
  at("set").value = set.id;
  fill(at("view"), set.views.map((entry) => [entry.name, entry.title]), view.name);
  fill(at("x"), options, known(x, view.x));
  fill(at("y"), options, known(y, view.y));
  at("log-x").checked = at("log-y").checked = view.logarithmic;
  at("errors").checked = !view.lines;
  hidden.clear();
  fillGroups();
  draw();
}

function groups() {
  return [...new Set(view.points.group)];
}

function fillGroups() {
  const boxes = groups().map((group, index) => {
    const swatch = element("span", "", "swatch");
    swatch.style.background = COLOURS[index % COLOURS.length];
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: true, value: group });
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](group);
      draw();
    });
    const line = document.createElement("label");
    line.append(box, swatch, group);
    return line;
  });
  at("groups").replaceChildren(at("groups").firstElementChild, ...boxes);
}

// Rows of the view that can be drawn, and how many cannot, by reason.
function drawable(x, y) {
  const points = view.points;
  const missing = new Map();
  const rows = points.group.flatMap((group, row) => {
    const [across, upwards] = [points[x][row], points[y][row]];
    let why = "";
    if (hidden.has(group)) why = "switched off";
    else if (group === data.published && x !== SHARPNESS) why = "published against sharpness only";
    else if (across === null || upwards === null) why = points.reason[row] || "without a value";
    else if ((at("log-x").checked && across <= 0) || (at("log-y").checked && upwards <= 0))
      why = "not positive, so not on a logarithmic scale";
    if (why) missing.set(why, (missing.get(why) ?? 0) + 1);
    return why ? [] : [row];
  });
  return { rows, missing };
}

// One trace a group, or a run where points follow each other.
function traces(rows, x, y) {
  const order = groups();
  const parts = Map.groupBy(rows, (row) =>
    view.lines ? `${view.points.group[row]} ${view.points.name[row]}` : view.points.group[row],
  );
  const errors = (name, members) => ({
    array: members.map((row) => view.points[`${name}_se`]?.[row] ?? 0),
    visible: at("errors").checked, thickness: 0.8, width: 0,
  });
  return [...parts.values()].map((members) => {
    const group = view.points.group[members[0]];
    const index = order.indexOf(group);
    const marker = MARKERS[index % MARKERS.length];
    return {
      x: members.map((row) => view.points[x][row]),
      y: members.map((row) => view.points[y][row]),
      xaxis: group === data.published ? "x2" : "x",
      error_x: errors(x, members), error_y: errors(y, members),
      text: members.map((row) => story(row, x, y).replaceAll("<", "&lt;").replaceAll("\n", "<br>")),
      customdata: members, hoverinfo: "text", name: group, showlegend: false,
      mode: view.lines ? "lines+markers" : "markers", line: { width: 1 },
      marker: {
        color: COLOURS[index % COLOURS.length], size: view.lines ? 5 : 9,
        symbol: members.map((row) => (view.points.hollow[row] ? `${marker}-open` : marker)),
      },
    };
  });
}

// Few digits for reading; steps and counts keep theirs.
function short(value, digits) {
  return Number.isInteger(value) ? value : Number(value.toPrecision(digits));
}

// What is said of a point: which model, and its values with standard errors.
function story(row, x, y) {
  const points = view.points;
  const value = (name) => {
    const error = points[`${name}_se`]?.[row] ?? null;
    const range = error === null ? "" : ` ± ${short(error, 2)}`;
    return `${label(name)} = ${short(points[name][row], 5)}${range}`;
  };
  const step = points.step ? `step ${points.step[row]}` : "";
  const who = [points.group[row], points.name[row], step].filter(Boolean).join(" · ");
  return [who, value(x), value(y), points.reason[row]].filter(Boolean).join("\n");
}

function layout(x, y, published) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const [text, line] = [colour("text"), colour("line")];
  const axis = (id, name) => ({
    title: { text: label(name), standoff: 8 }, type: at(id).checked ? "log" : "linear",
    automargin: true, gridcolor: line, zerolinecolor: line, linecolor: text, exponentformat: "power",
  });
  const title = { text: "published sharpness" };
  const second = { overlaying: "x", side: "top", tickmode: "auto", showgrid: false, title };
  return {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: text },
    margin: { l: 50, r: 15, t: published ? 75 : 30, b: 45 }, hovermode: "closest",
    hoverlabel: { bgcolor: colour("card"), font: { color: text } },
    modebar: { bgcolor: "transparent", color: colour("soft"), activecolor: text },
    xaxis: axis("log-x", x), yaxis: axis("log-y", y),
    ...(published ? { xaxis2: { ...axis("log-x", x), ...second } } : {}),
  };
}

function draw() {
  const [x, y] = [at("x").value, at("y").value];
  const { rows, missing } = drawable(x, y);
  const drawn = traces(rows, x, y);
  const published = drawn.some((trace) => trace.xaxis === "x2");
  if (at("plot").data) Plotly.Fx.unhover(at("plot"));
  Plotly.react(at("plot"), drawn, layout(x, y, published), CONFIG);
  spots = drawn.flatMap((trace, curveNumber) =>
    trace.customdata.map((row, pointNumber) => ({
      curveNumber, pointNumber, row, subplot: trace.xaxis === "x2" ? "x2y" : "xy",
    })),
  );
  if (!view.lines) spots.sort((a, b) => view.points[x][a.row] - view.points[x][b.row]);
  current = -1;
  at("told").textContent = "";
  at("plot").setAttribute("aria-label", `${set.title}, ${view.title}: ${label(y)} over ${label(x)}`);
  const reasons = [...missing].map(([why, count]) => `${count} ${why}`);
  at("count").textContent = [`${rows.length} points shown`, ...reasons].join(" · ");
  at("meaning").textContent = [...new Set([x, y])].filter((name) => set.quantities[name].description)
    .map((name) => `${words(name)}: ${set.quantities[name].description}`).join(" — ");
  at("tables").textContent = `From ${set.tables.join(", ")}`;
  listClaims(x, y);
}

function tell(index) {
  current = index;
  at("told").textContent = story(spots[index].row, at("x").value, at("y").value);
}

function onKey(event) {
  const moves = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: spots.length - 1 };
  if (!(event.key in moves) || !spots.length) return;
  event.preventDefault();
  point(Math.min(Math.max(moves[event.key], 0), spots.length - 1));
}

function point(index) {
  const { curveNumber, pointNumber, subplot } = spots[index];
  tell(index);
  Plotly.Fx.hover(at("plot"), [{ curveNumber, pointNumber }], [subplot]);
}

// Whether a claim is read off the scatter that is shown, whichever way its axes lie.
function isHere(claim, x, y) {
  const axes = [claim.x, claim.y].sort().join() === [x, y].sort().join();
  return claim.set === set.id && axes && claim.view === view.name;
}

function listClaims(x, y) {
  const own = data.claims.filter((claim) => claim.set === set.id);
  const rank = (claim) => (isHere(claim, x, y) ? 0 : claim.x ? 2 : 1);
  own.sort((a, b) => rank(a) - rank(b));
  const others = data.claims.filter((claim) => claim.set !== set.id);
  at("claims").replaceChildren(...own.map((claim) => claimLine(claim, isHere(claim, x, y))));
  if (!own.length) at("claims").append(element("li", "No claim is read off these models."));
  at("others").replaceChildren(...others.map((claim) => claimLine(claim, false)));
}

function claimLine(claim, here) {
  const line = element("li", "", here ? "here" : "");
  const mood = /^(reproduced|in sign|holds)/.test(claim.verdict) ? "good"
    : /^(not reproduced|violated)/.test(claim.verdict) ? "bad" : "";
  const numbers = [claim.value, claim.n ? `n = ${claim.n}` : "",
    claim.published === "" ? "" : `published ${claim.published}`].filter(Boolean).join(" · ");
  line.append(
    element("div", claim.statement), element("div", claim.verdict, `verdict ${mood}`),
    element("div", numbers), element("div", `${claim.id} · ${claim.source}`, "soft"),
  );
  if (claim.shown && !here) {
    const button = element("button", "show");
    button.setAttribute("aria-label", `show the scatter of ${claim.short}`);
    button.addEventListener("click", () => show(claim));
    line.append(button);
  }
  return line;
}

async function start() {
  const library = document.createElement("script");
  library.textContent = await unpacked("library");
  document.head.append(library);
  data = JSON.parse(await unpacked("data"));
  if (!data.sets.length) throw new Error("this run has no models to show");
  fillSets();
  document.querySelector("main").hidden = false;
  show({ set: data.sets[0].id });
  at("set").addEventListener("change", () => show({ set: at("set").value }));
  at("view").addEventListener("change", () => {
    const next = set.views.find((entry) => entry.name === at("view").value);
    const kept = next.lines === view.lines ? { x: at("x").value, y: at("y").value } : {};
    show({ set: set.id, view: next.name, ...kept });
  });
  for (const id of ["x", "y", "log-x", "log-y", "errors"]) at(id).addEventListener("change", draw);
  at("plot").on("plotly_hover", ({ points: [found] }) => {
    const row = found.data.customdata[found.pointNumber];
    tell(spots.findIndex((spot) => spot.row === row));
  });
  at("plot").addEventListener("keydown", onKey);
  at("plot").addEventListener("focus", () => {
    if (spots.length && at("plot").matches(":focus-visible")) point(Math.max(current, 0));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

start().catch((error) => {
  at("fault").hidden = false;
  at("fault").textContent = `This page cannot be explored here: ${error.message}. Its pictures are in report.html.`;
});
