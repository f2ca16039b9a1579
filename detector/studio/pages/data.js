// The Data page: which data sets there are, and one of them as a grid with filters.
import { address, counted, get, h, here, link, post, say, svg } from "./dom.js";
import { openViewer } from "./viewer.js";

const TITLES = {
  split: "Split", class: "Class", labels: "Labels", finding: "Finding", size: "Size of a box", aspect: "Shape of a box",
  count: "Boxes per image", copies: "Near-duplicates",
};
const FIRST_VALUES = 12;
const HINTS = { small: "side below 32 px", medium: "side of 32 to 96 px", large: "side of 96 px and more" };

export async function show(main, words) {
  const name = words.get("set");
  if (!name) return showSets(main, "/data", "Data sets");
  if (main.dataset.set !== name || !main.querySelector(".grid")) await frame(main, name);
  await view(main, name, words);
  return null;
}

export async function showSets(main, to, title) {
  delete main.dataset.set;
  const { sets } = await get("/api/sets");
  const cards = sets.map((name) => h("li", {}, h("a", { href: link(to, { set: name }) }, name === "." ? "this folder" : name)));
  main.replaceChildren(h("h1", {}, title), cards.length
    ? h("ul", { class: "cards" }, cards)
    : h("p", {}, "There is no data set in this folder. Start det studio with a folder that holds one: det studio my-data"));
  return null;
}

// Returns when a data set is read; says how far it is.
export async function whenReady(main, name) {
  let state = await get("/api/data/state", { set: name });
  if (state.ready) return state;
  const bar = h("progress", { "aria-label": "Reading the data set" });
  const text = h("p", { role: "status" }, "Reading ...");
  main.append(text, bar);
  while (!state.ready) {
    if (state.failed) throw new Error(state.failed);
    if (state.total) {
      [bar.max, bar.value] = [state.total, state.done];
      text.textContent = `Reading: ${state.done.toLocaleString("en-US")} of ${counted(state.total, "image")}`;
    }
    await new Promise((done) => setTimeout(done, 150));
    state = await get("/api/data/state", { set: name });
  }
  return state;
}

// The parts that stay while filters change.
async function frame(main, name) {
  main.dataset.set = name;
  main.replaceChildren(h("h1", {}, name));
  const state = await whenReady(main, name);
  const facts = await get("/api/data/facts", { set: name });
  main.facts = facts;
  const search = h("input", { type: "search", id: "name", placeholder: "part of a file name", "aria-label": "Part of a file name",
    onchange: (event) => change({ name: event.target.value ? [event.target.value] : [] }) });
  const narrow = matchMedia("(max-width: 800px)").matches;
  main.replaceChildren(
    h("div", { class: "row head" }, h("h1", {}, facts.name),
      h("span", { class: "soft" }, `${facts.format}, ${counted(facts.images, "image")}, ${counted(facts.boxes, "box")}, ` +
        counted(facts.classes.length, "class") + (facts.license ? `, license ${facts.license}` : "")),
      h("span", { class: "push row" }, h("a", { class: "button", id: "label-these" }, "Label these"),
        h("button", { onclick: () => again(main, name) }, "Read again"))),
    h("div", { id: "general" }),
    h("div", { class: "split" },
      h("details", { class: "side", open: !narrow }, h("summary", {}, "Filters"), search,
        h("div", { id: "facets" })),
      h("div", {}, h("div", { class: "row" }, h("strong", { id: "total", "aria-live": "polite" }),
        h("button", { id: "clear", onclick: () => { location.hash = link("/data", { set: name }); } }, "Clear filters"),
        h("label", { class: "push small" }, h("input", { type: "checkbox", id: "boxes", checked: true,
          onchange: (event) => main.classList.toggle("no-boxes", !event.target.checked) }), " boxes"), mover(name)),
        h("ul", { class: "grid", id: "grid" }), h("div", { class: "row pager", id: "pager" }))));
  if (state.doing) watch(main, name, facts.version);
}

