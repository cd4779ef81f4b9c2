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
  fold.textContent = open ? "fold all" : "unfold all";
});

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  cells.forEach((cell) => { cell.hidden = !words.every((word) => cell.dataset.words.toLowerCase().includes(word)); });
  document.getElementById("none").hidden = cells.some((cell) => !cell.hidden);
});

// A printed page shows everything, whatever is folded on the screen.
addEventListener("beforeprint", () => cells.forEach((cell) => { cell.open = true; }));
