// The Labels page: images in an order, one of them on a canvas, its boxes, the history and the versions.
import { address, counted, get, h, here, link, post, say } from "./dom.js";
import { makeCanvas } from "./canvas.js";
import { color, showSets, whenReady } from "./data.js";

const ORDER_NAMES = {
  name: "by name", unlabeled: "without labels first", changed: "changed first", disagree: "model and labels disagree",
  uncertain: "model is uncertain", unlike: "unlike the rest",
};
const WAIT = 500;  // ms after the last arrow key, before the step is sent

export async function show(main, words) {
  const set = words.get("set");
  if (!set) return showSets(main, "/labels", "Labels");
  main.replaceChildren(h("h1", {}, set));
  await whenReady(main, set);
  const page = new LabelsPage(main, set, words);
  await page.open();
  return () => page.close();
}

class LabelsPage {
  constructor(main, set, words) {
    Object.assign(this, { main, set, words, image: null, list: { images: [], pages: 0, total: 0 }, line: Promise.resolve(), waiting: null });
    this.page = Number(words.get("page") || 0);
    this.order = words.get("order") || "name";
    this.model = words.get("model") || "";
    this.conf = 0.25;
    this.label = 0;
    this.canvas = makeCanvas({
      changed: (boxes, what, later) => this.changed(boxes, what, later), selected: () => this.drawSide(),
      classOf: () => this.label, color: (label) => color(this.facts, label), name: (label) => this.facts.classes[label] ?? "?",
    });
    this.onkey = (event) => this.key(event);
    this.onleave = (event) => { if (this.waiting) { this.flush(); event.preventDefault(); } };
  }

  async open() {
    this.facts = await get("/api/labels/facts", { set: this.set });
    this.draft = this.facts.draft;
    this.model = this.facts.look?.model || this.model;
    this.frame();
    addEventListener("keydown", this.onkey);
    addEventListener("beforeunload", this.onleave);
    await this.loadList();
    const wanted = Number(this.words.get("n") ?? -1);
    const first = this.list.images.some((one) => one.n === wanted) ? wanted : this.list.images[0]?.n;
    if (first !== undefined) await this.go(first);
    if (this.facts.look && !this.facts.look.ended) this.watch();
  }

  close() {
    this.flush();
    this.closed = true;
    removeEventListener("keydown", this.onkey);
    removeEventListener("beforeunload", this.onleave);
  }

  // -- the frame ------------------------------------------------------------------------------------------------------

