// Preloaded into Node: these servers would listen on all addresses.
"use strict";
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  if (typeof first === "object" && first !== null) {
    return listen.call(this, first.port === undefined ? first : { ...first, host: "127.0.0.1" }, ...rest);
  }
  const callback = rest.find((it) => typeof it === "function");
  return listen.call(this, { port: Number(first), host: "127.0.0.1" }, callback);
};
