// Behaviour of the page. All text arrives formatted in the report's data and is inserted as text,
// never as markup, because names may contain anything.

const { columns, frames, builds } = JSON.parse(document.getElementById("data").textContent);
const specs = JSON.parse(document.getElementById("figures-data").textContent);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// In the report of `snakemake --report` the page is a data: address, from which no file can be linked.
const embedded = location.protocol === "data:";

function link(target, label, attributes = {}) {
  const path = decodeURI(new URL(target, "file:///results/report/").pathname.slice(1));
  return embedded ? element("span", {}, path) : element("a", { href: target, ...attributes }, label);
}

for (const anchor of document.querySelectorAll('a[href^=".."]')) {
  anchor.replaceWith(link(anchor.getAttribute("href"), anchor.textContent));
}

// --- details, created when a build is first opened ---

const specOf = new WeakMap(); // of the plots in details

const VERDICTS = new Set(["pass", "warn", "fail"]);

function cell(tag, value) {
  return element(tag, {}, VERDICTS.has(value) ? badge(value) : value);
}

function badge(status) {
  return element("span", { class: `status ${status}` }, status);
}

const kinds = {
  facts: (pairs) =>
    element("dl", {}, ...pairs.flatMap(([key, value]) => [cell("dt", key), cell("dd", value)])),

  bars(values, { title }) {
    const largest = Math.max(1, ...values.map(([, value]) => value));
    const bars = values.map(([label, value, text]) =>
      element("li", {}, element("span", {}, label), element("i", { style: `width:${(100 * value) / largest}%` }), element("b", {}, text)));
    return element("ul", { class: "bars", tabindex: "0", "aria-label": title }, ...bars);
  },

  rows(rows, { title, head }) {
    const names = head.map((name) => element("th", { scope: "col" }, name));
    const body = rows.map((row) => element("tr", {}, ...row.map((value) => cell("td", value))));
    const inner = element("table", {}, element("thead", {}, element("tr", {}, ...names)), element("tbody", {}, ...body));
    return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, inner);
  },

  links: (links) =>
    element("ul", { class: "links" }, ...links.map(([label, target, beside]) =>
      element("li", {}, link(target, label, { download: "" }), " ", element("span", { class: "quiet" }, beside)))),

  code: (blocks) =>
    element("div", {}, ...blocks.flatMap(([language, code]) => [element("h5", {}, language), element("pre", { tabindex: "0" }, code)])),

  plot(rows, { title, fields, spec }) {
    const values = rows.map((row) => Object.fromEntries(fields.map((field, i) => [field, row[i]])));
    const plot = element("div", { class: "plot low", role: "img", "aria-label": `${title}; the table below contains the worst` });
    specOf.set(plot, { ...spec, data: { values } });
    near.observe(plot);
    return plot;
  },
};

function details(build) {
  return element("div", { class: "details" }, ...frames.flatMap((frame, i) => {
    const filled = build.details[i];
    if (filled === null) return []; // a frame that this build does not have
    const classes = ["wide", "mono"].filter((name) => frame[name]).join(" ");
    const content = [
      ...(frame.note ? [element("p", {}, frame.note)] : []),
      filled.length ? kinds[frame.kind](filled, frame) : element("p", {}, frame.none),
    ];
    const title = element("h4", {}, frame.title);
    return element("section", { class: classes },
      ...(frame.fold ? [element("details", {}, element("summary", {}, title), ...content)] : [title, ...content]));
  }));
}

// --- the table: one tbody per build, so that its details stay with it ---

const table = document.getElementById("table");

function show(column, text) {
  if (column.kind === "verdict") return [badge(text)];
  // A name too long for its column may break after an underscore.
  return text.split(/(?<=_)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));
}

