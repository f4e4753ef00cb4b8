// A client of holdfast's wire protocol, version 1. Words in quotes are sections of docs/en/reference/protocol.md.
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { callHead, checkSum, frame, HoldfastError, MORE, parse, PREFACE, RAW, T, TRAILERS } from "./frames.mjs";
import { decode, encode, must, uint } from "./msgpack.mjs";
const FRAME = 2 ** 16, MESSAGE = 2 ** 24, STREAM = 2 ** 18, WINDOW = 2 ** 22; // "Settings": our defaults
const DEFAULTS = { frame_max_bytes: FRAME, message_max_bytes: MESSAGE, connection_window_bytes: WINDOW, features: [] };
export async function connect(address, { timeoutMs = 5000, tls: more } = {}) { // tcp://HOST:PORT, tls://…, unix://…
  const { protocol, hostname, port, pathname } = new URL(address), host = hostname.replace(/[[\]]/g, ""); // of IPv6
  const to = protocol === "unix:" ? { path: pathname } : { host, port, noDelay: true }, secure = protocol === "tls:";
  const ours = { servername: net.isIP(host) ? "" : host, ALPNProtocols: ["holdfast/1"], minVersion: "TLSv1.3" };
  const socket = secure ? tls.connect({ ...to, ...ours, ...more }) : net.connect(to);
  socket.on("end", () => socket.destroy(new Error("the server ended the connection")));
  socket.on("error", () => {}).on("readable", () => {}); // for once() in #read, which needs that one stays
  const connection = new Connection(socket);
  setTimeout(() => connection.peer ?? socket.destroy(new Error("the server took too long")), timeoutMs).unref();
  try {
    await once(socket, secure ? "secureConnect" : "connect");
    must(!secure || socket.alpnProtocol === "holdfast/1", "no agreement on holdfast/1");
    const far = protocol === "tcp:" && !/^(::ffff:)?127\.|^::1$/.test(socket.remoteAddress); // "Check sums"
    return await connection.open(far ? { features: ["crc32"] } : {});
  } catch (error) { socket.destroy(); throw new HoldfastError("unavailable", error.message, "no"); }
}
class Connection {
  calls = new Map(); latest = 0; // the open ones, by id; the id of the last one
  left = WINDOW; owed = 0; starved = []; // connection credit: the server's, what we owe it; who waits for ours
  constructor(socket) { this.socket = socket; }
  async open(settings) { // "Opening"
    this.socket.write(Buffer.concat([PREFACE, frame(T.HELLO, 0, 0, encode(settings))]));
    must(PREFACE.equals(await this.#read(8)), "the server speaks something else, or another version");
    const f = await this.#frame(16_384);
    must(f?.type === T.WELCOME, f?.type === T.GOAWAY ? `the server refused: ${f.body}` : "no WELCOME");
    this.peer = { ...DEFAULTS, ...decode(f.body) };
    this.credit = this.peer.connection_window_bytes; // what we may still send
    this.sums = settings.features && this.peer.features.includes("crc32");
    this.heart = setInterval(() => this.#send(T.PING, 0, 0, uint(0, 8)), 5000); // "PING and PONG"
    this.#receive(); return this;
  }
  async call(method, args, options) { // options: deadlineMs, signal (an AbortSignal), trailers (an object to be filled)
    for await (const result of this.#run(false, method, args, options)) return result;
  }
  stream = (method, args, options) => this.#run(true, method, args, options); // for await (…); leaving it cancels
  close = () => this.#goes("this client has closed", Infinity); // as soon as the open calls are over
  async *#run(streams, method, args = {}, { deadlineMs = 0, signal, trailers } = {}) {
    const call = { streams, trailers, inbox: [], owed: 0, wake() {} };
    const late = deadlineMs && setTimeout(() => this.#fail(call, "deadline_exceeded", "no answer in time"), deadlineMs);
    signal?.addEventListener("abort", () => this.#fail(call, "cancelled", "given up"));
    this.#open(call, callHead(method, Math.ceil(deadlineMs)), encode(args));
    try {
      do {
        const f = await this.#next(call), total = f.total ?? f.body.length, parts = [f.body];
        if (f.type === T.END) return;
        must(total <= MESSAGE && streams === (f.type === T.DATA), "too long, or call() and stream() mixed up");
        if (streams && f.total) this.#grant(call, call.owed + Math.max(0, total + 64 - STREAM)); // "CREDIT" rule 5
        for (let piece = f; piece.flags & MORE; parts.push(piece.body)) piece = await this.#next(call);
        const bytes = Buffer.concat(parts);
        must(bytes.length === total, "pieces that do not add up");
        call.owed += Math.min(total + 64, STREAM); // "CREDIT" rule 4: collected, until it is half the window
        if (streams && call.owed >= STREAM / 2) this.#grant(call, call.owed);
        yield f.flags & RAW ? bytes : decode(bytes);
      } while (streams);
    } catch (error) { throw error.executed ? error : new HoldfastError("internal", error.message, "yes");
    } finally {
      clearTimeout(late); this.#fail(call, "cancelled", "given up"); // unless it is over
      for (const f of call.inbox) this.#owe(f.held); // what nobody will read
    }
  }
  async #next(call) { // the next frame of a call
    while (!call.inbox.length) await new Promise((wake) => (call.wake = wake));
    const f = call.inbox.shift(); this.#owe(f.held); // it is used
    if (f.trailers && call.trailers) try { Object.assign(call.trailers, decode(f.trailers)); } catch {} // "is ignored"
    if (f.error) throw f.error; else return f;
  }
  async #open(call, head, body) {
    const max = Math.max(1024, this.peer.frame_max_bytes), size = body.length, flags = call.trailers ? TRAILERS : 0;
    if (this.going) return this.#fail(call, "unavailable", this.going);
    if (size > this.peer.message_max_bytes) return this.#fail(call, "invalid_argument", "longer than the server takes");
    this.calls.set((call.id = ++this.latest), call);
    call.whole = head.length + size <= max;
    if (call.whole) return this.#send(T.CALL, flags, call.id, head, body);
    this.#send(T.CALL, flags | MORE, call.id, uint(size, 4), head); // "PIECE": at once, since ids must appear in order
    for (let at = 0, end; at < size; at = end) {
      while (this.credit < Math.min(1024, size - at)) await new Promise((wake) => this.starved.push(wake));
      if (call.over) return;
      end = Math.min(size, at + max, at + this.credit);
      this.credit -= end - at; call.whole = end === size;
      this.#send(T.PIECE, call.whole ? 0 : MORE, call.id, body.subarray(at, end));
    }
  }
  #send(type, flags, id, ...parts) {
    const bytes = frame(type, flags, id, ...parts);
    if (this.socket.writable) this.socket.write(this.sums ? Buffer.concat([bytes, checkSum(bytes)]) : bytes);
  }
  #fail(call, code, message, never = !call.whole) { // what has not left whole was surely not executed
    if (call.id && !call.over) this.#send(T.CANCEL, 0, call.id);
    if (!call.over) this.#put(call, { held: 0, error: new HoldfastError(code, message, never ? "no" : "maybe") }, true);
  }
  #put(call, f, last) {
    call.inbox.push(f); call.wake();
    if (last) call.over = this.calls.delete(call.id) || true;
    if (last && this.going) this.#goes(this.going, Infinity);
  }
  #owe(amount) { // "CREDIT" rule 3: collected, until it is half the window or the server has next to nothing left
    this.owed += amount;
    if (this.owed >= WINDOW / 2 || this.left < FRAME + 64) this.#grant(this, this.owed);
  }
  #grant(to, amount) { // to a call for its stream, or to ourselves: for the connection
    if (amount && !to.over) this.#send(T.CREDIT, 0, to.id ?? 0, uint(amount, 4));
    to.owed = 0; to.left += amount;
  }
  async #read(n, bytes = n ? this.socket.read(n) : Buffer.alloc(0)) { // n bytes, or null while there are less
    if (!bytes) await (this.socket.errored ? Promise.reject(this.socket.errored) : once(this.socket, "readable"));
    return bytes ?? this.#read(n);
  }
  async #frame(max) {
    const header = await this.#read(14), length = header.readUInt32BE();
    must(length <= max, "a frame is too long", 3); // before anything else is looked at
    const payload = await this.#read(length);
    must(!this.sums || checkSum(header, payload).equals(await this.#read(4)), "a check sum is wrong", 6);
    return parse(header, payload);
  }
  async #receive() {
    try {
      while (!this.lost) this.#take((await this.#frame(FRAME)) ?? {});
    } catch (error) {
      if (error.reason) this.#send(T.GOAWAY, 0, 0, uint(0, 8), uint(error.reason, 1), Buffer.from(error.message));
      this.#goes(error.message, Infinity, true);
    }
    this.socket.removeAllListeners("readable").resume(); // reads on, and parses nothing more
  }
  #take(f, call = this.calls.get(f.id), more = f.flags & MORE, item = f.type === T.DATA) {
    if (f.type === T.PING) return this.#send(T.PONG, 0, 0, f.body);
    if (f.type === T.GOAWAY) return this.#goes(`GOAWAY ${f.reason}: ${f.body}`, f.last, f.reason > 0);
    if (f.type === T.CREDIT && !f.id) this.credit += f.amount;
    if (f.type === T.CREDIT) return this.starved.splice(0).forEach((wake) => wake()); // each looks again
    if (!(f.type >= T.REPLY && f.type <= T.PIECE)) return; // PONG; STATUS, which "changes nothing"; unknown types
    const cost = item ? f.body.length + 64 : f.type === T.PIECE || (f.type === T.REPLY && more) ? f.body.length : 0;
    f.held = call && item && !more ? cost : 0; // rule 3: comes back when the item is read, all else at once
    this.left -= cost; this.#owe(cost - f.held);
    if (call) this.#put(call, f, f.type === T.END || f.type === T.ERROR || (!call.streams && !item && !more));
  }
  #goes(why, last, lost) { // "GOAWAY": what lies above `last` was surely not executed
    this.going ??= why;
    for (const call of this.calls.values())
      if (lost || call.id > last) this.#fail(call, "unavailable", why, call.id > last || !call.whole);
    if (this.calls.size || this.lost) return;
    this.lost = true; clearInterval(this.heart);
    this.socket.end(); setTimeout(() => this.socket.destroy(), 1000).unref(); // who closes reads on, for a moment
  }
}
