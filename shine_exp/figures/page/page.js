// Sorting and filtering; without it everything can be read, in the order of the file.
"use strict";

const number = (text) => {
  const found = text.replace("−", "-").match(/^-?(\d+\.?\d*(e[-+]?\d+)?|inf)/i);
  return found ? Number(found[0].replace("inf", "Infinity")) : NaN;
};

const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y || 0;
  return a.localeCompare(b, undefined, { numeric: true });
};

// Headers that sort rows by the cell at their place.
const sortable = (headers, rows, cell, parent) => {
  headers.forEach((header, place) => {
    const button = document.createElement("button");
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = [...rows].sort((a, b) => compare(cell(a, place), cell(b, place)));
      parent.append(...(down ? sorted.reverse() : sorted));
    });
  });
};

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const cell = (row, place) => row.cells[place].textContent;
  sortable([...table.tHead.rows[0].cells], [...body.rows], cell, body);
}

const list = document.querySelector(".runs");
const runs = [...list.querySelectorAll("details.run")];
const text = (run, place) => run.firstElementChild.children[place].textContent;
sortable([...list.querySelector(".head").children], runs, text, list);

const filter = document.createElement("input");
filter.className = "filter";
filter.type = "search";
filter.placeholder = "Show only runs with these words";
filter.setAttribute("aria-label", filter.placeholder);
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const run of runs) {
    const shown = `${run.firstElementChild.textContent} ${run.querySelector(".folder").textContent}`;
    run.hidden = !words.every((word) => shown.toLowerCase().includes(word));
  }
});
list.before(filter);

// A link to a claim, figure or run shows it open.
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", open);
open();
