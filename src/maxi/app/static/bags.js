import { ask, byId, element, picturesOf, showRerun, trying } from "./common.js";

const open = new Set();  // videos whose texts are shown
let page = 0;

async function load() {
  const wanted = { text: byId("text").value, matches: byId("kind").value, order: byId("order").value, page };
  const { rows, n, n_pages: pages } = await ask("/api/rows", wanted);
  byId("about").textContent = n ? `${n} videos, page ${page + 1} of ${pages}` : "No video is like that.";
  byId("rows").replaceChildren(...rows.map(card));
  byId("before").disabled = page === 0;
  byId("after").disabled = page + 1 >= pages;
}

function card(row) {
  const name = element("input", { type: "text", value: row.name, ariaLabel: "name of the action" });
  name.setAttribute("list", "names");
  const kept = element("input", { type: "checkbox", checked: row.kept });
  const change = () => trying(async () => {
    showRerun(byId("rerun"), await ask("/api/correct", { video: row.video, name: name.value, kept: kept.checked }));
    state.textContent = "Corrected by hand.";
  });
  name.addEventListener("change", change);
  kept.addEventListener("change", change);
  const state = element("p", { className: "muted" }, row.source ? `Corrected (${row.source}).` : `Cosine ${row.score.toFixed(3)}.`);
  state.setAttribute("aria-live", "polite");
  const texts = element("details", {}, element("summary", {}, `${row.texts.length} texts in its bag`),
    element("ul", { className: "texts" }, ...row.texts.map(text)));
  texts.open = open.has(row.video);
  texts.addEventListener("toggle", () => { if (texts.open) open.add(row.video); else open.delete(row.video); });
  return element("article", { className: "card media" },
    element("img", { className: "still", src: picturesOf(row.video, 1), alt: "", loading: "lazy" }),
    element("div", {}, element("p", { className: "path" }, row.path), name,
      element("label", {}, kept, " train on this video"), state, texts));
}

function text(one) {
  const item = element("li", { className: one.weight === 0 ? "dropped" : "", title: one.source }, element("span", {}, one.text));
  const weigh = (weight) => trying(async () => {
    showRerun(byId("rerun"), await ask("/api/weigh", { text: one.text, weight }));
    await load();
  });
  item.append(element("button", { type: "button", ariaLabel: `weight of “${one.text}” in all bags`, onclick: () => {
    const said = prompt(`Weight of “${one.text}” in all bags (1 is that of any text, 0 drops it):`, String(one.weight));
    if (said !== null && said.trim() !== "" && Number(said) >= 0) weigh(Number(said));
  } }, one.weight === 1 ? "×1" : `×${one.weight}`));
  item.append(element("button", { type: "button", ariaLabel: one.weight === 0 ? `take “${one.text}” back into all bags` : `drop “${one.text}” from all bags`, onclick: () => weigh(one.weight === 0 ? 1 : 0) }, one.weight === 0 ? "↶" : "✕"));
  return item;
}

byId("form").addEventListener("submit", (event) => { event.preventDefault(); page = 0; trying(load); });
for (const id of ["kind", "order"]) byId(id).addEventListener("change", () => { page = 0; trying(load); });
byId("before").onclick = () => { page -= 1; trying(load); };
byId("after").onclick = () => { page += 1; trying(load); };
trying(load);
