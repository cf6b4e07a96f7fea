// Preloaded into Node: the clock of the server is ahead or behind, so that its records can be of any age.
"use strict";
const ahead = Number(process.env.INGESTD_CLOCK_AHEAD_MS || 0);
const now = Date.now;
Date.now = () => now() + ahead;
