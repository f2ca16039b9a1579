// Which page is shown: the part of the address after #.
import { get, h, here, say } from "./dom.js";
import * as data from "./data.js";
import * as errors from "./errors.js";
import * as labels from "./labels.js";
import * as runs from "./runs.js";
import * as tries from "./try.js";

const PAGES = { "/data": ["Data", data], "/labels": ["Labels", labels], "/errors": ["Label errors", errors], "/runs": ["Runs", runs], "/try": ["Try", tries] };

let leave = null;
let shown = null;
let room = null;
let turn = 0;

// Each page gets a room of its own: what a page that was left still draws is not seen.
async function show() {
  const { path, words } = here();
  const [title, page] = PAGES[path] || PAGES["/data"];
  const mine = ++turn;
  document.title = `${title} - det studio`;
  const links = Object.entries(PAGES).map(([to, [name]]) =>
    h("a", { href: `#${to}`, "aria-current": to === path ? "page" : null }, name));
  document.getElementById("nav").replaceChildren(...links);
  if (leave) leave();
  leave = null;
  if (shown !== path || page !== data) {  // the Data page keeps its grid while filters change
    room = h("div", {});
    document.getElementById("main").replaceChildren(room);
  }
  shown = path;
  const own = room;
  try {
    const left = await page.show(own, words);
    if (mine === turn) leave = left;
    else if (left) left();
  } catch (error) {
    own.replaceChildren(h("h1", {}, title), h("p", { class: "error", role: "alert" }, error.message));
  }
}

history.replaceState(null, "", `/${location.hash}`);  // the token does not stay in the address bar
addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => say(event.reason?.message || String(event.reason)));
get("/api/sets").then(({ folder }) => { document.getElementById("where").textContent = folder; });
show();
