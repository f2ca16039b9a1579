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

async function show() {
  const { path, words } = here();
  const [title, page] = PAGES[path] || PAGES["/data"];
  document.title = `${title} - det studio`;
  const links = Object.entries(PAGES).map(([to, [name]]) =>
    h("a", { href: `#${to}`, "aria-current": to === path ? "page" : null }, name));
  document.getElementById("nav").replaceChildren(...links);
  if (leave) leave();
  leave = null;
  const main = document.getElementById("main");
  if (shown !== path) delete main.dataset.set;
  shown = path;
  try {
    leave = await page.show(main, words);
  } catch (error) {
    main.replaceChildren(h("h1", {}, title), h("p", { class: "error", role: "alert" }, error.message));
  }
}

history.replaceState(null, "", `/${location.hash}`);  // the token does not stay in the address bar
addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => say(event.reason?.message || String(event.reason)));
get("/api/sets").then(({ folder }) => { document.getElementById("where").textContent = folder; });
show();
