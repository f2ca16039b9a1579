// One image, large: zoom with the wheel or + and -, drag to move, arrows for the neighbors.
import { address, counted, get, h, svg } from "./dom.js";
import { boxShapes, color } from "./data.js";

const STEP = 1.25;

export function openViewer({ set, query, page, place, content, facts }) {
  let shown = { page, place, content };
  const stage = svg("svg", { class: "stage", role: "img" });
  const title = h("h2", {});
  const side = h("div", { class: "viewer-side", tabindex: 0, role: "region", "aria-label": "About the image" });
  const go = (step) => move(step).then(draw);
  const dialog = h("dialog", { class: "viewer", "aria-label": "Image" }, h("div", { class: "viewer-frame" },
    h("div", { class: "viewer-bar" },
      h("button", { onclick: () => go(-1), "aria-label": "Previous image" }, "\u2190"),
      h("button", { onclick: () => go(1), "aria-label": "Next image" }, "\u2192"),
      title,
      h("span", { class: "push row" },
        h("button", { onclick: () => zoom(1 / STEP), "aria-label": "Zoom in" }, "+"),
        h("button", { onclick: () => zoom(STEP), "aria-label": "Zoom out" }, "\u2212"),
        h("button", { onclick: reset }, "Fit"),
        h("button", { onclick: () => dialog.close() }, "Close"))),
    stage, side));
  let frame = { x: 0, y: 0, w: 1, h: 1 };
  let whole = frame;

  function draw() {
    const image = shown.content.images[shown.place];
    const [width, height] = [image.width || 1, image.height || 1];
    title.textContent = image.name;
    stage.setAttribute("aria-label", `${image.name} with ${counted(image.boxes.length, "box")}`);
    stage.replaceChildren(
      svg("image", { href: address("/api/data/picture", { set, n: image.n, v: facts.version }), width, height,
        preserveAspectRatio: "none" }),
      ...boxShapes(image, facts));
    whole = { x: 0, y: 0, w: width, h: height };
    reset();
    side.replaceChildren(
      h("h3", {}, "Image"), h("ul", {}, h("li", {}, `split ${image.split}`),
        h("li", {}, image.usable ? `${image.width} x ${image.height} px` : "left out: it cannot be used")),
      h("h3", {}, counted(image.boxes.length, "box")),
      h("ul", {}, image.boxes.map((one) => h("li", {}, h("span", { class: "tag", style: { background: color(facts, one.class) } }),
        facts.classes[one.class], " ", h("span", { class: "soft" },
          `${Math.round(one.box[2] - one.box[0])} x ${Math.round(one.box[3] - one.box[1])} px`)))),
      image.findings.length ? h("h3", {}, "Findings") : "",
      h("ul", {}, image.findings.map((one) => h("li", {}, h("strong", { class: `sev-${one.severity}` }, one.id), ": ", one.message))),
      h("p", { class: "small soft" }, h("kbd", {}, "\u2190"), " ", h("kbd", {}, "\u2192"), " neighbors, ", h("kbd", {}, "+"), " ",
        h("kbd", {}, "-"), " ", h("kbd", {}, "0"), " zoom, ", h("kbd", {}, "b"), " boxes, ", h("kbd", {}, "Esc"), " close"));
  }

  async function move(step) {
    const place = shown.place + step;
    if (shown.content.images[place]) { shown = { ...shown, place }; return; }
    const page = shown.page + step;
    if (page < 0 || page >= shown.content.pages) return;
    const content = await get("/api/data/view", { ...query, page });
    shown = { page, content, place: step > 0 ? 0 : content.images.length - 1 };
  }

  function apply() { stage.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.w} ${frame.h}`); }
  function reset() { frame = { ...whole }; apply(); }
  function zoom(by, at = { x: frame.x + frame.w / 2, y: frame.y + frame.h / 2 }) {
    if (frame.w * by > 4 * whole.w || frame.w * by < 8) return;
    frame = { x: at.x - (at.x - frame.x) * by, y: at.y - (at.y - frame.y) * by, w: frame.w * by, h: frame.h * by };
    apply();
  }
  function spot(event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY > 0 ? STEP : 1 / STEP, spot(event));
  }, { passive: false });
  let held = null;
  stage.addEventListener("pointerdown", (event) => { held = spot(event); stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointerup", () => { held = null; });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const now = spot(event);
    frame = { ...frame, x: frame.x - (now.x - held.x), y: frame.y - (now.y - held.y) };
    apply();
  });
  const keys = {
    ArrowLeft: () => go(-1), ArrowRight: () => go(1), "+": () => zoom(1 / STEP), "=": () => zoom(1 / STEP), "-": () => zoom(STEP),
    0: reset, b: () => stage.classList.toggle("bare"),
  };
  dialog.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  draw();
  dialog.showModal();
}
