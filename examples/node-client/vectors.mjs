// node vectors.mjs PROTOCOL.md: what a client says must be the page's bytes, what a server says must mean what it says.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { callHead, checkSum, frame, MORE, parse, PREFACE, RAW, T, TRAILERS } from "./frames.mjs";
import { decode, encode, uint } from "./msgpack.mjs";
const hex = (text) => Buffer.from(text, "hex"), none = hex(""), echo = hex("0102030405060708");
const is = (type, flags, id, body, more) => ({ type, flags, id, body, ...more }); // what we should understand
const goaway = (last, reason, text) => is(T.GOAWAY, 0, 0, Buffer.from(text), { last, reason });
const ping = frame(T.PING, 0, 0, echo), status = { draining: true, load: 0.5, message: "restart" };
const vectors = { // NAME: [the bytes as we say them, what we should understand, or why neither]
  "call-extras": [, , "we send no trace, metadata and streams"], "ack": [, , "we use no call numbers"],
  "preface": [PREFACE], "hello-defaults": [frame(T.HELLO, 0, 0, encode({}))], "cancel": [frame(T.CANCEL, 0, 3)],
  "welcome": [, is(T.WELCOME, 0, 0, { frame_max_bytes: 4096, heartbeat_s: 1, features: ["crc32"] })], "unknown": [, {}],
  "call": [frame(T.CALL, 0, 1, callHead("shop.price", 10_000, 1), encode({ sku: "A-1" }))],
  "call-first": [frame(T.CALL, MORE | RAW, 3, uint(3, 4), callHead("m", 0, 3), hex("61"))],
  "call-rest": [frame(T.PIECE, 0, 3, hex("6263"))], "reply": [, is(T.REPLY, 0, 1, 9.9)],
  "call-asks": [frame(T.CALL, TRAILERS, 4, callHead("m", 0, 4), encode({}))], "end": [, is(T.END, 0, 2, none)],
  "error": [, is(T.ERROR, 0, 2, ["resource_exhausted", "full", "no"])], "data": [, is(T.DATA, RAW, 2, hex("0a0b"))],
  "data-first": [, is(T.DATA, MORE, 2, hex("a2"), { total: 3 })], "data-rest": [, is(T.PIECE, 0, 2, hex("6162"))],
  "credit-stream": [frame(T.CREDIT, 0, 2, uint(131_072, 4)), is(T.CREDIT, 0, 2, none, { amount: 131_072 })],
  "credit-all": [frame(T.CREDIT, 0, 0, uint(2_097_152, 4)), is(T.CREDIT, 0, 0, none, { amount: 2_097_152 })],
  "ping": [ping, is(T.PING, 0, 0, echo)], "pong": [frame(T.PONG, 0, 0, echo), is(T.PONG, 0, 0, echo)],
  "goaway-soon": [, goaway(2 ** 53 - 1, 0, "going")], "goaway": [, goaway(3, 0, "going")],
  "refusal": [, goaway(0, 7, "no room")], "status": [, is(T.STATUS, 0, 0, status)], "ping-spoiled": [, "a wrong sum"],
  "reply-trailers": [, is(T.REPLY, TRAILERS, 4, 1, { trailers: { queue_us: 7, run_us: 300 } })],
  "error-trailers": [, is(T.ERROR, TRAILERS, 5, ["not_found", "", "maybe"], { trailers: { load: 0.5 } })],
  "end-trailers": [, is(T.END, TRAILERS, 6, none, { trailers: {} })], "end-checked": [, is(T.END, 0, 2, none)],
  "ping-checked": [Buffer.concat([ping, checkSum(ping)]), is(T.PING, 0, 0, echo)],
};
function understood(name, all, bytes = name === "refusal" ? all.subarray(8) : all) { // there the preface comes first
  const end = 14 + bytes.readUInt32BE(), { error, ...f } = parse(bytes.subarray(0, 14), bytes.subarray(14, end)) ?? {};
  if (bytes.length > end && !checkSum(bytes.subarray(0, end)).equals(bytes.subarray(end))) return "a wrong sum";
  if (f.trailers) f.trailers = decode(f.trailers);
  if ([T.WELCOME, T.STATUS, T.REPLY].includes(f.type)) f.body = decode(f.body);
  return error ? { ...f, body: [error.code, error.message, error.executed] } : f;
}
for (const line of readFileSync(process.argv[2], "utf8").match(/^preface .*?(?=\n```)/ms)[0].split("\n")) {
  const [name, ...words] = line.split(/\s+/), bytes = hex(words.join("")), [say, hear, why] = vectors[name] ?? [none];
  const ok = (!say || say.equals(bytes)) && (!hear || isDeepStrictEqual(understood(name, bytes), hear));
  console.log(why ? `skipped ${name}: ${why}` : ok ? `ok ${name}` : `FAILED ${name}`);
  if (!ok) process.exitCode = 1;
}