  frame() {
    const option = (value, text, chosen) => h("option", { value, selected: value === chosen }, text);
    this.total = h("span", { class: "soft", id: "total", "aria-live": "polite" });
    this.orders = h("select", { id: "order", onchange: () => { this.order = this.orders.value; this.page = 0; this.loadList().catch((e) => say(e.message)); } },
      this.facts.orders.map((one) => option(one, ORDER_NAMES[one] || one, this.order)));
    this.models = h("select", { id: "model" }, option("", "no checkpoint", this.model), this.facts.models.map((one) => option(one, one, this.model)));
    this.looking = h("span", { class: "small soft", role: "status", id: "looking" });
    this.confidence = h("input", { type: "range", id: "conf", min: 0.05, max: 0.95, step: 0.05, value: this.conf,
      oninput: () => { this.conf = Number(this.confidence.value); this.drawConf(); this.draw(true); } });
    this.confidenceText = h("output", { for: "conf" });
    this.undoButton = h("button", { id: "undo", onclick: () => this.step("undo") }, "Undo");
    this.redoButton = h("button", { id: "redo", onclick: () => this.step("redo") }, "Redo");
    this.saveButton = h("button", { id: "save", class: "main", onclick: () => this.save() }, "Save a version");
    this.notes = h("div", {});
    this.items = h("ul", { class: "picks", id: "picks" });
    this.pager = h("div", { class: "row" });
    this.title = h("h2", { id: "image-name" });
    this.classes = h("select", { id: "class", onchange: () => this.setClass(Number(this.classes.value)) });
    this.boxes = h("ul", { class: "picks", id: "boxes" });
    this.take = h("button", { id: "take", hidden: true, onclick: () => this.takeFound() });
    this.history = h("ol", { class: "history", id: "history" });
    const bare = h("input", { type: "checkbox", onchange: (event) => this.canvas.panning(event.target.checked) });
    this.main.replaceChildren(
      h("div", { class: "row head" }, h("h1", {}, this.facts.name), this.total,
        h("span", { class: "push row" }, this.undoButton, this.redoButton, this.saveButton)),
      this.notes,
      h("div", { class: "row tools" }, h("label", {}, "Order ", this.orders), h("label", {}, "Checkpoint ", this.models),
        h("button", { id: "look", onclick: () => this.look() }, "Look at all images"),
        h("label", {}, "conf ", this.confidence, " ", this.confidenceText),
        h("button", { id: "prelabel", onclick: () => this.prelabel() }, "Pre-label images without labels"), this.looking),
      h("div", { class: "label-frame" },
        h("nav", { class: "label-list", "aria-label": "Images" }, this.items, this.pager),
        h("div", { class: "label-middle" }, h("div", { class: "row" }, h("button", { id: "previous", onclick: () => this.neighbor(-1) }, "Previous"),
          h("button", { id: "next", onclick: () => this.neighbor(1) }, "Next"), this.title,
          h("span", { class: "push row" }, h("label", { class: "small" }, bare, " drag moves the picture"),
            h("button", { onclick: () => this.canvas.zoomIn(), "aria-label": "Zoom in" }, "+"),
            h("button", { onclick: () => this.canvas.zoomOut(), "aria-label": "Zoom out" }, "\u2212"),
            h("button", { onclick: () => this.canvas.reset() }, "Fit"))), this.canvas.stage),
        h("div", { class: "label-side" }, h("div", { class: "row" }, h("label", { for: "class" }, "Class"), this.classes,
          h("button", { onclick: () => this.addClass(), "aria-label": "Add a class" }, "New")),
          h("div", { class: "row" }, h("button", { id: "draw", onclick: () => { this.canvas.add(); this.canvas.stage.focus(); } }, "Draw a box"),
            h("button", { id: "delete", onclick: () => this.canvas.remove() }, "Delete"), this.take),
          h("h3", {}, "Boxes"), this.boxes,
          h("details", { open: true }, h("summary", {}, "History"), this.history),
          h("details", {}, h("summary", {}, "Keys"), this.canvas.help()),
          h("details", { id: "versions" }, h("summary", {}, "Versions and export"), this.versionsPart()))));
    this.drawConf();
    this.drawDraft();
  }