const groups = builds.map((build, index) => {
  const button = element("button", { type: "button", "aria-expanded": "false" }, build.cells[0][1]);
  const cells = columns.map((column, i) =>
    element("td", { class: column.kind, "data-label": column.label }, ...(i ? show(column, build.cells[i][1]) : [button])));
  const row = element("tr", { class: build.baseline ? "row baseline" : "row" }, ...cells);
  const group = element("tbody", { id: `build-${index}` }, row);
  row.addEventListener("click", () => open(index, button.getAttribute("aria-expanded") !== "true"));
  return group;
});
table.append(...groups.filter((_, i) => builds[i].baseline), ...groups.filter((_, i) => !builds[i].baseline));

function open(index, expanded) {
  const group = groups[index];
  if (expanded && group.rows.length === 1) {
    group.append(element("tr", { class: "detail" }, element("td", { colspan: columns.length }, details(builds[index]))));
  }
  if (group.rows[1]) group.rows[1].hidden = !expanded;
  group.querySelector("button").setAttribute("aria-expanded", String(expanded));
}

function openAndGo(index) {
  if (!groups[index]) return;
  if (groups[index].hidden) reset();
  open(index, true);
  groups[index].scrollIntoView({ block: "start" });
  groups[index].querySelector("button").focus({ preventScroll: true });
}

function compare(column, descending) {
  return (a, b) => {
    // The uncompressed builds, which all others are compared with, stay on top.
    if (builds[a].baseline !== builds[b].baseline) return builds[b].baseline - builds[a].baseline;
    const [left, right] = [builds[a].cells[column][0], builds[b].cells[column][0]];
    if (left === null || right === null) return (left === null) - (right === null); // missing last
    const order = typeof left === "number" ? left - right : left.localeCompare(right, "en", { numeric: true });
    return descending ? -order : order;
  };
}

const heads = columns.map((column, index) => {
  const button = element("button", { type: "button" }, column.label);
  const head = element("th", { scope: "col", class: column.kind === "number" ? "number" : "" }, button);
  button.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const order = [...builds.keys()].sort(compare(index, descending));
    table.append(...order.map((i) => groups[i]));
  });
  return head;
});
table.tHead.append(element("tr", {}, ...heads));

// --- filters ---

const form = document.getElementById("filters");
const search = document.getElementById("search");
const texts = builds.map((build) => build.cells.map(([, text]) => text).join(" ").toLowerCase());
const menus = columns.flatMap((column, index) => {
  const values = new Set(builds.map((build) => build.cells[index][1]));
  if (!column.menu || values.size < 2) return [];
  const sorted = [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const menu = element("select", {}, element("option", { value: "" }, "all"),
    ...sorted.map((value) => element("option", { value: `=${value}` }, value)));
  form.append(element("label", {}, element("span", {}, column.label), menu));
  return [{ menu, index }];
});

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [i, group] of groups.entries()) {
    const wanted = words.every((word) => texts[i].includes(word))
      && menus.every(({ menu, index }) => !menu.value || menu.value === `=${builds[i].cells[index][1]}`);
    group.hidden = !wanted;
    count += wanted;
  }
  document.getElementById("shown").textContent =
    count === builds.length ? `${count} builds` : `${count} of ${builds.length} builds`;
}

function reset() {
  form.reset();
  filter();
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// --- plots, drawn when they come into view, and again when the colour scheme changes ---

function theme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  const font = style.fontFamily;
  return {
    background: "transparent",
    view: { stroke: null },
    text: { color: ink, font },
    axis: {
      labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
      labelFont: font, titleFont: font, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 11, tickCount: 6,
    },
  };
}

async function draw(plot) {
  const spec = specOf.get(plot) ?? specs[plot.dataset.figure];
  const { view } = await window.vegaEmbed(plot, spec, { actions: false, renderer: "svg", mode: "vega-lite", config: theme() });
  view.addEventListener("click", (_, item) => item?.datum && openAndGo(item.datum.index));
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((e) => e.isIntersecting)) {
    near.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "600px" });
function drawAll() {
  for (const plot of document.querySelectorAll(".plot")) near.observe(plot);
}
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

// --- links to a build ---

function follow() {
  const match = /^#build-(\d+)$/.exec(location.hash);
  if (match) openAndGo(Number(match[1]));
}
addEventListener("hashchange", follow);
follow();
