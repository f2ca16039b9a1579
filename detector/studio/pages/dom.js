// Elements, requests and addresses.  Text is always a text node: nothing that comes from a file is read as HTML.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, properties, children);
  return element;
}

export function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, properties, children);
  return element;
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export async function get(path, query = {}) {
  return answer(await fetch(address(path, query)));
}

export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return answer(await fetch(path, { method: "POST", headers, body: JSON.stringify(content) }));
}

export async function answer(response) {
  const content = await response.json();
  if (!response.ok) {
    throw Object.assign(new Error(content.error || `the studio answered ${response.status}`), { status: response.status });
  }
  return content;
}

export function address(path, query) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) words.append(name, one);
  return words.size ? `${path}?${words}` : path;
}

export function counted(number, noun) {
  const ending = number === 1 ? "" : /[sx]$/.test(noun) ? "es" : "s";
  return `${number.toLocaleString("en-US")} ${noun}${ending}`;
}

export function say(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { status.textContent = ""; }, 6000);
}

// What the address bar says: the page and its words.
export function here() {
  const [path, words] = location.hash.slice(1).split("?");
  return { path: path || "/data", words: new URLSearchParams(words || "") };
}

export function link(path, query = {}) {
  return `#${address(path, query)}`;
}
