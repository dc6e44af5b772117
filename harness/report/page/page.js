"use strict";
// Sorting and filtering tables, the recommendation under limits, and the forgotten items. Without this script the page
// still has every table and sentence; only the items need it.
const at = (id) => document.getElementById(id);
const data = (id) => JSON.parse(at(id).textContent);
const make = (tag, parts = [], properties = {}) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...parts);
  return made;
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = make("button", [...head.childNodes], { type: "button" });
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const numbers = isFinite(x) && isFinite(y);
        return (down ? -1 : 1) * (numbers ? x - y : x.localeCompare(y));
      };
      const rows = [...table.tBodies[0].rows];
      const fixed = rows.filter((row) => row.classList.contains("reference")); // no recipes: ranked nowhere
      table.tBodies[0].append(...fixed, ...rows.filter((row) => !fixed.includes(row)).sort(order));
    });
  });
}

if (at("main-table")) {
  const rows = [...at("main-table").tBodies[0].rows];
  const update = () => {
    const [track, status] = [at("table-track").value, at("table-status").value];
    for (const row of rows)
      row.hidden = (track && row.dataset.track && row.dataset.track !== track) || (status && row.dataset.status !== status);
    at("table-shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  at("table-filters").hidden = false;
  ["table-track", "table-status"].forEach((id) => at(id).addEventListener("input", update));
  update();
}

// Leaves out the rows that break a limit; which recipe is taken and every sentence are made by harness/report/summary/rule.py and recommend.py.
if (at("limits")) {
  const rows = [...at("choices").tBodies[0].rows];
  const limit = (name) => (at(`limit-${name}`).value === "" ? null : Number(at(`limit-${name}`).value));
  const known = (row, name) => (row.dataset[name] === "" ? NaN : Number(row.dataset[name]));
  const update = () => {
    const [loss, retention, seconds, memory] = ["loss", "retention", "seconds", "memory"].map(limit);
    for (const row of rows)
      row.hidden = !(
        (loss === null || known(row, "loss") <= loss) &&
        (retention === null || known(row, "retention") >= retention) &&
        (seconds === null || known(row, "seconds") <= seconds) &&
        (memory === null || known(row, "memory") <= memory * 1e9)
      );
    at("limits-shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} recipes keep them`;
  };
  at("limits").hidden = false;
  at("limits").addEventListener("input", update);
  at("limits").addEventListener("submit", (event) => event.preventDefault());
  update();
}

if (at("explorer")) {
  const { rows, texts, items } = data("explorer");
  const PAGE = 40;
  let fitting = items, shown = 0, haystacks = null;
  const names = (numbers) => numbers.map((number) => rows[number]).join(", ");
  const text = (value, kind = "") => {
    const made = make("div", [make("bdi", [value])], { className: `text ${kind}` });
    made.dir = "auto";
    return made;
  };
  const answer = (who, value, right) =>
    make("div", [make("h3", [`${who}: ${right ? "right" : "wrong"}`]), text(value, right ? "right" : "wrong")]);
  const body = ([, task, item, prompt, target, base, , answers]) => [
    make("p", [`${texts[task]}, item ${texts[item]}`], { className: "quiet" }),
    make("h3", ["Prompt"]), text(texts[prompt]),
    ...(texts[target] ? [make("h3", ["Expected"]), text(texts[target])] : []),
    make("div", [
      answer("base", texts[base], true),
      ...answers.map(([right, value, who]) => answer(names(who), texts[value], right)),
    ], { className: "answers" }),
  ];
  const entry = (item) => {
    const prompt = texts[item[3]];
    const head = make("span", [
      make("bdi", [prompt.length > 140 ? `${prompt.slice(0, 140)}…` : prompt]),
      make("small", [`forgotten by ${names(item[6])}`]),
    ]);
    const made = make("details", [
      make("summary", [make("span", [texts[item[0]]], { className: "family" }), head]),
    ], { className: "item" });
    made.addEventListener("toggle", () => made.children.length > 1 || made.append(...body(item)));
    return made;
  };
  const more = () => {
    at("item-list").append(...fitting.slice(shown, shown + PAGE).map(entry));
    shown = Math.min(shown + PAGE, fitting.length);
    at("more").hidden = shown >= fitting.length;
    at("found").textContent = `${shown} of ${fitting.length} shown` + (fitting.length < items.length ? `, of ${items.length}` : "");
  };
  const update = () => {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length && !haystacks)
      haystacks = items.map((item) =>
        [...item.slice(0, 6), ...item[7].map((a) => a[1])].map((number) => texts[number]).join("\n").toLowerCase());
    const [family, method] = [at("family").value, at("method").value];
    fitting = items.filter((item, i) =>
      words.every((word) => haystacks[i].includes(word)) &&
      (!family || texts[item[0]] === family) &&
      (!method || item[6].some((number) => rows[number] === method)));
    at("item-list").replaceChildren();
    shown = 0;
    more();
  };
  at("filters").hidden = false;
  at("more").addEventListener("click", () => {
    const next = at("item-list").children.length;
    more();
    at("item-list").children[next]?.querySelector("summary").focus();
  });
  ["search", "family", "method"].forEach((id) => at(id).addEventListener("input", update));
  update();
}