  versionsPart() {
    const format = h("select", { id: "export-format" }, this.facts.formats.map((one) => h("option", { value: one }, one)));
    const out = h("input", { id: "export-out", value: `${this.facts.name.replace(/[^\w@-]+/g, "-")}-export`, autocomplete: "off" });
    const send = async (event) => {
      event.target.disabled = true;
      try {
        const told = await post("/api/labels/export", { set: this.set, format: format.value, out: out.value });
        say(`written: ${told.data}`);
      } catch (error) { say(error.message); }
      event.target.disabled = false;
    };
    return h("div", {}, h("ul", { class: "picks" }, this.facts.versions.map((one) => h("li", {},
      one.current ? h("strong", {}, one.name) : h("a", { href: link("/labels", { set: one.set }) }, one.name),
      h("span", { class: "soft small" }, one.saved ? ` saved ${one.saved}, ${counted(one.changed ?? 0, "image")} changed, from ${one.from}` : " your own labels")))),
    h("p", { class: "small soft" }, "An export holds this version as it was saved, with its images."),
    h("div", { class: "row" }, h("label", {}, "Format ", format), h("label", {}, "Folder ", out), h("button", { id: "export", onclick: send }, "Export")));
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  query() {
    const query = {};
    for (const name of new Set(this.words.keys())) if (!["page", "n", "order", "model"].includes(name)) query[name] = this.words.getAll(name);
    return { ...query, set: this.set };
  }

  remember() {
    history.replaceState(null, "", link("/labels", { ...this.query(), order: this.order, page: this.page,
      ...(this.model ? { model: this.model } : {}), ...(this.image ? { n: this.image.n } : {}) }));
  }

  async loadList() {
    this.list = await get("/api/labels/list", { ...this.query(), order: this.order, page: this.page });
    this.total.textContent = counted(this.list.total, "image");
    this.drawList();
  }

  drawList() {
    this.items.replaceChildren(...this.list.images.map((one) => h("li", {}, h("button", {
      class: "pick", "aria-current": one.n === this.image?.n ? "true" : null, onclick: () => this.go(one.n),
      "aria-label": `${one.name}, ${one.unlabeled ? "no labels" : counted(one.boxes, "box")}${one.changed ? ", changed" : ""}` },
      h("img", { src: address("/api/data/thumb", { set: this.set, n: one.n, v: this.facts.version }), alt: "", loading: "lazy" }),
      h("span", {}, h("span", { class: "name" }, one.name.split("/").at(-1)), h("span", { class: "soft small" },
        one.unlabeled ? "no labels" : counted(one.boxes, "box"), one.changed ? ", changed" : "", one.amount === null ? "" : `, ${one.amount}`))))));
    const go = (by) => () => { this.page += by; this.loadList().then(() => this.go(this.list.images[0].n)); };
    this.pager.replaceChildren(h("button", { disabled: this.page === 0, onclick: go(-1), "aria-label": "Previous page of images" }, "\u2190"),
      h("span", { class: "small" }, `${this.page + 1} of ${this.list.pages || 1}`),
      h("button", { disabled: this.page + 1 >= this.list.pages, onclick: go(1), "aria-label": "Next page of images" }, "\u2192"));
  }

  // turn: counts the images that were asked for; an answer for an earlier one is dropped.
  async go(n) {
    const turn = (this.turn = (this.turn || 0) + 1);
    await this.flush();
    await this.line;
    const wanted = { set: this.set, n, ...(this.model ? { model: this.model } : {}) };
    const image = await get("/api/labels/image", wanted);
    if (this.closed || turn !== this.turn) return;
    this.image = image;
    this.draft = image.draft;
    this.draw(false);
    this.drawDraft();
    this.remember();
    this.showPicked();
  }

  // Scrolls the list, never the page.
  showPicked() {
    const item = this.items.querySelector("[aria-current]");
    if (!item) return;
    const [box, frame] = [item.getBoundingClientRect(), this.items.getBoundingClientRect()];
    if (box.top < frame.top) this.items.scrollTop -= frame.top - box.top;
    else if (box.bottom > frame.bottom) this.items.scrollTop += box.bottom - frame.bottom;
  }

  draw(keep) {
    if (!this.image) return;
    const { n, width, height, boxes, found, name } = this.image;
    const sure = (found || []).filter((one) => one.score >= this.conf);
    this.title.textContent = name;
    this.canvas.show({ n, width, height, boxes: boxes.map((one) => [...one]), found: sure },
      address("/api/data/picture", { set: this.set, n, v: this.facts.version }), keep);
    this.take.hidden = !found;
    this.take.textContent = `Take ${counted(sure.length, "box")}`;
    this.drawList();
    this.drawSide();
  }

  drawSide() {
    if (!this.image) return;
    const { chosen } = this.canvas;
    const box = this.image.boxes[chosen];
    if (box) this.label = box[4];
    this.classes.replaceChildren(...this.facts.classes.map((name, place) =>
      h("option", { value: place, selected: place === this.label }, place < 9 ? `${place + 1} ${name}` : name)));
    this.boxes.replaceChildren(...this.image.boxes.map((one, place) => h("li", {}, h("button", {
      class: "pick", "aria-pressed": String(place === chosen), onclick: () => { this.canvas.choose(place); this.canvas.stage.focus(); } },
      h("span", { class: "tag", style: { background: color(this.facts, one[4]) } }), this.facts.classes[one[4]] ?? "?",
      h("span", { class: "soft small" }, ` ${Math.round(one[2] - one[0])} x ${Math.round(one[3] - one[1])} px at ${Math.round(one[0])}, ${Math.round(one[1])}`)))));
    if (!this.image.boxes.length) this.boxes.replaceChildren(h("li", { class: "soft small" }, this.image.unlabeled ? "not labeled yet" : "no box: background"));
  }

  drawConf() { this.confidenceText.textContent = this.conf.toFixed(2); }

  drawDraft() {
    const { steps, at, changed } = this.draft;
    this.undoButton.disabled = at === 0;
    this.redoButton.disabled = at === steps.length;
    this.saveButton.disabled = at === 0;
    const shown = steps.map((step, place) => h("li", { class: place < at ? null : "undone", "aria-current": place === at - 1 ? "step" : null }, step.what));
    this.history.replaceChildren(...(shown.length ? shown.slice(-30).reverse() : [h("li", { class: "soft" }, "no change yet")]));
    const newest = this.facts.versions.at(-1);
    this.notes.replaceChildren(...[
      newest.current ? null : h("p", { class: "note" }, `${newest.name} is newer than this version. `, h("a", { href: link("/labels", { set: newest.set }) }, `Open ${newest.name}`)),
      at ? h("p", { class: "small soft", id: "unsaved" }, `${counted(changed, "image")} changed since the last saved version`) : null].filter(Boolean));
  }

  // -- what changes something -----------------------------------------------------------------------------------------

  // One request after the other: each says which revision it has seen.
  send(path, content) {
    const sent = this.line.then(async () => {
      try {
        const told = await post(`/api/labels/${path}`, { set: this.set, revision: this.draft.revision, ...content });
        if (told.draft) { this.draft = told.draft; this.drawDraft(); }
        return told;
      } catch (error) {
        say(error.message);
        if (path !== "save" && this.image) setTimeout(() => this.reload());
        return { error };
      }
    });
    this.line = sent.catch(() => null);
    return sent;
  }

  async reload() {
    const { turn } = this;
    const image = await get("/api/labels/image", { set: this.set, n: this.image.n, ...(this.model ? { model: this.model } : {}) });
    if (turn !== this.turn) return;
    this.image = image;
    this.draft = image.draft;
    this.draw(true);
    this.drawDraft();
  }

  changed(boxes, what, later) {
    const place = this.canvas.chosen;
    const name = boxes[place] && !what.startsWith("deleted") ? ` ${this.facts.classes[boxes[place][4]]}` : "";
    const { n, name: file } = this.image;
    this.image.boxes = boxes;
    this.image.unlabeled = false;
    this.mark(n, boxes.length);
    this.drawSide();
    if (this.waiting && (this.waiting.place !== place || this.waiting.what !== what)) this.flush();
    clearTimeout(this.timer);
    this.waiting = { n, boxes, place, what, text: `${what}${name} on ${file.split("/").at(-1)}` };
    if (later) this.timer = setTimeout(() => this.flush(), WAIT);
    else this.flush();
  }

  flush() {
    clearTimeout(this.timer);
    const { waiting } = this;
    this.waiting = null;
    return waiting ? this.send("edit", { n: waiting.n, boxes: waiting.boxes, what: waiting.text }) : this.line;
  }

  mark(n, count) {
    const one = this.list.images.find((each) => each.n === n);
    if (one) { Object.assign(one, { boxes: count, changed: true, unlabeled: false }); this.drawList(); }
  }

  async step(way) {
    const { turn } = this;
    this.flush();
    const told = await this.send(way, {});
    if (told.error) return;
    say(`${way === "undo" ? "undone" : "done again"}: ${told.what}`);
    this.facts.classes = told.classes;
    await this.loadList();
    if (turn !== this.turn) return;
    if (told.n !== null && told.n !== this.image?.n) await this.go(told.n);
    else await this.reload();
  }

  setClass(label) {
    this.label = label;
    this.canvas.classTo(label);
    this.drawSide();
    this.canvas.stage.focus();
  }

  async addClass() {
    const name = prompt("Name of the new class");
    if (!name) return;
    const told = await this.send("class", { name });
    if (told.error) return;
    this.facts.classes = told.classes;
    this.setClass(told.classes.length - 1);
  }

  takeFound() {
    const sure = (this.image.found || []).filter((one) => one.score >= this.conf);
    const boxes = sure.map((one) => [...one.box, one.class]).filter((box) => box[2] - box[0] >= 1 && box[3] - box[1] >= 1);
    this.changed(boxes, "took the checkpoint's boxes", false);
    this.draw(true);
  }

  async look() {
    const model = this.models.value;
    try {
      const { look } = await post("/api/labels/look", { set: this.set, model });
      this.model = model;
      if (look) this.watch();
      else { this.order = this.orders.value = "unlike"; await this.loadList(); }
    } catch (error) { say(error.message); }
  }

  async watch() {
    for (;;) {
      const { look } = await get("/api/labels/looking", { set: this.set });
      if (this.closed || !look) return;
      this.looking.textContent = look.failed || (look.ended ? `${look.model} has looked at ${counted(look.done, "image")}` : `${look.done} of ${counted(look.total, "image")}`);
      if (look.ended) break;
      await new Promise((done) => setTimeout(done, 400));
    }
    if (this.order === "name") this.order = this.orders.value = "disagree";
    await this.loadList().catch((error) => say(error.message));
    if (this.image) await this.reload();
  }

  async prelabel() {
    const told = await this.send("prelabel", { conf: this.conf });
    if (told.error) return;
    say(`${counted(told.images, "image")} got pre-labels: look at each one`);
    await this.loadList();
    await this.reload();
  }

  async save(beside = false) {
    this.flush();
    const told = await this.send("save", { beside });
    if (!told.error) { say(`saved: ${told.name}`); location.hash = link("/labels", { set: told.set }); return; }
    if (told.error.status !== 409 || beside) return;
    this.notes.prepend(h("p", { class: "error", role: "alert" }, told.error.message, " ",
      h("button", { onclick: () => this.save(true) }, "Save beside it")));
  }

  async neighbor(by) {
    const place = this.list.images.findIndex((one) => one.n === this.image?.n) + by;
    if (this.list.images[place]) { await this.go(this.list.images[place].n); return; }
    if (this.page + by < 0 || this.page + by >= this.list.pages) { say(by > 0 ? "This was the last image." : "This is the first image."); return; }
    this.page += by;
    await this.loadList();
    await this.go(this.list.images.at(by > 0 ? 0 : -1).n);
  }

  key(event) {
    const at = event.target;
    if (at.matches?.("input:not([type=checkbox]):not([type=range]), select, textarea") || document.querySelector("dialog[open]")) return;
    const { canvas } = this;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onRange = at.matches?.("input[type=range]");
    let act;
    if (event.ctrlKey || event.metaKey) {
      act = { z: () => this.step(event.shiftKey ? "redo" : "undo"), y: () => this.step("redo"), s: () => this.save() }[key];
    } else {
      act = { n: () => { canvas.add(); canvas.stage.focus(); }, j: () => canvas.cycle(1), k: () => canvas.cycle(-1), Delete: () => canvas.remove(),
        Backspace: () => canvas.remove(), d: () => this.neighbor(1), a: () => this.neighbor(-1), p: () => { if (this.image?.found) this.takeFound(); },
        u: () => this.step("undo"), r: () => this.step("redo"), "+": () => canvas.zoomIn(), "=": () => canvas.zoomIn(), "-": () => canvas.zoomOut(),
        0: () => canvas.reset(), c: () => this.classes.focus(), Escape: () => canvas.choose(-1) }[key];
      if (/^[1-9]$/.test(key) && Number(key) <= this.facts.classes.length) act = () => this.setClass(Number(key) - 1);
    }
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (way && !onRange && canvas.chosen >= 0) act = () => canvas.arrow(...way, event);
    if (!act) return;
    event.preventDefault();
    act();
  }
}
