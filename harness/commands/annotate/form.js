"use strict";
const { form, annotator } = document.body.dataset;
const place = `lethe/${form}/${annotator}`;
const boxes = [...document.querySelectorAll("input[type=radio]")];
const asked = new Set(boxes.map((box) => box.name)).size;

function ratings() {
  const found = {};
  for (const article of document.querySelectorAll("article")) found[article.dataset.id] = {};
  for (const box of boxes) {
    const [id, scale] = box.name.split("/");
    if (box.checked) found[id][scale] = Number(box.value);
    else if (!(scale in found[id])) found[id][scale] = null;
  }
  return found;
}

function text() {
  return JSON.stringify({ form, annotator, ratings: ratings() }, null, 1);
}

function show() {
  const given = boxes.filter((box) => box.checked).length;
  document.getElementById("progress").textContent = `${given} of ${asked} given`;
  document.getElementById("result").value = text();
  try { localStorage.setItem(place, text()); } catch { /* a browser may keep nothing */ }
}

function restore() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(place)); } catch { /* nothing was kept */ }
  for (const box of boxes) {
    const [id, scale] = box.name.split("/");
    if (kept?.ratings?.[id]?.[scale] === Number(box.value)) box.checked = true;
  }
}

document.addEventListener("change", show);
document.getElementById("save").addEventListener("click", () => {
  show();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text()], { type: "application/json" }));
  link.download = `ratings-${form}-${annotator}.json`;
  link.click();
});
restore();
show();
