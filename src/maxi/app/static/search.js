import { ask, byId, element, picturesOf, play, trying } from "./common.js";

async function search(text) {
  const begun = performance.now();
  const { found, n_videos: n, n_all: all } = await ask("/api/search", { text });
  const part = n < all ? `${n} of ${all} videos (raise eval.sample for more)` : `${n} videos`;
  byId("about").textContent = `${part}, ${Math.round(performance.now() - begun)} ms. The nearest first.`;
  byId("found").replaceChildren(...found.map((one) => card(one, text)));
}

function card(one, text) {
  const place = element("div", {}, element("img", { className: "still", src: picturesOf(one.video, 1), alt: "", loading: "lazy" }));
  const button = element("button", { type: "button", onclick: () => trying(show) }, "Play the moment");
  async function show() {
    button.disabled = true;
    try {
      const { seconds, start, end } = await ask("/api/moment", { text, video: one.video });
      play(place, one.video, start, end);
      button.textContent = `At ${seconds} s`;
    } finally {
      button.disabled = false;
    }
  }
  return element("article", { className: "card" }, place, element("p", {}, element("b", {}, one.file)),
    element("p", { className: "muted" }, `cosine ${one.score.toFixed(3)}`), button,
    element("a", { href: `/classify?video=${encodeURIComponent(one.video)}` }, " Classify"));
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (text) trying(() => search(text));
});
byId("text").focus();
