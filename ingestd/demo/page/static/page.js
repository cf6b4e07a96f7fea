// The page: shows each state that comes.

import { $, advance, before, state, text } from "./base.js";
import { showChart } from "./charts.js";
import { askClient, followAnother } from "./client.js";
import { act, pressed, showControls, theme } from "./controls.js";
import { showEvents, showRejects } from "./events.js";
import { showFlow, showMoving, showSums, showTop } from "./picture.js";
import { ask, showQuery } from "./table.js";
import { showCaption, showProof } from "./told.js";

function show(next) {
  advance(next);
  showTop();
  showProof();
  showCaption();
  showFlow();
  showMoving();
  showSums();
  showChart();
  showEvents();
  showRejects();
  showQuery();
  showControls();
  if (state.pipe && (!before || before.pipe.files !== state.pipe.files)) askClient();
}

function listen() {
  const stream = new EventSource("/page/events");
  stream.addEventListener("message", (event) => {
    show(JSON.parse(event.data));
    if (state.ended) stream.close();
  });
  stream.addEventListener("error", () => {
    if (state && state.ended) return;
    text("status", "no connection");
    $("status").className = "pill bad";
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

for (const button of $("dock").children) button.addEventListener("click", () => act(button.dataset.act));
$("ask").addEventListener("submit", ask);
$("theme").addEventListener("click", theme);
$("client-next").addEventListener("click", followAnother);
$("look").addEventListener("click", (event) => { if (event.target === $("look")) $("look").close(); });
document.addEventListener("keydown", pressed);
listen();
