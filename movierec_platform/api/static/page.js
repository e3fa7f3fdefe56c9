// Makes the page livelier; every link and form works without it. A region of the page is replaced by the same region
// (by its id) of a page that is fetched.
"use strict";

const WATCH_MS = 40, WATCH_LESS = 1.15, WATCH_RARELY_MS = 500, WATCH_FOR_MS = 30_000, TYPED_MS = 200, SAID_MS = 35_000;
const words = document.body.dataset;
let saying;
function say(text) {
  document.getElementById("said").textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => say(""), SAID_MS);
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function fetched(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function swap(page, ids) {
  for (const id of ids) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (!old || !fresh) continue;
    old.replaceWith(document.adoptNode(fresh));
  }
}

// Search as you type, and lists that follow a choice.
let latest = 0;
async function follow(form, ids, remember) {
  const turn = ++latest;
  const address = `${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`;
  const page = await fetched(address).catch(() => null);
  if (!page || turn !== latest) return;
  swap(page, ids);
  if (remember) {
    history.replaceState(null, "", address);
    document.title = page.title;
  }
}

let typing;
document.addEventListener("input", ({ target }) => {
  const form = target.form;
  if (!form) return;
  const live = target.hasAttribute("data-live-search"), ids = live ? ["found"] : form.dataset.swap?.split(" ");
  if (!ids) return;
  clearTimeout(typing);
  typing = setTimeout(() => form.checkValidity() && follow(form, ids, live), TYPED_MS);
});
document.addEventListener("change", ({ target }) => target.form?.hasAttribute("data-changes") && target.form.requestSubmit());

// Rating: post it as any client does, wait until the platform shows it, then show what changed and how long it took.
// When the user last saw the movie, null if never; rejected while that cannot be known.
async function seen(user, movie) {
  const answer = await fetch(`/v1/users/${user}/history?n=20`);
  if (!answer.ok) throw new Error(`${answer.status}`);
  const found = (await answer.json()).items.find((item) => item.item_id === movie);
  return found ? found.seen_at_ms : null;
}

async function rate(form, rating) {
  const { user, title } = form.dataset, movie = Number(form.elements.movie_id.value);
  const before = await seen(user, movie).catch(() => undefined);
  say(words.posting.replace("{title}", title));
  const started = performance.now();
  const answer = await fetch("/ingest?validate=true", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user_id: Number(user), movie_id: movie, rating }),
  });
  const receipt = await answer.json();
  const refused = answer.ok ? receipt.results[0].detail : receipt.detail;
  if (refused) return say(words.refused.replace("{why}", refused));
  for (const button of form.querySelectorAll("button")) button.className = button.value <= rating ? "given" : "";
  if (before === undefined) return say(words.slow);
  say(words.waiting);
  for (let wait = WATCH_MS; performance.now() - started < WATCH_FOR_MS; wait = Math.min(wait * WATCH_LESS, WATCH_RARELY_MS)) {
    const now = await seen(user, movie).catch(() => before);
    if (now !== before) {
      const ms = Math.round(performance.now() - started);
      swap(await fetched(location.href), [...document.querySelectorAll("[data-live]")].map((part) => part.id));
      document.querySelectorAll("[data-live]").forEach((part) => part.classList.add("fresh"));
      if (!document.activeElement || document.activeElement === document.body) document.getElementById("main").focus({ preventScroll: true });
      return say(words.visible.replace("{title}", title).replace("{ms}", ms));
    }
    await pause(wait);
  }
  say(words.slow);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches(".stars") || !event.submitter) return;
  event.preventDefault();
  if (form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", "true");
  rate(form, Number(event.submitter.value))
    .catch(() => say(words.failed))
    .finally(() => form.removeAttribute("aria-busy"));
});

// Operations: fresh figures, unless somebody is in the middle of something there.
const watched = document.querySelector("[data-refresh]");
if (watched) {
  setInterval(async () => {
    const region = document.getElementById(watched.id);
    if (document.hidden || region.contains(document.activeElement) || region.querySelector("details[open]")) return;
    const page = await fetched(location.pathname).catch(() => null);
    if (page) swap(page, [watched.id]);
  }, 1000 * watched.dataset.refresh);
}
