"use strict";
// Sorting by a column head, and search in the forgotten items. Without this script every row and item is simply there.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const body = table.tBodies[0];
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const numbers = isFinite(x) && isFinite(y);
        return (down ? -1 : 1) * (numbers ? x - y : x.localeCompare(y));
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
const search = document.getElementById("search");
const family = document.getElementById("family");
const method = document.getElementById("method");
if (search) {
  document.getElementById("filters").hidden = false;
  const items = [...document.querySelectorAll("details.item")];
  const texts = items.map((item) => item.textContent.toLowerCase());
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    items.forEach((item, i) => {
      const fits =
        words.every((word) => texts[i].includes(word)) &&
        (!family.value || item.dataset.family === family.value) &&
        (!method.value || JSON.parse(item.dataset.forgot).includes(method.value));
      item.hidden = !fits;
      shown += fits;
    });
    document.getElementById("found").textContent = `${shown} of ${items.length} shown`;
  };
  [search, family, method].forEach((input) => input.addEventListener("input", update));
  update();
}
