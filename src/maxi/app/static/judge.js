// Judging by keyboard: each key is one request, and the server has written the answer when the next clip is shown.
import { ask, byId, element, picturesOf, play, previewOf, trying } from "./common.js";

const names = JSON.parse(byId("all-names").textContent);
let clips = [], skip = [], player = null, busy = false, chosen = 0;

const shown = () => clips[0];

function show(state) {
  clips = state.clips;
  byId("count").textContent = `${state.n} of ${state.goal} answered`;
  byId("progress").max = state.goal;
  byId("progress").value = state.n;
  showEstimate(state);
  byId("problem").textContent = state.problem;
  if (state.told) showTold(state.told);
  const clip = shown();
  byId("work").hidden = !clip;
  byId("done").hidden = Boolean(clip);
  byId("none-left").textContent = state.skipped
    ? `${state.skipped} clips were passed over; the left arrow goes back to them.`
    : state.n < state.goal ? "All videos are answered." : `You answered ${state.n} clips.`;
  if (!clip) return;
  player = play(byId("clip"), clip.video);
  byId("about").textContent = clip.seconds > 20 ? `${clip.seconds} seconds, shown faster` : `${clip.seconds} seconds`;
  byId("names").replaceChildren(...clip.names.map((name, i) =>
    element("li", {}, element("button", { type: "button", onclick: () => give("name", name) }, element("kbd", {}, String(i + 1)), element("span", {}, name)))));
  showAlike(clip);
  byId("other").value = "";
  find();
  for (const next of clips.slice(1)) fetch(previewOf(next.video)).catch(() => {});
}

function showAlike(clip) {
  byId("alike").hidden = clip.alike.length === 0;
  byId("also").checked = false;
  byId("n-alike").textContent = String(clip.alike.length);
  byId("alikes").hidden = true;
  byId("alikes").replaceChildren(...clip.alike.map((video) => {
    const button = element("button", { type: "button", ariaPressed: "true", value: video, ariaLabel: "leave this clip out of the group" });
    button.append(element("img", { src: picturesOf(video, 1), alt: "", loading: "lazy" }));
    button.onclick = () => { button.ariaPressed = button.ariaPressed === "true" ? "false" : "true"; };
    return button;
  }));
}

function also() {
  if (!byId("also").checked) return [];
  return [...byId("alikes").children].filter((b) => b.ariaPressed === "true").map((b) => b.value);
}

function showTold(told) {
  const models = told.adapted === undefined ? "" : ` The model before training says “${told.frozen}”, after it “${told.adapted}”.`;
  const group = told.n_also ? ` and ${told.n_also} like it` : "";
  byId("told").textContent = `Your answer for the last clip${group}: “${told.answer}”.${models}`;
}

function showEstimate({ estimate, n, fewest }) {
  byId("waiting").hidden = Boolean(estimate);
  byId("estimate").hidden = !estimate;
  byId("waiting").textContent = `From ${fewest} answers on, here stands how often both models are right.`;
  if (!estimate) return;
  const percent = (x) => x.toFixed(0);
  for (const kind of ["frozen", "adapted"]) {
    const [value, low, high] = estimate[kind];
    byId(kind).textContent = `${percent(value)} %`;
    byId(`${kind}-interval`).textContent = `${percent(low)} to ${percent(high)}`;
  }
  const [value, low, high] = estimate.difference;
  byId("difference").textContent = `${value >= 0 ? "+" : ""}${value.toFixed(1)}`;
  byId("difference-interval").textContent = `${low.toFixed(1)} to ${high.toFixed(1)}`;
  byId("more").textContent = `From ${estimate.n} answers: ${estimate.more}.`;
}

/** Send one answer at a time; a second key before the next clip is there would answer a clip that nobody saw. */
async function send(path, data) {
  if (busy) return;
  busy = true;
  await trying(async () => show(await ask(path, data)));
  busy = false;
}

function give(kind, answer = "") {
  if (shown()) send("/api/answer", { video: shown().video, kind, answer, also: also(), skip });
}

function undo() { send("/api/undo", { skip }); }

function next() {
  if (!shown()) return;
  skip.push(shown().video);
  send("/api/shown", { skip });
}

function back() {
  if (skip.pop() !== undefined) send("/api/shown", { skip });
}

function matching(text) {
  const words = text.trim().toLowerCase();
  if (!words) return [];
  const starts = names.filter((name) => name.toLowerCase().startsWith(words));
  const holds = names.filter((name) => !starts.includes(name) && name.toLowerCase().includes(words));
  const found = [...starts, ...holds].slice(0, 8);
  return found.some((name) => name.toLowerCase() === words) ? found : [...found, text.trim()];
}

function find() {
  const found = matching(byId("other").value);
  chosen = Math.min(chosen, Math.max(0, found.length - 1));
  byId("matches").replaceChildren(...found.map((name, i) => {
    const label = names.includes(name) ? name : `“${name}”, which is not in the list`;
    return element("li", { role: "option", id: `match-${i}`, ariaSelected: String(i === chosen), onclick: () => give("name", name) }, label);
  }));
  byId("matches").hidden = found.length === 0;
  byId("other").setAttribute("aria-expanded", String(found.length > 0));
  byId("other").setAttribute("aria-activedescendant", found.length ? `match-${chosen}` : "");
}

function inFinder(event) {
  const found = matching(byId("other").value);
  if (event.key === "Enter" && found.length) { event.preventDefault(); byId("other").blur(); give("name", found[chosen]); }
  else if (event.key === "Escape") { byId("other").value = ""; find(); byId("other").blur(); }
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    chosen = Math.max(0, Math.min(found.length - 1, chosen + (event.key === "ArrowDown" ? 1 : -1)));
    find();
  }
}

function pause() {
  if (player?.paused) player.play(); else player?.pause();
}

const keys = {
  0: () => give("none"), u: () => give("unsure"), z: undo, ArrowRight: next, ArrowLeft: back, " ": pause,
  "+": () => { if (!byId("alike").hidden) byId("also").click(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === byId("other")) { inFinder(event); return; }
  // A focused button or box has its own space and enter keys.
  if ([" ", "Enter"].includes(event.key) && ["BUTTON", "INPUT", "A"].includes(event.target.tagName)) return;
  const name = shown()?.names[Number(event.key) - 1];
  if (name !== undefined && event.key >= "1" && event.key <= "9") { event.preventDefault(); give("name", name); }
  else if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  else if (event.key === "/" ) { event.preventDefault(); byId("other").focus(); }
  else if (/^\p{L}$/u.test(event.key)) { chosen = 0; byId("other").focus(); }
});

byId("other").addEventListener("input", () => { chosen = 0; find(); });
byId("also").addEventListener("change", () => { byId("alikes").hidden = !byId("also").checked; });
byId("none").onclick = () => give("none");
byId("unsure").onclick = () => give("unsure");
byId("undo").onclick = undo;
byId("next").onclick = next;
byId("back").onclick = back;
byId("go-on").onclick = () => send("/api/shown", { skip, more: 25 });
send("/api/shown", { skip });