// Moves all images that the filters choose to another split, as a change that the next saved version has.
function mover(name) {
  const to = h("select", { id: "move-to", "aria-label": "Split to move to" }, ["train", "val", "test"].map((one) => h("option", { value: one }, one)));
  return h("span", { class: "row small" }, h("button", { id: "move", onclick: async () => {
    const { draft } = await get("/api/labels/facts", { set: name });
    const { set, page, ...words } = filtersOf(here().words);
    const { images } = await post("/api/labels/move", { set: name, words, to: to.value, revision: draft.revision });
    say(`${counted(images, "image")} moved to ${to.value}: save a version on the Labels page, or undo it there.`);
  } }, "Move the chosen images to"), to);
}

// Findings of the whole set come later, and near-duplicates when they are asked for.
async function watch(main, name, version) {
  for (;;) {
    await new Promise((done) => setTimeout(done, 400));
    if (main.dataset.set !== name || here().words.get("set") !== name) return;
    const state = await get("/api/data/state", { set: name });
    const bar = main.querySelector("#doing");
    if (bar) bar.textContent = state.doing + (state.total ? `: ${state.done} of ${state.total}` : "");
    if (state.failed) say(state.failed);
    if (state.version !== version || !state.doing) {
      main.facts = await get("/api/data/facts", { set: name });
      version = state.version;
      await view(main, name, here().words);
    }
    if (!state.doing) return;
  }
}

async function again(main, name) {
  await post("/api/data/again", { set: name });
  delete main.dataset.set;
  await show(main, here().words);
}

// The filters in the address, changed; the page goes back to the first.
function change(changes) {
  const { words } = here();
  for (const [name, values] of Object.entries(changes)) {
    words.delete(name);
    values.forEach((value) => words.append(name, value));
  }
  if (!("page" in changes)) words.delete("page");
  location.hash = `#/data?${words}`;
}

function filtersOf(words) {
  const query = {};
  for (const name of new Set(words.keys())) query[name] = words.getAll(name);
  return query;
}

async function view(main, name, words) {
  const query = filtersOf(words);
  const content = await get("/api/data/view", { ...query, facets: 1 });
  if (here().words.toString() !== words.toString()) return;
  const page = Number(words.get("page") || 0);
  main.querySelector("#total").textContent = `${counted(content.total, "image")}, ${counted(content.boxes, "box")} chosen`;
  const filtered = [...words.keys()].some((key) => key !== "set" && key !== "page");
  main.querySelector("#clear").hidden = !filtered;
  main.querySelector("#name").value = words.get("name") || "";
  const chosen = new URLSearchParams(words);
  chosen.delete("page");
  main.querySelector("#label-these").href = `#/labels?${chosen}`;
  showGeneral(main);
  showFacets(main, name, content.facets, words);
  const open = (place) => openViewer({ set: name, query, page, place, content, facts: main.facts });
  main.querySelector("#grid").replaceChildren(...content.images.map((image, place) =>
    h("li", {}, tile(name, image, main.facts, () => open(place)))));
  if (!content.total) main.querySelector("#grid").replaceChildren(h("li", {}, "No image fits all the filters."));
  showPager(main, page, content.pages);
}

function showGeneral(main) {
  const about = main.facts.general.filter((one) => one.severity !== "info");
  main.querySelector("#general").replaceChildren(...about.map((one) =>
    h("p", { class: one.severity === "error" ? "error" : "note" }, h("strong", {}, one.id), ": ", one.message)));
}

