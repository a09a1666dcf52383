import { ask, byId, element, picturesOf, play, trying } from "./common.js";

let video = new URLSearchParams(location.search).get("video") ?? "", upload = "";

function choose() {
  const preview = byId("preview");
  preview.replaceChildren();
  byId("chosen").textContent = upload ? "The uploaded video." : video ? "A video of the run." : "No video is chosen. Choose one on the page Search, or upload one.";
  if (video && !upload) preview.append(element("img", { className: "still", src: picturesOf(video, 8), alt: "frames of the video" }));
  byId("go").disabled = !video && !upload;
}

byId("file").addEventListener("change", () => trying(async () => {
  const [file] = byId("file").files;
  if (!file) return;
  byId("chosen").textContent = "Sending the video …";
  upload = "";
  ({ upload } = await ask("/api/upload", file));
  choose();
}).then(choose));

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("go").disabled = true;
  byId("about").textContent = "Looking at the video …";
  trying(async () => {
    const names = byId("names").value.split("\n");
    const answer = await ask("/api/classify", { video: upload ? "" : video, upload, names, window: Number(byId("window").value) });
    const how = answer.refined ? "with the refinement of the run" : "without a refinement";
    byId("about").textContent = `${answer.windows.length} windows, ${answer.seconds} seconds, ${how}.`;
    const best = [...new Set(answer.windows.map((one) => one.names[0]))];
    byId("bar").replaceChildren(...answer.windows.map((one) => part(one, best)));
    byId("timeline").replaceChildren(...answer.windows.map(row));
  }).finally(() => {
    byId("go").disabled = false;
    if (byId("problem").textContent) byId("about").textContent = "";
  });
});

const clock = (x) => `${Math.floor(x / 60)}:${(x % 60).toFixed(1).padStart(4, "0")}`;

/** A part of the bar: as long as its window, with a colour for each name, shaded where none is shown. */
function part(one, best) {
  const item = element("span", { className: one.none ? "none" : "", title: `${clock(one.start)} ${one.names[0]}` });
  item.style.flexGrow = String(Math.max(0.01, one.end - one.start));
  if (!one.none) item.style.background = `hsl(${(best.indexOf(one.names[0]) * 137.5) % 360} 45% 55%)`;
  return item;
}

function row(one) {
  const [best, ...others] = one.names.map((name, i) => `${name} ${(100 * one.scores[i]).toFixed(0)} %`);
  const item = element("li", { className: one.none ? "none" : "" });
  const when = element("span", {}, `${clock(one.start)} – ${clock(one.end)} `);
  if (video && !upload) when.append(element("button", { type: "button", ariaLabel: `play from ${clock(one.start)}`, onclick: () => { play(byId("preview"), video, one.start, one.end); byId("preview").scrollIntoView({ block: "nearest" }); } }, "▶"));
  item.append(when, element("div", {}, element("b", {}, one.none ? `seems to show none of these (nearest: ${best})` : best), element("div", { className: "muted" }, others.join(", "))));
  return item;
}

choose();
