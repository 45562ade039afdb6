// The page's only script: filters over the images of a run, and the map that tells what is
// pointed at. Text from names is only ever set as text, never as markup.
"use strict";

for (const run of document.querySelectorAll("[data-run]")) {
  const entries = [...run.querySelectorAll("[data-label]")];
  const points = entries.filter((entry) => entry.matches(".pt"));
  const filters = run.querySelector(".filters");
  if (filters) filter(run, filters, entries, points);
  const map = run.querySelector(".map");
  if (map) explore(map, points);
}

function filter(run, filters, entries, points) {
  const [label, given, answer, name] = ["label", "given", "answer", "name"].map((which) =>
    filters.querySelector(`[data-by=${which}]`));
  const count = filters.querySelector("output");
  const apply = () => {
    const words = name.value.trim().toLowerCase();
    for (const entry of entries) {
      const is = entry.dataset;
      const shown = (!label.value || is.label === label.value)
        && (!given.value || is.given === given.value)
        && (!answer.value || (is.label === is.given) === (answer.value === "right"))
        && (!words || is.id.toLowerCase().includes(words));
      if (entry.matches(".pt")) entry.classList.toggle("off", !shown);
      else entry.hidden = !shown;
    }
    const left = points.filter((point) => !point.classList.contains("off")).length;
    count.textContent = points.length ? `${left} of ${points.length} images on the map` : "";
    run.dispatchEvent(new Event("filtered"));
  };
  for (const control of [label, given, answer, name]) control.addEventListener("input", apply);
  filters.querySelector("button").addEventListener("click", () => {
    for (const control of [label, given, answer, name]) control.value = "";
    apply();
  });
  filters.hidden = false;
  apply();
}

function explore(map, points) {
  const drawing = map.querySelector("svg");
  const card = map.querySelector(".card");
  const canvas = card.querySelector("canvas");
  const sheet = map.querySelector(".sheet");
  const side = Number(map.dataset.side), columns = Number(map.dataset.columns);
  const places = new Map(points.map((point) =>
    [point, [Number(point.getAttribute("cx")), Number(point.getAttribute("cy"))]]));
  let current = null;

  const visible = () => points.filter((point) => !point.classList.contains("off"));
  const nearest = (x, y, cost = (dx, dy) => Math.hypot(dx, dy)) => {
    let best = null, least = Infinity;
    for (const point of visible()) {
      const [px, py] = places.get(point), far = cost(px - x, py - y);
      if (far < least) [best, least] = [point, far];
    }
    return [best, least];
  };
  const show = (point) => {
    if (current) current.classList.remove("on");
    current = point;
    card.hidden = !point;
    if (!point) return;
    point.classList.add("on");
    const is = point.dataset, cell = Number(is.cell);
    canvas.hidden = !sheet;
    if (sheet) canvas.getContext("2d").drawImage(sheet, side * (cell % columns),
      side * Math.floor(cell / columns), side, side, 0, 0, canvas.width, canvas.height);
    card.querySelector(".id").textContent = is.id;
    card.querySelector(".label").textContent = is.label;
    card.querySelector(".given").textContent = is.given;
    card.querySelector(".sure").textContent = is.sure || "";
    card.classList.toggle("mistaken", is.label !== is.given);
    const box = drawing.getBoundingClientRect(), [x, y] = places.get(point);
    const { width, height } = drawing.viewBox.baseVal;
    const left = x / width * box.width, top = y / height * box.height;
    const room = map.querySelector(".stage").clientWidth - card.offsetWidth;
    card.style.left = `${Math.max(0, Math.min(room, left < room / 2 ? left + 14 : left - card.offsetWidth - 14))}px`;
    card.style.top = `${Math.max(0, Math.min(box.height - card.offsetHeight, top - card.offsetHeight / 2))}px`;
  };
  const pointed = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(drawing.getScreenCTM().inverse());
    const [point, far] = nearest(at.x, at.y);
    const reach = 14 * drawing.viewBox.baseVal.width / drawing.getBoundingClientRect().width;
    show(far <= reach ? point : null);
  };
  drawing.addEventListener("pointermove", pointed);
  drawing.addEventListener("click", pointed);
  drawing.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && document.activeElement !== drawing) show(null);
  });
  drawing.addEventListener("blur", () => show(null));
  drawing.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") show(null);
    if (!way) return;
    event.preventDefault();
    if (!current || current.classList.contains("off")) {
      const { width, height } = drawing.viewBox.baseVal;
      return show(nearest(width / 2, height / 2)[0]);
    }
    // The nearest one ahead; a step to the side counts double.
    const [x, y] = places.get(current);
    const [next] = nearest(x, y, (dx, dy) => {
      const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      return ahead > 0 ? ahead + 2 * aside : Infinity;
    });
    if (next) show(next);
  });
  map.closest("[data-run]").addEventListener("filtered", () => {
    if (current && current.classList.contains("off")) show(null);
  });
}
