// The Runs page: a list with search, curves of the chosen runs, and starting, stopping and resuming.
import { address, get, h, here, link, post, say, svg } from "./dom.js";

const CURVES = ["metrics/map", "metrics/map_50", "metrics/precision", "metrics/recall", "train/box_loss", "val/box_loss",
  "train/cls_loss", "val/cls_loss", "lr", "images_per_s"];
const COLORS = ["#1d84db", "#e63946", "#2a9d5a", "#f48c06", "#8356d1", "#00a8b5", "#de4fa0", "#a67c00"];
const SECONDS = 2;
const [WIDTH, HEIGHT] = [320, 150];

export async function show(main, words) {
  if (words.has("new")) return showForm(main);
  const table = h("tbody", {});
  const curves = h("div", { class: "charts" });
  const failed = h("div", {});
  const queue = h("div", { id: "queue" });
  const search = h("input", { type: "search", size: 28, placeholder: "part of a name or option", "aria-label": "Search runs", oninput: () => draw() });
  main.replaceChildren(h("div", { class: "row head" }, h("h1", {}, "Runs"), h("a", { class: "button push", href: link("/runs", { new: 1 }) }, "Start a training")),
    failed, queue, h("div", { class: "row" }, search),
    h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Runs" }, h("table", {},
      h("caption", {}, "Choose runs to see their curves over one another"),
      h("thead", {}, h("tr", {}, ["Run", "State", "Epochs", "Best AP", "Model", "Data", "imgsz", "batch", ""].map((title, place) =>
        h("th", { scope: "col", class: [0, 1, 4, 5].includes(place) ? "text" : null }, title)))), table)),
    h("h2", {}, "Curves"), curves);
  let content = { runs: [], failed: [], queue: [] };

  function chosen() { return here().words.getAll("run"); }

  function draw() {
    const part = search.value.toLowerCase();
    const runs = content.runs.filter((run) => `${run.name} ${Object.values(run.options).join(" ")}`.toLowerCase().includes(part));
    const focused = document.activeElement?.id;
    table.replaceChildren(...runs.map(line));
    if (!runs.length) table.replaceChildren(h("tr", {}, h("td", { class: "text", colspan: 9 }, "There is no run here yet.")));
    drawQueue();
    if (focused) document.getElementById(focused)?.focus();
    failed.replaceChildren(...content.failed.map((one) => h("p", { class: "error", role: "alert" }, `A training ended: ${one.message}`)));
  }

  function drawQueue() {
    const item = (one) => h("li", { class: "row" }, h("span", { class: `state-${one.state}` }, one.state), h("code", {}, one.words.join(" ")),
      one.message ? h("span", { class: "sev-error" }, one.message) : null, one.state === "running" ? null
        : h("button", { id: `remove-${one.number}`, "aria-label": `Remove training ${one.number}`, onclick: async () => {
          await post("/api/runs/unqueue", { number: one.number });
          await load();
        } }, "Remove"));
    queue.replaceChildren(...(content.queue.length ? [h("h2", {}, "Queue"), h("ol", { class: "queue" }, content.queue.map(item))] : []));
  }

  function line(run, place) {
    const on = chosen().includes(run.name);
    const pick = h("input", { type: "checkbox", id: `pick-${place}`, checked: on, onchange: (event) => {
      const names = chosen().filter((name) => name !== run.name);
      location.hash = link("/runs", { run: event.target.checked ? [...names, run.name] : names });
    } });
    const planned = run.options.epochs ? ` of ${run.options.epochs}` : "";
    return h("tr", {}, h("th", { scope: "row" }, h("label", {}, pick, " ", run.name)),
      h("td", { class: "text" }, h("span", { class: `state-${run.state}` }, run.state)), h("td", {}, `${run.epoch}${planned}`),
      h("td", {}, run.best === null ? "-" : run.best.toFixed(3)), h("td", { class: "text" }, run.options.model || ""),
      h("td", { class: "text" }, (run.options.data || "").split("/").slice(-2).join("/")), h("td", {}, run.options.imgsz || ""), h("td", {}, run.options.batch || ""),
      h("td", {}, run.state === "running" ? act("Stop", "stop", run) : run.resumes ? act("Resume", "resume", run) : "",
        run.report ? h("a", { href: address("/api/runs/report", { run: run.name }), target: "_blank" }, "Report") : ""));
  }

  function act(title, path, run) {
    return h("button", { "aria-label": `${title} ${run.name}`, onclick: async (event) => {
      event.target.disabled = true;
      await post(`/api/runs/${path}`, { run: run.name });
      say(path === "stop" ? `${run.name} saves and stops after this step` : `${run.name} goes on`);
    } }, title);
  }

  async function load() {
    content = await get("/api/runs/list");
    draw();
    const names = chosen().length ? chosen() : content.runs.slice(0, 1).map((run) => run.name);
    const found = names.length ? await get("/api/runs/curves", { run: names }) : {};
    const columns = CURVES.filter((name) => names.some((run) => found[run]?.[name]));
    curves.replaceChildren(...columns.map((column) => chart(column, names, found)));
    if (!columns.length) curves.replaceChildren(h("p", { class: "soft" }, "There is no finished epoch yet."));
  }
  await load();
  const timer = setInterval(() => load().catch((error) => say(error.message)), 1000 * SECONDS);
  return () => clearInterval(timer);
}

