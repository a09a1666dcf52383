// What all pages share: asking the server, building elements from text, and showing what went wrong.

export const byId = (id) => document.getElementById(id);

/** Ask the server, and return its answer; throws an Error whose message is a sentence for the user. */
export async function ask(path, data) {
  const body = data instanceof Blob ? data : JSON.stringify(data);
  let response;
  try {
    response = await fetch(path, { method: "POST", body });
  } catch {
    throw new Error("The server does not answer. Start `maxi open` again and open the address that it prints; what was answered before is kept.");
  }
  const answer = await response.json().catch(() => ({ error: "the server failed; see what it prints" }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Return a new element; texts are set as text and never read as HTML. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Do something, and show the sentence of the error where it fails. */
export async function trying(action) {
  try {
    byId("problem").textContent = "";
    return await action();
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").scrollIntoView({ block: "nearest" });
  }
}

const part = (start, end) => (end === undefined ? "" : `?start=${start}&end=${end}`);
export const previewOf = (video, start, end) => `/preview/${encodeURIComponent(video)}.mp4${part(start, end)}`;
export const picturesOf = (video, n) => `/pictures/${encodeURIComponent(video)}.jpg?n=${n}`;

/** Play a preview in `place`, an element; where the browser or the server cannot, show frames. */
export function play(place, video, start, end) {
  const frames = () => place.replaceChildren(element("img", { className: "still", src: picturesOf(video, 8), alt: "frames of the video" }));
  const player = element("video", { src: previewOf(video, start, end), muted: true, loop: true, autoplay: true, playsInline: true, controls: true });
  player.addEventListener("error", frames);
  place.replaceChildren(player);
  return player;
}

/** Show what must be run again after an edit. */
export function showRerun(place, { why, commands }) {
  place.hidden = commands.length === 0;
  place.replaceChildren(element("p", {}, `Your edits are kept. To train on them (${why}):`), element("pre", { tabIndex: 0 }, commands.join("\n")));
}
