// node call.mjs ADDRESS METHOD JSON-ARGS [--stream] [--times N]: N calls at once; results as JSON, one a line.
import { parseArgs } from "node:util";
import { connect } from "./holdfast.mjs";
const options = { stream: { type: "boolean" }, times: { type: "string", default: "1" } };
const { values, positionals: [address, method, args = "{}"] } = parseArgs({ options, allowPositionals: true });
const plain = (_, v) => (typeof v === "bigint" ? `${v}` : v?.type === "Buffer" ? `${Buffer.from(v.data)}` : v);
const fail = (e) => console.error(JSON.stringify({ message: e.message, ...e }, plain)) ?? (process.exitCode = 1);
async function run(shop, wanted = [method, JSON.parse(args), { deadlineMs: 30_000 }]) {
  const results = values.stream ? shop.stream(...wanted) : [shop.call(...wanted)];
  for await (const result of results) console.log(JSON.stringify(result, plain));
}
const shop = await connect(address).catch((error) => process.exit(fail(error)));
await Promise.all(Array.from({ length: values.times }, () => run(shop).catch(fail)));
shop.close();
