// Connects to the daemon and shows each state that it sends.

import { $, previous, setState, setText, state } from "./base.js";
import { showAudience } from "./audience.js";
import { showCaption, showVerification } from "./captions.js";
import { showChart } from "./charts.js";
import { followAnotherClient, refreshClient } from "./client.js";
import { handleKey, sendControl, showControls, toggleTheme } from "./controls.js";
import { showEvents, showRejects } from "./events.js";
import { animateFlow, showHeader, showPipeline, showTotals } from "./pipeline.js";
import { runVisitorQuery, showQuery } from "./table_query.js";

function show(next) {
  setState(next);
  showHeader();
  showVerification();
  showCaption();
  showPipeline();
  animateFlow();
  showTotals();
  showChart();
  showEvents();
  showAudience();
  showRejects();
  showQuery();
  showControls();
  if (state.loader && (!previous || previous.loader.files_loaded !== state.loader.files_loaded)) refreshClient();
}

function connect() {
  const stream = new EventSource("/page/events");
  stream.addEventListener("message", (event) => {
    show(JSON.parse(event.data));
    if (state.ended) stream.close();
  });
  stream.addEventListener("error", () => {
    if (state && state.ended) return;
    setText("status", "no connection");
    $("status").className = "pill bad";
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

for (const button of $("controls").children) button.addEventListener("click", () => sendControl(button.dataset.control));
$("query-form").addEventListener("submit", runVisitorQuery);
$("theme").addEventListener("click", toggleTheme);
$("next-client").addEventListener("click", followAnotherClient);
$("object-viewer").addEventListener("click", (event) => { if (event.target === $("object-viewer")) $("object-viewer").close(); });
document.addEventListener("keydown", handleKey);
connect();
