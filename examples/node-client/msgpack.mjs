// msgpack: a number without a fraction is an int, which "is taken where a float is meant"; beyond 2^53 it is a BigInt.
// What breaks a rule is an *error* of the page: the connection ends, with a GOAWAY that has the reason.
export function must(rule, message, reason = 1) { if (!rule) throw Object.assign(new Error(message), { reason }); }
export const uint = (n, width) => Buffer.from(n.toString(16).padStart(2 * width, "0"), "hex"); // big-endian
const wide = (tag, array) => Buffer.concat([uint(tag, 1), Buffer.from(array.buffer).reverse()]); // was little-endian
// Lengths are written in their shortest or in their longest form: "any encoding of a value is taken".
const size = (n, short, limit, long) => (n < limit ? uint(short + n, 1) : Buffer.concat([uint(long, 1), uint(n, 4)]));
export function encode(v) {
  if (v === null || v === undefined || typeof v === "boolean") return uint(v ? 0xc3 : v === false ? 0xc2 : 0xc0, 1);
  if (typeof v === "string") return Buffer.concat([size(Buffer.byteLength(v), 0xa0, 32, 0xdb), Buffer.from(v)]);
  if (typeof v === "number" && !Number.isSafeInteger(v)) return wide(0xcb, Float64Array.of(v));
  if (typeof v !== "object" && v >= -32 && v < 128) return uint(Number(v) & 0xff, 1);
  if (typeof v !== "object") return wide(v < 0 ? 0xd3 : 0xcf, BigInt64Array.of(BigInt(v)));
  if (v instanceof Uint8Array) return Buffer.concat([size(v.length, 0, 0, 0xc6), v]);
  if (Array.isArray(v)) return Buffer.concat([size(v.length, 0x90, 16, 0xdd), ...v.map(encode)]);
  return Buffer.concat([size(Object.keys(v).length, 0x80, 16, 0xdf), ...Object.entries(v).flat().map(encode)]);
}
const narrow = (big) => (Number.isSafeInteger(Number(big)) ? Number(big) : big);
export class Reader { // takes bytes apart from the front: msgpack, and what stands before it in a frame
  constructor(bytes) { Object.assign(this, { bytes, at: 0 }); }
  take(n = this.bytes.length - this.at) {
    must(this.at + n <= this.bytes.length, "a payload is cut short");
    return this.bytes.subarray(this.at, (this.at += n));
  }
  uint = (width) => (width < 8 ? this.take(width).readUIntBE(0, width) : narrow(this.take(8).readBigUInt64BE()));
  int = (width) => (width < 8 ? this.take(width).readIntBE(0, width) : narrow(this.take(8).readBigInt64BE()));
  text = (n) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.take(n));
  map = (n) => Object.fromEntries(this.array(n, () => [this.value(), this.value()]));
  array(n, read = () => this.value(), items = []) { // grows with what is there, not with what is claimed
    while (items.length < n) items.push(read());
    return items;
  }
  value() {
    const tag = this.uint(1), among = (low, high) => tag >= low && tag <= high;
    if (tag < 0x80 || tag >= 0xe0) return tag < 0x80 ? tag : tag - 0x100;
    if (tag < 0xa0) return tag < 0x90 ? this.map(tag - 0x80) : this.array(tag - 0x90);
    if (tag < 0xc0) return this.text(tag - 0xa0);
    if (among(0xc4, 0xc6)) return this.take(this.uint(1 << (tag - 0xc4)));
    if (among(0xca, 0xcb)) return tag === 0xca ? this.take(4).readFloatBE() : this.take(8).readDoubleBE();
    if (among(0xcc, 0xd3)) return tag < 0xd0 ? this.uint(1 << (tag - 0xcc)) : this.int(1 << (tag - 0xd0));
    if (among(0xd9, 0xdb)) return this.text(this.uint(1 << (tag - 0xd9)));
    if (among(0xdc, 0xdd)) return this.array(this.uint(2 << (tag - 0xdc)));
    if (among(0xde, 0xdf)) return this.map(this.uint(2 << (tag - 0xde)));
    must(tag === 0xc0 || among(0xc2, 0xc3), "no msgpack, or an extension type");
    return tag === 0xc0 ? null : tag === 0xc3;
  }
}
export function decode(bytes, reader = new Reader(bytes), value = reader.value()) {
  must(reader.at === bytes.length, "bytes behind a value");
  return value;
}
