// The Label errors page: what looks wrong to detectors, each with accept or ignore; accepted ones are changes of labels.
import { address, counted, get, h, here, link, post, say, svg } from "./dom.js";
import { showSets, whenReady } from "./data.js";

const WHAT = { missing: "a box is missing", "wrong class": "another class", loose: "a better box", duplicated: "labeled twice" };
const SHOWN = ["open", "accepted", "ignored", "all"];

export async function show(main, words) {
  const set = words.get("set");
  if (!set) return showSets(main, "/errors", "Label errors");
  main.replaceChildren(h("h1", {}, set));
  await whenReady(main, set);
  const page = { main, set, words, closed: false };
  await draw(page);
  return () => { page.closed = true; };
}

async function draw(page) {
  const { main, set, words } = page;
  page.facts = await get("/api/errors/state", { set });
  if (page.closed) return;
  const { facts } = page;
  const option = (value, text, chosen) => h("option", { value, selected: value === chosen }, text);
  const model = h("select", { id: "model" }, facts.models.map((one) => option(one, facts.folds.includes(one) ? `${one} (folds)` : one)));
  const split = h("select", { id: "split" }, option("", "default"), ["train", "val", "test"].map((one) => option(one, one)));
  const start = h("button", { id: "search", class: "main", disabled: !facts.models.length, onclick: async () => {
    try {
      await post("/api/errors/search", { set, model: model.value, split: split.value });
      await draw(page);
    } catch (error) { say(error.message); }
  } }, "Search");
  page.told = h("div", { id: "told", "aria-live": "polite" });
  page.grid = h("ul", { class: "grid errors", id: "grid" });
  page.pager = h("div", { class: "row pager" });
  page.saveButton = h("button", { id: "save", onclick: () => save(page) }, "Save a version");
  const undo = h("button", { id: "undo", onclick: () => step(page, "undo") }, "Undo");
  main.replaceChildren(h("div", { class: "row head" }, h("h1", {}, `Label errors of ${facts.name}`),
    h("span", { class: "push row" }, undo, page.saveButton, h("a", { class: "button", href: link("/labels", { set }) }, "Labels"))),
  facts.models.length ? h("div", { class: "row tools" }, h("label", {}, "Checkpoint or folds ", model), h("label", {}, "Split ", split), start)
    : h("p", {}, "There is no checkpoint in this folder yet: train one on the Runs page, best with folds=5."),
  h("p", { class: "small soft" }, "A detector cannot see errors that it has learned. Search val, or train with folds=5 and choose the folder of its runs: " +
    "then every image is looked at by the fold that has not learned it."), page.told, page.grid, page.pager);
  page.drawDraft = (draft) => { page.draft = draft; page.saveButton.disabled = undo.disabled = draft.at === 0; };
  page.drawDraft(facts.draft);
  if (!facts.search) return;
  if (facts.search.failed) { page.told.replaceChildren(h("p", { class: "error", role: "alert" }, facts.search.failed)); return; }
  if (facts.search.searching) {
    page.told.replaceChildren(h("p", { role: "status" }, `${facts.search.model} looks at the images ...`));
    setTimeout(() => { if (!page.closed) draw(page).catch((error) => say(error.message)); }, 1000);
    return;
  }
  await load(page, words);
}

async function load(page, words = here().words) {
  const query = { show: words.get("show") || "open", kind: words.get("kind") || "", page: Number(words.get("page") || 0) };
  const content = await get("/api/errors/list", { set: page.set, ...query });
  if (page.closed) return;
  page.drawDraft(content.draft);
  const go = (changes) => { location.hash = link("/errors", { set: page.set, ...query, page: 0, ...changes }); };
  const choice = (name, values, text) => h("select", { "aria-label": name, onchange: (event) => go({ [name]: event.target.value }) },
    values.map((one) => h("option", { value: one, selected: one === query[name] }, text(one))));
  page.told.replaceChildren(h("div", { class: "row" }, h("strong", { id: "total" }, counted(content.total, "suspicion")),
    choice("show", SHOWN, (one) => (one === "all" ? "all" : `${one} (${content.states[one] || 0})`)), choice("kind", ["", ...page.facts.kinds], (one) => one || "every kind"),
    h("button", { id: "accept-page", disabled: !content.items.length, onclick: () => act(page, "accept", content.items.map((one) => one.place)) }, "Accept this page"),
    page.facts.search.cross_fitted ? null : h("span", { class: "small sev-warning" }, "The detector has learned these images: it sees few of their errors.")));
  page.grid.replaceChildren(...content.items.map((one) => h("li", {}, card(page, one))));
  if (!content.total) page.grid.replaceChildren(h("li", {}, "Nothing is suspicious here."));
  page.pager.replaceChildren(h("button", { disabled: query.page === 0, onclick: () => go({ page: query.page - 1 }) }, "Previous"),
    h("span", {}, `page ${query.page + 1} of ${content.pages || 1}`), h("button", { disabled: query.page + 1 >= content.pages, onclick: () => go({ page: query.page + 1 }) }, "Next"));
}

