const data = JSON.parse(document.getElementById("data").textContent);
const cards = [...document.querySelectorAll(".clip")];
let current = 0;

// video -> {verdicts: {name: true | false}, unsure: true | false}
let state = {};
try {
  state = JSON.parse(localStorage.getItem(data.key)) || {};
} catch {
  state = {};
}

function entryOf(card) {
  const saved = Object.hasOwn(state, card.video) ? state[card.video] : null;
  return saved || { verdicts: {}, unsure: false };
}

function isDone(card) {
  const entry = entryOf(card);
  return entry.unsure || card.names.every((name) => Object.hasOwn(entry.verdicts, name));
}

function judgements() {
  return data.cards.filter(isDone).map((card) => {
    const entry = entryOf(card);
    const verdict = (model) => (entry.unsure ? null : entry.verdicts[card[model]]);
    return { video: card.video, stratum: card.stratum, frozen: verdict("frozen"), adapted: verdict("adapted") };
  });
}

function keep(index, entry) {
  const card = data.cards[index], before = isDone(card);
  state[card.video] = entry;
  try {
    localStorage.setItem(data.key, JSON.stringify(state));
  } catch {
    document.getElementById("unsaved").hidden = false;
  }
  draw();
  if (!before && isDone(card)) go(next(index));
}

function judge(index, name, right) {
  const entry = entryOf(data.cards[index]), verdicts = { ...entry.verdicts };
  if (verdicts[name] === right) delete verdicts[name];
  else verdicts[name] = right;
  keep(index, { verdicts, unsure: false });
}

function skip(index) {
  keep(index, { verdicts: {}, unsure: !entryOf(data.cards[index]).unsure });
}

// The next clip that is not judged yet; this one when all others are.
function next(index) {
  for (let step = 1; step < cards.length; step++) {
    const place = (index + step) % cards.length;
    if (!isDone(data.cards[place])) return place;
  }
  return index;
}

function go(index) {
  current = Math.max(0, Math.min(cards.length - 1, index));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  cards[current].scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
  mark();
}

function mark() {
  cards.forEach((card, i) => card.classList.toggle("current", i === current));
}

function draw() {
  cards.forEach((element, i) => {
    const card = data.cards[i], entry = entryOf(card);
    element.classList.toggle("done", isDone(card));
    element.querySelectorAll("button[data-name]").forEach((button) => {
      const right = button.dataset.right === "1";
      button.setAttribute("aria-pressed", String(entry.verdicts[card.names[button.dataset.name]] === right));
    });
    element.querySelector(".unsure").setAttribute("aria-pressed", String(entry.unsure));
  });
  const result = estimate(judgements(), data.strata);
  const bar = document.getElementById("progress");
  bar.value = result.judged;
  document.getElementById("count").textContent = `${result.judged} of ${cards.length} judged`;
  document.getElementById("waiting").hidden = result.ready;
  document.getElementById("result").hidden = !result.ready;
  if (result.ready) show(result);
}

const percent = (x) => x.toFixed(1);
const points = (x) => (x < -0.05 ? "−" : "+") + Math.abs(x).toFixed(1);

function show(result) {
  for (const model of ["frozen", "adapted"]) {
    const { value, interval } = result[model];
    document.getElementById(model).textContent = percent(value) + " %";
    document.getElementById(model + "-interval").textContent = interval.map(percent).join(" to ") + " %";
  }
  const { value, interval } = result.difference;
  document.getElementById("difference").textContent = points(value) + " points";
  document.getElementById("difference-interval").textContent = interval.map(points).join(" to ");
  let verdict = "The interval of the difference includes 0: no gain can be told from noise on these clips.";
  if (interval[0] > 0) verdict = "The interval of the difference excludes 0: the adapted model is better.";
  if (interval[1] < 0) verdict = "The interval of the difference excludes 0: the adapted model is worse.";
  document.getElementById("verdict").textContent = verdict;
  const unsure = result.judged - result.told;
  document.getElementById("left-out").textContent =
    `From ${result.told} clips` + (unsure ? `; ${unsure} for which you could not tell are left out.` : ".");
}

function download() {
  const rows = judgements().map((j) => {
    const card = data.cards.find((c) => c.video === j.video);
    return { ...j, path: card.path, names: { frozen: card.frozen, adapted: card.adapted } };
  });
  const { key, run, seed, strata } = data;
  const text = JSON.stringify({ key, run, seed, strata, judgements: rows, estimate: estimate(rows, strata) }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "judgements.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function reset() {
  if (!confirm("Forget all judgements of this run?")) return;
  state = {};
  try {
    localStorage.removeItem(data.key);
  } catch {
    // Nothing was saved, so nothing is left.
  }
  draw();
  go(0);
}

cards.forEach((element, i) => {
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    current = i;
    mark();
    if (!button) {
      if (event.target.closest(".reel")) element.classList.toggle("paused");
    } else if (button.classList.contains("unsure")) skip(i);
    else judge(i, data.cards[i].names[button.dataset.name], button.dataset.right === "1");
  });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const card = data.cards[current], { verdicts } = entryOf(card);
  const open = card.names.find((name) => !Object.hasOwn(verdicts, name));
  const actions = {
    r: () => open !== undefined && judge(current, open, true),
    w: () => open !== undefined && judge(current, open, false),
    c: () => skip(current),
    x: () => keep(current, { verdicts: {}, unsure: false }),
    p: () => cards[current].classList.toggle("paused"),
    j: () => go(current + 1),
    k: () => go(current - 1),
  };
  if (Object.hasOwn(actions, event.key)) {
    actions[event.key]();
    event.preventDefault();
  }
});

document.getElementById("download").addEventListener("click", download);
document.getElementById("reset").addEventListener("click", reset);
draw();
mark();
