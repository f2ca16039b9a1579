// A picture with boxes that are drawn, moved and resized, with the mouse or with keys only.
import { h, svg } from "./dom.js";

const STEP = 1.25;
const HANDLES = [["nw", 0, 0], ["n", .5, 0], ["ne", 1, 0], ["e", 1, .5], ["se", 1, 1], ["s", .5, 1], ["sw", 0, 1], ["w", 0, .5]];
const REACH = 9;  // pixels of the screen around a handle
const LEAST = 2;  // pixels of the image

// boxes: [x1, y1, x2, y2, class].  ways: what happens: changed(boxes, what), selected(place), classOf() of a new box.
export function makeCanvas(ways) {
  const stage = svg("svg", { class: "stage label-stage", tabindex: 0, role: "application",
    "aria-label": "Picture with boxes. N draws a box, J and K choose one, arrows move it, Shift and arrows resize it." });
  const picture = svg("image", { preserveAspectRatio: "none" });
  const hints = svg("g", { class: "hints" });
  const layer = svg("g", {});
  const marks = svg("g", {});
  stage.append(picture, hints, layer, marks);
  let image = { width: 1, height: 1, boxes: [], found: [] };
  let frame = { x: 0, y: 0, w: 1, h: 1 };
  let chosen = -1;
  let held = null;
  let pan = false;

  function show(next, address, keep = false) {
    const fresh = !keep || next.n !== image.n;
    image = next;
    if (fresh) {
      picture.setAttribute("href", address);
      picture.setAttribute("width", image.width);
      picture.setAttribute("height", image.height);
      chosen = -1;
      reset();
    }
    chosen = Math.min(chosen, image.boxes.length - 1);
    draw();
  }

  function draw() {
    const scale = pixel();
    layer.replaceChildren(...image.boxes.map((box, place) => svg("g", { class: place === chosen ? "chosen" : "" },
      shape(box, { class: "box", stroke: ways.color(box[4]) }),
      svg("text", { x: box[0] + 3 * scale, y: box[1] + 14 * scale, "font-size": 12 * scale, class: "box-name" }, ways.name(box[4])))));
    hints.replaceChildren(...(image.found || []).map((one) => shape(one.box, { class: "box hint", stroke: ways.color(one.class) })));
    const box = image.boxes[chosen];
    marks.replaceChildren(...(box ? HANDLES.map(([name, x, y]) => svg("rect", { class: `handle at-${name}`,
      x: box[0] + x * (box[2] - box[0]) - 4 * scale, y: box[1] + y * (box[3] - box[1]) - 4 * scale, width: 8 * scale, height: 8 * scale })) : []));
  }

  function shape(box, properties) {
    return svg("rect", { ...properties, x: box[0], y: box[1], width: Math.max(0, box[2] - box[0]), height: Math.max(0, box[3] - box[1]) });
  }

  // Pixels of the image per pixel of the screen.
  function pixel() {
    const matrix = stage.getScreenCTM();
    return matrix && matrix.a ? 1 / matrix.a : 1;
  }

  function spot(event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
  }

  function apply() { stage.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.w} ${frame.h}`); draw(); }
  function reset() { frame = { x: 0, y: 0, w: image.width, h: image.height }; apply(); }
  function zoom(by, at = { x: frame.x + frame.w / 2, y: frame.y + frame.h / 2 }) {
    if (frame.w * by > 4 * image.width || frame.w * by < 8) return;
    frame = { x: at.x - (at.x - frame.x) * by, y: at.y - (at.y - frame.y) * by, w: frame.w * by, h: frame.h * by };
    apply();
  }

  function choose(place) {
    chosen = place >= image.boxes.length ? -1 : place;
    draw();
    ways.selected(chosen);
  }

  // Inside the picture, corners in order, not smaller than can be saved.
  function tidy([x1, y1, x2, y2, label]) {
    const [left, right] = [Math.min(x1, x2), Math.max(x1, x2)];
    const [top, bottom] = [Math.min(y1, y2), Math.max(y1, y2)];
    const clip = (value, most) => Math.min(Math.max(value, 0), most);
    const x = Math.min(clip(left, image.width), Math.max(0, image.width - LEAST));
    const y = Math.min(clip(top, image.height), Math.max(0, image.height - LEAST));
    return [x, y, Math.max(clip(right, image.width), x + LEAST), Math.max(clip(bottom, image.height), y + LEAST), label];
  }

  function moved([x1, y1, x2, y2, label], dx, dy) {
    const x = Math.min(Math.max(x1 + dx, 0), image.width - (x2 - x1));
    const y = Math.min(Math.max(y1 + dy, 0), image.height - (y2 - y1));
    return [x, y, x + x2 - x1, y + y2 - y1, label];
  }

  function put(place, box, what, later = false) {
    image.boxes[place] = box;
    draw();
    ways.changed(image.boxes.map((one) => [...one]), what, later);
  }

  // -- mouse ----------------------------------------------------------------------------------------------------------

  function handleAt(point) {
    const box = image.boxes[chosen];
    if (!box) return null;
    const reach = REACH * pixel();
    return HANDLES.find(([, x, y]) => Math.abs(box[0] + x * (box[2] - box[0]) - point.x) < reach
      && Math.abs(box[1] + y * (box[3] - box[1]) - point.y) < reach) || null;
  }

  function boxAt(point) {
    const inside = image.boxes.map((box, place) => [place, (box[2] - box[0]) * (box[3] - box[1]), box])
      .filter(([, , b]) => point.x >= b[0] && point.x <= b[2] && point.y >= b[1] && point.y <= b[3]);
    return inside.sort((a, b) => a[1] - b[1])[0]?.[0] ?? -1;
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    const point = spot(event);
    const handle = handleAt(point);
    if (event.button === 1 || pan) held = { kind: "pan", point };
    else if (handle) held = { kind: "resize", handle, point, before: [...image.boxes[chosen]] };
    else {
      const place = event.altKey ? -1 : boxAt(point);
      choose(place);
      held = place >= 0 ? { kind: "move", point, before: [...image.boxes[place]] } : { kind: "draw", point };
    }
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const now = spot(event);
    const [dx, dy] = [now.x - held.point.x, now.y - held.point.y];
    if (held.kind === "pan") { frame = { ...frame, x: frame.x - dx, y: frame.y - dy }; apply(); return; }
    if (!held.far && Math.hypot(dx, dy) < 3 * pixel()) return;
    held.far = true;
    if (held.kind === "draw") {
      held.box = tidy([held.point.x, held.point.y, now.x, now.y, ways.classOf()]);
      draw();
      layer.append(shape(held.box, { class: "box", stroke: ways.color(held.box[4]) }));
      return;
    }
    image.boxes[chosen] = held.kind === "move" ? moved(held.before, dx, dy) : resized(held.before, held.handle, dx, dy);
    draw();
  });
  stage.addEventListener("pointerup", () => {
    const done = held;
    held = null;
    if (!done?.far) return;
    if (done.kind === "draw") add(done.box);
    else put(chosen, tidy(image.boxes[chosen]), done.kind === "move" ? "moved" : "resized");
  });
  stage.addEventListener("pointercancel", () => {
    if (held?.before) image.boxes[chosen] = held.before;
    held = null;
    draw();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY > 0 ? STEP : 1 / STEP, spot(event));
  }, { passive: false });

  function resized(box, [, x, y], dx, dy) {
    const next = [...box];
    if (x !== .5) next[x ? 2 : 0] += dx;
    if (y !== .5) next[y ? 3 : 1] += dy;
    return next;
  }

  // -- keys -----------------------------------------------------------------------------------------------------------

  function add(box) {
    image.boxes.push(tidy(box));
    choose(image.boxes.length - 1);
    put(chosen, image.boxes[chosen], "drew");
  }

  function addInTheMiddle() {
    const [w, h] = [Math.min(frame.w, image.width) / 4, Math.min(frame.h, image.height) / 4];
    const [x, y] = [frame.x + frame.w / 2, frame.y + frame.h / 2];
    add([x - w / 2, y - h / 2, x + w / 2, y + h / 2, ways.classOf()]);
  }

  function remove() {
    if (chosen < 0) return;
    const [gone] = image.boxes.splice(chosen, 1);
    const next = Math.min(chosen, image.boxes.length - 1);
    draw();
    ways.changed(image.boxes.map((one) => [...one]), `deleted ${ways.name(gone[4])}`, false);
    choose(next);
  }

  function classTo(label) {
    if (chosen < 0 || image.boxes[chosen][4] === label) return;
    const box = [...image.boxes[chosen]];
    box[4] = label;
    put(chosen, box, `${ways.name(image.boxes[chosen][4])} is now`);
  }

  // Fine steps are a pixel of the image, plain ones a hundredth of what is seen.
  function arrow(dx, dy, event) {
    if (chosen < 0) return;
    const by = event.altKey || event.ctrlKey ? 1 : Math.max(1, Math.round(frame.w / 100));
    const box = image.boxes[chosen];
    if (!event.shiftKey) put(chosen, moved(box, dx * by, dy * by), "moved", true);
    else put(chosen, tidy([box[0], box[1], Math.max(box[2] + dx * by, box[0] + LEAST), Math.max(box[3] + dy * by, box[1] + LEAST), box[4]]), "resized", true);
  }

  function cycle(by) {
    const count = image.boxes.length;
    if (count) choose(chosen < 0 ? (by > 0 ? 0 : count - 1) : (chosen + by + count) % count);
  }

  return {
    stage, show, choose, zoom, reset, add: addInTheMiddle, remove, classTo, cycle, arrow,
    zoomIn: () => zoom(1 / STEP), zoomOut: () => zoom(STEP),
    panning: (on) => { pan = on; stage.classList.toggle("panning", on); },
    get chosen() { return chosen; },
    help: () => h("ul", { class: "keys" }, [["N", "draw a box in the middle"], ["J K", "choose the next or previous box"],
      ["arrows", "move it"], ["Shift arrows", "resize it"], ["Ctrl or Alt arrows", "one pixel"], ["1 to 9", "class of the box, or of the next one"],
      ["C", "choose from all classes"], ["Delete", "delete the box"], ["A D", "previous and next image"], ["P", "take the boxes of the checkpoint"],
      ["U R", "undo, redo (also Ctrl Z, Ctrl Y)"], ["+ - 0", "zoom"], ["Ctrl S", "save a version"]].map(([key, what]) =>
      h("li", {}, h("kbd", {}, key), ` ${what}`))),
  };
}
