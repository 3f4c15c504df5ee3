"use strict";

const ticks = document.getElementById("ticks");
const state = document.getElementById("state");
const shown = 8;
let last = Number(document.body.dataset.last);

function say(kind, text) {
  state.className = kind;
  state.textContent = text;
}

say("waiting", "Connecting…");
// The browser connects again by itself, and then says which event it saw last.
const events = new EventSource("/events");
events.addEventListener("open", () => say("live", "Live"));
events.addEventListener("error", () => say("waiting", "The server is gone; trying again…"));
events.addEventListener("tick", (event) => {
  const number = Number(event.lastEventId);
  // A server that was started anew counts from 1.
  if (number < last) ticks.replaceChildren();
  // The first one may be on the page already.
  if (number === last) return;
  last = number;
  const time = document.createElement("time");
  time.textContent = event.data;
  const line = document.createElement("li");
  line.value = number;
  line.append(time);
  ticks.prepend(line);
  while (ticks.children.length > shown) ticks.lastElementChild.remove();
});
