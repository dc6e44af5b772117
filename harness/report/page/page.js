"use strict";
// Sorting and filtering tables, plots that say what is pointed at, explanations of numbers, the recommendation under limits, the
// forgotten items, and links that hold what is shown. Without this script the page still has every table and sentence; only the
// items need it.
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

// Numbers of the main table that can be asked how they came about.
if (at("explained")) {
  const explained = data("explained");
  const title = make("h2"), text = make("div"), close = make("button", ["Close"], { type: "button" });
  const dialog = make("dialog", [title, text, close]);
  title.id = "why-title";
  dialog.setAttribute("aria-labelledby", title.id);
  document.body.append(dialog);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const names = { gain: "Gain", change: "ΔR", retention: "Kept" };
  for (const cell of document.querySelectorAll("[data-why]")) {
    const row = cell.closest("tr").dataset.row, quantity = cell.dataset.why;
    const lines = explained[row]?.[quantity];
    if (!lines?.length) continue;
    const button = make("button", [cell.firstChild], { type: "button", className: "why" });
    button.setAttribute("aria-label", `${button.textContent}: explain this number, ${names[quantity]} of ${row}`);
    cell.prepend(button);
    button.addEventListener("click", () => {
      title.textContent = `${names[quantity]} of ${row}: ${button.textContent}`;
      text.replaceChildren(...lines.map((line) => make("p", [line])));
      dialog.showModal();
    });
  }
}

// Plots: the row whose mark is nearest to the pointer is said, in the list beside the plot and at the pointer.
const tip = make("div", [], { className: "tip", hidden: true });
document.body.append(tip);
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg"), entries = [...plot.querySelectorAll(".key li")];
  if (!entries.length) continue;
  const groups = [...svg.querySelectorAll("[data-row]")];
  const leaves = groups.flatMap((group) => {
    const points = [...group.querySelectorAll("use")];
    return (points.length ? points : [...group.querySelectorAll("path")]).map((leaf) => [group.dataset.row, leaf]);
  });
  const show = (row) => {
    svg.classList.toggle("pointed", row !== null);
    for (const part of [...groups, ...entries]) part.classList.toggle("on", part.dataset.row === row);
  };
  const nearest = (x, y) => {
    let best = null, least = 30;
    for (const [row, leaf] of leaves) {
      const box = leaf.getBoundingClientRect();
      const away = Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
      if (away < least) [best, least] = [row, away];
    }
    return best;
  };
  const point = (event) => {
    const row = nearest(event.clientX, event.clientY);
    show(row);
    tip.hidden = row === null;
    if (row === null) return;
    tip.textContent = entries[Number(row)].innerText.replace(/\s+/g, " ").trim();
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
  };
  const leave = () => { tip.hidden = true; show(null); };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
  for (const entry of entries) {
    entry.addEventListener("pointerenter", () => show(entry.dataset.row));
    entry.addEventListener("pointerleave", leave);
  }
  // By keyboard: arrows go through the list, Escape ends.
  const key = plot.querySelector(".key");
  key.addEventListener("keydown", (event) => {
    const now = entries.findIndex((entry) => entry.classList.contains("on"));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(null);
    if (!step) return;
    event.preventDefault();
    const next = now < 0 ? (step > 0 ? 0 : entries.length - 1) : Math.min(Math.max(now + step, 0), entries.length - 1);
    show(entries[next].dataset.row);
    entries[next].scrollIntoView({ block: "nearest" });
  });
  key.addEventListener("blur", () => show(null));
}

// What is printed is open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => (details.open = true)));

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
  const { rows, texts, items, kinds } = data("explorer");
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
    const [family, method, channel, kind] = ["family", "method", "channel", "kind"].map((id) => at(id)?.value ?? "");
    const lost = (item) => item[6].some((number) =>
      (!method || rows[number] === method) && (!kind || kinds[texts[item[0]]]?.[number] === kind));
    fitting = items.filter((item, i) =>
      words.every((word) => haystacks[i].includes(word)) &&
      (!family || texts[item[0]] === family) &&
      (!channel || texts[item[8]] === channel) &&
      lost(item));
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
  ["search", "family", "method", "channel", "kind"].forEach((id) => at(id)?.addEventListener("input", update));
  update();
}

// Links hold what is shown: `#forgotten?family=arithmetic&method=sft`. Every filter of a section is in its section's link.
const fields = [...document.querySelectorAll("section .controls :is(input, select)")];
const begun = new Map(fields.map((field) => [field, field.value]));
const follow = () => {
  const [section, asked] = location.hash.slice(1).split("?");
  if (!asked) return;
  for (const [id, value] of new URLSearchParams(asked)) {
    const field = at(id);
    if (!fields.includes(field) || field.value === value) continue;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  at(section)?.scrollIntoView();
};
for (const field of fields)
  field.addEventListener("input", () => {
    const section = field.closest("section");
    const changed = fields.filter((one) => section.contains(one) && one.value !== begun.get(one)).map((one) => [one.id, one.value]);
    const asked = new URLSearchParams(changed).toString();
    history.replaceState(null, "", `#${section.id}${asked && `?${asked}`}`);
  });
addEventListener("hashchange", follow);
follow();
