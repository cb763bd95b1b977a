"use strict";
// Tables sort by a click on a heading and filter by the form that names them, and boxes say that they scroll. Without
// JavaScript all rows are shown.

const FEW = 4; // rows that nobody needs to sort
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// What a cell sorts by: its number, its text, or null for nothing.
function sortKey(row, column, isNumber) {
  const cell = row.cells[column];
  if (!isNumber) return cell.textContent.trim();
  return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
}

// Nothing comes last in either direction; equal rows keep their order.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" ? a - b : collator.compare(a, b));
}

function sortBy(table, heading) {
  const column = heading.cellIndex;
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const isNumber = heading.classList.contains("number");
  const keyed = Array.from(table.tBodies[0].rows, (row) => [sortKey(row, column, isNumber), row]);
  keyed.sort(([a], [b]) => compare(a, b, sign));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    if ("fixed" in heading.dataset) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading));
    heading.append(button);
  }
}

function filter(form) {
  const { text, ...choices } = Object.fromEntries(new FormData(form));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(document.getElementById(form.dataset.table).tBodies[0].rows);
  let shown = 0;
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    const fits = Object.entries(choices).every(([name, value]) => !value || row.dataset[name] === value);
    row.hidden = !(fits && words.every((word) => content.includes(word)));
    shown += !row.hidden;
  }
  form.querySelector("output").textContent = `${shown} of ${rows.length} rows`;
}

function makeFilter(form) {
  form.hidden = false;
  for (const event of ["input", "change"]) form.addEventListener(event, () => filter(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(form);
}

const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth);
});

for (const table of document.querySelectorAll("table.data")) {
  if (table.tBodies[0].rows.length > FEW) makeSortable(table);
}
for (const form of document.querySelectorAll("form.controls")) makeFilter(form);
for (const box of document.querySelectorAll(".box")) boxes.observe(box);
// A browser that goes back fills the forms again after this script.
window.addEventListener("pageshow", () => document.querySelectorAll("form.controls").forEach(filter));
