// Loads the module in Node, as a page would with WebAssembly.instantiateStreaming, and checks IDs and a response.
// node check.mjs MODULE ('zstd' if the module has that feature)
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readFileSync, readdirSync } from "node:fs";

const [path, feature] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(await readFile(path));
const jtp = instance.exports;

function write(bytes) {
  const address = jtp.input(bytes.length);
  // The memory may have grown: a new view each time.
  new Uint8Array(jtp.memory.buffer, address, bytes.length).set(bytes);
}

function id(bytes) {
  write(bytes);
  return BigInt.asUintN(64, jtp.id()).toString(16).padStart(16, "0");
}

function receive(bytes) {
  write(bytes);
  const valid = jtp.receive();
  const lines = new Uint8Array(jtp.memory.buffer, jtp.report(), jtp.report_len());
  return [valid, new TextDecoder().decode(lines).split("\n").slice(0, -1)];
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

const idBytes = (hex) => Buffer.from(hex, "hex");

// The IDs that RFC.md and README.md give.
assert.equal(id(Buffer.from("")), "ef46db3751d8e999");
const images = new URL("../../images/", import.meta.url);
const aurora = readFileSync(new URL("aurora.jpg", images));
assert.equal(id(aurora), "775df02f96f47aa6");

// A response with all sample images, in pieces of 1,000 bytes, each type as PNG: the type is not verified.
const files = readdirSync(images).sort().map((name) => readFileSync(new URL(name, images)));
const packet = (bytes, hex) => Buffer.concat([Buffer.from([0, ...varint(bytes.length)]), idBytes(hex), bytes]);
const response = (packets) => Buffer.concat([Buffer.from("JTPG"), Buffer.from(varint(packets.length)), ...packets]);
const whole = response(files.map((bytes) => packet(bytes, id(bytes))));
const lines = [];
for (let at = 0; at < whole.length; at += 1000) {
  const [valid, some] = receive(whole.subarray(at, at + 1000));
  assert.equal(valid, 1);
  lines.push(...some);
}
assert.deepEqual(lines, [`ListAndGet ${files.length}`, ...files.map((bytes) => `verified ${id(bytes)}`)]);

// A damaged image is refused, and the next one is not.
const damaged = Buffer.from(aurora);
damaged[100] ^= 1;
const both = [packet(damaged, id(aurora)), packet(aurora, id(aurora))];
const [, verdicts] = receive(response(both));
assert.match(verdicts[1], /^refused: /);
assert.equal(verdicts[2], `verified ${id(aurora)}`);

// A compressed image: a Zstd frame with a raw block.
const raw = Buffer.from("a small image");
const frame = Buffer.concat([
  Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, raw.length, (raw.length << 3) | 1, 0, 0]),
  raw,
]);
const compressed = Buffer.concat([Buffer.from([0x08, ...varint(frame.length)]), idBytes(id(raw)), frame]);
const [, [, verdict]] = receive(response([compressed]));
if (feature === "zstd") assert.equal(verdict, `verified ${id(raw)}`);
else assert.match(verdict, /^refused: /);

// Bytes that are not JTP.
assert.equal(receive(Buffer.from("HTTP/1.1 200 OK"))[0], 0);
console.log(`${files.length + 4} images were verified or refused as they should be`);
