// @segment/analytics-node sends calls: `segment_node.cjs URL KEY`, one call as JSON in each line of stdin.
const { createInterface } = require("node:readline");
const { Analytics } = require("@segment/analytics-node");

async function main([url, key]) {
  const analytics = new Analytics({ writeKey: key, host: url, flushAt: 5, flushInterval: 100, maxRetries: 20 });
  analytics.on("error", (error) => console.error(error));
  for await (const line of createInterface({ input: process.stdin })) {
    const { type, ...call } = JSON.parse(line);
    analytics[type](call);
  }
  await analytics.closeAndFlush();
}

main(process.argv.slice(2));