// The surroundings of the boxes: the label in red, what is suggested in green.
function card(page, one) {
  const boxes = [[one.box, "was"], [one.suggested_box, "will"]].filter(([box]) => box);
  const low = [0, 1].map((axis) => Math.min(...boxes.map(([box]) => box[axis])));
  const high = [2, 3].map((axis) => Math.max(...boxes.map(([box]) => box[axis])));
  const rim = Math.max(16, high[0] - low[0], high[1] - low[1]) * .6;
  const view = [low[0] - rim, low[1] - rim, high[0] - low[0] + 2 * rim, high[1] - low[1] + 2 * rim];
  const name = (label) => page.facts.classes[label] ?? "?";
  const change = { missing: `add ${name(one.suggested_label)}`, "wrong class": `${name(one.label)} becomes ${name(one.suggested_label)}`,
    loose: `${name(one.label)}: move the box`, duplicated: `remove one ${name(one.label)}` }[one.kind];
  const about = `${WHAT[one.kind]}: ${change}, ${one.name}`;
  return h("article", { class: "suspicion", "aria-label": about },
    svg("svg", { viewBox: view.join(" "), role: "img", "aria-label": about },
      svg("image", { href: address("/api/data/picture", { set: page.set, n: one.n, v: page.facts.version }), width: one.width, height: one.height, preserveAspectRatio: "none" }),
      boxes.map(([box, kind]) => svg("rect", { class: `box ${kind}`, x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] }))),
    h("div", { class: "small" }, h("strong", {}, one.kind), ` ${one.score.toFixed(2)}`, h("br"), change),
    h("a", { class: "small", href: link("/labels", { set: page.set, name: one.name.split("/").at(-1), n: one.n }) }, one.name.split("/").at(-1)),
    one.state === "accepted" ? h("div", { class: "row soft" }, "accepted")
      : h("div", { class: "row" }, h("button", { class: "accept", "aria-label": `Accept: ${about}`, onclick: () => act(page, "accept", [one.place]) }, "Accept"),
        one.state === "ignored" ? h("button", { "aria-label": `Show again: ${about}`, onclick: () => act(page, "ignore", [one.place], { on: false }) }, "Show again")
          : h("button", { class: "ignore", "aria-label": `Ignore: ${about}`, onclick: () => act(page, "ignore", [one.place]) }, "Ignore")));
}

async function act(page, path, places, more = {}) {
  try {
    await post(`/api/errors/${path}`, { set: page.set, places, revision: page.draft.revision, ...more });
  } catch (error) { say(error.message); }
  await load(page);
}

async function step(page, way) {
  try {
    const { what } = await post(`/api/labels/${way}`, { set: page.set, revision: page.draft.revision });
    say(`undone: ${what}`);
  } catch (error) { say(error.message); }
  await draw(page);
}

async function save(page, beside = false) {
  try {
    const told = await post("/api/labels/save", { set: page.set, revision: page.draft.revision, beside });
    say(`saved: ${told.name}`);
    location.hash = link("/labels", { set: told.set });
  } catch (error) {
    if (error.status !== 409 || beside) { say(error.message); return; }
    page.told.prepend(h("p", { class: "error", role: "alert" }, error.message, " ", h("button", { onclick: () => save(page, true) }, "Save beside it")));
  }
}
