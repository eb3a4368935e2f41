// Buffers too large for node's own pool come from malloc; so do the tables of maps once they have grown out of the
// collected heap, and what a worker is handed. Prints sums that depend on every byte kept.
'use strict';
const { createHash } = require('crypto');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { deflateSync, inflateSync } = require('zlib');

let seed = 99;
function next(limit) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % limit;
}

// A worker adds up what it is handed and hands it back, so that it is freed by another thread than made it.
if (!isMainThread) {
    parentPort.on('message', (buffers) => {
        if (buffers === null) {
            parentPort.close();
            return;
        }
        let sum = 0;
        for (const buffer of buffers) {
            const bytes = new Uint8Array(buffer);
            for (let i = 0; i < bytes.length; i += 64) sum = (sum + bytes[i]) % 1000000007;
        }
        parentPort.postMessage({ sum, buffers }, buffers);
    });
    return;
}

function buffersAndMaps() {
    const hash = createHash('sha256');
    const kept = new Map();
    for (let i = 0; i < 300000; i++) {
        const buffer = Buffer.allocUnsafeSlow(16 + next(i % 1000 === 0 ? 200000 : 2000));
        buffer.fill(i & 255);
        const key = next(5000);
        const before = kept.get(key);
        if (before) hash.update(before.buffer.subarray(0, 16));
        kept.set(key, { buffer, map: new Map([[i, 'text ' + i], ['key ' + key, [i]]]) });
        if (i % 7 === 0) kept.delete(next(5000));
    }
    let bytes = 0;
    for (const { buffer, map } of [...kept.values()]) {
        hash.update(buffer);
        hash.update([...map.entries()].join());
        bytes += buffer.length;
    }
    return `${kept.size} kept, ${bytes} bytes, ${hash.digest('hex')}`;
}

function compressed() {
    const hash = createHash('sha256');
    for (let i = 0; i < 300; i++) {
        const text = Buffer.from(Array.from({ length: 2000 }, () => next(1000)).join(' '));
        const packed = deflateSync(text, { level: 1 });
        if (!inflateSync(packed).equals(text)) throw new Error('inflating gives another text');
        hash.update(packed);
    }
    return hash.digest('hex');
}

async function handedOver() {
    const workers = [new Worker(__filename), new Worker(__filename)];
    for (const worker of workers) worker.on('error', (error) => { throw error; });
    let total = 0;
    for (let round = 0; round < 60; round++) {
        const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
        for (const worker of workers) {
            const buffers = Array.from({ length: 200 }, () => {
                const buffer = new ArrayBuffer(64 + next(20000));
                new Uint8Array(buffer).fill(next(256));
                return buffer;
            });
            worker.postMessage(buffers, buffers);
        }
        for (const answer of await Promise.all(answers)) {
            total = (total * 31 + answer.sum + answer.buffers.length) % 1000000007;
        }
    }
    for (const worker of workers) worker.postMessage(null);
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
    return total;
}

(async () => {
    console.log(`buffers: ${buffersAndMaps()}`);
    console.log(`compressed: ${compressed()}`);
    console.log(`handed over: ${await handedOver()}`);
    console.log('all: done');
})();
