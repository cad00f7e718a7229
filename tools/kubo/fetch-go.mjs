// Puts a Go toolchain out of the module proxy into a folder: fetch-go.mjs VERSION SHA256 FOLDER.
// The proxy has it as the module golang.org/toolchain, a zip (https://go.dev/ref/mod#zip-files), which Node has no reader for.
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { inflateRawSync } from "node:zlib";

const [version, expected, folder] = process.argv.slice(2);
const name = `v0.0.1-go${version}.linux-amd64`;
const answer = await fetch(`https://proxy.golang.org/golang.org/toolchain/@v/${name}.zip`);
if (!answer.ok) throw new Error(`the module proxy answered ${answer.status}`);
const zip = Buffer.from(await answer.arrayBuffer());
const found = createHash("sha256").update(zip).digest("hex");
if (found !== expected) throw new Error(`Go ${version} has the hash ${found} instead of ${expected}`);

const prefix = `golang.org/toolchain@${name}/`;
const end = zip.lastIndexOf("PK\x05\x06");
let entry = zip.readUInt32LE(end + 16);
for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
  const [method, packed] = [zip.readUInt16LE(entry + 10), zip.readUInt32LE(entry + 20)];
  const [nameLength, extra, comment] = [28, 30, 32].map((at) => zip.readUInt16LE(entry + at));
  const local = zip.readUInt32LE(entry + 42);
  const path = normalize(zip.toString("utf8", entry + 46, entry + 46 + nameLength));
  if (!path.startsWith(prefix)) throw new Error(`${path} lies outside`);
  const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
  const data = zip.subarray(start, start + packed);
  const to = join(folder, path.slice(prefix.length));
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, method === 8 ? inflateRawSync(data) : data);
  // the zip of a module keeps no modes
  if (/^(bin|pkg\/tool)\//.test(path.slice(prefix.length))) chmodSync(to, 0o755);
  entry += 46 + nameLength + extra + comment;
}
