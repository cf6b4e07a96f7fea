// @rudderstack/rudder-sdk-node sends calls: `rudder_node.cjs URL KEY`, one call as JSON in each line of stdin.
const { createInterface } = require("node:readline");
const RudderAnalytics = require("@rudderstack/rudder-sdk-node");

async function main([url, key]) {
  const analytics = new RudderAnalytics(key, { dataPlaneUrl: url, flushAt: 5, flushInterval: 100, retryCount: 20 });
  for await (const line of createInterface({ input: process.stdin })) {
    const { type, ...call } = JSON.parse(line);
    analytics[type](call);
  }
  await analytics.flush();
}

main(process.argv.slice(2));