function showFacets(main, name, facets, words) {
  const groups = Object.entries(TITLES).map(([facet, title]) => {
    const values = facets[facet].filter(([value, count]) => count || words.getAll(facet).includes(value) || facet === "copies");
    if (facet === "copies" && !facets.copies.length) return copiesButton(main, name, title);
    if (!values.length) return null;
    const shown = facet === "class" ? [...values].sort((a, b) => b[1] - a[1]) : values;
    const most = Math.max(1, ...shown.map(([, count]) => count));
    const buttons = shown.map(([value, count]) => valueButton(main, facet, value, count, most, words));
    const rest = buttons.slice(FIRST_VALUES);
    rest.forEach((button) => { button.hidden = button.getAttribute("aria-pressed") !== "true"; });
    const more = rest.length ? h("button", { class: "more", onclick: (event) => {
      rest.forEach((button) => { button.hidden = false; });
      event.target.remove();
    } }, `show all ${shown.length}`) : null;
    return h("fieldset", { class: "facet" }, h("legend", {}, title), buttons, more);
  });
  main.querySelector("#facets").replaceChildren(...groups.filter(Boolean));
}

function copiesButton(main, name, title) {
  return h("fieldset", { class: "facet" }, h("legend", {}, title),
    h("button", { onclick: async (event) => {
      event.target.disabled = true;
      await post("/api/data/copies", { set: name });
      watch(main, name, main.facts.version);
    } }, "Find near-duplicates"), h("p", { class: "small soft", id: "doing", role: "status" }));
}

function valueButton(main, facet, value, count, most, words) {
  const pressed = words.getAll(facet).includes(value);
  const label = facet === "class" ? main.facts.classes[Number(value)] : value;
  const dot = facet === "class"
    ? h("span", { class: "dot", style: { background: color(main.facts, Number(value)) } }) : null;
  const severity = facet === "finding" ? ` sev-${main.facts.severity[value]}` : "";
  return h("button", { class: `value${count ? "" : " none"}`, "aria-pressed": String(pressed), title: HINTS[value] || label,
    onclick: () => {
      const left = words.getAll(facet).filter((one) => one !== value);
      change({ [facet]: pressed ? left : [...left, value] });
    } },
    h("span", { class: "bar", style: { width: `${100 * count / most}%` } }), dot,
    h("span", { class: `name${severity}` }, label), h("span", { class: "count" }, count.toLocaleString("en-US")));
}

function showPager(main, page, pages) {
  const go = (to) => () => { change({ page: to ? [to] : [] }); scrollTo(0, 0); };
  main.querySelector("#pager").replaceChildren(
    h("button", { disabled: page === 0, onclick: go(page - 1) }, "Previous"),
    h("span", {}, `page ${pages ? page + 1 : 0} of ${pages.toLocaleString("en-US")}`),
    h("button", { disabled: page + 1 >= pages, onclick: go(page + 1) }, "Next"));
}

export function color(facts, label) {
  return facts.colors[label % facts.colors.length];
}

export function boxShapes(image, facts) {
  return image.boxes.map((one) => svg("rect", {
    class: one.fits ? "box" : "box faint", x: one.box[0], y: one.box[1], width: Math.max(0, one.box[2] - one.box[0]),
    height: Math.max(0, one.box[3] - one.box[1]), stroke: color(facts, one.class),
  }));
}

export function tile(set, image, facts, onclick) {
  const picture = h("img", { src: address("/api/data/thumb", { set, n: image.n, v: facts.version }), alt: "", loading: "lazy",
    onerror: (event) => event.target.replaceWith(h("span", { class: "gone" }, "cannot be read")) });
  const overlay = image.width ? svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, "aria-hidden": "true" },
    boxShapes(image, facts)) : null;
  const flaws = image.findings.filter((one) => one.severity !== "info").length;
  return h("button", { class: "tile", onclick, title: image.name,
    "aria-label": `${image.name}, ${image.split}, ${counted(image.boxes.length, "box")}` +
      (flaws ? `, ${counted(flaws, "finding")}` : "") },
    h("span", { class: "shot" }, picture, overlay, flaws ? h("span", { class: "flag" }, flaws) : null),
    h("span", { class: "caption" }, image.name.split("/").at(-1)));
}
