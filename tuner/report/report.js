"use strict";
const root = document.documentElement;
const cells = [...document.querySelectorAll(".cell")];
const fold = document.getElementById("fold");

document.getElementById("theme").addEventListener("click", () => {
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || preferred) === "dark" ? "light" : "dark";
});

fold.addEventListener("click", () => {
  const open = !cells.some((cell) => cell.open);
  cells.forEach((cell) => { cell.open = open; });
});

// The button says what it would do, however the cells came to be as they are.
cells.forEach((cell) => cell.addEventListener("toggle", () => {
  fold.textContent = cells.some((other) => other.open) ? "fold all" : "unfold all";
}));

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  cells.forEach((cell) => { cell.hidden = !words.every((word) => cell.dataset.words.toLowerCase().includes(word)); });
  document.getElementById("none").hidden = cells.some((cell) => !cell.hidden);
});

// A printed page shows everything, whatever is folded or left out on the screen, which is as before afterwards.
let before = [];
addEventListener("beforeprint", () => {
  before = cells.map((cell) => [cell.open, cell.hidden]);
  cells.forEach((cell) => { cell.open = true; cell.hidden = false; });
});
addEventListener("afterprint", () => cells.forEach((cell, at) => { [cell.open, cell.hidden] = before[at]; }));
