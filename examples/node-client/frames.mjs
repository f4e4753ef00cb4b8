// Frames and what they hold, as bytes. Words in quotes are sections of docs/en/reference/protocol.md, "the page".
import { crc32 } from "node:zlib"; // Node 20.15 and later
import { decode, must, Reader, uint } from "./msgpack.mjs";
export const PREFACE = Buffer.from("89484653540d0a01", "hex"), MORE = 0x01, RAW = 0x02, TRAILERS = 0x20;
export const T = { HELLO: 0x01, WELCOME: 0x02, CALL: 0x10, REPLY: 0x11, ERROR: 0x12, DATA: 0x13, END: 0x14,
  CREDIT: 0x15, CANCEL: 0x16, PIECE: 0x17, PING: 0x20, PONG: 0x21, STATUS: 0x22, GOAWAY: 0x23, ACK: 0x24 };
export function frame(type, flags, id, ...parts) {
  const payload = Buffer.concat(parts);
  return Buffer.concat([uint(payload.length, 4), Buffer.of(type, flags), uint(id, 8), payload]);
}
export const checkSum = (...parts) => uint(crc32(Buffer.concat(parts)), 4); // of header and payload: "Check sums"
// "CALL", from the deadline to the name. This client never retries: its calls need no number and are originals.
export const callHead = (method, deadlineMs, number = 0, name = Buffer.from(method).subarray(0, 255)) =>
  Buffer.concat([uint(deadlineMs, 4), uint(number, 8), uint(0, 1), Buffer.of(name.length), name]);
// Takes a server's frame apart; null when its type is not in the table: "this is how later versions add types".
export function parse(header, payload) {
  const [type, flags] = header.subarray(4), reader = new Reader(payload), f = { type, flags };
  if (!Object.values(T).includes(type)) return null;
  must(!(flags & ~(MORE | RAW | TRAILERS)), "a flag that servers do not send"); // who knows what it changes
  f.id = Number(header.readBigUInt64BE(6));
  if (flags & MORE && type !== T.PIECE) f.total = reader.uint(4);
  if (flags & TRAILERS) f.trailers = reader.take(reader.uint(2));
  if (type === T.CREDIT) f.amount = reader.uint(4);
  if (type === T.GOAWAY) Object.assign(f, { last: reader.uint(8), reason: reader.uint(1) });
  f.body = reader.take(); // of GOAWAY the text
  if (type === T.ERROR) f.error = errorFrom(f.body);
  return f;
}
export class HoldfastError extends Error { // `executed`: "no" (surely not: it may be sent again), "maybe" or "yes"
  constructor(code, message, executed, more) { Object.assign(super(message), { code, executed, ...more }); }
}
const CODES = `unknown cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied
  resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss
  unauthenticated`.split(/\s+/);
function errorFrom(body) { // "REPLY and ERROR": a client reads this without trust
  try {
    const { c, m = "", x = 1, r = false, a, d } = decode(body);
    must([c, x, a ?? 0].every(Number.isInteger) && typeof m === "string" && typeof r === "boolean");
    const more = { refused: r, retryAfterMs: a && Math.min(a, 86_400_000), details: d };
    return new HoldfastError(CODES[c] ?? "unknown", m, ["no", "maybe", "yes"][x] ?? "maybe", more);
  } catch { return new HoldfastError("unknown", "an error that cannot be read", "maybe"); }
}
