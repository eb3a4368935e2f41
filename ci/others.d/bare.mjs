// Runs ci/others.d/bare.rs as WebAssembly, for ci/others: node bare.mjs BARE.WASM SUM, where SUM is what it gives elsewhere.
import fs from "node:fs";

const [file, wanted] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(fs.readFileSync(file), {});
const { work, live, memory } = instance.exports;
const sums = [0, 1, 2].map(() => work(20000) >>> 0);
const mebibytes = memory.buffer.byteLength >> 20;
if (sums.some((sum) => sum !== Number(wanted)) || live() !== 0 || mebibytes > 200) {
    console.error(`bare: sums ${sums}, ${live()} bytes in use, ${mebibytes} MiB of memory`);
    process.exit(1);
}
console.log(`wasm32-unknown-unknown: runs, ${mebibytes} MiB of memory`);
