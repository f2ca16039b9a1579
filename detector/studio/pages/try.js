// The Try page: what one or two checkpoints find in a picture; conf is moved and the boxes follow at once.
import { address, answer, counted, get, h, link, post, say, svg } from "./dom.js";
import { whenReady } from "./data.js";

export async function show(main, words) {
  const facts = await get("/api/try/facts");
  if (!facts.models.length) {
    main.replaceChildren(h("h1", {}, "Try"), h("p", {}, "There is no checkpoint in this folder yet: train one on the Runs page."));
    return null;
  }
  const page = new TryPage(main, facts, words);
  await page.open();
  return () => page.close();
}

class TryPage {
  constructor(main, facts, words) {
    const first = facts.models[0].name;
    const a = words.get("a") || first;
    const own = facts.models.find((one) => one.name === a)?.set;
    Object.assign(this, { main, facts, content: null, id: null, k: Number(words.get("k") || 0), conf: Number(words.get("conf") || 0.25),
      chosen: { a, b: words.get("b") || "" }, set: words.get("set") ?? own ?? facts.sets[0] ?? "", split: words.get("split") || "val" });
    this.onkey = (event) => this.key(event);
  }

  async open() {
    const choice = (id, values, value, change, none) => h("select", { id, onchange: (event) => change(event.target.value) },
      none ? h("option", { value: "" }, none) : null, values.map((one) => h("option", { value: one, selected: one === value }, one)));
    const names = this.facts.models.map((one) => one.name);
    const again = () => this.load().catch((error) => say(error.message));
    this.slider = h("input", { type: "range", id: "conf", min: this.facts.low, max: 0.99, step: 0.01, value: this.conf,
      oninput: () => { this.conf = Number(this.slider.value); this.draw(); } });
    this.output = h("output", { for: "conf" });
    this.truth = h("input", { type: "checkbox", id: "truth", checked: true, onchange: () => this.draw() });
    this.title = h("h2", { id: "image-name", "aria-live": "polite" });
    this.stages = h("div", { class: "try-stages" });
    this.exported = h("div", { "aria-live": "polite" });
    const file = h("input", { type: "file", id: "file", accept: "image/*", onchange: () => { if (file.files[0]) this.drop(file.files[0]); } });
    const format = choice("format", this.facts.formats, "onnx", () => {});
    this.main.replaceChildren(h("h1", {}, "Try"),
      h("div", { class: "row tools" },
        h("label", {}, "Checkpoint ", choice("a", names, this.chosen.a, (value) => { this.chosen.a = value; again(); })),
        h("label", {}, "beside it ", choice("b", names, this.chosen.b, (value) => { this.chosen.b = value; again(); }, "nothing")),
        h("label", {}, "conf ", this.slider, " ", this.output), h("label", {}, this.truth, " labels")),
      h("div", { class: "row tools" },
        h("label", {}, "Images of ", choice("set", this.facts.sets, this.set, (value) => { this.set = value; this.id = null; this.k = 0; again(); }, "nothing")),
        h("label", {}, "split ", choice("split", ["train", "val", "test"], this.split, (value) => { this.split = value; this.id = null; this.k = 0; again(); })),
        h("button", { id: "previous", onclick: () => this.step(-1) }, "Previous"), h("button", { id: "next", onclick: () => this.step(1) }, "Next"),
        h("label", {}, "or your own picture ", file)),
      this.title, this.stages,
      h("h2", {}, "Export"), h("p", { class: "soft small" }, "The file lies beside the checkpoint. det compares it with the checkpoint and shows the result here."),
      h("div", { class: "row" }, h("label", {}, "Format ", format),
        h("button", { id: "export", onclick: () => this.export(format.value) }, "Export the checkpoint")), this.exported);
    this.main.ondragover = (event) => event.preventDefault();
    this.main.ondrop = (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) this.drop(event.dataTransfer.files[0]); };
    addEventListener("keydown", this.onkey);
    await this.load().catch((error) => say(error.message));
    this.watch();
  }

  close() {
    this.closed = true;
    removeEventListener("keydown", this.onkey);
    this.main.ondragover = this.main.ondrop = null;
  }

  async load() {
    const asked = (this.asked = (this.asked || 0) + 1);
    const models = Object.fromEntries(Object.entries(this.chosen).filter(([, name]) => name));
    this.title.textContent = "The checkpoint looks at the picture ...";
    if (this.id === null && this.set) {
      const waiting = h("div", {});
      this.stages.replaceChildren(waiting);
      await whenReady(waiting, this.set);
      waiting.replaceChildren();
    }
    if (this.id === null && !this.set) { this.title.textContent = "Drop a picture here, or choose a data set."; this.stages.replaceChildren(); return; }
    try {
      const content = this.id !== null ? await get("/api/try/dropped", { id: this.id, ...models })
        : await get("/api/try/image", { set: this.set, split: this.split, k: this.k, ...models });
      if (this.closed || asked !== this.asked) return;
      this.content = content;
    } catch (error) {
      this.title.textContent = error.message;
      this.stages.replaceChildren();
      return;
    }
    if (this.id === null) this.k = this.content.k;
    history.replaceState(null, "", link("/try", { ...models, set: this.set, split: this.split, k: this.k, conf: this.conf }));
    this.draw();
  }

  draw() {
    this.output.textContent = this.conf.toFixed(2);
    const { content } = this;
    if (!content) return;
    const where = this.id !== null ? "" : ` (${this.k + 1} of ${content.total})`;
    this.title.textContent = `${content.name}${where}`;
    const picture = this.id !== null ? address("/api/try/picture", { id: this.id })
      : address("/api/data/picture", { set: this.set, n: content.n, v: content.version });
    this.stages.replaceChildren(...["a", "b"].filter((side) => content[side]).map((side) => this.stage(side, picture)));
  }

  stage(side, picture) {
    const { content } = this;
    const sure = content[side].filter((one) => one.score >= this.conf);
    const unit = content.width / 640;
    const box = (one, kind) => svg("rect", { class: kind, x: one.box[0], y: one.box[1], width: one.box[2] - one.box[0], height: one.box[3] - one.box[1],
      stroke: this.facts.colors[one.class % this.facts.colors.length] });
    const shapes = sure.flatMap((one) => [box(one, "box"), svg("text", { class: "box-name", x: one.box[0] + 3 * unit, y: one.box[1] + 14 * unit,
      "font-size": 13 * unit }, `${one.name} ${one.score.toFixed(2)}`)]);
    const truth = this.truth.checked ? (content.labels || []).map((one) => svg("rect", { class: "box truth", x: one.box[0], y: one.box[1],
      width: one.box[2] - one.box[0], height: one.box[3] - one.box[1] })) : [];
    const counts = {};
    for (const one of sure) counts[one.name] = (counts[one.name] || 0) + 1;
    return h("figure", { class: "try-stage", id: `stage-${side}` },
      svg("svg", { viewBox: `0 0 ${content.width} ${content.height}`, role: "img", "aria-label": `${counted(sure.length, "box")} of ${this.chosen[side]}` },
        svg("image", { href: picture, width: content.width, height: content.height, preserveAspectRatio: "none" }), truth, shapes),
      h("figcaption", {}, h("strong", {}, this.chosen[side]), ` ${counted(sure.length, "box")}`,
        h("span", { class: "soft" }, Object.entries(counts).map(([name, count]) => `, ${name} ${count}`).join(""))));
  }

  async drop(file) {
    try {
      const { id } = await answer(await fetch("/api/try/drop", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file }));
      this.id = id;
      await this.load();
    } catch (error) { say(error.message); }
  }

  step(by) {
    if (this.id !== null) this.id = null;
    else if (this.k + by >= 0 && this.k + by < this.content?.total) this.k += by;
    else return;
    this.load();
  }

  key(event) {
    if (event.target.matches?.("input, select")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, a: -1, d: 1 }[event.key];
    if (by && !event.ctrlKey && !event.altKey && !event.metaKey) { event.preventDefault(); this.step(by); }
  }

  async export(format) {
    try {
      await post("/api/try/export", { model: this.chosen.a, format });
      say("The export begins.");
      this.watch();
    } catch (error) { say(error.message); }
  }

  async watch() {
    const mine = (this.watching = (this.watching || 0) + 1);
    for (;;) {
      const exports = await get("/api/try/exports");
      if (this.closed || mine !== this.watching) return;
      this.exported.replaceChildren(...exports.map((one) => h("div", {}, h("h3", {}, `det export ${one.words.join(" ")}`),
        h("p", { class: one.failed ? "error" : "soft small" }, one.running ? "running ..." : one.failed || "done"), h("pre", { class: "table" }, one.lines.join("\n")))));
      if (!exports.some((one) => one.running)) return;
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}
