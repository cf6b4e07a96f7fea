// Preloaded: these servers listen on all addresses otherwise.
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