function chart(column, names, found) {
  const all = names.flatMap((run) => found[run]?.[column] || []).filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...all), Math.max(...all, 1e-9)];
  const most = Math.max(2, ...names.map((run) => found[run]?.[column]?.length || 0));
  const lines = names.map((run, place) => {
    const values = found[run]?.[column] || [];
    const points = values.map((value, n) => value === null ? null
      : `${(n * WIDTH / (most - 1)).toFixed(1)},${(HEIGHT - (value - low) / (high - low) * HEIGHT).toFixed(1)}`).filter(Boolean);
    const color = COLORS[place % COLORS.length];
    return points.length === 1 ? svg("circle", { cx: points[0].split(",")[0], cy: points[0].split(",")[1], r: 3, fill: color })
      : svg("polyline", { points: points.join(" "), stroke: color, fill: "none", "stroke-width": 2, "vector-effect": "non-scaling-stroke" });
  });
  const last = names.map((run, place) => h("li", {}, h("span", { class: "tag", style: { background: COLORS[place % COLORS.length] } }),
    `${run}: ${(found[run]?.[column] || []).at(-1)?.toPrecision(3) ?? "-"}`));
  return h("figure", { class: "chart" }, h("figcaption", {}, `${column} (0 to ${high.toPrecision(3)}, epoch 1 to ${most})`),
    svg("svg", { viewBox: `-4 -4 ${WIDTH + 8} ${HEIGHT + 8}`, role: "img", "aria-label": `${column} by epoch` }, lines), h("ul", {}, last));
}

// The form is made from the options of det train; what is left empty keeps its default.
async function showForm(main) {
  const [groups, { sets }] = await Promise.all([get("/api/runs/form"), get("/api/sets")]);
  const inputs = {};
  const told = h("div", { "aria-live": "polite" });
  const field = (one) => {
    const choices = one.name === "data" ? sets : one.choices;
    const input = choices.length ? h("select", { id: `o-${one.name}` }, one.name === "data" ? null : h("option", { value: "" }, one.default ? `default (${one.default})` : "default"),
      choices.map((choice) => h("option", { value: choice }, choice)))
      : h("input", { id: `o-${one.name}`, placeholder: one.default, autocomplete: "off" });
    inputs[one.name] = input;
    return h("div", { class: "field" }, h("label", { for: `o-${one.name}` }, one.name, h("span", { class: "soft small" }, ` ${one.kind}`)), input,
      h("p", { class: "soft small" }, one.doc));
  };
  const options = () => Object.fromEntries(Object.entries(inputs).filter(([, input]) => input.value !== "").map(([name, input]) => [name, input.value]));
  const send = (path) => async () => {
    try {
      const { command } = await post(path, { options: options() });
      if (!path.endsWith("check")) { say(path.endsWith("start") ? "The training begins." : "The training waits in the queue."); location.hash = link("/runs"); return; }
      told.replaceChildren(h("pre", {}, `det train ${command.join(" ")}`));
    } catch (error) {
      told.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    }
  };
  main.replaceChildren(h("h1", {}, "Start a training"), groups.map((group, place) => h("details", { open: place === 0, class: "group" },
    h("summary", {}, group.title), h("div", { class: "fields" }, group.options.map(field)))).reduce((all, one) => { all.append(one); return all; }, h("div", {})),
    told, h("div", { class: "row pager" }, h("button", { class: "main", onclick: send("/api/runs/start") }, "Start"),
      h("button", { id: "queue-it", onclick: send("/api/runs/queue") }, "Add to the queue"),
      h("button", { onclick: send("/api/runs/check") }, "Check"), h("a", { class: "button", href: link("/runs") }, "Back")));
  const first = groups.find((group) => group.options.some((one) => one.name === "data"));
  if (first) [...main.querySelectorAll("details")][groups.indexOf(first)].open = true;
  return null;
}
